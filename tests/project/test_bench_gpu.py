# SPDX-License-Identifier: Apache-2.0
"""bench/gpu.py runs to its end wherever the CUDA extension does, and never takes the host's speed for a GPU's."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vastmax
from support import ROOT

PROGRAM = ROOT / "bench" / "gpu.py"

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not PROGRAM.exists(), reason="tests without the source tree"),
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *options], capture_output=True, text=True, check=False)


@pytest.fixture
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_gpu", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def simulated() -> bool:
    import vastmax._cuda as module

    return bool(module.simulated)


def test_smoke_runs_to_its_end() -> None:
    done = run("--smoke")
    assert done.returncode == 0, done.stderr
    assert "launch overhead" in done.stdout
    assert ("simulated" in done.stdout) == simulated()


@pytest.mark.parametrize("options", [(), ("--smoke", "--out", "figures.json")])
def test_no_figures_of_a_simulated_gpu(options: tuple[str, ...], tmp_path: Path) -> None:
    if not simulated():
        pytest.skip("a GPU has figures")
    done = run(*options)
    assert done.returncode == 2
    assert "simulated" in done.stderr
    assert not Path("figures.json").exists()


def test_what_is_timed_is_said(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a real GPU, on whatever is here; what its figures are does not matter."""
    gpu = bench.Gpu(smoke=True)
    gpu.simulated = False
    for name, value in (("BATCH", 1e-4), ("ROUNDS", 1), ("LAUNCH_ROUNDS", 1)):
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "torch_calls", lambda *_: {"broken": [lambda: 1 / 0]})
    results = [bench.measure(gpu, bench.Case("softmax", 1, n, "float32")) for n in (50_257, 50_264)]
    for result in results:
        assert set(result["seconds"]) >= {"vastmax", "copy"}
        assert result["failed"] == {"broken": "ZeroDivisionError: division by zero"}
        assert result["percent of copy"]["vastmax"] > 0
        assert " us " in bench.line(result)
    assert [text for text in bench.between_cases(results) if "50,257" in text]
    overhead = bench.launch_overhead(gpu)
    assert "aim 8" in bench.line(overhead)
