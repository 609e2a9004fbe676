# SPDX-License-Identifier: Apache-2.0
"""Parameters of draws from logits: sizes, temperatures and filters, one number or one for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._operands import arrays, seeds
from vastmax._operands.arrays import F64
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows

_INT64 = np.dtype(np.int64)


def size_of(op: str, rows: Rows, size: int | None, replace: bool) -> tuple[int, ...]:
    """Check `size`, and return what it adds to the shape."""
    more = () if size is None else (seeds.draws(op, "size", size),)
    if not replace and more and more[0] > rows.classes:
        raise ValueError(message(op, "size", f"is {more[0]}", f"0 to {rows.classes}, the classes, without replacement"))
    return more


def temperatures(op: str, rows: Rows, value: ArrayLike) -> Array:
    """Check `temperature=`, which may be 0 or infinite here, and return one float64 for each row."""
    accepted = "numbers >= 0, inf included"
    given = arrays.as_given(op, "temperature", value)
    if given.dtype.kind not in "fiu" and not arrays.is_float(given.dtype):
        raise TypeError(message(op, "temperature", f"has dtype {given.dtype}", accepted))
    numbers = arrays.cast(given, F64)  # longdouble overflows to inf
    bad = ~(numbers >= 0)
    if bad.any():
        raise ValueError(message(op, "temperature", f"is {given[bad].flat[0]}", accepted))
    return rows.per_row("temperature", numbers)


def counts(op: str, argument: str, value: ArrayLike | None, rows: Rows) -> Array | None:
    """Check how many classes to keep, and return one int64 for each row; None where nothing is cut."""
    if value is None:
        return None
    accepted = "ints >= 0, one or one for each row; 0 or None for all"
    if type(value) is int:  # which may exceed 64 bits
        value = min(value, rows.classes)
    k = _of_rows(op, argument, value, rows, "iu", accepted)
    if k.size and k.min() < 0:
        raise ValueError(message(op, argument, f"is {k.min()}", accepted))
    k = np.minimum(k, rows.classes).astype(_INT64)
    return k if k.any() else None


def shares(op: str, argument: str, value: ArrayLike | None, rows: Rows) -> Array | None:
    """Check probabilities, and return one float64 for each row."""
    if value is None:
        return None
    accepted = "numbers from 0 to 1, one or one for each row"
    p = _of_rows(op, argument, value, rows, "fiub", accepted).astype(F64)
    good = (p >= 0) & (p <= 1)
    if not good.all():
        raise ValueError(message(op, argument, f"is {p[~good].flat[0]}", accepted))
    return p


def _of_rows(op: str, argument: str, value: ArrayLike, rows: Rows, kinds: str, accepted: str) -> Array:
    """Return numbers of the right kind, one for each row."""
    given = arrays.as_given(op, argument, value)
    if given.dtype.kind not in kinds and not ("f" in kinds and arrays.is_float(given.dtype)):
        raise TypeError(message(op, argument, f"has dtype {given.dtype}", accepted))
    return rows.per_row(argument, given)
