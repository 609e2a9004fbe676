# SPDX-License-Identifier: Apache-2.0
"""Targets: their parts, and of classes the kind, the shape and the range, before anything reads memory by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from vastmax._operands import arrays
from vastmax._operands.numbers import check_int
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows

    TargetLike: TypeAlias = ArrayLike | tuple[ArrayLike, ArrayLike]

_INT64 = np.dtype(np.int64)


def parts_of(target: TargetLike) -> tuple[ArrayLike, ...]:
    """Return the arrays of a target: itself, or ids and probabilities."""
    if isinstance(target, tuple) and len(target) == 2 and any(map(_is_array, target)):
        return target
    return (cast("ArrayLike", target),)


def _is_array(value: ArrayLike) -> bool:
    return arrays.device_kind(value) != "cpu" or np.ndim(value) > 0


def ignored_class(op: str, value: object) -> int:
    """Check `ignore_index=`, which need not be a class."""
    return check_int(op, "ignore_index", value, -(1 << 63), (1 << 63) - 1, "an int of 64 bits")


def are_probabilities(op: str, target: Array, rows: Rows) -> bool:
    """Say whether a target is a probability of every class, else the number of a class for each row. It must be one."""
    kind = target.dtype.kind
    if target.shape == rows.shape and kind not in "iub":
        return True
    if target.shape == rows.reduced_shape and kind in "iu":
        return False
    given = f"has dtype {target.dtype} and shape {target.shape}"
    if kind not in "iu" and target.size:
        accepted = (
            f"integers of shape {rows.reduced_shape}, probabilities of shape {rows.shape}, or (ids, probabilities)"
        )
        raise TypeError(message(op, "target", given, accepted))
    if target.shape != rows.reduced_shape:
        accepted = f"integers of shape {rows.reduced_shape}, or probabilities of the shape of logits, {rows.shape}"
        raise ValueError(message(op, "target", given, accepted))
    return False


def class_ids(
    op: str,
    argument: str,
    value: ArrayLike,
    shape: tuple[int, ...],
    classes: int,
    ignore: int | None = None,
    row_dims: int | None = None,
) -> Array:
    """Check class numbers of this shape, and return them as dense int64. The first `row_dims` axes are the rows."""
    ids = integers(op, argument, value, shape)
    return in_range(op, argument, ids, classes, ignore, row_dims=row_dims)


def several_ids(op: str, value: ArrayLike, rows: Rows, ignore: int) -> Array:
    """Check targets of several classes for each row, which come with their probabilities."""
    shape = arrays.as_given(op, "target", value).shape
    if shape[: len(rows.reduced_shape)] != rows.reduced_shape or len(shape) != len(rows.reduced_shape) + 1:
        accepted = f"ids and probabilities of shape {(*rows.reduced_shape, 'K')}, K classes for each row"
        raise ValueError(message(op, "target", f"has ids of shape {shape}", accepted))
    return class_ids(op, "target", value, shape, rows.classes, ignore, len(rows.reduced_shape))


def integers(op: str, argument: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Check the kind and shape of class numbers."""
    ids = arrays.as_given(op, argument, value)
    if ids.size == 0 and not isinstance(value, np.ndarray):
        ids = ids.astype(_INT64)  # NumPy takes [] for floats
    check_kind(op, argument, ids.dtype, ids.shape, shape)
    return ids


def check_kind(op: str, argument: str, dtype: np.dtype[Any], given: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """Check what is known of class numbers without looking at them."""
    if dtype.kind not in "iu":
        raise TypeError(message(op, argument, f"has dtype {dtype}", "integers, the numbers of classes"))
    if given != shape:
        raise ValueError(message(op, argument, f"has shape {given}", str(shape)))


def in_range(
    op: str,
    argument: str,
    ids: Array,
    classes: int,
    ignore: int | None = None,
    *,
    first: tuple[int, ...] = (),
    row_dims: int | None = None,
) -> Array:
    """Check the range of class numbers, which may be a part whose first row is `first`; return them as dense int64."""
    if ids.size and not (ids.min() >= 0 and ids.max() < classes):
        outside = (ids < 0) | (ids >= classes)
        if ignore is not None:
            outside &= ids != ignore
        if outside.any():
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            row = where[:row_dims]
            row = tuple(i + j for i, j in zip(row, first, strict=True)) if first else row
            at = f" at row {row[0] if len(row) == 1 else row}" if row else ""
            accepted = f"0 to {classes - 1}, as there are {classes} classes" if classes else "nothing: no classes"
            accepted += "" if ignore is None else f", or ignore_index, {ignore}"
            raise IndexError(message(op, argument, f"is {ids[where]}{at}", accepted))
    return np.asarray(ids, _INT64, order="C")


def picked(op: str, wanted: ArrayLike, rows: Rows) -> Array:
    """Check classes, one or several for each row."""
    shape = arrays.as_given(op, "index", wanted).shape
    if shape[: len(rows.reduced_shape)] != rows.reduced_shape or len(shape) > len(rows.reduced_shape) + 1:
        accepted = f"{rows.reduced_shape}, or {(*rows.reduced_shape, 'K')} for K classes of each row"
        raise ValueError(message(op, "index", f"has shape {shape}", accepted))
    return class_ids(op, "index", wanted, shape, rows.classes, row_dims=len(rows.reduced_shape))
