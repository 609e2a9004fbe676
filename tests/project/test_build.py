# SPDX-License-Identifier: Apache-2.0
"""A build without a usable nvcc goes on without CUDA and says why; where CUDA is asked for, it stops."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import ROOT

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(
        not (ROOT / "cmake").exists() or shutil.which("cmake") is None, reason="without the source tree or CMake"
    ),
]

TOO_OLD = """#!/bin/sh
case "$1" in --version) echo "Cuda compilation tools, release 11.8, V11.8.89"; exit 0;; esac
echo "nvcc fatal   : Value 'c++20' is not defined for option 'std'" >&2; exit 1
"""
REFUSES_THE_HOST = """#!/bin/sh
echo "host_config.h:137:2: error: #error -- unsupported GNU version!" >&2; exit 1
"""
CRASHES = "#!/bin/sh\nexit 139\n"
WORKS = "#!/bin/sh\nexit 0\n"


def nvcc(at: Path, script: str) -> Path:
    path = at / "nvcc"
    path.write_text(script)
    path.chmod(0o755)
    return path


def looked_for(tmp_path: Path, *options: str) -> str:
    """What vastmax_find_nvcc returns, as NVCC|WHY_NOT."""
    script = tmp_path / "find.cmake"
    script.write_text(f'include({ROOT}/cmake/nvcc.cmake)\nvastmax_find_nvcc(a b)\nmessage("${{a}}|${{b}}")\n')
    command = ["cmake", "-DCMAKE_CUDA_ARCHITECTURES=80-real;90", *options, "-P", str(script)]
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CUDA")} | {"PATH": path}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    return run.stderr.strip()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (TOO_OLD, "release 11.8 cannot compile C++20 for 80-real, 90: nvcc fatal   : Value 'c++20' is not defined"),
        (REFUSES_THE_HOST, "unsupported GNU version"),
        (CRASHES, "exit status 139"),
    ],
)
def test_an_nvcc_that_cannot_build_is_named_with_the_reason(tmp_path: Path, script: str, why: str) -> None:
    path = nvcc(tmp_path, script)
    found, said = looked_for(tmp_path).split("|")
    assert found == ""
    assert str(path) in said
    assert why in said
    assert "\n" not in said


def test_an_nvcc_that_works_is_taken(tmp_path: Path) -> None:
    path = nvcc(tmp_path, WORKS)
    assert looked_for(tmp_path) == f"{path}|"


def test_no_nvcc(tmp_path: Path) -> None:
    everywhere = ";".join([*os.environ["PATH"].split(":"), "/usr/local/cuda/bin"])
    assert looked_for(tmp_path, f"-DCMAKE_IGNORE_PATH={everywhere}") == "|nvcc was not found"


def wants_cuda(tmp_path: Path, *options: str, **environment: str) -> str:
    """What vastmax_wants_cuda returns where libraries are looked for in one empty folder."""
    script = tmp_path / "wants.cmake"
    script.write_text(f'include({ROOT}/cmake/nvcc.cmake)\nvastmax_wants_cuda(a)\nmessage("${{a}}")\n')
    bare = {key: value for key, value in os.environ.items() if not key.startswith("CUDA")}
    command = ["cmake", f"-DCMAKE_LIBRARY_PATH={tmp_path}", *options, "-P", str(script)]
    run = subprocess.run(command, cwd=tmp_path, env=bare | environment, capture_output=True, text=True, check=True)
    return run.stderr.strip()


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists() or ctypes.util.find_library("cuda") is not None,
    reason="there is an NVIDIA driver",
)
def test_cuda_is_built_where_a_driver_is_or_architectures_are_named(tmp_path: Path) -> None:
    assert wants_cuda(tmp_path) == "OFF"
    assert wants_cuda(tmp_path, CUDAARCHS="90") == "ON"
    assert wants_cuda(tmp_path, "-DCMAKE_CUDA_ARCHITECTURES=90") == "ON"
    (tmp_path / "libcuda.so.1").touch()
    assert wants_cuda(tmp_path) == "ON"


def test_on_stops_without_a_usable_nvcc(tmp_path: Path) -> None:
    path = nvcc(tmp_path, TOO_OLD)
    command = ["cmake", "-S", str(ROOT), "-B", str(tmp_path / "build"), f"-DCMAKE_CUDA_COMPILER={path}"]
    run = subprocess.run([*command, "-DVASTMAX_CUDA=ON"], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "VASTMAX_CUDA is ON, but" in run.stderr
    assert "11.8" in run.stderr
