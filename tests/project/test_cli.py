# SPDX-License-Identifier: Apache-2.0
"""The commands of `python -m vastmax`: what they answer, and what they say when they cannot."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, oracle
from support.goodness_of_fit import follows
from vastmax import __main__ as command_line
from vastmax import _core
from vastmax._backends import load as _backends
from vastmax.cli import (
    bench,
    cases,
    contenders,
    exact,
    kernels,
    machine,
    memory,
    onnx_model,
    screen,
    timing,
)

pytestmark = pytest.mark.any_isa


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = command_line.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in packages else find(name, *rest)
    )


def test_module_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vastmax", "info", "--json"], capture_output=True, text=True, check=True, timeout=60
    )
    there, here = json.loads(done.stdout), json.loads(json.dumps(vastmax.info()))
    assert there.pop("threads").keys() == here.pop("threads").keys()  # other tests have set them here
    assert there == here


def test_import_does_not_load_the_commands() -> None:
    code = "import sys, vastmax; assert not {'argparse', 'vastmax.cli'} & {*sys.modules}, 'heavier than needed'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["info"]) == 0
    assert capsys.readouterr().out == f"{vastmax.info()}\n"


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([]) == 0
    text = capsys.readouterr().out
    for part in ("info", "selftest", "demo --beside-scipy", "report", "Try:"):
        assert part in text


@pytest.mark.conformance
@pytest.mark.parametrize("flags", [["-O"], ["-OO"]])
def test_without_docstrings_and_assertions(flags: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3)))
    for arguments in ([], ["--help"], ["info"], ["info", "--json"], ["report", str(tmp_path / "x.npy")]):
        done = subprocess.run(
            [sys.executable, *flags, "-m", "vastmax", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    for arguments in ("info --json", "info", "", "--help"):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m vastmax {arguments} | head -c 1"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert not done.stderr
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vastmax", "info", "--json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_no_driver_is_called_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA runtime says that the driver is too old where there is none."""
    too_old = types.SimpleNamespace(reason=lambda: "CUDA driver version is insufficient for CUDA runtime version")
    for module, driver, want in (
        (too_old, False, "no NVIDIA driver on this machine"),
        (too_old, True, too_old.reason()),
        (None, False, "no NVIDIA driver on this machine, and vastmax was built without CUDA"),
        (None, True, "vastmax was built without CUDA"),
    ):
        monkeypatch.setitem(sys.modules, "vastmax._cuda", module)
        monkeypatch.setattr(_backends, "_driver_loads", lambda driver=driver: driver)
        _backends._load.cache_clear()
        assert vastmax.cuda.reason() == want
    monkeypatch.undo()
    _backends._load.cache_clear()


def test_info_prints_sizes_with_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["info"]) == 0
    assert re.search(r"L2 +[0-9.,]+ [KM]iB", capsys.readouterr().out)


@pytest.mark.parametrize("arguments", [["nonsense"], ["bench", "--shape", "3x0"], ["bench", "--against", "jax"]])
def test_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


# selftest


@pytest.mark.conformance
def test_selftest_passes_and_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = answer(capsys, "selftest")
    failed = [check for check in result["checks"] if not check["passed"]]
    assert (status, result["passed"], failed) == (0, True, [])
    seen = {(check["kernel"], check["dtype"], check["isa"]) for check in result["checks"]}
    isas = (*vastmax.available_isas(), "as called")
    dtypes = {np.dtype(f.dtype).name for f in contracts.FORMATS.values()}
    assert seen == {
        (kernel.name, dtype, isa) for kernel in kernels.KERNELS for dtype in dtypes & {*kernel.dtypes} for isa in isas
    }


# What the written contracts call by another name, and what they do not bound.
CONTRACTS = {
    "logsumexp b=": "logsumexp_weighted",
    "softmax_stats, log-probabilities": "selective_log_softmax",
    "LogSumExp": "logsumexp",
    "linear_cross_entropy": "cross_entropy",
    "linear_logsumexp": "logsumexp",
}
UNBOUNDED = ("softmax_stats, order", "linear_top_k", "sampled_softmax", "Sampler.")


def test_selftest_holds_to_the_contract() -> None:
    ops = {kernel.name.split()[0] for kernel in kernels.KERNELS}
    of_rows = {"softmax", "log_softmax", "logsumexp", "logsumexp_backward", "softmax_backward", "log_softmax_backward"}
    names = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}
    assert of_rows <= ops
    for kernel in kernels.KERNELS:
        if any(name in kernel.name for name in UNBOUNDED):
            continue
        name = CONTRACTS.get(kernel.name, kernel.name)
        contract = contracts.MAX_ULP.get(name) or contracts.MAX_ULP[name.split()[0]]
        for short, bound in contract.items():
            assert kernel.bounds[names[short]] == bound, (kernel.name, short)


def scaled(kernel: Any) -> Any:
    def doctored(x: Any, out: Any, *rest: Any) -> None:
        kernel(x, out, *rest)
        np.multiply(out, out.dtype.type(1.01), out=out)

    return doctored


def dependent_on_threads(kernel: Any) -> Any:
    def doctored(x: Any, out: Any, temperature: Any, where: Any, threads: int, isa: int) -> None:
        kernel(x, out, temperature, where, threads, isa)
        if threads > 1:
            out[..., 0] = np.nextafter(out[..., 0], out.dtype.type(0))

    return doctored


def failing(_: Any) -> Any:
    def doctored(*_: Any) -> None:
        raise MemoryError("doctored")

    return doctored


@pytest.mark.parametrize(
    ("doctor", "words"), [(scaled, "ULP, allowed"), (dependent_on_threads, "bits differ"), (failing, "MemoryError")]
)
def test_selftest_fails_on_a_doctored_kernel(
    doctor: Any, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vastmax.cli import selftest

    chosen = tuple(kernel for kernel in kernels.KERNELS if kernel.name in ("softmax", "sigmoid"))
    monkeypatch.setattr(selftest, "KERNELS", chosen)
    monkeypatch.setattr(_core, "softmax", doctor(_core.softmax))
    assert command_line.main(["selftest"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failures = [line for line in lines if line.startswith("FAILED")]
    assert failures
    assert all(line.startswith("FAILED softmax ") for line in failures)
    assert any(words in line for line in failures)


def test_references_agree_with_the_oracle() -> None:
    if not exact.REACHES_FLOAT64:
        pytest.skip("long double is float64")
    rng = np.random.default_rng(5)
    z = rng.standard_normal((4, 300)) * 9
    p = rng.uniform(1e-3, 1 - 1e-3, 300)
    with np.errstate(all="ignore"):
        pairs = [
            (exact.softmax(exact.wide(z)), oracle.softmax(z)),
            (exact.log_softmax(exact.wide(z)), oracle.log_softmax(z)),
            (exact.logsumexp(exact.wide(z)), oracle.logsumexp(z)),
            (exact.softplus(exact.wide(z)), oracle.softplus(z)),
            (exact.sigmoid(exact.wide(z)), oracle.sigmoid(z)),
            (exact.log_sigmoid(exact.wide(z)), oracle.log_sigmoid(z)),
            (exact.logit(exact.wide(p)), oracle.logit(p)),
        ]
    for got, want in pairs:
        error = contracts.ulp_error(got.value.astype(np.float64), want, contracts.FORMATS["f64"], scale=got.scale)
        assert error.max() <= 0.51


def test_ulp_error_of_what_is_not_finite() -> None:
    value = np.array([np.nan, np.inf, -np.inf, np.inf, 1.0, 0.0], np.longdouble)
    got = np.array([np.nan, np.inf, np.inf, 1.0, np.nan, 2.0**-149], np.float32)
    error = exact.ulp_error(got, exact.Truth(value, np.abs(value)), "float32")
    np.testing.assert_array_equal(error, [0, 0, np.inf, np.inf, np.inf, 1])


# bench


@pytest.mark.conformance
def test_bench_quick(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    small = tuple(case for case in cases.TABLE if case.quick and np.prod(case.shape) < 3e6)
    monkeypatch.setattr(bench, "TABLE", small)
    status, result = answer(capsys, "bench", "--quick", "--against", "")
    assert status == 0
    assert [each["case"] for each in result["cases"]] == [str(case) for case in small]
    for each in result["cases"]:
        mine = each["timings"]["vastmax"]
        assert 0 < mine["lower"] <= mine["median"] <= mine["upper"]
        for bar in each["bars"]:
            assert bar["passed"] == (bar["ratio"] <= bar["limit"]) == (bar["margin"] >= 1)
    assert {"cpu", "isa", "threads", "versions", "commit", "load"} <= {*result["machine"]}
    assert result["extra memory"] or machine.peak_growth(int)[1] is None
    for each in result["extra memory"]:
        assert each["bars"][0]["passed"] == (each["bytes"] <= each["limit"])
    crowded = result["one core busy"]
    assert crowded is None or crowded["p99"] >= crowded["serial"] / 2 > 0


@pytest.mark.conformance
def test_bench_of_one_array(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "ratios.png"
    arguments = [
        "--op",
        "logsumexp",
        "--shape",
        "7x5_001",
        "--dtype",
        "float16",
        "--isa",
        "scalar",
        "--threads",
        "1",
        "--plot",
        str(picture),
    ]
    status, result = answer(capsys, "bench", "--quick", "--against", "scipy", *arguments)
    assert status == 0
    assert [each["shape"] for each in result["cases"]] == [[7, 5001]]
    assert (result["machine"]["isa"], result["machine"]["threads"]) == ("scalar", 1)
    assert {"vastmax", "read roof", "copy roof", "streamed copy"} <= {*result["cases"][0]["timings"]}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.conformance
def test_bench_of_samplers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.sampled_calls, "CLASSES", 5000)
    monkeypatch.setattr(bench.sampled_calls, "FEATURES", 16)
    for op in bench.sampled_calls.OPS:
        status, result = answer(capsys, "bench", "--quick", "--against", "", "--op", op)
        assert status == 0
        for each in result["cases"]:
            assert {bar["against"] for bar in each["bars"]} == {*each["timings"]} - {"vastmax"} != set()
    assert [each["case"].split(", ")[-1] for each in result["cases"]] == ["draws of each batch", "draws of each row"]
    assert command_line.main(["bench", "--op", "sampled_softmax", "--shape", "3x5"]) == 2
    assert "--shape" in capsys.readouterr().err


def test_bench_of_an_op_without_quick_cases() -> None:
    options = argparse.Namespace(op="sigmoid", shape=None, dtype=None, quick=True)
    assert {case.op for case in bench._chosen(options)} == {"sigmoid"}


def test_bench_plot_into_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["bench", "--plot", "/no/such/folder/ratios.png"]) == 2
    assert "/no/such/folder" in capsys.readouterr().err


@pytest.mark.conformance
def test_bench_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hide(monkeypatch, "torch", "simd_ml_kernels")
    assert command_line.main(["bench", "--quick", "--shape", "1x1000", "--against", "torch,simd-ml-kernels"]) == 0
    text = capsys.readouterr().out
    assert 'torch, simd_ml_kernels. All peers come with: pip install ".[bench]"' in text.replace("\n", " ")
    assert "Where others are faster" in text
    assert "bars reached" not in text


@pytest.mark.conformance
def test_bench_shows_ratios_first_and_bars_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "case": "softmax, 4 x 5",
        "timings": {"vastmax": {"median": 1e-3}, "scipy": {"median": 3.23}, "torch": {"median": 5e-4}},
    }
    bench._show(screen.Screen(), [result])
    bench._show_faster(screen.Screen(), [result])
    text = capsys.readouterr().out
    assert re.search(
        r"softmax, 4 x 5 +1 ms +scipy +3,23e03|softmax, 4 x 5 +1 ms +scipy +3.23e\+03|3,230 x as fast", text
    )
    assert "2.00 x as long" in text
    assert "softmax, 4 x 5: torch, 2.00 x" in text
    assert command_line.main(["bench", "--quick", "--shape", "1x1000", "--against", "", "--bars"]) == 0
    assert "MISSED" not in capsys.readouterr().out


@pytest.mark.parametrize("op", contenders.OPS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_contenders_compute_the_same(op: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 5, 33)).astype(dtype)
    result = contenders.ours(op, contenders.Arrays(x, y, np.empty_like(x)), -1, into=False)()
    field = {"cross_entropy_with_grad": "grad", "softmax_stats": "lse"}.get(op)
    expected = np.asarray(result[0] if op == "top_k" else getattr(result, field) if field else result)
    out = np.empty_like(x)
    for name, call in contenders.peers(op, contenders.Arrays(x, y, out), -1, contenders.PEERS).items():
        out.fill(np.nan)
        got = call()
        if op in contenders.SAMPLES:
            assert got.shape == (5, 1)  # type: ignore[attr-defined]
            continue
        if name == "onnxruntime" or (op, name) == ("top_k", "torch"):
            got = got[0]  # type: ignore[index]
        if name == "numpy":  # which are the largest, in no order
            got = -np.sort(-np.take_along_axis(x, got[:, -expected.shape[1] :], -1), -1)  # type: ignore[index]
        tolerance = 1e-2 if dtype == "float16" else 1e-4
        np.testing.assert_allclose(np.asarray(got, np.float64), expected.astype(np.float64), tolerance, err_msg=name)


def test_sorting_contenders_draw_from_the_nucleus() -> None:
    x = np.tile(np.log([0.05, 0.4, 0.25, 0.3]), (200_000, 1))
    arrays = contenders.Arrays(x, x, x.copy())
    calls = contenders.peers("sample_top_p", arrays, -1, contenders.PEERS)
    assert {"numpy"} <= set(calls) <= {"numpy", "torch"}
    for call in (*calls.values(), contenders.ours("sample_top_p", arrays, -1, into=False)):
        assert follows(np.ravel(call()), np.array([0, 0.4, 0.25, 0.3]) / 0.95)  # type: ignore[call-overload]


def test_streamed_copy_copies(isa: str) -> None:
    index = _core.isas().index(isa)
    for n, offset in ((0, 0), (1, 1), (130, 3), (70_001, 1)):
        x = np.random.default_rng(n).standard_normal(n + offset).astype(np.float32)[offset:]
        out = np.full(n + 2, 7.0, np.float32)
        _core.stream_copy(x, out[1:-1], 2, index)
        np.testing.assert_array_equal(out, [7.0, *x, 7.0])


def test_memory_of_a_call() -> None:
    case = next(case for case in cases.MEMORY if case.op == "softmax")
    size = np.prod(case.shape) * 4
    results = memory.measure([case, replace(case, into=False)])
    if not results:
        pytest.skip("this system does not tell")
    into, allocating = results
    assert into["bars"][0]["passed"], into
    assert not allocating["bars"][0]["passed"]
    assert allocating["bytes"] == pytest.approx(size, rel=0.02)


def test_onnx_model_means_what_it_says() -> None:
    reference = pytest.importorskip("onnx.reference")
    onnx = pytest.importorskip("onnx")
    x = np.random.default_rng(4).standard_normal((3, 7)).astype(np.float32)
    for op, attributes, ours in (
        ("Softmax", {"axis": -1}, vastmax.softmax(x)),
        ("ReduceLogSumExp", {"axes": [-1], "keepdims": 0}, vastmax.logsumexp(x, axis=-1)),
    ):
        model = onnx.load_from_string(onnx_model.one_node(op, "float32", attributes))
        (got,) = reference.ReferenceEvaluator(model).run(None, {"x": x})
        np.testing.assert_allclose(got, ours, rtol=1e-6)


def test_timing_rotates_and_alternates() -> None:
    seen: list[str] = []
    calls = {name: [lambda tag=f"{name}{i}": seen.append(tag) for i in range(2)] for name in "ab"}
    result = timing.compare(calls, timing.Pace(rounds=2, block=0.001, pause=0))
    assert {*result} == {"a", "b"}
    blocks = [tag[0] for tag in seen]
    assert sum(x != y for x, y in itertools.pairwise(blocks)) == 3
    mine = [tag for tag in seen if tag[0] == "a"]
    assert mine[:4] == ["a0", "a1", "a0", "a1"]


# what commands share


def test_peak_growth() -> None:
    size = 64 << 20
    result, grown = machine.peak_growth(lambda: np.ones(size, np.uint8).sum(dtype=np.int64))
    assert result == size
    assert grown is None or 0.9 * size <= grown <= 1.5 * size


def test_screen(capsys: pytest.CaptureFixture[str]) -> None:
    out = screen.open_screen(silent=False)
    out.heading("Title")
    out.table(["name", ">value"], [["a", "1"], ["bcd", "1,000"]])
    assert list(out.progress([1, 2], "step", 2)) == [1, 2]
    captured = capsys.readouterr()
    assert captured.out == "\nTitle\n-----\nname  value\n----  -----\na         1\nbcd   1,000\n"
    assert captured.err == "step (2 steps) ...\n"
    silent = screen.open_screen(silent=True)
    silent.text("nothing")
    assert capsys.readouterr().out == ""


def test_rich_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = screen.open_screen(silent=False)
    out.heading("Title [40, 0]")
    out.table(["input [x]", ">value"], [["[red]", "1"]])
    assert list(out.progress([1, 2], "step", 2)) == [1, 2]
    text = capsys.readouterr().out
    assert "Title [40, 0]" in text
    assert "[red]" in text


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"a": np.float32(1.5), "b": (np.inf, np.int64(2)), 3: [np.nan, None]})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": 1.5,
        "b": [None, 2],
        "3": [None, None],
    }


def test_units() -> None:
    assert [screen.seconds(t) for t in (2.0, 0.0312, 4.2e-6, 9e-8)] == ["2 s", "31.2 ms", "4.2 us", "90 ns"]
    assert [screen.megabytes(n) for n in (533_140_800, 1000)] == ["533 MB", "0.0 MB"]
