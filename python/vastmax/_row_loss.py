# SPDX-License-Identifier: Apache-2.0
"""From what one pass over the logits leaves of a row to its cross-entropy, and to the slope of its logits.

All of it in float64, a few numbers a row: whoever reads the logits, in one array or tile by tile, meets here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import _arrays, _reduction
from ._numbers import number
from ._targets import ignored_class
from .errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._arrays import Array, Reduced

    F64 = NDArray[np.float64]


class Seen(NamedTuple):
    """What a pass over the logits z of rows finds."""

    largest: F64  # largest + log is logsumexp: kept apart, because near certainty their sum would round log away
    log: F64
    target: F64  # the target's logit
    total: F64  # sum w_j z_j, where `RowLoss.smooth`

    @property
    def lse(self) -> F64:
        """Logsumexp of the rows."""
        return self.largest + self.log


class Slopes(NamedTuple):
    """The gradient of a row: every p_j - even w_j, and `target` at its target."""

    every: F64
    even: F64
    target: F64


class RowLoss:
    """Cross-entropy with class weights w, label smoothing and z-loss, of rows whose targets are classes."""

    def __init__(self, target: Array, classes: int, weight: F64 | None, label_smoothing: float, z_loss: float) -> None:
        self.target = target
        self.weight = weight
        self.own = np.ones(target.shape) if weight is None else weight[target]
        self._mass = float(classes) if weight is None else float(weight.sum())
        self._sharp, self._even, self._z = 1.0 - label_smoothing, label_smoothing / max(classes, 1), z_loss

    @property
    def smooth(self) -> bool:
        """Whether every class takes part in the loss, and `Seen.total` is needed."""
        return self._even > 0

    def of(self, rows: slice) -> RowLoss:
        """Return the loss of some of the rows."""
        part = object.__new__(RowLoss)
        part.__dict__.update(self.__dict__)
        part.target, part.own = self.target[rows], self.own[rows]
        return part

    def shares(self, classes: slice) -> F64:
        """Return the part that some classes have in the loss of every row."""
        return np.ones(classes.stop - classes.start) if self.weight is None else self.weight[classes]

    def losses(self, seen: Seen) -> F64:
        """Return the loss of each row."""
        loss = self._sharp * self.own * _surprise(seen)
        if self.smooth:
            loss += self._even * (self._mass * seen.lse - seen.total)
        if self._z:
            loss += self._z * seen.lse**2
        return loss

    def slopes(self, seen: Seen, scale: F64 | float) -> Slopes:
        """Return what makes the gradients of the rows' losses, times `scale`."""
        sharp, surprise = self._sharp * self.own, _surprise(seen)
        spread = np.full(seen.log.shape, self._even * self._mass)
        if self._z:
            spread += 2 * self._z * seen.lse
        own = self.own if self.weight is not None else 1.0
        at_target = sharp * np.expm1(-surprise) + spread * np.exp(-surprise) - self._even * own
        return Slopes(scale * (sharp + spread), scale * np.full(seen.log.shape, self._even), scale * at_target)


def _surprise(seen: Seen) -> F64:
    """-log p of the target."""
    return (seen.largest - seen.target) + seen.log


def reduce(losses: F64, kept: Array, own: F64, reduction: str) -> tuple[Reduced, F64 | float]:
    """Reduce the losses of the `kept` rows, whose weights are `own`; also return the slope of the result by each."""
    if reduction == "none":
        everyone = np.zeros(kept.shape)
        everyone[kept] = losses
        return everyone, 1.0
    if reduction == "sum":
        return losses.sum(), 1.0
    with np.errstate(all="ignore"):  # of no rows: NaN, as in PyTorch
        mass = np.float64(own.sum())
        return losses.sum() / mass, 1 / mass


def class_weight(op: str, weight: ArrayLike | None, classes: int) -> F64 | None:
    """Check the weights of the classes."""
    if weight is None:
        return None
    values = _arrays.floats(op, "weight", weight)
    if values.shape != (classes,):
        raise ValueError(message(op, "weight", f"has shape {values.shape}", f"one number a class, ({classes},)"))
    return values.astype(np.float64)


def options(op: str, reduction: str, ignore_index: int, label_smoothing: float, z_loss: float) -> int:
    """Check what a loss may be given, and return `ignore_index` as an int."""
    _reduction.check(op, reduction)
    number(op, "label_smoothing", label_smoothing, 0, 1)
    number(op, "z_loss", z_loss, 0)
    return ignored_class(op, ignore_index)
