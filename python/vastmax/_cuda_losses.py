# SPDX-License-Identifier: Apache-2.0
"""The road of the losses and row statistics on a GPU: the same functions as in `_losses`."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from . import _arrays, _reduction
from ._device import Site
from ._results import CrossEntropyResult, SoftmaxStats
from ._rows import rows_along
from ._targets import are_probabilities, class_ids, parts_of, picked, several_ids

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._arrays import Array, Reduced
    from ._rows import Rows
    from ._targets import TargetLike

_INT64 = np.dtype(np.int64)


def norm_loss(
    op: str,
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None,
    axis: int,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    temperature: ArrayLike | None,
    where: ArrayLike | None,
    sample_weight: ArrayLike | None,
    grad_output: ArrayLike | None,
    out: Array | None,
    *,
    return_lse: bool,
) -> CrossEntropyResult:
    """Run cross_entropy and cross_entropy_with_grad; a reduced loss comes to the host, as a NumPy scalar."""
    parts = parts_of(target)
    site = Site(op, logits, *parts, weight, where, sample_weight, grad_output)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    x, ids, width, id_probabilities, probabilities = _target(site, x, rows, parts, ignore_index)
    of_class = None if weight is None else site.doubles("weight", weight, (rows.classes,))
    of_row = None if sample_weight is None else site.doubles("sample_weight", sample_weight, rows.result)
    scale = None
    if grad_output is not None:
        scale = site.doubles("grad_output", grad_output)
        _reduction.expect_scale(op, scale.shape, rows.result if reduction == "none" else ())
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, x.dtype, out=(out, x.shape, x.dtype))
    kind = _arrays.reduction_dtype(x.dtype)
    y, done = site.result(out, x.shape, x.dtype) if op == "cross_entropy_with_grad" else (None, None)
    if y is not None:
        x, probabilities = site.apart(x, y), site.apart(probabilities, rows.of(y))
        operands = site.clear_of(y, id_probabilities, of_class, of_row, scale, mask)
        id_probabilities, of_class, of_row, scale, mask = operands
    loss, lse, total = site.workspace(rows.count), site.workspace(rows.count), site.workspace(2)
    goal = (ids, width, id_probabilities, probabilities, ignore_index, of_class, of_row, label_smoothing, z_loss)
    results = (loss, lse if return_lse else None, scale, reduction == "mean", t, mask, total)
    gradient = None if y is None else rows.of(y)
    site.module.cross_entropy(rows.of(x), gradient, *goal, softcap, *results, *site.rest)

    if reduction == "none":
        value = site.given(loss, rows.result, kind)
    else:
        of_all, divisor = site.fetch(total)
        value = _reduction.quotient(of_all, divisor if reduction == "mean" else 1, kind)
    sums = site.given(lse, rows.result, kind) if return_lse else None
    return CrossEntropyResult(value, None if done is None else done(), sums)


def row_stats(
    op: str, logits: ArrayLike, target: ArrayLike | None, axis: int, top_n: int, temperature: ArrayLike | None
) -> SoftmaxStats:
    """Run softmax_stats."""
    site = Site(op, logits, target)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    n = rows.how_many("top_n", top_n, 0, "logits")
    ids = None
    if target is not None:
        ids = site.upload(class_ids(op, "target", site.integers("target", target), rows.result, rows.classes))
    t = site.temperature(rows, temperature)
    site.chosen(rows.count, rows.classes, x.dtype)
    kind, several = _arrays.reduction_dtype(x.dtype), (*rows.result, n)
    lse, largest, entropies, log_prob = (site.workspace(rows.count) for _ in range(4))
    log_probs = site.workspace(rows.count * n)
    argmax, rank, indices = (site.result(None, shape, _INT64) for shape in (rows.result, rows.result, several))
    of_target = (None, None) if ids is None else (log_prob, rank[0])
    of_top = (log_probs, indices[0]) if n else (None, None)
    found = (lse, largest, argmax[0], entropies, *of_target, *of_top)
    site.module.softmax_stats(rows.of(x), ids, n, *found, t, *site.rest)
    return SoftmaxStats(
        site.given(lse, rows.result, kind),
        site.given(largest, rows.result, kind),
        argmax[1](),
        site.given(entropies, rows.result, kind),
        None if ids is None else site.given(log_prob, rows.result, kind),
        None if ids is None else rank[1](),
        site.given(log_probs, several, kind) if n else None,
        indices[1]() if n else None,
    )


def row_entropy(op: str, logits: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run entropy."""
    site = Site(op, logits)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    t = site.temperature(rows, temperature)
    site.chosen(rows.count, rows.classes, x.dtype)
    found = site.workspace(rows.count)
    site.module.softmax_stats(rows.of(x), None, 0, None, None, None, found, None, None, None, None, t, *site.rest)
    return site.given(found, rows.result, _arrays.reduction_dtype(x.dtype))


def norm_pick(op: str, logits: ArrayLike, wanted: ArrayLike, axis: int, temperature: ArrayLike | None) -> Reduced:
    """Run selective_log_softmax."""
    site = Site(op, logits, wanted)
    x = site.floats("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    ids = picked(op, site.integers("index", wanted), rows)
    t = site.temperature(rows, temperature)
    site.chosen(rows.count, rows.classes, x.dtype)
    found = site.workspace(ids.size)
    width = prod(ids.shape[len(rows.result) :])
    site.module.selective_log_softmax(rows.of(x), site.upload(ids), width, found, t, *site.rest)
    return site.given(found, ids.shape, _arrays.reduction_dtype(x.dtype))


def norm_divergence(op: str, p_logits: ArrayLike, q_logits: ArrayLike, axis: int) -> Reduced:
    """Run kl_divergence."""
    site = Site(op, p_logits, q_logits)
    p, q = site.alike(site.floats("p_logits", p_logits), site.floats("q_logits", q_logits))
    rows = rows_along(op, "p_logits", p, axis)
    _arrays.expect_shape_of(op, "q_logits", q, "p_logits", p.shape)
    site.chosen(rows.count, rows.classes, p.dtype)
    found = site.workspace(rows.count)
    site.module.kl_divergence(rows.of(p), rows.of(q), found, *site.rest)
    return site.given(found, rows.result, _arrays.reduction_dtype(p.dtype))


def _target(
    site: Site, x: Array, rows: Rows, parts: tuple[ArrayLike, ...], ignore: int
) -> tuple[Array, Array | None, int, Array | None, Array | None]:
    """Return the logits and what they are compared with: ids, how many, their probabilities, those of all classes."""
    if len(parts) == 2:
        ids = several_ids(site.op, site.integers("target", parts[0]), rows, ignore)
        return x, site.upload(ids), ids.shape[-1], site.doubles("target", parts[1], ids.shape), None
    given = site.looked_at("target", parts[0])
    if not are_probabilities(site.op, given, rows):
        classes = given if _arrays.home(parts[0]) == "cpu" else site.fetch(given)
        checked = class_ids(site.op, "target", classes, rows.result, rows.classes, ignore)
        return x, site.upload(checked), 1, None, None
    share = site.floats("target", parts[0])
    if share.dtype == _arrays.F64:
        x = site.converted(x, _arrays.F64)
    return x, None, 1, None, rows.of(site.converted(share, _arrays.reduction_dtype(x.dtype)))
