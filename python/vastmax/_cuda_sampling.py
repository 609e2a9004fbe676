# SPDX-License-Identifier: Apache-2.0
"""The road of draws from logits, of top_k and of the masks on a GPU: the same functions as in `_sampling`."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from . import _arrays, _seeds
from ._device import Site
from ._numbers import LEAST_CAP, number
from ._rows import rows_along
from ._sampling_operands import counts, shares, size_of, temperatures

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array, Reduced
    from ._rows import Rows
    from ._seeds import Seed

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


def top_k(x: ArrayLike, k: int, axis: int) -> tuple[Array, Array]:
    """Run top_k."""
    site = Site("top_k", x)
    logits = site.floats("x", x)
    rows = rows_along(site.op, "x", logits, axis)
    n = rows.how_many("k", k, 1, "x")
    site.chosen(rows.count, rows.classes, logits.dtype)
    values, put_values = _put_along(site, rows, n, logits.dtype)
    indices, put_indices = _put_along(site, rows, n, _INT64)
    site.module.top_k(rows.of(logits), n, values, indices, *site.rest)
    return put_values(), put_indices()


def mask(
    op: str, logits: ArrayLike, axis: int, k: ArrayLike | None, top_p: ArrayLike | None, min_p: ArrayLike | None
) -> Array:
    """Run one of the masks."""
    site = Site(op, logits)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    filters = (
        counts(op, "k", _on_host(site, "k", k), rows),
        shares(op, "p", _on_host(site, "p", top_p), rows),
        shares(op, "p", _on_host(site, "p", min_p), rows),
    )
    site.chosen(rows.count, rows.classes, x.dtype)
    y, done = site.result(None, x.shape, x.dtype)
    site.module.mask_logits(
        rows.of(x), *(None if f is None else site.upload(f) for f in filters), rows.of(y), *site.rest
    )
    return done()


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
    site = Site(op, logits, where)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    more = size_of(op, rows, size, replace)
    t = temperatures(op, rows, site.integers("temperature", temperature))
    k = counts(op, "top_k", _on_host(site, "top_k", top_k), rows)
    p = shares(op, "top_p", _on_host(site, "top_p", top_p), rows)
    least = shares(op, "min_p", _on_host(site, "min_p", min_p), rows)
    mask = site.mask(rows, where)
    steps, first = _seeds.step(op, step), _seeds.row_offset(op, row_offset, rows.count)
    site.chosen(rows.count, rows.classes, x.dtype)
    key = _seeds.key(op, seed)
    shape = (*rows.result, *more)
    ids, give_ids = site.result(None, shape, _INT64)
    log_prob = site.workspace(prod(shape)) if return_log_prob else None
    valid, give_valid = site.result(None, shape, _BOOL) if return_valid else (None, None)
    parameters = (None if f is None else site.upload(f) for f in (None if (t == 1).all() else t, k, p, least))
    numbers = (key, steps, first)
    n = more[0] if more else 1
    site.module.sample(rows.of(x), n, bool(replace), *parameters, *numbers, ids, log_prob, valid, mask, *site.rest)
    found = [give_ids()]
    if log_prob is not None:
        found.append(site.given(log_prob, shape, _arrays.reduction_dtype(x.dtype)))
    if give_valid is not None:
        found.append(give_valid())
    return found[0] if len(found) == 1 else tuple(found)


def gumbel_softmax(logits: ArrayLike, tau: float, hard: bool, axis: int, seed: Seed) -> Array:
    """Run gumbel_softmax."""
    op = "gumbel_softmax"
    site = Site(op, logits)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    sharpness = number(op, "tau", tau, LEAST_CAP)
    site.chosen(rows.count, rows.classes, x.dtype)
    key = _seeds.key(op, seed)
    y, done = site.result(None, x.shape, x.dtype)
    site.module.gumbel_softmax(rows.of(x), sharpness, bool(hard), key, 0, 0, rows.of(y), *site.rest)
    return done()


def _on_host(site: Site, argument: str, value: ArrayLike | None) -> ArrayLike | None:
    """Return parameters of rows on the host, where they must be looked at anyway."""
    return None if value is None else site.integers(argument, value)


def _put_along(site: Site, rows: Rows, n: int, dtype: DTypeLike) -> tuple[Array, Callable[[], Array]]:
    """Return n dense places for each row, and what hands them to the user along the axis of the classes."""
    axis = rows.axes[0] if rows.axes else len(rows.result)
    shape = (*rows.result[:axis], n, *rows.result[axis:])
    made, give = site.result(None, shape, np.dtype(dtype))
    if axis == len(rows.result):
        return made, give
    dense = site.fresh((*rows.result, n), np.dtype(dtype))

    def given() -> Array:
        site.module.convert(dense, np.moveaxis(made, axis, -1), *site.rest)
        return give()

    return dense, given
