#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles the kernels, warnings being errors, and looks at what came out: `bash cuda/gates.sh [ARCHITECTURES]`, 90 by
# default, `wheel` for all that wheels have, which takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

architectures=${1:-90}
if [ "$architectures" = wheel ]; then
  architectures=$(python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["tool"]["cibuildwheel"]["environment"]["CUDAARCHS"])')
fi
rm -rf build/nvcc # the log must tell of every kernel
cmake -G Ninja -B build/nvcc -DVASTMAX_CUDA=ON -DVASTMAX_ISAS=scalar -DVASTMAX_WERROR=ON -DVASTMAX_INSTALL_CPP=OFF \
  -DCMAKE_CUDA_ARCHITECTURES="$architectures" >/dev/null
cmake --build build/nvcc --target vastmax_cuda >build/nvcc/log || { cat build/nvcc/log; exit 1; }
ls -l build/nvcc/libvastmax_cuda.a
python cuda/gates.py build/nvcc/log build/nvcc/CMakeFiles/vastmax_cuda.dir/cuda/kernels/*.o
