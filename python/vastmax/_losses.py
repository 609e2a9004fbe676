# SPDX-License-Identifier: Apache-2.0
"""The road from the losses and row statistics to the core: targets, weights, reductions.

The core takes what there is one of for each row as a dense array, rows in index order, and gives float64 back.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arrays, _call, _reduction
from ._arrays import F64
from ._conversion import blockwise
from ._numbers import LEAST_CAP, number
from ._results import CrossEntropyResult, SoftmaxStats
from ._rows import rows_along
from ._targets import are_probabilities, class_ids, ignored_class, parts_of, picked, several_ids
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from ._arrays import Array, Reduced
    from ._rows import Rows
    from ._targets import TargetLike

_INT64 = np.dtype(np.int64)


class Target(NamedTuple):
    """What the logits are compared with, as the core takes it."""

    ids: Array | None  # int64, one or `width` for each row
    width: int
    id_probabilities: Array | None
    probabilities: Array | None  # with the rows of the logits


def cross_entropy(
    op: str,
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None,
    axis: int,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    temperature: ArrayLike | None,
    where: ArrayLike | None,
    sample_weight: ArrayLike | None,
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
    *,
    return_lse: bool,
) -> CrossEntropyResult:
    """Run cross_entropy and cross_entropy_with_grad; they differ in `op`."""
    _reduction.check(op, reduction)
    smoothing = number(op, "label_smoothing", label_smoothing, 0, 1)
    z = number(op, "z_loss", z_loss, 0)
    cap = 0.0 if softcap is None else number(op, "softcap", softcap, LEAST_CAP)
    ignore = ignored_class(op, ignore_index)
    if _call._on_gpu(op, logits, *parts_of(target)):
        from . import _cuda_losses

        options = (temperature, where, sample_weight, grad_output, out)
        return _cuda_losses.norm_loss(
            op,
            logits,
            target,
            weight,
            axis,
            ignore,
            reduction,
            smoothing,
            z,
            cap,
            *options,
            return_lse=return_lse,
        )
    x, kind, rows, goal = _problem(op, logits, target, axis, ignore)
    of_class = None if weight is None else _dense(op, "weight", weight, (rows.classes,))
    of_row = None if sample_weight is None else _dense(op, "sample_weight", sample_weight, rows.result)
    t, mask = rows.temperature(temperature), rows.mask(where)
    scale = _gradient_scale(op, grad_output, reduction, rows)
    wanted = op == "cross_entropy_with_grad"
    if wanted:
        x = _arrays.cast(x, kind)
    grad = _arrays.destination(op, out, x.shape, kind)
    run = _chosen("norm_loss", op, rows, kind, x)
    if grad is not None:
        x, probabilities = _arrays.apart(x, grad), _arrays.apart(goal.probabilities, rows.of(grad))
        ids, shares, of_class, of_row, t, mask = _arrays.clear_of(
            grad, goal.ids, goal.id_probabilities, of_class, of_row, t, mask
        )
        goal = Target(ids, goal.width, shares, probabilities)
    elif wanted:
        grad = _arrays.like(x)
    loss = np.empty(rows.result)
    lse = np.empty(rows.result) if return_lse else None
    total, divisor = run(
        "cross_entropy",
        rows.of(x),
        None if grad is None else rows.of(grad),
        *goal,
        ignore,
        of_class,
        of_row,
        smoothing,
        z,
        cap,
        loss,
        lse,
        scale,
        reduction == "mean",
        t,
        rows.of_mask(mask),
    )
    kind = _arrays.reduction_dtype(kind)
    if reduction == "none":
        value = rows.returned(loss, kind)
    else:
        value = _reduction.quotient(total, divisor if reduction == "mean" else 1, kind)
    sums = None if lse is None else rows.returned(lse, kind)
    return CrossEntropyResult(value, None if grad is None else _arrays.unwrap(grad, out), sums)


def _chosen(shape: str, op: str, rows: Rows, kind: np.dtype[Any], *logits: Array) -> Callable[..., Any]:
    return blockwise(shape, _call._chosen(shape, op, rows.count, rows.classes, kind), kind, *logits)


def _problem(
    op: str, logits: ArrayLike, target: TargetLike, axis: int, ignore: int
) -> tuple[Array, np.dtype[Any], Rows, Target]:
    x, kind = _arrays.as_read(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    parts = parts_of(target)
    if len(parts) == 2:
        ids = several_ids(op, parts[0], rows, ignore)
        return x, kind, rows, Target(ids, ids.shape[-1], _dense(op, "target", parts[1], ids.shape), None)
    given = _arrays.as_given(op, "target", parts[0])
    if are_probabilities(op, given, rows):
        x, given = _arrays.cast(x, kind), _arrays.floats(op, "target", given)
        x, given = _arrays.alike(x, given) if _mixes(x, given) else (x, given)
        return x, x.dtype, rows, Target(None, 1, None, rows.of(given))
    return x, kind, rows, Target(class_ids(op, "target", parts[0], rows.result, rows.classes, ignore), 1, None, None)


def _mixes(x: Array, other: Array) -> bool:
    """Whether one of the two has to be computed in float64 and the other would not be."""
    return (x.dtype == F64) != (other.dtype == F64)


def _dense(op: str, argument: str, value: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return numbers of exactly this shape as dense float64."""
    array = _arrays.floats(op, argument, value)
    if array.shape != shape:
        raise ValueError(message(op, argument, f"has shape {array.shape}", str(shape)))
    return _arrays.dense(array, F64)


def _gradient_scale(op: str, grad_output: ArrayLike | None, reduction: str, rows: Rows) -> Array | None:
    if grad_output is None:
        return None
    scale = _arrays.floats(op, "grad_output", grad_output)
    shape = rows.result if reduction == "none" else ()
    _reduction.expect_scale(op, scale.shape, shape)
    return np.array(scale, F64, order="C")


def softmax_stats(
    logits: ArrayLike, target: ArrayLike | None, axis: int, top_n: int, temperature: ArrayLike | None
) -> SoftmaxStats:
    """Run softmax_stats."""
    op = "softmax_stats"
    if _call._on_gpu(op, logits, target):
        from . import _cuda_losses

        return _cuda_losses.row_stats(op, logits, target, axis, top_n, temperature)
    x, kind = _arrays.as_read(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    n = rows.how_many("top_n", top_n, 0, "logits")
    ids = None if target is None else class_ids(op, "target", target, rows.result, rows.classes)
    t = rows.temperature(temperature)
    run = _chosen("row_stats", op, rows, kind, x)
    lse, largest, entropies, log_prob = (np.empty(rows.result) for _ in range(4))
    argmax, rank = (np.empty(rows.result, _INT64) for _ in range(2))
    top_log_probs, top_indices = np.empty((*rows.result, n)), np.empty((*rows.result, n), _INT64)
    of_target = (None, None) if ids is None else (log_prob, rank)
    of_top = (top_log_probs, top_indices) if n else (None, None)
    run(op, rows.of(x), ids, n, lse, largest, argmax, entropies, *of_target, *of_top, t)
    kind = _arrays.reduction_dtype(kind)
    return SoftmaxStats(
        rows.returned(lse, kind),
        rows.returned(largest, kind),
        rows.returned(argmax, _INT64),
        rows.returned(entropies, kind),
        None if ids is None else rows.returned(log_prob, kind),
        None if ids is None else rows.returned(rank, _INT64),
        rows.returned(top_log_probs, kind, n) if n else None,
        rows.returned(top_indices, _INT64, n) if n else None,
    )


def entropy(logits: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run entropy."""
    op = "entropy"
    if _call._on_gpu(op, logits):
        from . import _cuda_losses

        return _cuda_losses.row_entropy(op, logits, axis, temperature)
    x, kind = _arrays.as_read(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    t = rows.temperature(temperature)
    run = _chosen("row_stats", op, rows, kind, x)
    out = np.empty(rows.result)
    run("softmax_stats", rows.of(x), None, 0, None, None, None, out, None, None, None, None, t)
    return rows.returned(out, _arrays.reduction_dtype(kind))


def selective_log_softmax(logits: ArrayLike, wanted: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run selective_log_softmax."""
    op = "selective_log_softmax"
    if _call._on_gpu(op, logits, wanted):
        from . import _cuda_losses

        return _cuda_losses.norm_pick(op, logits, wanted, axis, temperature)
    x, kind = _arrays.as_read(op, "logits", logits)
    rows = rows_along(op, "logits", x, axis)
    ids = picked(op, wanted, rows)
    t = rows.temperature(temperature)
    run = _chosen("norm_pick", op, rows, kind, x)
    width = ids.shape[len(rows.result) :]
    out = np.empty(ids.shape)
    run(op, rows.of(x), ids, prod(width), out, t)
    return rows.returned(out, _arrays.reduction_dtype(kind), *width)


def kl_divergence(p_logits: ArrayLike, q_logits: ArrayLike, axis: int) -> Reduced:
    """Run kl_divergence."""
    op = "kl_divergence"
    if _call._on_gpu(op, p_logits, q_logits):
        from . import _cuda_losses

        return _cuda_losses.norm_divergence(op, p_logits, q_logits, axis)
    (p, p_kind), (q, q_kind) = _arrays.as_read(op, "p_logits", p_logits), _arrays.as_read(op, "q_logits", q_logits)
    kind = _arrays.joint_dtype(p_kind, q_kind)
    rows = rows_along(op, "p_logits", p, axis)
    _arrays.expect_shape_of(op, "q_logits", q, "p_logits", p.shape)
    run = _chosen("norm_divergence", op, rows, kind, p, q)
    out = np.empty(rows.result)
    run(op, rows.of(p), rows.of(q), out)
    return rows.returned(out, _arrays.reduction_dtype(kind))
