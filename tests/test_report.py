# SPDX-License-Identifier: Apache-2.0
"""`python -m vastmax report`, against float64 NumPy."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
