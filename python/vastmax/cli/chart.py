# SPDX-License-Identifier: Apache-2.0
"""Pictures, with matplotlib where it is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INSTALL = 'pip install ".[demo]"'
_INK = {
    "vastmax": "#d62728",
    "scipy": "#1f77b4",
    "torch": "#ff9f40",
    "torch out=": "#ff7f0e",
    "onnxruntime": "#2ca02c",
    "simd_ml_kernels": "#9467bd",
}
_PEERS = tuple(_INK)
_INK |= {
    "read roof": "#555555",
    "copy roof": "#aaaaaa",
    "streamed copy": "#cccccc",
    "1 us": "#8c564b",
    "float32": "#17becf",
    "last axis": "#e377c2",
    "avx512": "#bcbd22",
}


def available() -> bool:
    """Say whether pictures can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure((width, height), layout="constrained")


def draw_ratios(path: str, cases: Sequence[Mapping[str, Any]], machine: str) -> None:
    """Draw each contender's time in multiples of vastmax's."""
    figure = _figure(11, 1.8 + 0.42 * len(cases))
    axes = figure.subplots()
    names = list(dict.fromkeys(name for case in cases for name in case["timings"] if name != "vastmax"))
    for name in names:
        points = [
            (case["timings"][name]["median"] / case["timings"]["vastmax"]["median"], row)
            for row, case in enumerate(cases)
            if name in case["timings"]
        ]
        ink, mark = _INK.get(name), "o" if name in _PEERS else "D"
        axes.plot(*zip(*points, strict=True), mark, label=name, color=ink, alpha=0.85)
    axes.axvline(1, color=_INK["vastmax"], label="vastmax")
    axes.set(xscale="log", xlabel="time of a call / time of vastmax (right of the line: vastmax is faster)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(cases)), [case["case"] for case in cases], fontsize=8)
    axes.margins(y=0.6 / len(cases))
    axes.invert_yaxis()
    axes.grid(axis="both", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
    axes.set_title(machine, fontsize=9)
    figure.savefig(path, dpi=150)


def draw_sizes(path: str, panels: Mapping[str, Mapping[str, Any]], machine: str) -> None:
    """Draw time and throughput against the number of classes, one column an op.

    A panel has `sizes`, `seconds` by contender, `bytes` that a call must move by size, `roof` in bytes/s by size,
    None where the caches serve.
    """
    figure = _figure(11, 7.5)
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for (title, panel), column in zip(panels.items(), grid.T, strict=True):
        _draw_panel(column[0], column[1], title, panel)
    grid[0][0].set_ylabel("time of a call (lower quartile)")
    grid[1][0].set_ylabel("GB/s")
    handles, labels = grid[1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(machine, fontsize=10)
    figure.savefig(path, dpi=150)


def draw_confidence(path: str, bins: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw how many rows have which largest probability, and how many of them are right."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    places = [(b["from"] + b["to"]) / 2 for b in bins]
    axes.bar(places, [b["rows"] for b in bins], width=0.9 / len(bins), color=_INK["vastmax"], alpha=0.5)
    axes.set(xlabel="confidence: the largest probability of a row", ylabel="rows", xlim=(0, 1))
    axes.set_title(title, loc="left", fontsize=10, wrap=True)
    right = [(x, b["accuracy"]) for x, b in zip(places, bins, strict=True) if b["accuracy"] is not None]
    if right:
        share = axes.twinx()
        share.plot(*zip(*right, strict=True), "o-", color=_INK["scipy"], label="right")
        share.plot([0, 1], [0, 1], "--", color=_INK["copy roof"], label="right as often as confident")
        share.set(ylabel="share that is right", ylim=(0, 1))
        figure.legend(loc="outside lower center", ncols=2, frameon=False)  # off the bars
    figure.savefig(path, dpi=150)


def draw_learning(path: str, curves: Mapping[str, Mapping[str, Any]], floor: float, title: str) -> None:
    """Draw held-out nDCG against training time, a line for each way to train."""
    learning_figure(curves, floor, title).savefig(path, dpi=150)


def learning_figure(curves: Mapping[str, Mapping[str, Any]], floor: float, title: str) -> Figure:
    """Return that picture, `floor` being the nDCG of word frequencies on the same words."""
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve["seconds"], curve["ndcg"], "o-", markersize=4, label=name)
    axes.axhline(floor, color=_INK["read roof"], linestyle="--", label="word frequencies")
    axes.set(xscale="log", xlabel="seconds of training", ylabel="nDCG@10 of held-out words")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_panel(above: Axes, below: Axes, title: str, panel: Mapping[str, Any]) -> None:
    from matplotlib.ticker import EngFormatter

    sizes = panel["sizes"]
    for name, seconds in panel["seconds"].items():
        style = {"color": _INK[name], "marker": "o", "markersize": 4, "label": name}
        above.plot(sizes, seconds, **style)
        below.plot(sizes, [b / s / 1e9 for b, s in zip(panel["bytes"], seconds, strict=True)], **style)
    roof = [(size, speed / 1e9) for size, speed in zip(sizes, panel["roof"], strict=True) if speed is not None]
    if roof:
        label = "memory roof: threaded read (logsumexp) or copy (softmax)"
        below.plot(*zip(*roof, strict=True), "--", color="black", label=label)
    above.set(xscale="log", yscale="log", title=title)
    above.yaxis.set_major_formatter(EngFormatter("s"))
    below.set(xscale="log", yscale="log", xlabel="classes in the row (float32)")
    below.xaxis.set_major_formatter(EngFormatter(sep=""))
    below.yaxis.set_major_formatter("{x:g}")
    for axes in (above, below):
        axes.grid(which="major", alpha=0.4)
        axes.grid(which="minor", alpha=0.12)
