# SPDX-License-Identifier: Apache-2.0
"""Binary cross-entropy of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from ._ops import elementwise

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Reduced


@overload
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = ...,
    *,
    pos_weight: ArrayLike | None = ...,
    reduction: str = ...,
    return_grad: Literal[False] = ...,
) -> Reduced: ...
@overload
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = ...,
    *,
    pos_weight: ArrayLike | None = ...,
    reduction: str = ...,
    return_grad: Literal[True],
) -> tuple[Reduced, Array]: ...
@overload
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = ...,
    *,
    pos_weight: ArrayLike | None = ...,
    reduction: str = ...,
    return_grad: bool = ...,
) -> Reduced | tuple[Reduced, Array]: ...
def binary_cross_entropy_with_logits(
    input: ArrayLike,  # noqa: A002 - PyTorch's name
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    pos_weight: ArrayLike | None = None,
    reduction: str = "mean",
    return_grad: bool = False,
) -> Reduced | tuple[Reduced, Array]:
    r"""Return the cross-entropy between `target` and the sigmoid of `input`, and its gradient if asked.

    .. math:: \ell_i = w_i \, [\, p_i \, t_i \, \log(1 + e^{-x_i}) + (1 - t_i) \log(1 + e^{x_i}) \,]

    Parameters
    ----------
    input : array_like
        :math:`x`, logits of any shape; dtypes as in `softmax`.
    target : array_like
        :math:`t`, of the same shape, usually in [0, 1]. Integers and bool take the dtype of `input`.
    weight, pos_weight : array_like, optional
        :math:`w` of the elements and :math:`p` of positive targets. Both broadcast to `input`. An element of weight 0
        counts as nothing, whatever its logit.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the number of elements.
    return_grad : bool, default False
        Return the gradient of the reduced loss with respect to `input` too, made in the same read; for "none",
        that of each element's own loss.

    Returns
    -------
    loss : scalar or ndarray
        float64 for float64 logits (and what becomes float64), else float32.
    grad : ndarray
        With `return_grad`: the shape and dtype of `input`. Where the dtypes of the arguments differ, the widest.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    cross_entropy : The loss of classes that exclude each other.
    log_sigmoid : Log-probabilities.
    torch.nn.functional.binary_cross_entropy_with_logits

    Notes
    -----
    Accuracy: at most 8 ULP for each element, and for the sum and the mean of elements of one sign. A subnormal loss is
    rounded before it is multiplied with weights.

    Special values: no finite logit overflows. One infinite loss makes the sum and the mean infinite. The mean of no
    elements is NaN, their sum 0. NaN stays.

    Semantics of `torch.nn.functional.binary_cross_entropy_with_logits`.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> x = np.zeros(4, np.float32)
    >>> vastmax.binary_cross_entropy_with_logits(x, [0, 1, 1, 0])
    np.float32(0.6931472)
    >>> loss, grad = vastmax.binary_cross_entropy_with_logits(x, [0, 1, 1, 0], return_grad=True)
    >>> grad
    array([ 0.125, -0.125, -0.125,  0.125], dtype=float32)
    """
    return elementwise.elementwise_loss(
        "binary_cross_entropy_with_logits", input, target, weight, pos_weight, reduction, return_grad
    )
