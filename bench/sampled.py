# SPDX-License-Identifier: Apache-2.0
"""Sampled softmax beside the work it cannot avoid, and beside torch: `python bench/sampled.py [--json FILE]`.

As `python -m vastmax bench --op sampled_softmax`, for tables of other sizes, and with the memory it takes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vastmax.cli import machine
from vastmax.cli.sampled_calls import CLASSES, FEATURES, SHARED, Problem
from vastmax.cli.timing import Pace, compare

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 4096
PACE = Pace(rounds=7, block=0.3)
BARS = {"shared": ("three products", 1.15, "at most"), "torch": ("shared", 1.5, "at least")}


def measure(classes: int, features: int) -> dict[str, Any]:
    """Time the contenders, and print each beside what it is held against."""
    problem = Problem(classes, features, BATCH)
    calls: dict[str, list[Callable[[], object]]] = {"three products": [problem.products()], "shared": [problem.shared]}
    if importlib.util.find_spec("torch") is not None:
        calls["torch"] = [problem.torch()]
    times = compare(calls, PACE)
    times |= compare({"gather": [problem.gather()], "own": [problem.own]}, PACE)
    print(f"{BATCH} rows, {features} features, {classes:,} classes; {len(problem.ids)} of {SHARED} draws are distinct")
    for name, timing in times.items():
        print(f"{name:>15} {timing.median * 1e3:8.2f} ms  ({timing.lower * 1e3:.2f} to {timing.upper * 1e3:.2f})")
    for name, (base, bar, sense) in BARS.items():
        if name in times:
            print(f"{name} / {base}: {times[name].median / times[base].median:.2f}, bar {sense} {bar}")
    share = times["gather"].median / times["own"].median
    print(f"own draws reach {share:.0%} of the speed of the bare gather, bar at least 60%")
    _, memory = machine.peak_growth(problem.own)
    print(f"extra memory of own draws at the peak, gradients included: {memory}")
    return {"times": {name: asdict(timing) for name, timing in times.items()}, "distinct": len(problem.ids)}


def main() -> None:
    """Run with the sizes of the bars, or smaller ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    result = {"machine": machine.described(), **measure(options.classes, options.features)}
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
