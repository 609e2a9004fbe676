# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a call beside its arrays, in a fresh process: a used one has memory to give back."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax
from vastmax import _core

from . import machine, screen
from .cases import Bar, Case, held, verdict
from .contenders import REDUCTIONS, Arrays, ours

if TYPE_CHECKING:
    from collections.abc import Sequence

_FRESH = "import sys; from vastmax.cli import memory; memory.answer(sys.argv[1])"
_BAR, _BAR_OF_A_BLOCK = 1 << 20, 32


def measure(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Hold each case against 1 MiB and a partial result per block; nothing where Linux does not tell."""
    taken = [(case, _asked(case)) for case in cases]
    return [_result(case, count) for case, count in taken if count is not None]


def _asked(case: Case) -> int | None:
    question = json.dumps({**asdict(case), "bars": (), "threads": vastmax.get_num_threads()})
    done = subprocess.run([sys.executable, "-c", _FRESH, question], capture_output=True, text=True, check=True)
    count: int | None = json.loads(done.stdout)
    return count


def answer(question: str) -> None:
    """Print the bytes that a case takes, as the process made for it."""
    fields = json.loads(question)
    vastmax.set_num_threads(fields.pop("threads"))
    case = Case(**fields)
    x = np.ones(case.shape, case.dtype)
    into = case.into and case.op not in REDUCTIONS
    call = ours(case.op, Arrays(x, x, np.ones_like(x)), case.axis, into=into)
    # Starts the threads. Freed, these arrays would leave room for a copy that does not show.
    keep = np.ones((2, 100_000), case.dtype)
    keep = vastmax.softmax(keep, out=keep)
    print(json.dumps(machine.peak_growth(call)[1]))


def _result(case: Case, count: int) -> dict[str, Any]:
    classes = case.shape[case.axis]
    block = _core.block_length(np.dtype(case.dtype).itemsize)
    limit = _BAR + _BAR_OF_A_BLOCK * (int(np.prod(case.shape)) // classes) * -(-classes // block)
    bar = Bar("extra memory", 1.0, words=f"under {screen.megabytes(limit)}")
    return {"case": str(case), "bytes": count, "limit": limit, "bars": [held(bar, count / limit)]}


def show(out: screen.Screen, results: Sequence[dict[str, Any]]) -> None:
    """Write a table."""
    if results:
        out.heading("Memory beside the arrays, at the peak of a call")
        bars = [(each, bar) for each in results for bar in each["bars"]]
        rows = [[each["case"], screen.megabytes(each["bytes"]), f"{bar['text']}: {verdict(bar)}"] for each, bar in bars]
        out.table(["case", ">taken", "bar"], rows)
