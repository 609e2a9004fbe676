# SPDX-License-Identifier: Apache-2.0
"""`reduction=` of the losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vastmax.errors import message

if TYPE_CHECKING:
    from vastmax._operands.arrays import Array, Reduced


def check_reduction(op: str, reduction: str) -> None:
    """Check the argument."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(message(op, "reduction", f"is {reduction!r}", "'none', 'mean', 'sum'"))


def expect_scale(op: str, given: tuple[int, ...], loss: tuple[int, ...]) -> None:
    """Check the shape of `grad_output=`: that of the loss, or none."""
    if given not in (loss, ()):
        raise ValueError(message(op, "grad_output", f"has shape {given}", f"{loss}, the shape of the loss"))


def quotient(total: Array | float, divisor: Array | float, kind: np.dtype[Any]) -> Reduced:
    """Divide a sum of losses, and round it to the dtype of results."""
    with np.errstate(all="ignore"):  # the mean of nothing is NaN; a sum may not fit float32
        return np.true_divide(total, divisor).astype(kind)
