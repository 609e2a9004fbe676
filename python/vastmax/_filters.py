# SPDX-License-Identifier: Apache-2.0
"""The road from top_k and the masks to the core: what a filter may be, one number or one for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _arrays, _call
from ._arrays import F64
from ._losses import rows_along, whole
from .errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array, Rows

_INT64 = np.dtype(np.int64)


def top_k(x: ArrayLike, k: int, axis: int) -> tuple[Array, Array]:
    """Run top_k."""
    op = "top_k"
    if _call._on_gpu(op, x):
        from . import _cuda_sampling

        return _cuda_sampling.top_k(x, k, axis)
    logits = _arrays.floats(op, "x", x)
    rows = rows_along(op, "x", logits, axis)
    n = how_many(op, logits, rows, k)
    run = _call._chosen("top_k", op, rows.count, rows.classes, logits.dtype)
    values, indices = np.empty((*rows.result, n), logits.dtype), np.empty((*rows.result, n), _INT64)
    run("top_k", rows.of(logits), n, values, indices)
    return _put_along(values, rows), _put_along(indices, rows)


def how_many(op: str, logits: Array, rows: Rows, k: object) -> int:
    """Check the k of top_k."""
    if rows.classes == 0:
        raise ValueError(message(op, "x", f"has shape {logits.shape}", "at least one class along axis"))
    return whole(op, "k", k, 1, rows.classes, f"an int from 1 to {rows.classes}, the number of classes")


def _put_along(found: Array, rows: Rows) -> Array:
    return np.moveaxis(found, -1, rows.axes[0]) if rows.axes else found


def mask(
    op: str,
    logits: ArrayLike,
    axis: int,
    *,
    k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
) -> Array:
    """Run one of the masks; users call its filter k or p."""
    if _call._on_gpu(op, logits):
        from . import _cuda_sampling

        return _cuda_sampling.mask(op, logits, axis, k, top_p, min_p)
    x = _arrays.floats(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    filters = counts(op, "k", k, rows), shares(op, "p", top_p, rows), shares(op, "p", min_p, rows)
    run = _call._chosen("masked", op, rows.count, rows.classes, x.dtype)
    y = _arrays.like(x)
    run("mask_logits", rows.of(x), *filters, rows.of(y))
    return _arrays.unwrap(y, None)


def counts(op: str, argument: str, value: ArrayLike | None, rows: Rows) -> Array | None:
    """Check how many classes to keep, and return one int64 for each row; None where nothing is cut."""
    if value is None:
        return None
    accepted = "ints >= 0, one or one for each row; 0 or None for all"
    k = _of_rows(op, argument, value, rows, "iu", accepted)
    if k.size and k.min() < 0:
        raise ValueError(message(op, argument, f"is {k.min()}", accepted))
    k = np.minimum(k, rows.classes).astype(_INT64)
    return np.ascontiguousarray(k) if k.any() else None


def shares(op: str, argument: str, value: ArrayLike | None, rows: Rows) -> Array | None:
    """Check probabilities, and return one float64 for each row."""
    if value is None:
        return None
    accepted = "numbers from 0 to 1, one or one for each row"
    p = _of_rows(op, argument, value, rows, "fiub", accepted).astype(F64)
    good = (p >= 0) & (p <= 1)
    if not good.all():
        raise ValueError(message(op, argument, f"is {p[~good].flat[0]}", accepted))
    return np.ascontiguousarray(p)


def _of_rows(op: str, argument: str, value: ArrayLike, rows: Rows, kinds: str, accepted: str) -> Array:
    """Return numbers of the right kind, one for each row."""
    given = _arrays.as_given(op, argument, value)
    if given.dtype.kind not in kinds and not ("f" in kinds and _arrays.is_float(given.dtype)):
        raise TypeError(message(op, argument, f"has dtype {given.dtype}", accepted))
    return _arrays.spread(op, argument, given, rows.result)
