# SPDX-License-Identifier: Apache-2.0
"""The road from draws out of logits to the core: one parameter for each row, seeds, ids."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from . import _arrays, _call, _core, _filters, _losses, _seeds
from ._arrays import F64, Rows
from .errors import message
from .softmax import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array, Reduced
    from ._seeds import Seed

_INT64 = np.dtype(np.int64)


def sample(
    logits: ArrayLike,
    size: int | None,
    axis: int,
    temperature: ArrayLike,
    top_k: ArrayLike | None,
    top_p: ArrayLike | None,
    min_p: ArrayLike | None,
    where: ArrayLike | None,
    replace: bool,
    seed: Seed,
    step: int,
    row_offset: int,
    return_log_prob: bool,
    return_valid: bool,
) -> Reduced | tuple[Reduced, ...]:
    """Run sample."""
    op = "sample"
    if _call._on_gpu(op, logits):
        from . import _cuda_sampling

        options = (temperature, top_k, top_p, min_p, where, replace, seed, step, row_offset)
        return _cuda_sampling.sample(logits, size, axis, *options, return_log_prob, return_valid)
    x = _arrays.floats(op, "logits", logits)
    rows = _losses.rows_along(op, "logits", x, axis)
    more = how_many(op, rows, size, replace)
    t = per_row(op, rows, "temperature", temperature, inf)
    k = _filters.counts(op, "top_k", top_k, rows)
    shares = _filters.shares(op, "top_p", top_p, rows), _filters.shares(op, "min_p", min_p, rows)
    mask = rows.mask(where)
    steps, first = _seeds.step(op, step), _seeds.row_offset(op, row_offset, rows.count)
    run = _call._chosen("sample", op, rows.count, rows.classes, x.dtype)
    key = _seeds.key(op, seed)
    shape = (*rows.result, *more)
    ids = np.empty(shape, _INT64)
    log_prob = np.empty(shape) if return_log_prob else None
    valid = np.empty(shape, np.bool_) if return_valid else None
    n = more[0] if more else 1
    parameters = (t, k, *shares, key, steps, first)
    run("sample", rows.of(x), n, bool(replace), *parameters, ids, log_prob, valid, rows.of_mask(mask))
    found = [_arrays.unwrap(ids, None)]
    if log_prob is not None:
        found.append(_losses.per_row(log_prob, rows, _arrays.reduction_dtype(x.dtype), *more))
    if valid is not None:
        found.append(_arrays.unwrap(valid, None))
    return found[0] if len(found) == 1 else tuple(found)


def how_many(op: str, rows: Rows, size: int | None, replace: bool) -> tuple[int, ...]:
    """Check `size`, and return what it adds to the shape."""
    more = () if size is None else (_seeds.draws(op, "size", size),)
    if not replace and more and more[0] > rows.classes:
        raise ValueError(message(op, "size", f"is {more[0]}", f"0 to {rows.classes}, the classes, without replacement"))
    return more


def gumbel_softmax(logits: ArrayLike, tau: float, hard: bool, axis: int, seed: Seed) -> Array:
    """Run gumbel_softmax."""
    op = "gumbel_softmax"
    options = _call.on_cpu(op, logits)
    x = _arrays.floats(op, "logits", logits)
    rows = _losses.rows_along(op, "logits", x, axis)
    kind = _arrays.reduction_dtype(x.dtype)
    sharpness = _losses.number(op, "tau", tau, _losses.LEAST_CAP)
    rest = options(op, rows.count, rows.classes, x.dtype)
    z = _arrays.like(x, kind)
    _core.add_gumbel(rows.of(x), rows.of(z), _seeds.key(op, seed), 0, 0, *rest)
    y = softmax(z, axis, temperature=sharpness, out=z)
    if hard:
        _make_one_hot(np.atleast_1d(y), axis)
    with np.errstate(all="ignore"):  # a subnormal
        return _arrays.unwrap(y.astype(x.dtype, copy=False), None)


def _make_one_hot(y: Array, axis: int) -> None:
    """Put 1 at the largest of each row and 0 elsewhere, but leave NaN."""
    if y.size == 0:
        return
    at = np.expand_dims(y.argmax(axis), axis)
    bare = np.isnan(np.take_along_axis(y, at, axis))
    y[...] = np.where(bare, np.nan, 0)
    np.put_along_axis(y, at, np.where(bare, np.nan, 1).astype(y.dtype), axis)


def per_row(op: str, rows: Rows, argument: str, value: ArrayLike, most: float) -> Array:
    """Return numbers from 0 to `most` as dense float64, one for each row."""
    accepted = "numbers >= 0, inf included" if most == inf else f"numbers from 0 to {most:g}"
    given = _arrays.as_given(op, argument, value)
    if given.dtype.kind not in "fiu" and not _arrays.is_float(given.dtype):
        raise TypeError(message(op, argument, f"has dtype {given.dtype}", accepted))
    with np.errstate(all="ignore"):  # longdouble overflows to inf
        numbers = given.astype(F64)
    bad = ~((numbers >= 0) & (numbers <= most))
    if bad.any():
        raise ValueError(message(op, argument, f"is {given[bad].flat[0]}", accepted))
    return of_rows(op, rows, argument, numbers)


def of_rows(op: str, rows: Rows, argument: str, numbers: Array) -> Array:
    """Spread numbers over the rows, dense; `axis` may be left in them with length 1."""
    if numbers.ndim == len(rows.kept):
        numbers = _arrays.spread(op, argument, numbers, rows.kept, f" or {rows.result}").reshape(rows.result)
    return np.ascontiguousarray(_arrays.spread(op, argument, numbers, rows.result, f" or {rows.kept}"))
