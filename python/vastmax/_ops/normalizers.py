# SPDX-License-Identifier: Apache-2.0
"""softmax, log_softmax, logsumexp and their gradients: one body for every backend.

`op` is the name that errors use and, but for `logsumexp` with weights, that of the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS, LOGSUMEXP_SIGNS
from vastmax._backends.start import plain_call, start_call
from vastmax._operands import arrays
from vastmax._operands.rows import Rows
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from vastmax._operands.arrays import Array, Axis, Reduced


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
    plain = axis == -1 and temperature is None and where is None and dtype is None
    if plain and (made := plain_call(op, x, out)) is not None:
        return made
    call = start_call(op, x)
    logits, kind = call.as_logits("x", x, dtype)
    rows = Rows(op, logits.shape, axis)
    t, mask = call.row_options(rows, temperature, where)
    y = call.output(out, logits.shape, kind, like=logits)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    call.run(kernel, rows, kind, x=logits, out=y, temperature=t, where=mask)
    return call.finish(y)


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
    *,
    narrow: bool = False,
) -> Reduced | tuple[Reduced, Reduced]:
    """Run logsumexp, with weights `b` or without; `narrow` results have the dtype of the logits."""
    plain = axis == -1 and b is None and temperature is None and where is None and dtype is None
    if plain and not (keepdims or return_sign or narrow) and (made := plain_call(op, a, out)) is not None:
        return made
    call = start_call(op, a, b)
    logits, kind = call.as_logits("a", a, dtype)
    weights, shape = None, logits.shape
    if b is not None:
        bare = type(b) in (bool, int, float)  # takes the dtype of a, as in NumPy
        weights, weight_kind = call.as_logits("b", b, kind if dtype is None and bare else dtype)
        kind = arrays.joint_dtype(kind, weight_kind)
        shape = arrays.joint_shape(op, "b", weights, "a", shape)
    rows = Rows(op, shape, axis)
    t, mask = call.row_options(rows, temperature, where)
    result = arrays.reduction_dtype(kind)
    y = call.output(out, rows.keepdims_shape if keepdims else rows.reduced_shape, result)
    sign = Output(y.shape, result) if return_sign else None
    for output in (y, sign):
        if output is not None:
            output.kernel_shape = rows.reduced_shape
            output.returned = kind if narrow else result
    x = arrays.broadcast(op, "a", logits, shape)
    if weights is None:
        kernel = KERNELS["logsumexp"]
        call.plan(kernel, rows.count, rows.classes, kind)
        call.run(kernel, rows, kind, x=x, out=y, temperature=t, where=mask)
        if sign is not None:
            call.run(LOGSUMEXP_SIGNS, rows, kind, value=y.made.reshape(rows.reduced_shape), sign=sign)
    else:
        kernel, w = KERNELS["logsumexp_weighted"], arrays.broadcast(op, "b", weights, shape)
        call.plan(kernel, rows.count, rows.classes, kind)
        call.run(kernel, rows, kind, a=x, b=w, out=y, sign=sign, temperature=t, where=mask)
    return call.finish(y) if sign is None else (call.finish(y), call.finish(sign))


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
    call = start_call(op, a, grad_output)
    logits, kind = call.as_logits("a", a)
    grad = call.as_operand("grad_output", grad_output, kind)
    if grad.dtype == arrays.F64:
        kind = arrays.F64
    rows = Rows(op, logits.shape, axis)
    if grad.shape not in (rows.reduced_shape, rows.keepdims_shape):
        raise ValueError(
            message(op, "grad_output", f"has shape {grad.shape}", f"{rows.reduced_shape} or {rows.keepdims_shape}")
        )
    t, mask = call.row_options(rows, temperature, where)
    y = call.output(out, logits.shape, kind, like=logits)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    grad = call.cast(grad, arrays.reduction_dtype(kind)).reshape(rows.reduced_shape)
    call.run(kernel, rows, kind, grad=grad, x=logits, out=y, temperature=t, where=mask)
    return call.finish(y)


def row_grad(
    op: str,
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis,
    temperature: ArrayLike | None,
    out: Array | None,
) -> Array:
    """Run the gradient of softmax or log_softmax, from what the forward function returned."""
    if axis == -1 and temperature is None and (made := plain_call(op, grad_output, output, out)) is not None:
        return made
    call = start_call(op, output, grad_output)
    forward, kind = call.as_logits("output", output)
    grad, grad_kind = call.as_logits("grad_output", grad_output, beside=kind)
    arrays.expect_shape_of(op, "grad_output", grad, "output", forward.shape)
    kind = arrays.joint_dtype(kind, grad_kind)
    rows = Rows(op, forward.shape, axis)
    t, _ = call.row_options(rows, temperature, None)
    y = call.output(out, forward.shape, kind, like=forward)
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    call.run(kernel, rows, kind, g=grad, y=forward, out=y, temperature=t)
    return call.finish(y)
