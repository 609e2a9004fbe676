# SPDX-License-Identifier: Apache-2.0
"""The road of a call that runs on a GPU: the same functions as in `_call`, one for each shape of op."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _arrays
from ._arrays import Rows
from ._device import Site
from .errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array, Axis, Reduced


def norm_map(
    op: str,
    x: ArrayLike,
    axis: Axis,
    temperature: ArrayLike | None,
    where: ArrayLike | None,
    out: Array | None,
    dtype: DTypeLike | None,
) -> Array:
    """Run softmax or log_softmax."""
    site = Site(op, x, where)
    logits = site.floats("x", x, dtype)
    rows = Rows(op, logits.shape, axis)
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, logits.dtype)
    y, done = site.result(out, logits.shape, logits.dtype, logits, mask)
    getattr(site.module, op)(site.rows(rows, logits), site.rows(rows, y), t, mask, *site.rest)
    return done()


def norm_reduce(
    op: str,
    a: ArrayLike,
    axis: Axis,
    b: ArrayLike | None,
    keepdims: bool,
    return_sign: bool,
    temperature: ArrayLike | None,
    where: ArrayLike | None,
    out: Array | None,
    dtype: DTypeLike | None,
) -> Reduced:
    """Run logsumexp."""
    for name, given in (("b", b is not None), ("return_sign", return_sign)):
        if given:
            raise ValueError(message(op, name, "is given for an array on a GPU", "NumPy arrays on the CPU"))
    site = Site(op, a, where)
    logits = site.floats("a", a, dtype)
    rows = Rows(op, logits.shape, axis)
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, logits.dtype)
    shape = rows.kept if keepdims else rows.result
    y, done = site.result(out, shape, _arrays.reduction_dtype(logits.dtype), logits, mask)
    site.module.logsumexp(site.rows(rows, logits), y.reshape(rows.result), t, mask, *site.rest)
    return done()


def norm_grad(
    op: str,
    grad_output: ArrayLike,
    a: ArrayLike,
    axis: Axis,
    temperature: ArrayLike | None,
    where: ArrayLike | None,
    out: Array | None,
) -> Array:
    """Run logsumexp_backward."""
    site = Site(op, a, grad_output, where)
    logits = site.floats("a", a)
    grad = site.joining("grad_output", grad_output, _arrays.reduction_dtype(logits.dtype))
    rows = Rows(op, logits.shape, axis)
    if grad.shape not in (rows.result, rows.kept):
        raise ValueError(message(op, "grad_output", f"has shape {grad.shape}", f"{rows.result} or {rows.kept}"))
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, logits.dtype)
    y, done = site.result(out, logits.shape, logits.dtype, logits, grad, mask)
    getattr(site.module, op)(
        grad.reshape(rows.result), site.rows(rows, logits), site.rows(rows, y), t, mask, *site.rest
    )
    return done()


def row_grad(
    op: str, grad_output: ArrayLike, output: ArrayLike, axis: Axis, temperature: ArrayLike | None, out: Array | None
) -> Array:
    """Run the backward op of softmax or log_softmax."""
    site, grad, forward = _pair(op, grad_output, "output", output)
    rows = Rows(op, forward.shape, axis)
    t = site.temperature(rows, temperature)
    site.chosen(rows.count, rows.classes, forward.dtype)
    y, done = site.result(out, forward.shape, forward.dtype, grad, forward)
    getattr(site.module, op)(site.rows(rows, grad), site.rows(rows, forward), site.rows(rows, y), t, *site.rest)
    return done()


def elementwise(op: str, x: ArrayLike, out: Array | None, dtype: DTypeLike | None, beta: object) -> Array:
    """Run an op that maps each element alone."""
    site = Site(op, x)
    values = site.floats("x", x, dtype)
    sharpness = _arrays.sharpness(op, beta, values.dtype)
    site.chosen(1, values.size, values.dtype)
    y, done = site.result(out, values.shape, values.dtype, values)
    getattr(site.module, op)(values, y, sharpness, *site.rest)
    return done()


def elementwise_grad(
    op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike, out: Array | None, beta: object
) -> Array:
    """Run the backward op of an element-wise one."""
    site, grad, kept = _pair(op, grad_output, argument, saved)
    sharpness = _arrays.sharpness(op, beta, kept.dtype)
    site.chosen(1, kept.size, kept.dtype)
    y, done = site.result(out, kept.shape, kept.dtype, grad, kept)
    getattr(site.module, op)(grad, kept, y, sharpness, *site.rest)
    return done()


def elementwise_loss(
    op: str,
    x: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    return_grad: bool,
) -> Reduced | tuple[Reduced, Array]:
    """Run binary_cross_entropy_with_logits; a reduced loss comes to the host, as a NumPy scalar."""
    site = Site(op, x, target, weight, pos_weight)
    logits = site.floats("input", x)
    shape = logits.shape
    wanted = site.joining("target", target, logits.dtype)
    if wanted.shape != shape:
        raise ValueError(message(op, "target", f"has shape {wanted.shape}", f"the shape of input, {shape}"))

    def spread(name: str, value: ArrayLike | None) -> Array | None:
        return None if value is None else _arrays.spread(op, name, site.joining(name, value, logits.dtype), shape)

    w, p = spread("weight", weight), spread("pos_weight", pos_weight)
    site.chosen(1, logits.size, logits.dtype)
    kind = _arrays.reduction_dtype(logits.dtype)
    loss = site.result(None, shape, kind) if reduction == "none" else None
    grad = site.result(None, shape, logits.dtype) if return_grad else None
    total = site.upload(np.zeros(1))
    scale = 1.0 / max(logits.size, 1) if reduction == "mean" else 1.0
    site.module.bce_with_logits(
        logits, wanted, w, p, loss and loss[0], grad and grad[0], scale, total.ctypes.data, *site.rest
    )
    if loss is not None:
        reduced: Reduced = loss[1]()
    else:
        with np.errstate(all="ignore"):  # the mean of nothing is NaN; a sum may not fit float32
            reduced = (site.fetch(total)[0] / (logits.size if reduction == "mean" else 1)).astype(kind)
    return reduced if grad is None else (reduced, grad[1]())


def _pair(op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike) -> tuple[Site, Array, Array]:
    site = Site(op, saved, grad_output)
    kept = site.floats(argument, saved)
    grad = site.joining("grad_output", grad_output, kept.dtype)
    if grad.shape != kept.shape:
        accepted = f"the shape of {argument}, {kept.shape}"
        raise ValueError(message(op, "grad_output", f"has shape {grad.shape}", accepted))
    return site, grad, kept
