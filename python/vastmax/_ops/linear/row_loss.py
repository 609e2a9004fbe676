# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of rows whose logits are read tile by tile: what it weighs each class with, and its reductions.

All of it in float64, a few numbers a row. The core makes the losses (`head_losses`), by the formulas of cross_entropy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays
from vastmax._operands.numbers import check_float
from vastmax._operands.reduction import check_reduction, quotient
from vastmax._operands.targets import ignored_class
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from vastmax._operands.arrays import Array, Reduced

    F64 = NDArray[np.float64]

_LEAST, _MOST = 2.0**-60, 2.0**60  # weights in between fit float32, with room for what is smaller


class Slopes(NamedTuple):
    """The gradient of a row: every p_j - even share_j, and `target` at its target."""

    every: F64
    even: F64
    target: F64


class RowLoss:
    """Cross-entropy with class weights w, label smoothing and z-loss, of rows whose targets are classes.

    The weight of class j is (1 - smoothing) w_j if it is the target, and `even` times share_j beside it.
    """

    def __init__(
        self,
        target: Array,
        classes: int,
        weight: F64 | None,
        label_smoothing: float,
        z_loss: float,
        reduction: str,
    ) -> None:
        self.target = target
        self.own = np.ones(target.shape) if weight is None else weight[target]
        if weight is not None and reduction == "mean":  # where only quotients of weights count
            of_mean = _unit(np.array([total(self.own)]))
            self.own, weight, z_loss = self.own * of_mean, weight * of_mean, z_loss * of_mean
        unit = _unit(weight)
        self._shares = None if weight is None else weight * unit
        self._sharp, self._z = 1.0 - label_smoothing, z_loss
        self._even = label_smoothing / max(classes, 1) / unit
        self._mass = float(classes) if self._shares is None else total(self._shares)
        self._share = self.own * unit

    @property
    def smooth(self) -> bool:
        """Whether every class takes part in the loss."""
        return self._even > 0

    def of(self, rows: slice) -> RowLoss:
        """Return the loss of some of the rows."""
        part = object.__new__(RowLoss)
        part.__dict__.update(self.__dict__)
        part.target, part.own, part._share = self.target[rows], self.own[rows], self._share[rows]
        return part

    def shares(self, classes: slice) -> F64:
        """Return what some classes have of the smoothing, in any unit."""
        return np.ones(classes.stop - classes.start) if self._shares is None else self._shares[classes]

    def losses(self, states: Array, rows: Array, isa: int) -> tuple[F64, F64]:
        """Return loss and logsumexp of each row, of which `states` and `rows` are what its tiles left."""
        return self._run(states, rows, None, None, None, isa)

    def with_slopes(self, states: Array, rows: Array, factor: F64, isa: int) -> tuple[F64, F64, Slopes]:
        """Return the same, and the slopes of the logits in `factor` times the loss of each row."""
        every, target = np.empty((2, len(rows)))
        loss, lse = self._run(states, rows, factor, every, target, isa)
        return loss, lse, Slopes(every, factor * self._even, target)

    def _run(
        self, states: Array, rows: Array, factor: F64 | None, every: F64 | None, target: F64 | None, isa: int
    ) -> tuple[F64, F64]:
        loss, lse = np.empty((2, len(rows)))
        weights = self._sharp * self.own, self._share, self._even, self._mass, self._z
        _core.head_losses(states, rows, *weights, factor, loss, lse, every, target, isa)
        return loss, lse


def _unit(weight: F64 | None) -> float:
    """Return a power of two that brings the weights of classes into the range of float32."""
    finite = np.empty(0) if weight is None else np.abs(weight[np.isfinite(weight)])
    most = float(finite.max(initial=0.0))
    return 1.0 if most == 0 or _LEAST < most < _MOST else float(np.ldexp(1.0, 1 - int(np.frexp(most)[1])))


def total(values: F64) -> float:
    """Return a sum as exact as that of the losses of cross_entropy."""
    return _core.reduce_losses(values, 1.0, False)[0]


def reduce(losses: F64, used_rows: Array, own: F64, reduction: str) -> Reduced:
    """Reduce the losses of the `used_rows`, whose weights are `own`."""
    if reduction == "none":
        everyone = np.zeros(used_rows.shape)
        everyone[used_rows] = losses
        return everyone
    mean = reduction == "mean"
    return quotient(*_core.reduce_losses(losses, total(own) if mean else 1.0, mean), arrays.F64)


def slope(own: F64, reduction: str) -> float:
    """Return the slope of the reduced loss by that of each row: 0 for the mean of nothing, which is NaN."""
    mass = total(own) if reduction == "mean" else 1.0
    with np.errstate(all="ignore"):
        return float(np.float64(1) / mass) if mass else 0.0


def class_weight(op: str, weight: ArrayLike | None, classes: int) -> F64 | None:
    """Check the weights of the classes."""
    if weight is None:
        return None
    values = arrays.as_float_array(op, "weight", weight)
    if values.shape != (classes,):
        raise ValueError(message(op, "weight", f"has shape {values.shape}", str((classes,))))
    return values.astype(np.float64)


def options(op: str, reduction: str, ignore_index: int, label_smoothing: float, z_loss: float) -> int:
    """Check what a loss may be given, and return `ignore_index` as an int."""
    check_reduction(op, reduction)
    check_float(op, "label_smoothing", label_smoothing, 0, 1)
    check_float(op, "z_loss", z_loss, 0)
    return ignored_class(op, ignore_index)
