# SPDX-License-Identifier: Apache-2.0
"""The road of a call that runs on a GPU: the same functions as in `_call`, one for each shape of op."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _arrays, _config, _reduction
from ._backends import cuda_module
from ._device import Site
from ._rows import Rows
from .errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array, Axis, Reduced


def _short(op: str, *arguments: object) -> Array | None:
    """Take the short road of dense arrays whose library has DLPack's C exchange; None where it is closed."""
    if _config.scope.get() is not None:
        return None
    made: Array | None = getattr(cuda_module(), f"{op}_plain")(*arguments)
    return made


def _is_one(beta: object) -> bool:
    return type(beta) in (int, float) and beta == 1


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
    simple = axis == -1 and temperature is None and where is None and dtype is None
    if simple and (made := _short(op, x, out)) is not None:
        return made
    site = Site(op, x, where)
    logits = site.floats("x", x, dtype)
    rows = Rows(op, logits.shape, axis)
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, logits.dtype, out=(out, logits.shape, logits.dtype))
    y, done = site.result(out, logits.shape, logits.dtype)
    logits, mask = site.apart(logits, y), site.apart(mask, y)
    site.fill_rows(op, rows, (site.rows(rows, logits),), y, t, mask)
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
) -> Reduced | tuple[Reduced, Reduced]:
    """Run logsumexp, with weights `b` or without."""
    simple = axis == -1 and temperature is None and where is None and dtype is None
    if simple and b is None and not keepdims and not return_sign and (made := _short(op, a, out)) is not None:
        return made
    site = Site(op, a, b, where)
    logits = site.floats("a", a, dtype)
    weights, shape = None, logits.shape
    if b is not None:
        bare = type(b) in (bool, int, float)  # takes the dtype of a, as in NumPy
        weights = site.floats("b", b, logits.dtype if dtype is None and bare else dtype)
        logits, weights = site.alike(logits, weights)
        shape = _arrays.joint_shape(op, "b", weights, "a", shape)
    rows = Rows(op, shape, axis)
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    kind, reduced = _arrays.reduction_dtype(logits.dtype), rows.kept if keepdims else rows.result
    site.chosen(rows.count, rows.classes, logits.dtype, out=(out, reduced, kind))
    y, done = site.result(out, reduced, kind)
    sign, sign_done = site.result(None, reduced, kind) if return_sign else (None, None)
    value, direction = y.reshape(rows.result), None if sign is None else sign.reshape(rows.result)
    logits, weights, mask = site.apart(logits, y), site.apart(weights, y), site.apart(mask, y)
    x = site.rows(rows, _arrays.spread(op, "a", logits, shape))
    if weights is not None:
        w = site.rows(rows, _arrays.spread(op, "b", weights, shape))
        site.module.logsumexp_weighted(x, w, value, direction, t, mask, *site.rest)
    else:
        site.module.logsumexp(x, value, t, mask, *site.rest)
        if direction is not None:
            site.module.logsumexp_signs(value, direction, *site.rest)
    return done() if sign_done is None else (done(), sign_done())


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
    grad = site.joining("grad_output", grad_output, logits.dtype)
    if grad.dtype == _arrays.F64:
        logits, grad = site.alike(logits, grad)
    rows = Rows(op, logits.shape, axis)
    if grad.shape not in (rows.result, rows.kept):
        raise ValueError(message(op, "grad_output", f"has shape {grad.shape}", f"{rows.result} or {rows.kept}"))
    t, mask = site.temperature(rows, temperature), site.mask(rows, where)
    site.chosen(rows.count, rows.classes, logits.dtype, out=(out, logits.shape, logits.dtype))
    y, done = site.result(out, logits.shape, logits.dtype)
    grad = site.converted(site.apart(grad, y), _arrays.reduction_dtype(logits.dtype)).reshape(rows.result)
    logits, mask = site.apart(logits, y), site.apart(mask, y)
    site.fill_rows(op, rows, (grad, site.rows(rows, logits)), y, t, mask)
    return done()


def row_grad(
    op: str, grad_output: ArrayLike, output: ArrayLike, axis: Axis, temperature: ArrayLike | None, out: Array | None
) -> Array:
    """Run the backward op of softmax or log_softmax."""
    if axis == -1 and temperature is None and (made := _short(op, grad_output, output, out)) is not None:
        return made
    site, grad, forward = _pair(op, grad_output, "output", output)
    rows = Rows(op, forward.shape, axis)
    t = site.temperature(rows, temperature)
    site.chosen(rows.count, rows.classes, forward.dtype, out=(out, forward.shape, forward.dtype))
    y, done = site.result(out, forward.shape, forward.dtype)
    grad, forward = site.apart(grad, y), site.apart(forward, y)
    site.fill_rows(op, rows, (site.rows(rows, grad), site.rows(rows, forward)), y, t)
    return done()


def elementwise(op: str, x: ArrayLike, out: Array | None, dtype: DTypeLike | None, beta: object) -> Array:
    """Run an op that maps each element alone."""
    if dtype is None and _is_one(beta) and (made := _short(op, x, 1.0, out)) is not None:
        return made
    site = Site(op, x)
    values = site.floats("x", x, dtype)
    sharpness = _arrays.sharpness(op, beta, values.dtype)
    site.chosen(1, values.size, values.dtype, out=(out, values.shape, values.dtype))
    y, done = site.result(out, values.shape, values.dtype)
    getattr(site.module, op)(site.apart(values, y), y, sharpness, *site.rest)
    return done()


def elementwise_grad(
    op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike, out: Array | None, beta: object
) -> Array:
    """Run the backward op of an element-wise one."""
    if _is_one(beta) and (made := _short(op, grad_output, saved, 1.0, out)) is not None:
        return made
    site, grad, kept = _pair(op, grad_output, argument, saved)
    sharpness = _arrays.sharpness(op, beta, kept.dtype)
    site.chosen(1, kept.size, kept.dtype, out=(out, kept.shape, kept.dtype))
    y, done = site.result(out, kept.shape, kept.dtype)
    getattr(site.module, op)(site.apart(grad, y), site.apart(kept, y), y, sharpness, *site.rest)
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
    given = {"target": target, "weight": weight, "pos_weight": pos_weight}
    joined = {name: site.joining(name, a, logits.dtype) for name, a in given.items() if a is not None}
    logits, *others = site.alike(logits, *joined.values())
    joined = dict(zip(joined, others, strict=True))
    shape = logits.shape
    _arrays.expect_shape_of(op, "target", joined["target"], "input", shape)
    joined = {name: _arrays.spread(op, name, a, shape) for name, a in joined.items()}
    site.chosen(1, logits.size, logits.dtype)
    kind = _arrays.reduction_dtype(logits.dtype)
    loss = site.result(None, shape, kind) if reduction == "none" else None
    grad = site.result(None, shape, logits.dtype) if return_grad else None
    tiles = -(-logits.size // site.module.loss_tile(logits)) if loss is None else 0
    parts, total = site.workspace(2 * tiles), site.workspace(1)
    scale = 1.0 / max(logits.size, 1) if reduction == "mean" else 1.0
    inputs = (logits, joined["target"], joined.get("weight"), joined.get("pos_weight"))
    where_to = parts.ctypes.data if tiles else 0
    site.module.bce_with_logits(*inputs, loss and loss[0], grad and grad[0], scale, where_to, *site.rest)
    if loss is not None:
        reduced: Reduced = loss[1]()
    else:
        site.module.bce_total(tiles, parts.ctypes.data, total.ctypes.data, *site.rest)
        reduced = _reduction.quotient(site.fetch(total)[0], logits.size if reduction == "mean" else 1, kind)
    return reduced if grad is None else (reduced, grad[1]())


def _pair(op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike) -> tuple[Site, Array, Array]:
    site = Site(op, saved, grad_output)
    kept = site.floats(argument, saved)
    grad = site.joining("grad_output", grad_output, kept.dtype)
    _arrays.expect_shape_of(op, "grad_output", grad, argument, kept.shape)
    grad, kept = site.alike(grad, kept)
    return site, grad, kept
