# SPDX-License-Identifier: Apache-2.0
"""cross_entropy and its gradient: one body for every backend.

Kernels take what there is one of for each row as a dense array, rows in index order, and give float64 back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS
from vastmax._backends.start import start_call
from vastmax._operands import arrays
from vastmax._operands.arrays import F64
from vastmax._operands.numbers import SMALLEST_SCALE, check_float
from vastmax._operands.reduction import check_reduction, expect_scale, quotient
from vastmax._operands.rows import rows_along
from vastmax._operands.targets import are_probabilities, class_ids, ignored_class, parts_of, several_ids

from .results import CrossEntropyResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from vastmax._backends.base import Call
    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows
    from vastmax._operands.targets import TargetLike


class Target(NamedTuple):
    """The target of each row: classes, classes with probabilities, or a probability of every class."""

    ids: Array | None  # int64, one or `width` for each row
    width: int
    id_probabilities: Array | None
    probabilities: Array | None  # of the shape of the logits


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
    check_reduction(op, reduction)
    smoothing = check_float(op, "label_smoothing", label_smoothing, 0, 1)
    z = check_float(op, "z_loss", z_loss, 0)
    cap = 0.0 if softcap is None else check_float(op, "softcap", softcap, SMALLEST_SCALE)
    ignore = ignored_class(op, ignore_index)
    call = start_call(op, logits, *parts_of(target))
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    goal, kind = _target(call, kind, rows, target, ignore)
    of_class = None if weight is None else call.doubles("weight", weight, (rows.classes,))
    of_row = None if sample_weight is None else call.doubles("sample_weight", sample_weight, rows.reduced_shape)
    t, mask = call.row_options(rows, temperature, where)
    scale = _gradient_scale(call, grad_output, () if reduction != "none" else rows.reduced_shape)
    kernel = KERNELS[op]
    grad = call.output(out, x.shape, kind, like=x) if op == "cross_entropy_with_grad" else None
    call.plan(kernel, rows.count, rows.classes, kind)
    result = arrays.reduction_dtype(kind)
    loss = Output(rows.reduced_shape, F64, returned=result)
    lse = Output(rows.reduced_shape, F64, returned=result) if return_lse else None
    (ids,) = call.per_row(goal.ids)
    found = call.run(
        kernel,
        rows,
        kind,
        x=x,
        grad=grad,
        ids=ids,
        width=goal.width,
        id_probabilities=goal.id_probabilities,
        probabilities=goal.probabilities,
        ignore_index=ignore,
        weight=of_class,
        sample_weight=of_row,
        label_smoothing=smoothing,
        z_loss=z,
        softcap=cap,
        loss=loss,
        lse=lse,
        grad_output=scale,
        mean=reduction == "mean",
        temperature=t,
        where=mask,
    )
    if reduction == "none":
        value = call.finish(loss)
    else:
        total, divisor = call.sums(found)
        value = quotient(total, divisor if reduction == "mean" else 1, result)
    return CrossEntropyResult(
        value, None if grad is None else call.finish(grad), None if lse is None else call.finish(lse)
    )


def _target(
    call: Call, kind: np.dtype[Any], rows: Rows, target: TargetLike, ignore: int
) -> tuple[Target, np.dtype[Any]]:
    """Check the target; return it, and the dtype to compute in beside it."""
    op, parts = call.op, parts_of(target)
    if len(parts) == 2:
        ids = several_ids(op, call.on_host("target", parts[0]), rows, ignore)
        return Target(ids, ids.shape[-1], call.doubles("target", parts[1], ids.shape), None), kind
    if are_probabilities(op, call.described("target", parts[0]), rows):
        probabilities = call.as_float_array("target", parts[0])
        if F64 in (kind, probabilities.dtype):
            return Target(None, 1, None, call.cast(probabilities, F64)), F64
        return Target(None, 1, None, probabilities), kind
    classes = call.on_host("target", parts[0])
    return Target(class_ids(op, "target", classes, rows.reduced_shape, rows.classes, ignore), 1, None, None), kind


def _gradient_scale(call: Call, grad_output: ArrayLike | None, loss_shape: tuple[int, ...]) -> Array | None:
    if grad_output is None:
        return None
    scale = call.doubles("grad_output", grad_output)
    expect_scale(call.op, scale.shape, loss_shape)
    return scale
