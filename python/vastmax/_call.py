# SPDX-License-Identifier: Apache-2.0
"""The one road from a public function to the core: dtype, axis, destination, backend, run.

One function for each shape of op. `op` is the name that users call, errors name and, but for `kernel`, the core knows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _config, _core, _policy, _reduction
from ._backends import absent
from ._choose import Planned, choose
from ._conversion import blockwise
from ._rows import Rows
from .errors import BackendUnavailable, Op, called, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array, Axis, Reduced
    from ._tuned import Policy

    Rest = tuple[int, int]
    Run = Callable[..., Any]  # of the name of a kernel of the core and its arguments


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
    if _on_gpu(op, x):
        from . import _cuda_call

        return _cuda_call.norm_map(op, x, axis, temperature, where, out, dtype)
    logits = _arrays.floats(op, "x", x, dtype)
    rows = Rows(op, logits.shape, axis)
    t, mask = rows.temperature(temperature), rows.mask(where)
    y = _arrays.destination(op, out, logits.shape, logits.dtype)
    run = _chosen("norm_map", op, rows.count, rows.classes, logits.dtype)
    if y is None:
        y = _arrays.like(logits)
    else:
        logits = _arrays.apart(logits, y)
        t, mask = _arrays.clear_of(y, t, mask)
    _fill_rows(partial(run, op), rows, (rows.of(logits),), y, t, rows.of_mask(mask))
    return _arrays.unwrap(y, out)


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
    if _on_gpu(op, a, b):
        from . import _cuda_call

        return _cuda_call.norm_reduce(
            op, a, axis, b, keepdims, return_sign, temperature, where, out, dtype, narrow=narrow
        )
    logits, computed = _arrays.as_read(op, "a", a)
    if dtype is not None or b is not None:
        logits = _arrays.floats(op, "a", logits, dtype)
        computed = logits.dtype
    weights = None
    shape = logits.shape
    if b is not None:
        bare = type(b) in (bool, int, float)  # takes the dtype of a, as in NumPy
        weights = _arrays.floats(op, "b", b, logits.dtype if dtype is None and bare else dtype)
        logits, weights = _arrays.alike(logits, weights)
        computed = logits.dtype
        shape = _arrays.joint_shape(op, "b", weights, "a", shape)
    rows = Rows(op, shape, axis)
    t, mask = rows.temperature(temperature), rows.mask(where)
    result = _arrays.reduction_dtype(computed)
    y = _arrays.destination(op, out, rows.kept if keepdims else rows.result, result)
    kind = "" if weights is None else "_weighted"
    run = _chosen(f"norm_reduce{kind}", Op(f"{op}{kind}", called(op)), rows.count, rows.classes, computed)
    if y is None:
        y = np.empty(rows.kept if keepdims else rows.result, result)
    else:
        logits, weights, t, mask = _arrays.clear_of(y, logits, weights, t, mask)
    x = rows.of(_arrays.spread(op, "a", logits, shape))
    value = y.reshape(rows.result)  # drops axes of length 1: a view
    sign = None
    if weights is not None:
        sign = np.empty(rows.result, result) if return_sign else None
        w = rows.of(_arrays.spread(op, "b", weights, shape))
        run("logsumexp_weighted", x, w, value, sign, t, rows.of_mask(mask))
    else:
        blockwise("norm_reduce", run, computed, x)("logsumexp", x, value, t, rows.of_mask(mask))
        if return_sign:  # of a sum of positive terms
            sign = np.where(np.isnan(value), value, value > -np.inf).astype(result)
    if narrow:
        y, sign = _arrays.cast(y, computed), None if sign is None else _arrays.cast(sign, computed)
    if sign is None:
        return _arrays.unwrap(y, out)
    return _arrays.unwrap(y, out), _arrays.unwrap(sign.reshape(y.shape), None)


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
    if _on_gpu(op, grad_output, a):
        from . import _cuda_call

        return _cuda_call.norm_grad(op, grad_output, a, axis, temperature, where, out)
    logits = _arrays.floats(op, "a", a)
    grad = _arrays.joining(op, "grad_output", grad_output, logits.dtype)
    if grad.dtype == _arrays.F64:
        logits, grad = _arrays.alike(logits, grad)
    rows = Rows(op, logits.shape, axis)
    if grad.shape not in (rows.result, rows.kept):
        raise ValueError(message(op, "grad_output", f"has shape {grad.shape}", f"{rows.result} or {rows.kept}"))
    grad = _arrays.cast(grad.reshape(rows.result), _arrays.reduction_dtype(logits.dtype))
    t, mask = rows.temperature(temperature), rows.mask(where)
    y = _arrays.destination(op, out, logits.shape, logits.dtype)
    run = _chosen("norm_grad", op, rows.count, rows.classes, logits.dtype)
    if y is None:
        y = _arrays.like(logits)
    else:
        logits = _arrays.apart(logits, y)
        grad, t, mask = _arrays.clear_of(y, grad, t, mask)
    _fill_rows(partial(run, op), rows, (grad, rows.of(logits)), y, t, rows.of_mask(mask))
    return _arrays.unwrap(y, out)


def row_grad(
    op: str,
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis,
    temperature: ArrayLike | None,
    out: Array | None,
) -> Array:
    """Run the backward op of softmax or log_softmax."""
    if _on_gpu(op, grad_output, output):
        from . import _cuda_call

        return _cuda_call.row_grad(op, grad_output, output, axis, temperature, out)
    grad, forward = _pair(op, grad_output, "output", output)
    rows = Rows(op, forward.shape, axis)
    t = rows.temperature(temperature)
    y = _arrays.destination(op, out, forward.shape, forward.dtype)
    run = _chosen("row_grad", op, rows.count, rows.classes, forward.dtype)
    if y is None:
        y = _arrays.like(forward)
    else:
        grad, forward = _arrays.apart(grad, y), _arrays.apart(forward, y)
        (t,) = _arrays.clear_of(y, t)
    _fill_rows(partial(run, op), rows, (rows.of(grad), rows.of(forward)), y, t)
    return _arrays.unwrap(y, out)


def elementwise(op: str, x: ArrayLike, out: Array | None, dtype: DTypeLike | None, beta: object = 1) -> Array:
    """Run an op that maps each element alone."""
    if _on_gpu(op, x):
        from . import _cuda_call

        return _cuda_call.elementwise(op, x, out, dtype, beta)
    values = _arrays.floats(op, "x", x, dtype)
    sharpness = _arrays.sharpness(op, beta, values.dtype)
    y = _arrays.destination(op, out, values.shape, values.dtype)
    run = _chosen("elementwise", op, 1, values.size, values.dtype)
    if y is None:
        y = _arrays.like(values)
    else:
        values = _arrays.apart(values, y)
    run(op, *_arrays.flowing(values, y), sharpness)
    return _arrays.unwrap(y, out)


def elementwise_grad(
    op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike, out: Array | None, beta: object = 1
) -> Array:
    """Run the backward op of an element-wise one; `argument` names what it saved."""
    if _on_gpu(op, grad_output, saved):
        from . import _cuda_call

        return _cuda_call.elementwise_grad(op, grad_output, argument, saved, out, beta)
    grad, kept = _pair(op, grad_output, argument, saved)
    sharpness = _arrays.sharpness(op, beta, kept.dtype)
    y = _arrays.destination(op, out, kept.shape, kept.dtype)
    run = _chosen("elementwise_grad", op, 1, kept.size, kept.dtype)
    if y is None:
        y = _arrays.like(kept)
    else:
        grad, kept = _arrays.apart(grad, y), _arrays.apart(kept, y)
    run(op, *_arrays.flowing(grad, kept, y), sharpness)
    return _arrays.unwrap(y, out)


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
    _reduction.check(op, reduction)
    if _on_gpu(op, x, target, weight, pos_weight):
        from . import _cuda_call

        return _cuda_call.elementwise_loss(op, x, target, weight, pos_weight, reduction, return_grad)
    logits = _arrays.floats(op, "input", x)
    others = {"target": _arrays.joining(op, "target", target, logits.dtype)}
    if weight is not None:
        others["weight"] = _arrays.joining(op, "weight", weight, logits.dtype)
    if pos_weight is not None:
        others["pos_weight"] = _arrays.joining(op, "pos_weight", pos_weight, logits.dtype)
    logits, *joined = _arrays.alike(logits, *others.values())
    others = dict(zip(others, joined, strict=True))
    shape = logits.shape
    _arrays.expect_shape_of(op, "target", others["target"], "input", shape)
    others = {name: _arrays.spread(op, name, a, shape) for name, a in others.items()}
    run = _chosen("elementwise_loss", op, 1, logits.size, logits.dtype)

    kind = _arrays.reduction_dtype(logits.dtype)
    loss = _arrays.like(logits, kind) if reduction == "none" else None
    grad = _arrays.like(logits) if return_grad else None
    scale = 1.0 / max(logits.size, 1) if reduction == "mean" else 1.0
    arrays = (logits, others["target"], others.get("weight"), others.get("pos_weight"), loss, grad)
    x1, t1, w1, p1, loss1, grad1 = _arrays.flowing(*arrays, summed=loss is None)
    total = run("bce_with_logits", x1, t1, w1, p1, loss1, grad1, scale)
    reduced: Reduced
    if loss is not None:
        reduced = _arrays.unwrap(loss, None)
    else:
        reduced = _reduction.quotient(total, logits.size if reduction == "mean" else 1, kind)
    return reduced if grad is None else (reduced, _arrays.unwrap(grad, None))


def _on_gpu(op: str, *arrays: object) -> bool:
    """Whether arrays live on a GPU, where the call then runs."""
    if any(type(a) is not np.ndarray and _arrays.home(a) == "cuda" for a in arrays):
        choose(op, "cuda", None, 0, 0, _arrays.F32, absent=absent, measured=_measured)  # says if there is none
        return True
    return False


def _chosen(shape: str, op: str, rows: int, classes: int, dtype: np.dtype[Any]) -> Run:
    """Choose the backend of a call that is ready, and return what runs a kernel there; `shape` names that of the op."""
    options = _config.current()
    choice = choose(op, "cpu", options.device, rows, classes, dtype, absent=absent, measured=_measured)
    if options.explaining:
        raise Planned(op, "cpu", choice, rows, classes, dtype)
    if choice.backend == "cuda":
        from . import _chunks

        return partial(_chunks.run, shape, op)
    return lambda kernel, *arguments: getattr(_core, kernel)(*arguments, options.threads, options.isa)


def on_cpu(op: str, *arrays: object) -> Callable[[str, int, int, np.dtype[Any]], Rest]:
    """Refuse what lives, or is wanted, on a GPU: `op` has no kernel there. Return what gives the core's options."""
    if _on_gpu(op, *arrays) or _config.current().device == "cuda":
        why = "it has no GPU version, or none for NumPy data"
        raise BackendUnavailable(message(op, "cannot run on a GPU,", why, "NumPy arrays with device None or 'cpu'"))
    return _options


def tiled(op: str, rows: int, classes: int, weight: Array) -> None:
    """Stop an op over tiles of logits that the product of `weight` makes, if it is only to be explained."""
    why = "logits a tile at a time, from matrix products on the threads of NumPy's BLAS"
    by_table(op, rows, classes, weight.dtype, weight.nbytes * -(-rows // _policy.TILE_ROWS), why)


def by_table(op: str, rows: int, classes: int, dtype: np.dtype[Any], size: int, why: str) -> Rest:
    """Return the core's options for an op that reads so many bytes of a table to make its logits."""
    options = _config.current()
    if options.explaining:
        choice = choose(op, "cpu", None, rows, classes, dtype, absent=absent, measured=_measured)
        raise Planned(op, "cpu", choice, rows, classes, dtype, (size, why))
    return options.threads, options.isa


def _options(op: str, rows: int, classes: int, dtype: np.dtype[Any]) -> Rest:
    """Return the core's trailing arguments for a call that is ready and can only run there."""
    options = _config.current()
    if options.explaining:
        choice = choose(op, "cpu", None, rows, classes, dtype, absent=absent, measured=_measured)
        raise Planned(op, "cpu", choice, rows, classes, dtype)
    return options.threads, options.isa


def _measured() -> Policy | None:
    from . import _tuned

    return _tuned.measured()


def _pair(op: str, grad_output: ArrayLike, argument: str, saved: ArrayLike) -> tuple[Array, ...]:
    """Bring a gradient and what the forward pass saved to one dtype; their shapes must agree."""
    kept = _arrays.floats(op, argument, saved)
    grad = _arrays.joining(op, "grad_output", grad_output, kept.dtype)
    _arrays.expect_shape_of(op, "grad_output", grad, argument, kept.shape)
    return _arrays.alike(grad, kept)


def _fill_rows(
    kernel: Callable[..., None], rows: Rows, inputs: tuple[Array, ...], y: Array, *arguments: Array | int | None
) -> None:
    """Run a kernel that writes `y`, by way of a temporary where its rows cannot be a view."""
    target = rows.of(y)
    kernel(*inputs, target, *arguments)
    if rows.merging and not np.may_share_memory(target, y):
        rows.put_back(target, y)
