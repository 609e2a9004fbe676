# SPDX-License-Identifier: Apache-2.0
"""softplus, sigmoid, log_sigmoid, logit, their gradients, and binary cross-entropy: one body for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS
from vastmax._backends.start import plain_call, start_call
from vastmax._operands import arrays
from vastmax._operands.reduction import check_reduction, quotient

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from vastmax._operands.arrays import Array, Reduced


def elementwise(op: str, x: ArrayLike, out: Array | None, dtype: DTypeLike | None, beta: object = 1) -> Array:
    """Run an op that maps each element alone."""
    if dtype is None and _is_one(beta) and (made := plain_call(op, x, 1.0, out)) is not None:
        return made
    call = start_call(op, x)
    values, kind = call.as_logits("x", x, dtype)
    checked_beta = arrays.check_beta(op, beta, kind)
    y = call.output(out, values.shape, kind, like=values)
    kernel = KERNELS[op]
    call.plan(kernel, 1, values.size, kind)
    call.run(kernel, None, kind, x=values, out=y, beta=checked_beta)
    return call.finish(y)


def elementwise_grad(
    op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike, out: Array | None, beta: object = 1
) -> Array:
    """Run the gradient of an element-wise op; `argument` names what it saved of the forward pass."""
    if _is_one(beta) and (made := plain_call(op, grad_output, saved, 1.0, out)) is not None:
        return made
    call = start_call(op, saved, grad_output)
    values, kind = call.as_logits(argument, saved)
    grad, grad_kind = call.as_logits("grad_output", grad_output, beside=kind)
    arrays.expect_shape_of(op, "grad_output", grad, argument, values.shape)
    kind = arrays.joint_dtype(kind, grad_kind)
    checked_beta = arrays.check_beta(op, beta, kind)
    y = call.output(out, values.shape, kind, like=values)
    kernel = KERNELS[op]
    call.plan(kernel, 1, values.size, kind)
    call.run(kernel, None, kind, g=grad, saved=values, out=y, beta=checked_beta)
    return call.finish(y)


def elementwise_loss(
    op: str,
    x: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None,
    pos_weight: ArrayLike | None,
    reduction: str,
    return_grad: bool,
) -> Reduced | tuple[Reduced, Array]:
    """Run binary_cross_entropy_with_logits."""
    check_reduction(op, reduction)
    call = start_call(op, x, target, weight, pos_weight)
    logits, kind = call.as_logits("input", x)
    given = {"target": target, "weight": weight, "pos_weight": pos_weight}
    read = {name: call.as_logits(name, a, beside=kind) for name, a in given.items() if a is not None}
    kind = arrays.joint_dtype(kind, *(k for _, k in read.values()))
    arrays.expect_shape_of(op, "target", read["target"][0], "input", logits.shape)
    others = {name: arrays.broadcast(op, name, a, logits.shape) for name, (a, _) in read.items()}
    result = arrays.reduction_dtype(kind)
    kernel = KERNELS["binary_cross_entropy_with_logits"]
    call.plan(kernel, 1, logits.size, kind)
    loss = Output(logits.shape, result, like=logits) if reduction == "none" else None
    grad = Output(logits.shape, kind, like=logits) if return_grad else None
    total = call.run(
        kernel,
        None,
        kind,
        x=logits,
        target=others["target"],
        weight=others.get("weight"),
        pos_weight=others.get("pos_weight"),
        loss=loss,
        grad=grad,
        grad_scale=1.0 / max(logits.size, 1) if reduction == "mean" else 1.0,
    )
    if loss is not None:
        reduced = call.finish(loss)
    else:
        reduced = quotient(call.sums(total), logits.size if reduction == "mean" else 1, result)
    return reduced if grad is None else (reduced, call.finish(grad))


def _is_one(beta: object) -> bool:
    return type(beta) in (int, float) and beta == 1
