#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that a machine with an NVIDIA GPU can tell: `bash bench/run_gpu.sh`.  Builds for that GPU, runs the tests on
# it, compares its bits with those of the host, looks for memory errors and races, and writes bench/results/DATE-GPU.json.
# Needs the driver, g++, Python 3.11 or newer (with venv and headers), and the network for pip; nvcc comes from pip where
# there is none.
#
# bash bench/run_gpu.sh --simt does what can be done without a GPU: all of it on the SIMT machine of the host, no figures.
set -uo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

fail() {
  echo "run_gpu: $*" >&2
  exit 1
}
failures=()
step() { # step NAME COMMAND...
  printf '\n=== %s\n' "$1"
  "${@:2}" || failures+=("$1")
}

simt=false
[ "${1:-}" = --simt ] && simt=true
[ $# -gt 0 ] && ! $simt && fail "$1 is no option; accepted: --simt"

tools='import cmake, ninja, pybind11, pytest, hypothesis, mpmath, scipy, ml_dtypes, onnx, threadpoolctl'
environment() { # the active one if it has all, else one of our own
  command -v g++ >/dev/null || fail "g++ was not found: apt-get install g++"
  [ -n "${VIRTUAL_ENV:-}" ] && python -c "${tools/cmake, ninja, /}" 2>/dev/null && command -v cmake ninja >/dev/null && return
  local python=${PYTHON:-}
  for each in python3.11 python3.12 python3.13 python3.14 python3; do
    [ -n "$python" ] && break
    command -v $each >/dev/null && $each -c 'import sys; sys.exit(sys.version_info < (3, 11))' && python=$each
  done
  [ -n "$python" ] || fail "no Python 3.11 or newer was found: set PYTHON"
  [ -x build/gpu/venv/bin/pip ] || "$python" -m venv build/gpu/venv || fail "$python cannot make a venv: apt-get install python3-venv"
  . build/gpu/venv/bin/activate
  python -c "$tools" 2>/dev/null && return
  local wanted
  wanted=$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"])')
  pip install -q "cmake>=3.25,<4" ninja "pybind11>=3.0.4" "numpy>=2.0" $wanted || fail "pip failed"
}

find_nvcc() { # from the machine, else from PyPI
  local each home
  for each in "${CUDACXX:-}" "$(command -v nvcc)" "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"; do
    [ -x "$each" ] || continue
    "$each" --version | grep -qE 'release (1[2-9]|[2-9][0-9])' && nvcc=$each && return
    echo "$each is too old: C++20 needs CUDA 12"
  done
  pip install -q nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 \
    nvidia-cuda-cccl==13.0.85 || fail "no nvcc here, and pip did not bring one"
  home=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
  [ -e "$home/lib64" ] || ln -s lib "$home/lib64"
  nvcc=$home/bin/nvcc
}

build_simt() { cmake --preset simt >/dev/null && cmake --build build/simt; }
build_gpu() {
  cmake -G Ninja -B build/gpu/build -DCMAKE_BUILD_TYPE=Release -DVASTMAX_CUDA=ON -DCMAKE_CUDA_COMPILER="$nvcc" \
    -DCMAKE_CUDA_ARCHITECTURES="$architecture" -DVASTMAX_BUILD_PYTHON=ON -DVASTMAX_BUILD_TESTS=ON >/dev/null &&
    cmake --build build/gpu/build
}
package() { # the Python package with the extensions of that build
  rm -rf build/gpu/package
  mkdir -p build/gpu/package
  cp -r python/vastmax build/gpu/package
  rm -f build/gpu/package/vastmax/_c*.so
  cp "$1"/_c*.so build/gpu/package/vastmax
}
same_bits() { # the same digest on both means that the host's tests speak for the GPU
  local here there
  here=$(build/simt/tests/cuda/cuda_same_bits | tail -1)
  there=$(build/gpu/build/tests/cuda/cuda_same_bits | tail -1)
  echo "host $here, GPU $there"
  [ -n "$here" ] && [ "$here" = "$there" ]
}
sanitizer() { # sanitizer TOOL
  local tool
  tool=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")
  [ -x "$tool" ] || { echo "no compute-sanitizer here: not run"; return 0; }
  "$tool" --tool "$1" --error-exitcode 9 build/gpu/build/tests/cuda/cuda_same_bits 2100
}

environment
export PYTHONPATH=$PWD/build/gpu/package
if $simt; then
  step "build" build_simt
  step "package" package build/simt
  step "C++ tests" ctest --test-dir build/simt -j 2 -R '^cuda_' --output-on-failure
  step "Python tests" python -m pytest -q -m cuda
  step "benchmark, smoke run" python bench/gpu.py --smoke
else
  architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .) && [ -n "$architecture" ] ||
    fail "nvidia-smi names no GPU; without one: bash bench/run_gpu.sh --simt"
  nvidia-smi
  find_nvcc
  step "build for sm_$architecture by $nvcc" build_gpu
  [ ${#failures[@]} = 0 ] || fail "it does not build"
  step "package" package build/gpu/build
  step "C++ tests" ctest --test-dir build/gpu/build -R '^cuda_' --output-on-failure
  step "Python tests" python -m pytest -q -m cuda
  step "build for the host" build_simt
  step "same bits as on the host" same_bits
  step "compute-sanitizer memcheck" sanitizer memcheck
  step "compute-sanitizer racecheck" sanitizer racecheck
  step "benchmark" python bench/gpu.py
fi

[ ${#failures[@]} = 0 ] || fail "FAILED:$(printf ' [%s]' "${failures[@]}")"
echo "everything passed"
