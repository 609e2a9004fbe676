# SPDX-License-Identifier: Apache-2.0
"""Read a file of logits once and say what they are worth: loss, accuracy, entropy, confidence."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from . import chart, screen
from .array_file import UnusableFileError, forget_pages, read_numbers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .screen import Screen

    Array = NDArray[Any]

_PIECE = 1 << 24  # elements that are read at once
_BINS = 10  # of the confidence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the files."""
    parser.add_argument("logits", metavar="LOGITS.npy", type=Path, help="logits, classes last, of any size")
    parser.add_argument("--labels", metavar="LABELS.npy", type=Path, help="the class of each row")
    parser.add_argument("--ignore-index", type=int, default=-100, metavar="N", help="label of rows to leave out: -100")
    parser.add_argument("--plot", metavar="FILE.png", type=Path, help="draw the histogram of the confidence")


def run(options: argparse.Namespace) -> int:
    """Read, sum up, show."""
    out = screen.open_screen(silent=options.json)
    try:
        if options.plot is not None:
            _check_plot(options.plot)
        rows = _rows(options.logits)
        labels = None if options.labels is None else _labels(options.labels, rows, options.ignore_index)
        totals = _read(out, rows, labels, options.ignore_index)
    except (OSError, UnusableFileError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    result = {"logits": str(options.logits), "rows": len(rows), "classes": rows.shape[1], "dtype": rows.dtype.name}
    result |= totals.result(labels is not None)
    _show(out, result)
    if options.plot is not None:
        chart.draw_confidence(str(options.plot), result["confidence"], str(options.logits))
    if options.json:
        screen.print_json(result)
    return 0


@dataclass
class _Totals:
    """Sums over the rows."""

    kept: int = 0
    without_value: int = 0  # NaN, +inf, or nothing but -inf
    loss: float = 0.0
    first: int = 0  # rows whose label has the largest logit, and whose label is among the five largest
    fifth: int = 0
    entropy: float = 0.0
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, logits: Array, labels: Array | None) -> None:
        """Take in some rows."""
        stats = vastmax.softmax_stats(logits, labels)
        with np.errstate(invalid="ignore"):
            confidence = np.exp(stats.max.astype(np.float64) - stats.lse)
        valued = np.isfinite(confidence)
        self.kept += len(logits)
        self.without_value += int((~valued).sum())
        self.entropy += float(stats.entropy[valued].sum(dtype=np.float64))
        bins = np.minimum((confidence[valued] * _BINS).astype(np.int64), _BINS - 1)
        self.rows += np.bincount(bins, minlength=_BINS)
        if labels is not None:
            assert stats.target_log_prob is not None
            assert stats.target_rank is not None
            right = stats.argmax == labels
            self.loss -= float(stats.target_log_prob.sum(dtype=np.float64))
            self.first += int(right.sum())
            self.fifth += int((stats.target_rank <= 5).sum())
            self.right += np.bincount(bins[right[valued]], minlength=_BINS)

    def result(self, labelled: bool) -> dict[str, Any]:
        """Return the means."""
        means: dict[str, Any] = {"rows_kept": self.kept, "rows_without_value": self.without_value}
        if labelled:
            loss = _mean(self.loss, self.kept)
            with np.errstate(over="ignore"):
                means |= {"loss": loss, "perplexity": float(np.exp(loss))}
            means |= {"accuracy": _mean(self.first, self.kept), "top_5": _mean(self.fifth, self.kept)}
        means["entropy"] = _mean(self.entropy, self.kept - self.without_value)
        means["confidence"] = [
            {
                "from": i / _BINS,
                "to": (i + 1) / _BINS,
                "rows": int(self.rows[i]),
                "accuracy": self.right[i] / self.rows[i] if labelled and self.rows[i] else None,
            }
            for i in range(_BINS)
        ]
        return means


def _mean(total: float, count: int) -> float:
    """Return NaN for the mean of nothing."""
    return total / count if count else np.nan


def _check_plot(path: Path) -> None:
    if not path.parent.is_dir():
        raise UnusableFileError(f"--plot is {path}; accepted: a file in a folder that exists")
    if not chart.available():
        raise UnusableFileError(f"--plot needs matplotlib: {chart.INSTALL}")


def _rows(path: Path) -> Array:
    logits = read_numbers(path)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise UnusableFileError(
            f"{path} has shape {logits.shape}; accepted: one axis or more, the last one with classes"
        )
    if not logits.flags.c_contiguous:
        raise UnusableFileError(f"{path} is in Fortran order; accepted: C order, in which a row lies in one piece")
    rows: Array = logits.reshape(-1, logits.shape[-1])
    return rows


def _labels(path: Path, rows: Array, ignore: int) -> Array:
    labels: Array = read_numbers(path).reshape(-1)
    if labels.dtype.kind not in "iu" or len(labels) != len(rows):
        given = f"{len(labels)} numbers of dtype {labels.dtype}"
        raise UnusableFileError(f"{path} has {given}; accepted: an integer for each of {len(rows)} rows")
    outside = np.flatnonzero(((labels < 0) | (labels >= rows.shape[1])) & (labels != ignore))
    if len(outside):
        row, accepted = outside[0], f"0 to {rows.shape[1] - 1}, or {ignore} to leave a row out"
        raise UnusableFileError(f"{path} has {labels[row]} for row {row}; accepted: {accepted}")
    return labels


def _read(out: Screen, rows: Array, labels: Array | None, ignore: int) -> _Totals:
    totals = _Totals()
    step = max(_PIECE // rows.shape[1], 1)
    starts = range(0, len(rows), step)
    for start in out.progress(starts, "reading", len(starts)):
        for piece, own in _kept(rows[start : start + step], labels, start, ignore):
            totals.add(piece, own)
        forget_pages(rows)
    return totals


def _kept(piece: Array, labels: Array | None, start: int, ignore: int) -> Iterator[tuple[Array, Array | None]]:
    """Give the rows that count, without a copy where all do."""
    if labels is None:
        yield piece, None
        return
    own = np.asarray(labels[start : start + len(piece)])
    counted = own != ignore
    if counted.any():
        yield (piece, own) if counted.all() else (piece[counted], own[counted])


def _show(out: Screen, result: dict[str, Any]) -> None:
    out.heading(f"{result['logits']}: {result['rows']:,} rows of {result['classes']:,} classes, {result['dtype']}")
    named = {
        "loss": "loss, nats a row",
        "perplexity": "perplexity",
        "accuracy": "accuracy",
        "top_5": "label among the five largest",
        "entropy": "entropy, nats a row",
    }
    cells = [[text, f"{result[key]:.6g}"] for key, text in named.items() if key in result]
    cells.append(["rows that count", f"{result['rows_kept']:,}"])
    if result["rows_without_value"]:
        cells.append(["rows with NaN, +inf or nothing but -inf", f"{result['rows_without_value']:,}"])
    out.table(["", ">value"], cells)
    out.heading("Confidence: the largest probability of a row")
    out.table(
        [">from", ">to", ">rows", ">right"],
        [
            [f"{b['from']:.1f}", f"{b['to']:.1f}", f"{b['rows']:,}", "" if (a := b["accuracy"]) is None else f"{a:.3f}"]
            for b in result["confidence"]
        ],
    )
