# SPDX-License-Identifier: Apache-2.0
"""The road from draws out of logits, from top_k and from the masks to the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _arrays, _call, _core, _seeds
from ._numbers import LEAST_CAP, number
from ._rows import rows_along
from ._sampling_operands import counts, shares, size_of, temperatures
from .softmax import softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array, Reduced
    from ._rows import Rows
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
    rows = rows_along(op, "logits", x, axis)
    more = size_of(op, rows, size, replace)
    t = temperatures(op, rows, temperature)
    k = counts(op, "top_k", top_k, rows)
    probabilities = shares(op, "top_p", top_p, rows), shares(op, "min_p", min_p, rows)
    mask = rows.mask(where)
    steps, first = _seeds.step(op, step), _seeds.row_offset(op, row_offset, rows.count)
    key = _seeds.key(op, seed)
    run = _call._chosen("sample", op, rows.count, rows.classes, x.dtype)
    shape = (*rows.result, *more)
    ids = np.empty(shape, _INT64)
    log_prob = np.empty(shape) if return_log_prob else None
    valid = np.empty(shape, np.bool_) if return_valid else None
    n = more[0] if more else 1
    parameters = (t, k, *probabilities, key, steps, first)
    run("sample", rows.of(x), n, bool(replace), *parameters, ids, log_prob, valid, rows.of_mask(mask))
    found = [_arrays.unwrap(ids, None)]
    if log_prob is not None:
        found.append(rows.returned(log_prob, _arrays.reduction_dtype(x.dtype), *more))
    if valid is not None:
        found.append(_arrays.unwrap(valid, None))
    return found[0] if len(found) == 1 else tuple(found)


def gumbel_softmax(logits: ArrayLike, tau: float, hard: bool, axis: int, seed: Seed) -> Array:
    """Run gumbel_softmax."""
    op = "gumbel_softmax"
    if _call._on_gpu(op, logits):
        from . import _cuda_sampling

        return _cuda_sampling.gumbel_softmax(logits, tau, hard, axis, seed)
    options = _call.on_cpu(op)
    x = _arrays.floats(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    kind = _arrays.reduction_dtype(x.dtype)
    sharpness = number(op, "tau", tau, LEAST_CAP)
    key = _seeds.key(op, seed)
    rest = options(op, rows.count, rows.classes, x.dtype)
    z = _arrays.like(x, kind)
    _core.add_gumbel(rows.of(x), rows.of(z), key, 0, 0, *rest)
    if hard:
        _make_one_hot(np.atleast_1d(z), axis)
    else:
        softmax(z, axis, temperature=sharpness, out=z)
    return _arrays.unwrap(_arrays.cast(z, x.dtype), None)


def _make_one_hot(z: Array, axis: int) -> None:
    """Put 1 at the largest of each row and 0 elsewhere; NaN everywhere if that is not finite."""
    if z.size == 0:
        return
    rows = np.moveaxis(z, axis, -1)
    flat = rows.reshape(-1, rows.shape[-1])
    largest = np.arange(len(flat)), flat.argmax(axis=1)
    bare = ~np.isfinite(flat[largest])
    flat[...] = np.where(bare, np.nan, 0)[:, None]
    flat[largest] = np.where(bare, np.nan, 1)
    if not np.may_share_memory(flat, z):
        rows[...] = flat.reshape(rows.shape)


def top_k(x: ArrayLike, k: int, axis: int) -> tuple[Array, Array]:
    """Run top_k."""
    op = "top_k"
    if _call._on_gpu(op, x):
        from . import _cuda_sampling

        return _cuda_sampling.top_k(x, k, axis)
    logits = _arrays.floats(op, "x", x)
    rows = rows_along(op, "x", logits, axis)
    n = rows.how_many("k", k, 1, "x")
    run = _call._chosen("top_k", op, rows.count, rows.classes, logits.dtype)
    values, indices = np.empty((*rows.result, n), logits.dtype), np.empty((*rows.result, n), _INT64)
    run("top_k", rows.of(logits), n, values, indices)
    return _put_along(values, rows), _put_along(indices, rows)


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
