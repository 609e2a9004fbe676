# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of logits over very many classes, and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

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
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    target : array_like, or tuple of two
        :math:`q`. Integers of the shape of the logits without `axis`: the class of each row. Floats of the shape of the
        logits: a probability of every class. A tuple ``(ids, probabilities)`` of two arrays with one more axis, the
        last: that many classes of each row with their probabilities; other classes have none, and an id that comes
        twice counts twice.
    weight : array_like, optional
        :math:`w`, one for each class; 1 if not given.
    axis : int, default -1
        Axis of the :math:`K` classes.
    ignore_index : int, default -100
        A row with this target counts as nothing, whatever its logits; among the ids of a tuple it stands for no class.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the weights of the targets, :math:`s \, w`; for probabilities and tuples, by the
        sum
        of `sample_weight`. Where that is 0, the loss is NaN and its gradient 0.
    label_smoothing : float, default 0
        :math:`\epsilon`, from 0 to 1.
    z_loss : float, default 0
        :math:`\lambda \ge 0`. Not multiplied by `weight`.
    softcap : float, optional
        :math:`c > 0`, after the temperature; without it :math:`z = x / T`. A logit of -inf becomes :math:`-c`, a class
        like others: hide classes by `where`.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.
    where : array_like of bool, optional
        Broadcasts to `logits`. False entries are no classes: they take no part, whatever they hold, and get no share of
        the smoothing.
    sample_weight : array_like, optional
        :math:`s`, one for each row. A row of weight 0 counts as nothing, whatever its logits.
    return_lse : bool, default False
        Return :math:`L` of each row too.

    Returns
    -------
    loss : scalar or ndarray
        float64 for float64 logits (and what becomes float64), else float32. "none": one for each row.
    lse : scalar or ndarray
        With `return_lse`: one for each row, in the same dtype.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.
    IndexError
        If a class is out of range. The message names row, value and number of classes. Nothing has been written then.

    See Also
    --------
    cross_entropy_with_grad : Loss and gradient in one call.
    linear_cross_entropy : From features and weights, without an array of all logits.
    sampled_softmax : Over a sample of the classes.
    torch.nn.functional.cross_entropy

    Notes
    -----
    Accuracy: at most 4 ULP for the loss of a row, also near certainty. Losses are float64 until they have been summed,
    in one order. With a softcap that is for logits rounded to their dtype after it. With `z_loss` the bound is 4 ULP of
    the larger of the loss and :math:`2 \lambda |L| M`, where :math:`M` is the larger of :math:`|L|` and the largest
    :math:`|z_j|`: where :math:`L` is nearly 0, it has the rounding errors of the logits.

    Special values: a -inf logit of a class without weight adds nothing; of a target it makes the loss inf. A row with
    NaN, or of -inf alone, gives NaN, as does +inf for its own class; for other classes it gives inf. The gradient of
    such rows is NaN. A target that `where` leaves out gives inf. The mean of no rows is NaN, their sum 0, gradients are
    0.

    Semantics of `torch.nn.functional.cross_entropy`, except that classes lie along `axis`, the last one by default.

    References
    ----------
    .. [1] Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture", CVPR 2016 (label
       smoothing).
    .. [2] Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022 (z-loss).
    .. [3] Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024 (soft cap).

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
    logits : array_like
        :math:`x`, any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    target : array_like, or tuple of two
        :math:`q`. Integers of the shape of the logits without `axis`: the class of each row. Floats of the shape of the
        logits: a probability of every class. A tuple ``(ids, probabilities)`` of two arrays with one more axis, the
        last: that many classes of each row with their probabilities; other classes have none, and an id that comes
        twice counts twice.
    weight : array_like, optional
        :math:`w`, one for each class; 1 if not given.
    axis : int, default -1
        Axis of the :math:`K` classes.
    ignore_index : int, default -100
        A row with this target counts as nothing, whatever its logits; among the ids of a tuple it stands for no class.
    reduction : {"mean", "sum", "none"}, default "mean"
        "mean" divides by the sum of the weights of the targets, :math:`s \, w`; for probabilities and tuples, by the
        sum
        of `sample_weight`. Where that is 0, the loss is NaN and its gradient 0.
    label_smoothing : float, default 0
        :math:`\epsilon`, from 0 to 1.
    z_loss : float, default 0
        :math:`\lambda \ge 0`. Not multiplied by `weight`.
    softcap : float, optional
        :math:`c > 0`, after the temperature; without it :math:`z = x / T`. A logit of -inf becomes :math:`-c`, a class
        like others: hide classes by `where`.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.
    where : array_like of bool, optional
        Broadcasts to `logits`. False entries are no classes: they take no part, whatever they hold, and get no share of
        the smoothing.
    sample_weight : array_like, optional
        :math:`s`, one for each row. A row of weight 0 counts as nothing, whatever its logits.
    grad_output : array_like, optional
        The gradient is multiplied by it: a number, or one for each row with "none".
    out : ndarray, optional
        Where to write the gradient: the shape and dtype of the logits. May be `logits`.

    Returns
    -------
    CrossEntropyResult
        `loss`, as from `cross_entropy`; `grad`, of the reduced loss, in the dtype of the logits (of the wider of
        logits and probabilities); `lse`, :math:`L` of each row.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.
    IndexError
        If a class is out of range. The message names row, value and number of classes. Nothing has been written then.

    See Also
    --------
    cross_entropy : The loss alone.
    linear_cross_entropy_with_grad : From features and weights.

    Notes
    -----
    Accuracy: at most 4 ULP for the loss of a row, also near certainty. Losses are float64 until they have been summed,
    in one order. With a softcap that is for logits rounded to their dtype after it. With `z_loss` the bound is 4 ULP of
    the larger of the loss and :math:`2 \lambda |L| M`, where :math:`M` is the larger of :math:`|L|` and the largest
    :math:`|z_j|`: where :math:`L` is nearly 0, it has the rounding errors of the logits.

    Special values: a -inf logit of a class without weight adds nothing; of a target it makes the loss inf. A row with
    NaN, or of -inf alone, gives NaN, as does +inf for its own class; for other classes it gives inf. The gradient of
    such rows is NaN. A target that `where` leaves out gives inf. The mean of no rows is NaN, their sum 0, gradients are
    0.

    Accuracy of the gradient: one class as target, without smoothing: 4 ULP for each element, the target's own included,
    where :math:`p - 1` is made of the other probabilities; else 4 ULP of the larger of
    :math:`(A + 2 \lambda M) \, p_j` and :math:`a_j`, times :math:`1 - z_j^2 / c^2` with a softcap. float16 and
    bfloat16: 1 ULP of that. Probabilities and slopes of the softcap are rounded before they are multiplied: those below
    the smallest normal number of the dtype computed in have fewer digits.

    References
    ----------
    .. [1] Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture", CVPR 2016 (label
       smoothing).
    .. [2] Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways", 2022 (z-loss).
    .. [3] Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024 (soft cap).

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
