# SPDX-License-Identifier: Apache-2.0
"""How arrays fall into rows along an axis, and what there is one of for each row."""

from __future__ import annotations

from math import prod
from operator import index
from typing import TYPE_CHECKING

import numpy as np

from vastmax._operands import arrays
from vastmax._operands.arrays import F64
from vastmax._operands.numbers import check_int
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array, Axis


class Rows:
    """How arrays of one shape fall into rows along `axis`.

    `moves` says that the rows of an array are not already along its last axis, `spans_axes` that a row spans several
    axes, so that `view_of` may have to copy.
    """

    __slots__ = (
        "_op",
        "_order",
        "axes",
        "classes",
        "count",
        "keepdims_shape",
        "moves",
        "reduced_shape",
        "shape",
        "spans_axes",
    )

    def __init__(self, op: str, shape: tuple[int, ...], axis: Axis) -> None:
        self._op, self.shape = op, shape
        self.axes: tuple[int, ...]
        self._order: tuple[int, ...] | None
        self.reduced_shape: tuple[int, ...]
        self.keepdims_shape: tuple[int, ...]
        if shape and type(axis) is int and axis in (-1, len(shape) - 1):  # the usual case, ten times as fast
            self.axes, self._order = (len(shape) - 1,), None
            self.spans_axes = self.moves = False
            self.reduced_shape, self.classes = shape[:-1], shape[-1]
            self.keepdims_shape = (*self.reduced_shape, 1)
        else:
            self.axes = axes = _normalised(op, axis, len(shape))
            others = [i for i in range(len(shape)) if i not in axes]
            order = (*others, *axes)
            self._order = None if order == tuple(range(len(shape))) else order
            self.spans_axes = len(axes) > 1
            self.moves = self._order is not None or len(axes) != 1
            self.reduced_shape = tuple([shape[i] for i in others])
            self.classes = prod([shape[i] for i in axes])
            self.keepdims_shape = tuple([1 if i in axes else shape[i] for i in range(len(shape))])
        self.count = prod(self.reduced_shape)

    def view_of(self, a: Array) -> Array:
        """Return `a`, of the full shape, with its rows along the last axis. A view wherever strides allow one."""
        moved = self.moved(a)
        return moved if len(self.axes) == 1 else moved.reshape(*self.reduced_shape, self.classes)

    def moved(self, a: Array) -> Array:
        """Return a view of `a` with the axes of a row last."""
        return a if self._order is None else a.transpose(self._order)

    def copy_back(self, rows: Array, a: Array) -> None:
        """Store what `view_of` could only copy."""
        if not np.may_share_memory(rows, a):
            moved = self.moved(a)
            moved[...] = rows.reshape(moved.shape)

    def temperature(self, value: ArrayLike | None) -> Array | None:
        """Check `temperature=` and return it with one float64 per row, or None if it changes nothing."""
        if value is None or (type(value) in (int, float) and value == 1):
            return None
        t = arrays.as_given(self._op, "temperature", value)
        if t.dtype.kind not in "fiub" and not arrays.is_float(t.dtype):
            raise TypeError(message(self._op, "temperature", f"has dtype {t.dtype}", "real numbers, finite and > 0"))
        t = arrays.cast(t, F64)  # longdouble overflows to inf
        good = np.isfinite(t) & (t > 0)
        if not good.all():
            raise ValueError(message(self._op, "temperature", f"is {t[~good].flat[0]}", "finite numbers > 0"))
        if t.shape == (self.count,):  # one for each row; where this broadcasts too, it means the same
            t = t.reshape(self.keepdims_shape)
        return arrays.broadcast(self._op, "temperature", t, self.keepdims_shape, f" or ({self.count},)").reshape(
            self.reduced_shape
        )

    def mask(self, where: ArrayLike | None) -> Array | None:
        """Check `where=` and return it with the full shape."""
        if where is None:
            return None
        mask = arrays.as_given(self._op, "where", where)
        if mask.dtype != np.bool_:
            raise TypeError(message(self._op, "where", f"has dtype {mask.dtype}", "bool"))
        return arrays.broadcast(self._op, "where", mask, self.shape)

    def per_row(self, argument: str, numbers: Array) -> Array:
        """Spread numbers over the rows, dense; `axis` may be left in them with length 1."""
        if numbers.ndim == len(self.keepdims_shape):
            numbers = arrays.broadcast(
                self._op, argument, numbers, self.keepdims_shape, f" or {self.reduced_shape}"
            ).reshape(self.reduced_shape)
        return np.ascontiguousarray(
            arrays.broadcast(self._op, argument, numbers, self.reduced_shape, f" or {self.keepdims_shape}")
        )

    def check_count(self, argument: str, n: object, least: int, of: str) -> int:
        """Check how many classes to return of each row of the array that users call `of`."""
        if self.classes == 0:
            raise ValueError(message(self._op, of, f"has shape {self.shape}", "at least one class along axis"))
        accepted = f"an int from {least} to {self.classes}, the number of classes"
        return check_int(self._op, argument, n, least, self.classes, accepted)


def rows_along(op: str, argument: str, x: Array, axis: int) -> Rows:
    """Return the rows of `x` along one axis."""
    try:
        one = index(axis)
    except TypeError:
        accepted = f"one int, the axis of the classes of {argument}"
        raise TypeError(message(op, "axis", f"is {axis!r}", accepted)) from None
    return Rows(op, x.shape, one)


def _normalised(op: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple | list) else (axis,)
    if ndim == 0 and given in [(0,), (-1,)]:  # a scalar is a row of one, as in PyTorch
        return ()
    axes = set()
    for a in given:
        try:
            i = index(a)
        except TypeError:
            raise TypeError(message(op, "axis", f"is {axis!r}", "an int, a tuple of ints, or None")) from None
        if not -ndim <= i < ndim:
            accepted = f"{-ndim} to {ndim - 1}" if ndim else "-1, 0, None"
            raise np.exceptions.AxisError(i, ndim, message(op, "axis", f"is {i}", accepted))
        if i % ndim in axes:
            raise ValueError(message(op, "axis", f"is {axis!r}, which repeats an axis", "different axes"))
        axes.add(i % ndim)
    return tuple(sorted(axes))
