# SPDX-License-Identifier: Apache-2.0
"""A linear layer over many classes, and what follows it, without an array of all logits."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._operands import arrays
from ._operands.numbers import check_int
from ._operands.targets import class_ids
from ._ops.linear import row_loss
from ._ops.linear.gradients import Gradients
from ._ops.linear.layer import Head
from ._ops.linear.reader import read_all
from ._ops.linear.row_loss import RowLoss
from ._ops.linear.top_k import top_k
from .errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._operands.arrays import Array, Reduced

    F64 = NDArray[np.float64]


class LinearCrossEntropyResult(NamedTuple):
    """The result of `linear_cross_entropy_with_grad`."""

    loss: Reduced
    grad_input: Array
    grad_weight: Array
    grad_bias: Array | None
    lse: Reduced


def linear_cross_entropy(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    return_lse: bool = False,
    progress: bool = False,
) -> Reduced | tuple[Reduced, Reduced]:
    r"""Return the cross-entropy of a linear layer's logits, which exist only a tile at a time.

    .. math:: \ell = w_t \, (\log \sum_j e^{z_j} - z_t), \quad z = x W^T + b

    Parameters
    ----------
    input : array_like
        :math:`x`, shape (..., D).
    linear_weight : array_like
        :math:`W`, shape (V, D): float16, bfloat16 (ml_dtypes), float32 or float64, also a `numpy.memmap`.
    linear_bias : array_like, optional
        :math:`b`, shape (V,).
    target : array_like of int
        :math:`t`, the class of each row, of the shape of `input` without its last axis.
    weight : array_like, optional
        :math:`w`, one number a class.
    ignore_index : int, default -100
        Rows with this target contribute nothing, whatever they hold.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the weights of the targets.
    label_smoothing : float, default 0
        Share of the target that all classes have alike, from 0 to 1.
    z_loss : float, default 0
        Adds this times the square of logsumexp to the loss of each row.
    softcap : float, optional
        Makes logits c tanh(z / c) first.
    return_lse : bool, default False
        Return logsumexp of each row too.
    progress : bool, default False
        Show a bar on standard error.

    Returns
    -------
    loss : scalar or ndarray
        float64 if an argument holds float64, else float32.
    lse : scalar or ndarray
        With `return_lse`: the shape of `target`.

    Raises
    ------
    IndexError
        If a target is no class.
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been computed then.

    See Also
    --------
    linear_cross_entropy_with_grad : With gradients.
    cross_entropy : Of logits in an array.
    sampled_softmax : Over a sample of the classes.

    Notes
    -----
    Accuracy: that of the matrix product, in float32, or float64 if an argument holds float64; what follows adds a few
    ULP of the loss. A softcap of float32 logits adds up to 3 ULP of each. The same bits for the same BLAS, CPU type and
    shapes.

    Special values: those of `logsumexp`, and of `cross_entropy` for losses. The mean of no rows is NaN, their sum 0.

    Semantics of `torch.nn.functional.cross_entropy` after `torch.nn.functional.linear`.

    References
    ----------
    .. [1] Wijmans, Huval, Hertzberg, Koltun and Krahenbuhl, "Cut Your Losses in Large-Vocabulary Language Models",
       2024.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> x, w = np.eye(2, 3, dtype=np.float32), np.eye(5, 3, dtype=np.float32)
    >>> vastmax.linear_cross_entropy(x, w, [0, 4])
    np.float32(1.4048325)
    """
    op = "linear_cross_entropy"
    ignore = row_loss.options(op, reduction, ignore_index, label_smoothing, z_loss)
    head = Head(op, input, linear_weight, linear_bias, softcap)
    ids = class_ids(op, "target", target, head.shape, head.classes, ignore).reshape(-1)
    used_rows = ids != ignore
    weights = row_loss.class_weight(op, weight, head.classes)
    head.ready()
    rows = np.flatnonzero(used_rows)
    with np.errstate(all="ignore"):
        loss = RowLoss(ids[rows], head.classes, weights, label_smoothing, z_loss, reduction)
        losses, found = read_all(head, rows, loss, progress)
        result = _result(head, row_loss.reduce(losses, used_rows, loss.own, reduction))
        if not return_lse:
            return result
        ignored = np.flatnonzero(~used_rows)
        lse = np.empty(len(ids))
        lse[rows], lse[ignored] = found, read_all(head, ignored, None, progress)[1]
        return result, _result(head, lse)


def linear_cross_entropy_with_grad(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    grad_output: ArrayLike | None = None,
    progress: bool = False,
) -> LinearCrossEntropyResult:
    r"""Return the cross-entropy of a linear layer's logits and its gradients, in three matrix products.

    .. math:: \partial z_j = w_t \, (p_j - [j = t]), \quad \partial x = \partial z \, W, \quad
        \partial W = \partial z^T x, \quad \partial b = \sum \partial z

    Parameters
    ----------
    input : array_like
        :math:`x`, shape (..., D).
    linear_weight : array_like
        :math:`W`, shape (V, D): float16, bfloat16 (ml_dtypes), float32 or float64, also a `numpy.memmap`.
    linear_bias : array_like, optional
        :math:`b`, shape (V,).
    target : array_like of int
        :math:`t`, the class of each row, of the shape of `input` without its last axis.
    weight : array_like, optional
        :math:`w`, one number a class.
    ignore_index : int, default -100
        Rows with this target contribute nothing, whatever they hold.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the weights of the targets.
    label_smoothing : float, default 0
        Share of the target that all classes have alike, from 0 to 1.
    z_loss : float, default 0
        Adds this times the square of logsumexp to the loss of each row.
    softcap : float, optional
        Makes logits c tanh(z / c) first.
    grad_output : array_like, optional
        Gradient with respect to the loss, of its shape: a number, or one for each row with "none". Default 1.
    progress : bool, default False
        Show a bar on standard error.

    Returns
    -------
    LinearCrossEntropyResult
        `loss` and `lse` as from `linear_cross_entropy`; `grad_input`, `grad_weight` and `grad_bias` (None without
        a bias), of the shapes and dtypes of what they belong to, integers being float64.

    Raises
    ------
    IndexError
        If a target is no class.
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been computed then.

    See Also
    --------
    linear_cross_entropy : The loss alone.
    cross_entropy_with_grad : Of logits in an array.

    Notes
    -----
    Accuracy: that of the matrix product, in float32, or float64 if an argument holds float64; what follows adds a few
    ULP of the loss. A softcap of float32 logits adds up to 3 ULP of each. The same bits for the same BLAS, CPU type and
    shapes.

    Special values: those of `logsumexp`, and of `cross_entropy` for losses. The mean of no rows is NaN, their sum 0.

    Gradients are those of the reduced loss, of the sum with "none". Ignored rows take no part.

    The logits of a first batch of rows, at most as many as there are features, are kept where `grad_weight` will be; of
    other rows, batches whose logits fit a budget of 256 MiB. With so many classes that fewer than 256 rows do, part of
    the logits is computed a second time.

    References
    ----------
    .. [1] Wijmans, Huval, Hertzberg, Koltun and Krahenbuhl, "Cut Your Losses in Large-Vocabulary Language Models",
       2024.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> x, w = np.eye(2, 3, dtype=np.float32), np.eye(5, 3, dtype=np.float32)
    >>> vastmax.linear_cross_entropy_with_grad(x, w, [0, 4]).grad_weight[0]
    array([-0.29769516,  0.07442379,  0.        ], dtype=float32)
    """
    op = "linear_cross_entropy_with_grad"
    ignore = row_loss.options(op, reduction, ignore_index, label_smoothing, z_loss)
    head = Head(op, input, linear_weight, linear_bias, softcap)
    ids = class_ids(op, "target", target, head.shape, head.classes, ignore).reshape(-1)
    used_rows = ids != ignore
    weights = row_loss.class_weight(op, weight, head.classes)
    outer = _outer(op, grad_output, head.shape, reduction)
    head.ready()
    rows = np.flatnonzero(used_rows)
    with np.errstate(all="ignore"):
        loss = RowLoss(ids[rows], head.classes, weights, label_smoothing, z_loss, reduction)
        slope = row_loss.slope(loss.own, reduction)
        sloping = slice(len(rows) if slope else 0)  # the mean over no weight has the gradient 0
        grads = Gradients(head, rows[sloping], loss.of(sloping), outer[used_rows][sloping] * slope)
        lse, losses = np.empty(len(ids)), np.empty(len(rows))
        if not slope:
            losses[:], lse[rows] = read_all(head, rows, loss, progress)
        for batch in grads.batches:
            losses[batch], lse[rows[batch]] = grads.add(batch, progress)
        ignored = np.flatnonzero(~used_rows)
        lse[ignored] = read_all(head, ignored, None, progress)[1]
        total = row_loss.reduce(losses, used_rows, loss.own, reduction)
        return LinearCrossEntropyResult(_result(head, total), *grads.finished(), _result(head, lse))


def linear_logsumexp(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    linear_weight: ArrayLike,
    linear_bias: ArrayLike | None = None,
    *,
    progress: bool = False,
) -> Reduced:
    r"""Return logsumexp of a linear layer's logits, which exist only a tile at a time.

    .. math:: \log \sum_j e^{z_j}, \quad z = x W^T + b

    Parameters
    ----------
    input : array_like
        :math:`x`, shape (..., D).
    linear_weight : array_like
        :math:`W`, shape (V, D): float16, bfloat16 (ml_dtypes), float32 or float64, also a `numpy.memmap`.
    linear_bias : array_like, optional
        :math:`b`, shape (V,).
    progress : bool, default False
        Show a bar on standard error.

    Returns
    -------
    scalar or ndarray
        The shape of `input` without its last axis; float64 if an argument holds float64, else float32.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    logsumexp : Of logits in an array.
    linear_cross_entropy : The loss.

    Notes
    -----
    Accuracy: that of the matrix product, in float32, or float64 if an argument holds float64; what follows adds a few
    ULP of the loss. A softcap of float32 logits adds up to 3 ULP of each. The same bits for the same BLAS, CPU type and
    shapes.

    Special values: those of `logsumexp`, and of `cross_entropy` for losses. The mean of no rows is NaN, their sum 0.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.linear_logsumexp(np.ones(3), np.zeros((1000, 3)))
    np.float64(6.907755278982137)
    """
    op = "linear_logsumexp"
    head = Head(op, input, linear_weight, linear_bias)
    head.ready()
    with np.errstate(all="ignore"):
        return _result(head, read_all(head, np.arange(len(head.inputs)), None, progress)[1])


def linear_top_k(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    linear_weight: ArrayLike,
    k: int,
    linear_bias: ArrayLike | None = None,
    *,
    progress: bool = False,
) -> tuple[Array, Array]:
    """Return the k largest of a linear layer's logits and their classes, in descending order.

    Parameters
    ----------
    input : array_like
        :math:`x`, shape (..., D).
    linear_weight : array_like
        :math:`W`, shape (V, D): float16, bfloat16 (ml_dtypes), float32 or float64, also a `numpy.memmap`.
    linear_bias : array_like, optional
        :math:`b`, shape (V,).
    k : int
        From 1 to the number of classes.
    progress : bool, default False
        Show a bar on standard error.

    Returns
    -------
    values : ndarray
        The shape of `input` with k in place of its features; float64 if an argument holds float64, else float32.
    indices : ndarray of int64
        Their classes.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    top_k : Of logits in an array.

    Notes
    -----
    Accuracy: that of the matrix product, in float32, or float64 if an argument holds float64; what follows adds a few
    ULP of the loss. A softcap of float32 logits adds up to 3 ULP of each. The same bits for the same BLAS, CPU type and
    shapes.

    Special values: those of `logsumexp`, and of `cross_entropy` for losses. The mean of no rows is NaN, their sum 0.

    Equal logits come by ascending class. NaN counts as the largest, as in a NumPy sort.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.linear_top_k([1.0], np.array([[3.0], [7.0], [5.0], [7.0]]), 3)
    (array([7., 7., 5.]), array([1, 3, 2]))
    """
    op = "linear_top_k"
    head = Head(op, input, linear_weight, linear_bias)
    count = check_int(op, "k", k, 1, head.classes, f"an int from 1 to {head.classes}, the number of classes")
    head.ready()
    values, indices = top_k(head, count, progress)
    return values.reshape(*head.shape, count), indices.reshape(*head.shape, count)


def _outer(op: str, grad_output: ArrayLike | None, shape: tuple[int, ...], reduction: str) -> F64:
    """Check the gradient of the loss, and return one number a row."""
    if grad_output is None:
        return np.ones(prod(shape))
    given = arrays.as_float_array(op, "grad_output", grad_output)
    of_loss = shape if reduction == "none" else ()
    if given.shape not in (of_loss, ()):
        raise ValueError(message(op, "grad_output", f"has shape {given.shape}", f"{of_loss}, the shape of the loss"))
    return np.broadcast_to(given.astype(np.float64), shape).reshape(-1)


def _result(head: Head, value: F64 | np.floating[Any]) -> Reduced:
    """Round to the dtype of results; one number a row takes the shape of the rows."""
    rounded = np.asarray(value).astype(head.kind)
    return arrays.scalar_or_array(rounded.reshape(head.shape) if rounded.ndim else rounded, None)
