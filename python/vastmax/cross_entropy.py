# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of logits over very many classes, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from ._docstrings import filled
from ._ops import losses
from ._ops.results import CrossEntropyResult

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Reduced
    from ._operands.targets import TargetLike

__all__ = ["CrossEntropyResult", "cross_entropy", "cross_entropy_with_grad"]


@overload
def cross_entropy(
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None = ...,
    *,
    axis: int = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    softcap: float | None = ...,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    return_lse: Literal[False] = ...,
) -> Reduced: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None = ...,
    *,
    axis: int = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    softcap: float | None = ...,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    return_lse: Literal[True],
) -> tuple[Reduced, Reduced]: ...
@overload
def cross_entropy(
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None = ...,
    *,
    axis: int = ...,
    ignore_index: int = ...,
    reduction: str = ...,
    label_smoothing: float = ...,
    z_loss: float = ...,
    softcap: float | None = ...,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    sample_weight: ArrayLike | None = ...,
    return_lse: bool = ...,
) -> Reduced | tuple[Reduced, Reduced]: ...
@filled
def cross_entropy(
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None = None,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    return_lse: bool = False,
) -> Reduced | tuple[Reduced, Reduced]:
    r"""Return the cross-entropy between a target and the softmax of logits, in one read of the logits.

    .. math:: \ell = s \, \Bigl[\, \sum_j a_j \, (L - z_j) + \lambda \, L^2 \,\Bigr], \quad
              L = \log \sum_j e^{z_j}, \quad z_j = c \tanh \frac{x_j / T}{c}, \quad
              a_j = w_j \, \bigl[\, (1 - \epsilon) \, q_j + \epsilon / K \,\bigr]

    Parameters
    ----------
    %(logits)s
    %(cross_entropy_target)s
    %(cross_entropy_options)s
    return_lse : bool, default False
        Return :math:`L` of each row too.

    Returns
    -------
    loss : scalar or ndarray
        float64 for float64 logits (and what becomes float64), else float32. "none": one for each row.
    lse : scalar or ndarray
        With `return_lse`: one for each row, in the same dtype.

    %(target_raises)s

    Notes
    -----
    %(cross_entropy_notes)s

    Semantics of `torch.nn.functional.cross_entropy`, except that classes lie along `axis`, the last one by default.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> logits = np.zeros((3, 4), np.float32)
    >>> vastmax.cross_entropy(logits, [0, 3, -100])
    np.float32(1.3862944)
    >>> vastmax.cross_entropy(logits, [0, 3, -100], reduction="none")
    array([1.3862944, 1.3862944, 0.       ], dtype=float32)
    >>> vastmax.cross_entropy([40.0, 0.0], 0)
    np.float64(4.248354255291589e-18)
    >>> vastmax.cross_entropy(logits[:1], (np.array([[1, 2]]), np.array([[0.75, 0.25]])))
    np.float32(1.3862944)
    """
    result = losses.cross_entropy(
        "cross_entropy",
        logits,
        target,
        weight,
        axis,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        where,
        sample_weight,
        return_lse=return_lse,
    )
    return (result.loss, result.lse) if return_lse else result.loss


@filled
def cross_entropy_with_grad(
    logits: ArrayLike,
    target: TargetLike,
    weight: ArrayLike | None = None,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    grad_output: ArrayLike | None = None,
    out: Array | None = None,
) -> CrossEntropyResult:
    r"""Return the cross-entropy and its gradient with respect to the logits, in two reads and one write.

    .. math:: \frac{\partial \ell}{\partial x_j} =
              \frac{s}{T} \, \bigl[\, (A + 2 \lambda L) \, p_j - a_j \,\bigr] \, \Bigl(1 - \frac{z_j^2}{c^2}\Bigr),
              \quad A = \sum_j a_j

    The symbols are those of `cross_entropy`.

    Parameters
    ----------
    %(logits)s
    %(cross_entropy_target)s
    %(cross_entropy_options)s
    grad_output : array_like, optional
        The gradient is multiplied by it: a number, or one for each row with "none".
    out : ndarray, optional
        Where to write the gradient: the shape and dtype of the logits. May be `logits`.

    Returns
    -------
    CrossEntropyResult
        `loss`, as from `cross_entropy`; `grad`, of the reduced loss, in the dtype of the logits (of the wider of
        logits and probabilities); `lse`, :math:`L` of each row.

    %(target_raises)s

    Notes
    -----
    %(cross_entropy_notes)s

    Accuracy of the gradient: one class as target, without smoothing: 4 ULP for each element, the target's own included,
    where :math:`p - 1` is made of the other probabilities; else 4 ULP of the larger of
    :math:`(A + 2 \lambda M) \, p_j` and :math:`a_j`, times :math:`1 - z_j^2 / c^2` with a softcap. float16 and
    bfloat16: 1 ULP of that. Probabilities and slopes of the softcap are rounded before they are multiplied: those below
    the smallest normal number of the dtype computed in have fewer digits.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> logits = np.array([[20, 0]], np.float32)
    >>> vastmax.cross_entropy_with_grad(logits, [0], out=logits).grad
    array([[-2.0611537e-09,  2.0611537e-09]], dtype=float32)
    >>> logits
    array([[-2.0611537e-09,  2.0611537e-09]], dtype=float32)
    """
    return losses.cross_entropy(
        "cross_entropy_with_grad",
        logits,
        target,
        weight,
        axis,
        ignore_index,
        reduction,
        label_smoothing,
        z_loss,
        softcap,
        temperature,
        where,
        sample_weight,
        grad_output,
        out,
        return_lse=True,
    )
