# SPDX-License-Identifier: Apache-2.0
"""Draws of classes from logits, and gumbel_softmax: one body for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS
from vastmax._backends.start import start_call
from vastmax._operands import arrays, seeds
from vastmax._operands.arrays import F64
from vastmax._operands.numbers import SMALLEST_SCALE, check_float
from vastmax._operands.rows import rows_along
from vastmax._operands.sampling_parameters import counts, shares, size_of, temperatures

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array, Reduced
    from vastmax._operands.seeds import Seed

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


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
    call = start_call(op, logits)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    more = size_of(op, rows, size, replace)
    t: Array | None = temperatures(op, rows, call.on_host("temperature", temperature))
    k = None if top_k is None else counts(op, "top_k", call.on_host("top_k", top_k), rows)
    p = None if top_p is None else shares(op, "top_p", call.on_host("top_p", top_p), rows)
    least = None if min_p is None else shares(op, "min_p", call.on_host("min_p", min_p), rows)
    _, mask = call.row_options(rows, None, where)
    steps, first = seeds.step(op, step), seeds.row_offset(op, row_offset, rows.count)
    seeds.check(op, seed)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    t, k, p, least = call.per_row(t, k, p, least)
    shape = (*rows.reduced_shape, *more)
    ids = Output(shape, _INT64)
    log_prob = Output(shape, F64, returned=arrays.reduction_dtype(kind)) if return_log_prob else None
    valid = Output(shape, _BOOL) if return_valid else None
    call.run(
        kernel,
        rows,
        kind,
        x=x,
        size=more[0] if more else 1,
        replace=bool(replace),
        temperature=t,
        top_k=k,
        top_p=p,
        min_p=least,
        seed=seeds.key(op, seed),
        step=steps,
        row=first,
        ids=ids,
        log_prob=log_prob,
        valid=valid,
        where=mask,
    )
    found = [call.finish(output) for output in (ids, log_prob, valid) if output is not None]
    return found[0] if len(found) == 1 else tuple(found)


def gumbel_softmax(logits: ArrayLike, tau: float, hard: bool, axis: int, seed: Seed) -> Array:
    """Run gumbel_softmax."""
    op = "gumbel_softmax"
    call = start_call(op, logits)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    checked_tau = check_float(op, "tau", tau, SMALLEST_SCALE)
    seeds.check(op, seed)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    y = Output(x.shape, kind, like=x)
    key = seeds.key(op, seed)
    call.run(kernel, rows, kind, x=x, tau=checked_tau, hard=bool(hard), seed=key, step=0, row=0, out=y)
    return call.finish(y)
