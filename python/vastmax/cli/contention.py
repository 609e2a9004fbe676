# SPDX-License-Identifier: Apache-2.0
"""How vastmax fares while another process keeps one of its cores busy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from .cases import Bar, held
from .timing import Timing, timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .timing import Call

_ELEMENTS = 1_000_000
_SERIAL = "one undisturbed thread"
_MEAN_BAR = Bar(_SERIAL, 1.3, words="mean within 1.3 x")
_P99_BAR = Bar(_SERIAL, 3.0, words="p99 within 3 x")
_BUSY = "import os; os.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"


def measure(duration: float) -> dict[str, Any] | None:
    """Time logsumexp with all threads beside a busy core, against one thread undisturbed; None on a single core."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        return None
    x = np.random.default_rng(0).standard_normal((1, _ELEMENTS), np.float32)
    call = partial(vastmax.logsumexp, x, -1)
    with vastmax.config(threads=1):
        serial = _sample(call, duration / 2)
    with _one_core_busy():
        crowded = _sample(call, duration)
    return {
        "case": f"logsumexp, 1 x {_ELEMENTS:,}, float32, in cache",
        "threads": vastmax.get_num_threads(),
        "serial": serial.median,
        "mean": crowded.mean,
        "p99": crowded.p99,
        "calls": crowded.samples,
        "bars": [
            held(_MEAN_BAR, crowded.mean / serial.median),
            held(_P99_BAR, crowded.p99 / serial.median),
        ],
    }


def _sample(call: Call, duration: float) -> Timing:
    call()
    samples = []
    end = time.perf_counter() + duration
    while (start := time.perf_counter()) < end:
        call()
        samples.append(time.perf_counter() - start)
    return timing(samples)


@contextmanager
def _one_core_busy() -> Iterator[None]:
    core = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", _BUSY.format(core=core)], stdout=subprocess.PIPE) as other:
        try:
            if other.stdout is not None:
                other.stdout.readline()  # it runs
            yield
        finally:
            other.kill()
