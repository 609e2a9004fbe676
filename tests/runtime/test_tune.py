# SPDX-License-Identifier: Apache-2.0
"""The measured policy of device="auto": read, written, foreign, broken; and the command that measures it."""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vastmax
from vastmax import __main__ as command_line
from vastmax._backends import policy as _policy
from vastmax._backends import tuned as _tuned
from vastmax._backends.kernels import KERNELS
from vastmax.cli import tune

pytestmark = pytest.mark.any_isa
needs_gpu = pytest.mark.skipif(
    not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"
)
HERE = {"vastmax": "1", "cpu": "a CPU", "device": "a GPU", "driver": 13000}
LINES = {"softmax": {"float32": {"cpu": _tuned.Line(0.0, 1e-9), "cuda": _tuned.Line(1e-4, 1e-10)}}}


@pytest.fixture
def somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine with a real GPU, as far as policies know, and a cache folder of its own."""
    monkeypatch.setattr(_tuned, "machine", lambda: dict(HERE))
    monkeypatch.setattr(_tuned, "unmeasurable", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("VASTMAX_POLICY", raising=False)
    _tuned.forget()
    yield tmp_path
    _tuned.forget()


def test_what_is_written_is_read(somewhere: Path) -> None:
    assert _tuned.measured() is None
    assert "python -m vastmax tune" in _tuned.read().status
    file = _tuned.written(_tuned.Policy(LINES), 4)
    assert file.parent == somewhere / "vastmax"
    assert [p.name for p in file.parent.iterdir()] == [file.name], "a part was left behind"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    policy = _tuned.measured()
    assert policy is not None
    assert policy.predict("softmax", "float32", 10**6) == pytest.approx({"cpu": 1e-3, "cuda": 2e-4})
    assert policy.predict("softmax", "float64", 10**6) is None
    assert vastmax.info()["policy"] == str(file)


def test_each_machine_has_its_file(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {_tuned.path()}
    for key in HERE:
        monkeypatch.setattr(_tuned, "machine", lambda key=key: {**HERE, key: "other"})
        names.add(_tuned.path())
    assert len(names) == 1 + len(HERE)
    assert all(name.parent == somewhere / "vastmax" for name in names)
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert _tuned.path().parent == Path.home() / ".cache" / "vastmax"
    monkeypatch.setenv("VASTMAX_POLICY", "/elsewhere/policy.json")
    assert _tuned.path() == Path("/elsewhere/policy.json")


GOOD = {
    "format": 1,
    "machine": HERE,
    "threads": 2,
    "seconds": {"softmax": {"float32": {"cpu": [0, 1], "cuda": [1, 0]}}},
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Expecting value"),
        ("[]", "not what tune writes"),
        ("{}", "not what tune writes"),
        ("[" * 100_000, "no use here"),
        ({**GOOD, "format": 7}, "format 7; accepted: 1"),
        ({**GOOD, "machine": {**HERE, "device": "another GPU"}}, "with device another GPU; accepted: a GPU"),
        ({**GOOD, "machine": {**HERE, "driver": 12000}}, "with driver 12000; accepted: 13000"),
        ({**GOOD, "machine": {**HERE, "vastmax": "0"}}, "with vastmax 0"),
        ({**GOOD, "machine": {**HERE, "cpu": "another"}}, "with cpu another"),
        ({**GOOD, "seconds": {"softmax": {"float32": {"cpu": [0, 1]}}}}, "not what tune writes"),
        ({**GOOD, "seconds": {"softmax": {"float32": {"cpu": [0, -1], "cuda": [1, 0]}}}}, "not a time"),
        ({**GOOD, "seconds": {"softmax": {"float32": {"cpu": [0, float("nan")], "cuda": [1, 0]}}}}, "not a time"),
        ({**GOOD, "seconds": {"softmax": {"float32": {"cpu": "fast", "cuda": [1, 0]}}}}, "no use here"),
    ],
)
def test_a_file_of_no_use_is_named_once(somewhere: Path, content: Any, words: str) -> None:
    file = _tuned.path()
    file.parent.mkdir()
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.warns(RuntimeWarning, match="It is ignored") as caught:
        assert _tuned.measured() is None
    assert words in str(caught[0].message)
    assert str(file) in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _tuned.measured() is None
        assert words in vastmax.info()["policy"]


def test_the_good_file_of_these_is_read(somewhere: Path) -> None:
    assert _tuned.parsed(json.dumps(GOOD), HERE).predict("softmax", "float32", 3) == {"cpu": 3, "cuda": 1}


def test_bytes_and_a_missing_file_that_was_named(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VASTMAX_POLICY", str(somewhere / "none.json"))
    with pytest.warns(RuntimeWarning, match="does not exist"):
        assert _tuned.measured() is None
    _tuned.forget()
    (somewhere / "none.json").write_bytes(b"\xff\xfe\x00")
    with pytest.warns(RuntimeWarning, match="no use here"):
        assert _tuned.measured() is None


def test_a_failed_write_leaves_the_old_policy(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _tuned.written(_tuned.Policy(LINES), 4)
    old = file.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(_tuned.json, "dump", full)
    with pytest.raises(OSError, match="disk full"):
        _tuned.written(_tuned.Policy({}), 4)
    assert file.read_bytes() == old
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(("fixed", "per_byte"), [(1e-5, 2e-11), (0.0, 1e-10), (3e-4, 0.0)])
def test_lines_are_found_again(fixed: float, per_byte: float) -> None:
    sizes = [40_000, 400_000, 4_000_000, 40_000_000]
    noise = [1.01, 0.99, 1.01, 0.99]
    line = _tuned.fitted(sizes, [(fixed + per_byte * n) * e for n, e in zip(sizes, noise, strict=True)])
    assert line.fixed >= 0
    assert line.per_byte >= 0
    for n in sizes:
        assert line.at(n) == pytest.approx(fixed + per_byte * n, rel=0.03)
    assert _tuned.fitted([100, 100], [2e-3, 2e-3]) == pytest.approx((2e-3, 0))


@needs_gpu
def test_every_op_that_a_gpu_does_is_measured() -> None:
    assert set(tune._CALLS) <= set(KERNELS)
    assert on_a_gpu(KERNELS) == on_a_gpu(tune._CALLS)


def on_a_gpu(ops: Iterable[str]) -> set[str]:
    import vastmax._cuda as module

    return {op for op in ops if KERNELS[op].offloads and hasattr(module, KERNELS[op].function)}


@needs_gpu
def test_auto_follows_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((4, 2000)).astype(np.float32)
    want = vastmax.softmax(x)
    policy = _tuned.Policy(LINES)
    monkeypatch.setattr(_tuned, "measured", lambda: policy)
    monkeypatch.setattr(_tuned, "read", lambda: _tuned.Found(policy, "here"))
    with vastmax.config(device="auto"):
        small = vastmax.explain(vastmax.softmax, x)
        assert small.backend == "cpu"
        assert small.predicted == pytest.approx({"cpu": 6.4e-5, "cuda": 1e-4 + 6.4e-6})
        assert "not be clearly faster" in small.reason
        vast = vastmax.explain(vastmax.softmax, np.broadcast_to(np.float32(0), (100, 1_000_000)))
        assert (vast.backend, vast.isa, vast.strategy) == ("cuda", "cuda", "split")
        assert vast.predicted == pytest.approx({"cpu": 0.8, "cuda": 0.0801})
        assert "should be faster" in vast.reason
        assert "in 25 chunks of up to 4 rows" in vast.reason
        assert vast.bytes >= 800_000_000
        assert vastmax.explain(vastmax.log_softmax, x).predicted is None
        for part in ("predicted", "cuda", "0.0801"):
            assert part in str(vast)
        monkeypatch.setattr(_policy, "CLEAR_WIN", 10)
        assert vastmax.explain(vastmax.softmax, x).backend == "cuda"
        np.testing.assert_allclose(vastmax.softmax(x), want, rtol=1e-6)
    assert vastmax.explain(vastmax.softmax, x).backend == "cpu"


@needs_gpu
def test_tune_never_lets_a_simulated_device_win(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vastmax._cuda as module

    if not module.simulated:
        pytest.skip("a real GPU")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "_PACE", SimpleNamespace(rounds=1, block=0.0, pause=0.0))
    small = ["--elements", "40", "90"]
    assert command_line.main(["tune", "--json", *small]) == 1
    result = json.loads(capsys.readouterr().out)
    assert "simulated" in result["refused"]
    assert "written" not in result
    assert set(result["seconds"]) == on_a_gpu(tune._CALLS)
    assert all(len(each) >= 3 for each in result["seconds"].values())
    assert all(sample["cpu"] > 0 and sample["cuda"] > 0 for sample in result["samples"])
    assert command_line.main(["tune", "--op", "softmax", "--dtype", "float32", *small]) == 1
    text = capsys.readouterr().out
    assert "no policy is written: the device is simulated" in text
    assert "softmax" in text
    assert list(tmp_path.rglob("*")) == []
    with pytest.raises(ValueError, match="simulated"):
        _tuned.written(_tuned.Policy(LINES), 1)
    with vastmax.config(device="auto"):
        assert vastmax.explain(vastmax.softmax, np.zeros((100, 10_000), np.float32)).backend == "cpu"


@needs_gpu
def test_tune_writes_what_it_measured(
    somewhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "_PACE", SimpleNamespace(rounds=1, block=0.0, pause=0.0))
    small = ["--elements", "40", "90", "--json"]
    assert command_line.main(["tune", *small, "--dry-run"]) == 0
    assert not list(somewhere.rglob("*.json"))
    assert command_line.main(["tune", "--json", "--op", "softmax", "--elements", "40"]) == 1, "no bandwidth"
    assert not list(somewhere.rglob("*.json"))
    capsys.readouterr()
    assert command_line.main(["tune", *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["written"] == str(_tuned.path())
    policy = _tuned.measured()
    assert policy is not None
    assert json.loads(json.dumps(policy.lines)) == result["seconds"]


@pytest.mark.parametrize("wrong", [["--elements", "0"], ["--elements", "-3"], ["--op", "exp"], ["--dtype", "int8"]])
def test_tune_bad_arguments(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(["tune", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_tune_without_a_gpu_says_why(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vastmax.cuda, "reason", lambda: "no CUDA here")
    assert command_line.main(["tune"]) == 1
    assert "no CUDA here" in capsys.readouterr().out
    assert command_line.main(["tune", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"refused": "no CUDA here"}
