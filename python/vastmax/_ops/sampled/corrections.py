# SPDX-License-Identifier: Apache-2.0
"""Corrections (logQ) of the logits of targets and draws, without which the sampled loss is biased.

q is the probability of one draw, S their number, Q an expected count:

==========  =============  ===========================================================
correction  targets        draws
==========  =============  ===========================================================
importance  nothing        -log(n q'), n draws that are no target, q' = q / (1 - q_t)
candidate   -log Q         -log Q
refined     as importance; another loss value with the same gradient
none        nothing        nothing
==========  =============  ===========================================================

Draws without replacement, and all classes, have Q, their inclusion probability, in place of n q'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vastmax._operands.class_table import Targets
    from vastmax._ops.sampled.negatives import Draws

    F64 = NDArray[np.float64]

NAMES = ("importance", "candidate", "refined", "none")


class Shifts(NamedTuple):
    """Numbers to add to logits, in float64."""

    draws: F64  # as the draws are
    rows: F64  # one a row, to all of its draws
    average: bool  # less the logarithm of how many draws of the row count
    targets: F64


def check(op: str, correction: str) -> None:
    """Check the argument."""
    if correction not in NAMES:
        accepted = ", ".join(map(repr, NAMES))
        raise ValueError(message(op, "correction", f"is {correction!r}", accepted))


def shifts(op: str, correction: str, draws: Draws, targets: Targets, known: F64 | None, drop_hits: bool) -> Shifts:
    """Return what `correction` adds; `known` is log q of the targets, None if the sampler cannot tell."""
    rows, size = len(targets.offsets) - 1, draws.ids.shape[1]
    nothing = np.zeros(len(targets.ids))
    if correction == "none":
        return Shifts(np.zeros(draws.ids.shape), np.zeros(rows), False, nothing)
    if correction == "candidate":
        return odds(op, draws, targets, known)
    if not draws.replaced:
        return Shifts(-draws.log_expected, np.zeros(rows), False, nothing)
    if known is None or not drop_hits:
        return Shifts(-draws.log_expected, np.full(rows, -np.log(size)), False, nothing)
    with np.errstate(all="ignore"):  # a sampler that draws nothing but targets; q below the smallest double
        others = np.log1p(-np.minimum(targets.sums(np.exp(known)), 1.0))
    return Shifts(-draws.log_expected, others, True, nothing)


def odds(op: str, draws: Draws, targets: Targets, known: F64 | None) -> Shifts:
    """Return what sets each logit against the expected count of its class: 'candidate', and NCE."""
    if known is None:
        raise ValueError(message(op, "sampler", "does not know log q of the targets", "one that does"))
    size = np.log(draws.ids.shape[1]) if draws.replaced else 0.0
    expected = draws.expected(known, targets.rows)
    if (never := np.isneginf(expected)).any():
        given = f"never draws class {targets.ids[never.argmax()]}, a target"
        raise ValueError(message(op, "sampler", given, "one that may draw every target, to set them against chance"))
    return Shifts(-(draws.log_expected + size), np.zeros(len(targets.offsets) - 1), False, -(expected + size))
