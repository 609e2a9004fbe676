# SPDX-License-Identifier: Apache-2.0
"""softmax_stats, entropy, selective_log_softmax and kl_divergence: one body for every backend."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS
from vastmax._backends.start import start_call
from vastmax._operands import arrays
from vastmax._operands.arrays import F64
from vastmax._operands.rows import rows_along
from vastmax._operands.targets import class_ids, picked

from .results import SoftmaxStats

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Reduced

_INT64 = np.dtype(np.int64)


def softmax_stats(
    logits: ArrayLike, target: ArrayLike | None, axis: int, top_n: int, temperature: ArrayLike | None
) -> SoftmaxStats:
    """Run softmax_stats."""
    op = "softmax_stats"
    call = start_call(op, logits, target)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    n = rows.check_count("top_n", top_n, 0, "logits")
    ids = None
    if target is not None:
        ids = class_ids(op, "target", call.on_host("target", target), rows.reduced_shape, rows.classes)
    t, _ = call.row_options(rows, temperature, None)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    result, several = arrays.reduction_dtype(kind), (*rows.reduced_shape, n)
    each = rows.reduced_shape
    outputs = {
        "lse": Output(each, F64, None, result),
        "largest": Output(each, F64, None, result),
        "argmax": Output(each, _INT64),
        "entropy": Output(each, F64, None, result),
        "target_log_prob": None if ids is None else Output(each, F64, None, result),
        "target_rank": None if ids is None else Output(each, _INT64),
        "top_log_probs": Output(several, F64, None, result) if n else None,
        "top_indices": Output(several, _INT64) if n else None,
    }
    (classes,) = call.per_row(ids)
    call.run(kernel, rows, kind, x=x, target=classes, top_n=n, temperature=t, **outputs)
    return SoftmaxStats(*(None if output is None else call.finish(output) for output in outputs.values()))


def entropy(logits: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run entropy."""
    op = "entropy"
    call = start_call(op, logits)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    t, _ = call.row_options(rows, temperature, None)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    found = Output(rows.reduced_shape, F64, returned=arrays.reduction_dtype(kind))
    call.run(
        kernel,
        rows,
        kind,
        x=x,
        target=None,
        top_n=0,
        lse=None,
        largest=None,
        argmax=None,
        entropy=found,
        target_log_prob=None,
        target_rank=None,
        top_log_probs=None,
        top_indices=None,
        temperature=t,
    )
    return call.finish(found)


def selective_log_softmax(logits: ArrayLike, index: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run selective_log_softmax."""
    op = "selective_log_softmax"
    call = start_call(op, logits, index)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    ids = picked(op, call.on_host("index", index), rows)
    t, _ = call.row_options(rows, temperature, None)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    width = prod(ids.shape[len(rows.reduced_shape) :])
    found = Output(ids.shape, F64, returned=arrays.reduction_dtype(kind))
    (classes,) = call.per_row(ids)
    call.run(kernel, rows, kind, x=x, ids=classes, width=width, out=found, temperature=t)
    return call.finish(found)


def kl_divergence(p_logits: ArrayLike, q_logits: ArrayLike, axis: int) -> Reduced:
    """Run kl_divergence."""
    op = "kl_divergence"
    call = start_call(op, p_logits, q_logits)
    (p, p_kind), (q, q_kind) = call.as_logits("p_logits", p_logits), call.as_logits("q_logits", q_logits)
    kind = arrays.joint_dtype(p_kind, q_kind)
    rows = rows_along(op, "p_logits", p, axis)
    arrays.expect_shape_of(op, "q_logits", q, "p_logits", p.shape)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    found = Output(rows.reduced_shape, F64, returned=arrays.reduction_dtype(kind))
    call.run(kernel, rows, kind, p=p, q=q, out=found)
    return call.finish(found)
