# SPDX-License-Identifier: Apache-2.0
"""`python -m vastmax report`, against float64 NumPy."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import subprocesses
from vastmax.__main__ import main
from vastmax.cli import report

ROWS, CLASSES = 60, 700


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(1)
    logits = (rng.standard_normal((ROWS, CLASSES)) * 3).astype(np.float32)
    logits[::2] *= 3  # confident ones
    labels = np.where(rng.random(ROWS) < 0.6, logits.argmax(-1), rng.integers(0, CLASSES, ROWS))
    labels[:5] = logits.argsort(-1)[:5, -5]  # fifth of their rows
    labels[5] = -100
    np.save(tmp_path / "x.npy", logits.reshape(4, 15, CLASSES))
    np.save(tmp_path / "y.npy", labels.reshape(4, 15).astype(np.int32))
    return tmp_path / "x.npy", tmp_path / "y.npy"


def answer(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    assert main(["report", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("piece", [1 << 24, 7 * CLASSES, 1])
def test_figures(files: Any, piece: int, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(report, "_PIECE", piece)
    got = answer(capsys, files[0], "--labels", files[1])
    y = np.load(files[1]).reshape(-1)
    x = np.load(files[0]).reshape(ROWS, CLASSES).astype(np.float64)[y != -100]
    y = y[y != -100]
    p = np.exp(x - x.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    own = p[np.arange(len(y)), y]
    loss = -np.log(own).mean()
    assert (got["rows"], got["rows_kept"], got["classes"], got["dtype"]) == (ROWS, ROWS - 1, CLASSES, "float32")
    np.testing.assert_allclose([got["loss"], got["perplexity"]], [loss, np.exp(loss)], rtol=1e-6)
    np.testing.assert_allclose(got["entropy"], -(p * np.log(p)).sum(-1).mean(), rtol=1e-6)
    assert got["accuracy"] == (p.argmax(-1) == y).mean()
    assert got["top_5"] == ((p > own[:, None]).sum(-1) < 5).mean()
    places = np.minimum(p.max(-1) * 10, 9).astype(int)
    assert [b["rows"] for b in got["confidence"]] == np.bincount(places, minlength=10).tolist()
    for i, b in enumerate(got["confidence"]):
        mine = places == i
        assert b["accuracy"] == (None if not mine.any() else (p.argmax(-1) == y)[mine].mean())


def test_without_labels_and_with_rows_that_have_no_value(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "x.npy", np.array([[0, 0], [np.nan, 0], [-np.inf, -np.inf], [np.inf, 0]], np.float16))
    got = answer(capsys, tmp_path / "x.npy")
    assert "loss" not in got
    assert got["rows_without_value"] == 3
    np.testing.assert_allclose(got["entropy"], np.log(2), rtol=1e-6)
    assert main(["report", str(tmp_path / "x.npy")]) == 0
    text = capsys.readouterr().out
    assert "4 rows of 2 classes, float16" in text
    assert "rows with NaN" in text


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="without matplotlib")
def test_plot(files: Any, tmp_path: Path, capsys: Any) -> None:
    answer(capsys, files[0], "--labels", files[1], "--plot", tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_bad_files(files: Any, tmp_path: Path, capsys: Any) -> None:
    x, _ = files
    wrong = tmp_path / "wrong.npy"

    def refused(array: Any, *arguments: Any) -> str:
        np.save(wrong, array, allow_pickle=True)
        assert main(["report", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert not captured.out
        return str(captured.err)

    assert "35 numbers" in refused(np.zeros(35, int), x, "--labels", wrong)
    assert "an integer for each of 60 rows" in refused(np.zeros(60), x, "--labels", wrong)
    assert "has 700 for row 3; accepted: 0 to 699" in refused(np.eye(1, 60, 3, int)[0] * 700, x, "--labels", wrong)
    assert "Fortran order" in refused(np.zeros((4, 5), order="F"), wrong)
    assert "Python objects" in refused(np.array([None]), wrong)
    assert "shape ()" in refused(np.float32(1), wrong)
    assert "No such file" in refused(np.zeros(1), tmp_path / "none.npy")
    assert "folder that exists" in refused(np.zeros(1), x, "--plot", tmp_path / "none" / "c.png")


def _bytes_of(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


_WHOLE = _bytes_of(np.zeros((300, 2000), np.float32))  # large enough to be mapped
UNUSABLE = {
    "empty": (b"", "is empty"),
    "text": (b"1.0 2.0\n3.0 4.0\n", "is no .npy file"),
    "a cut header": (_WHOLE[:40], "damaged or cut short"),
    "cut data": (_WHOLE[:-4], "damaged or cut short"),
    "cut data, small": (_bytes_of(np.zeros((3, 4)))[:-1], "damaged or cut short"),
    "a header that is no dict": (_WHOLE[:10] + b"#" * 118 + _WHOLE[128:], "damaged or cut short"),
    "a pickle": (pickle.dumps([1.0, 2.0]), "is no .npy file"),
    "objects": (_bytes_of(np.array([[1.0, None]], object)), "Python objects"),
    "an archive": (_archive(), "is an archive"),
    "a cut archive": (_archive()[:-30], "is an archive"),
    "records": (_bytes_of(np.zeros((2, 2), "f4,f4")), "accepted: float16"),
    "strings": (_bytes_of(np.array([["a", "b"]])), "holds <U1; accepted: float16"),
    "bytes": (_bytes_of(np.array([[b"ab"]])), "holds |S2; accepted: float16"),
    "dates": (_bytes_of(np.zeros((2, 2), "M8[s]")), "accepted: float16"),
    "complex": (_bytes_of(np.zeros((2, 2), complex)), "holds complex128; accepted: float16"),
    "long double": (_bytes_of(np.zeros((2, 2), np.longdouble)), "accepted: float16"),
    "one number": (_bytes_of(np.float32(1)), "has shape ()"),
    "no classes": (_bytes_of(np.zeros((3, 0))), "has shape (3, 0)"),
}


@pytest.mark.parametrize("as_labels", [False, True], ids=["logits", "labels"])
@pytest.mark.parametrize("kind", UNUSABLE)
def test_files_without_usable_numbers(kind: str, as_labels: bool, files: Any, tmp_path: Path, capsys: Any) -> None:
    content, why = UNUSABLE[kind]
    path = tmp_path / "given.npy"
    path.write_bytes(content)
    assert main(["report", *map(str, [files[0], "--labels", path] if as_labels else [path])]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert str(path) in said.err
    assert "pickle" not in said.err
    if not (as_labels and kind in ("one number", "no classes")):
        assert why in said.err
    assert "accepted" in said.err


def test_places_without_a_file(files: Any, tmp_path: Path, capsys: Any) -> None:
    for path in (tmp_path, tmp_path / "none.npy", tmp_path / "none" / "x.npy"):
        for arguments in ([path], [files[0], "--labels", path]):
            assert main(["report", *map(str, arguments)]) == 2
            said = capsys.readouterr().err
            assert f"report: {path} cannot be read: " in said
            assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (np.zeros(59, int), "59 numbers of dtype int64"),
        (np.zeros((60, 2), int), "120 numbers of dtype int64"),
        (np.zeros(60), "60 numbers of dtype float64"),
        (np.zeros(60, bool), "60 numbers of dtype bool"),
        (np.full(60, -1), "has -1 for row 0"),
        (np.full(60, 700, np.uint64), "has 700 for row 0"),
        (np.full(60, 2**63, np.uint64), "has 9223372036854775808 for row 0"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, why: str, files: Any, tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "labels.npy", labels)
    assert main(["report", str(files[0]), "--labels", str(tmp_path / "labels.npy")]) == 2
    assert why in capsys.readouterr().err


def test_bfloat16_as_numpy_stores_it(tmp_path: Path, capsys: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(2).standard_normal((5, 30)).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "b.npy", x)
    np.save(tmp_path / "f.npy", x.astype(np.float32))
    got, want = answer(capsys, tmp_path / "b.npy"), answer(capsys, tmp_path / "f.npy")
    assert got["dtype"] == "bfloat16"
    np.testing.assert_allclose(got["entropy"], want["entropy"], rtol=1e-6)


def test_bfloat16_without_its_package(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    np.save(tmp_path / "b.npy", np.zeros((2, 3), np.uint16).view("V2"))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main(["report", str(tmp_path / "b.npy")]) == 2
    assert 'pip install ".[bf16]"' in capsys.readouterr().err


@pytest.mark.parametrize("rows", [0, 3])
def test_the_mean_of_no_rows_is_no_number(rows: int, tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "x.npy", np.zeros((rows, 4), np.float32))
    np.save(tmp_path / "y.npy", np.full(rows, -100))
    got = answer(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
    assert got["rows_kept"] == 0
    assert [got[key] for key in ("loss", "perplexity", "accuracy", "top_5", "entropy")] == [None] * 5
    assert main(["report", str(tmp_path / "x.npy"), "--labels", str(tmp_path / "y.npy")]) == 0
    assert re.search(r"loss, nats a row +nan", capsys.readouterr().out)


def test_json_has_one_type_for_each_figure(tmp_path: Path, capsys: Any) -> None:
    """A loss is a number, or null where it is NaN or infinite."""
    np.save(tmp_path / "y.npy", np.zeros(2, int))
    for bad in (np.nan, -np.inf, -5000.0):
        np.save(tmp_path / "x.npy", np.array([[bad, 0.0], [1.0, 2.0]]))
        got = answer(capsys, tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
        assert got["perplexity"] is None
        assert got["loss"] is None or bad == -5000.0


def test_a_large_file_does_not_stay_in_memory(tmp_path: Path) -> None:
    """The pages of a mapped file count as memory of the process until they are given back."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (3000, 30_000))  # 360 MB
    x[:, ::1000] = 1
    del x
    script = f"""
        import resource, sys
        from vastmax.__main__ import main
        from vastmax.cli import report
        report._PIECE = 1 << 21
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert main(["report", {str(tmp_path / "x.npy")!r}, "--json"]) == 0
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, file=sys.stderr)
    """
    done = subprocesses.attempt(script)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.split()[-1]) < 150  # MiB
