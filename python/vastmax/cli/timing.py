# SPDX-License-Identifier: Apache-2.0
"""Times of contenders that share a machine: in alternating blocks, with a pause between them.

Worker threads of other runtimes spin for a while after a call; call by call they would steal a core from the next.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Call = Callable[[], object]

_SHOT = 500e-6  # shorter calls are timed several at once


@dataclass(frozen=True)
class Pace:
    """How long to look."""

    rounds: int = 5
    block: float = 0.08
    pause: float = 0.05


@dataclass(frozen=True)
class Timing:
    """Seconds a call."""

    median: float
    lower: float  # quartiles
    upper: float
    mean: float
    p99: float
    samples: int


def timing(samples: Sequence[float]) -> Timing:
    """Summarise."""
    lower, median, upper, p99 = np.percentile(samples, [25, 50, 75, 99])
    return Timing(float(median), float(lower), float(upper), float(np.mean(samples)), float(p99), len(samples))


class _Contender:
    def __init__(self, calls: Sequence[Call]) -> None:
        self._next: Iterator[Call] = cycle(calls)  # rotates through arrays, so that none stays in a cache
        self._shot = 1
        self.samples: list[float] = []

    def block(self, pace: Pace) -> None:
        time.sleep(pace.pause)
        first = self._time(1)  # wakes the threads; counts only where calls are so long that waking is nothing
        if first > pace.block:
            self.samples.append(first)
            return
        self._shot = max(self._shot, int(_SHOT / first))
        end = time.perf_counter() + pace.block
        while time.perf_counter() < end:
            self.samples.append(self._time(self._shot))

    def _time(self, calls: int) -> float:
        chosen = islice(self._next, calls)
        start = time.perf_counter()
        for call in chosen:
            call()
        return (time.perf_counter() - start) / calls


def compare(calls: Mapping[str, Sequence[Call]], pace: Pace) -> dict[str, Timing]:
    """Time contenders, each a list of equal calls on different arrays."""
    contenders = {name: _Contender(each) for name, each in calls.items()}
    for _ in range(pace.rounds):
        for contender in contenders.values():
            contender.block(pace)
    return {name: timing(contender.samples) for name, contender in contenders.items()}
