# SPDX-License-Identifier: Apache-2.0
"""logsumexp and its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from ._core import logsumexp_plain
from ._ops import normalizers
from ._runtime import config

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array, Axis, Reduced

_LAST = -1


@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    return_sign: Literal[False] = ...,
    *,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    out: Array | None = ...,
    dtype: DTypeLike | None = ...,
) -> Reduced: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    *,
    return_sign: Literal[True],
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    out: Array | None = ...,
    dtype: DTypeLike | None = ...,
) -> tuple[Reduced, Reduced]: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis,
    b: ArrayLike | None,
    keepdims: bool,
    return_sign: Literal[True],
    *,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    out: Array | None = ...,
    dtype: DTypeLike | None = ...,
) -> tuple[Reduced, Reduced]: ...
@overload
def logsumexp(
    a: ArrayLike,
    axis: Axis = ...,
    b: ArrayLike | None = ...,
    keepdims: bool = ...,
    return_sign: bool = ...,
    *,
    temperature: ArrayLike | None = ...,
    where: ArrayLike | None = ...,
    out: Array | None = ...,
    dtype: DTypeLike | None = ...,
) -> Reduced | tuple[Reduced, Reduced]: ...
def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    *,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
) -> Reduced | tuple[Reduced, Reduced]:
    r"""Return the logarithm of a sum of exponentials, in one read of the logits.

    .. math:: \log \sum_j b_j \, e^{a_j / T}

    Parameters
    ----------
    a : array_like
        Logits of any shape. float16, bfloat16 (ml_dtypes), float32 and float64 are taken as they are; bool, integers
        and Python numbers become float64.
    axis : int, tuple of int, or None, default None
        Axes to reduce; None means all.
    b : array_like, optional
        Weights that broadcast against `a`; may be negative. A weight of 0 removes its term.
    keepdims : bool, default False
        Keep reduced axes, with length 1.
    return_sign : bool, default False
        Return the sign of the sum too; else a negative sum gives NaN.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.
    dtype : dtype, optional
        Converts the input first: float16, bfloat16, float32 or float64.
    where : array_like of bool, optional
        Broadcasts to `a` (and `b`). False entries take no part, whatever they hold.
    out : ndarray, optional
        Where to write the result: its shape and dtype.

    Returns
    -------
    result : scalar or ndarray
        float64 for float64 logits (and what becomes float64), else float32; `out` if given.
    sign : scalar or ndarray
        With `return_sign`: -1, 0, 1 or NaN, in the dtype of the result.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    LogSumExp : For logits that come in chunks.
    log_softmax : Logits less this.
    logsumexp_backward : Its gradient.
    scipy.special.logsumexp, torch.logsumexp

    Notes
    -----
    Accuracy: at most 1 ULP (float64: 2) of the largest of the result, the logits and 1/2, in magnitude. Where the
    largest logit is exactly 0: 4 ULP of the result. Where weights of either sign cancel, these bounds grow by the ratio
    of the sum of the terms' magnitudes to that of the sum.

    Special values: a row of -inf alone, emptied by `where` or `b`, or without elements gives -inf; +inf gives
    +inf; NaN gives NaN. Exact cancellation gives -inf with sign 0, and +inf with weight -1 gives +inf with sign
    -1.

    Signature and weights follow `scipy.special.logsumexp`.

    References
    ----------
    .. [1] Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer.
       Anal. 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.logsumexp([1000.0, 1000.0])
    np.float64(1000.6931471805599)
    >>> vastmax.logsumexp(np.zeros((2, 1), np.float32), axis=-1)
    array([0., 0.], dtype=float32)
    >>> vastmax.logsumexp([3.0, 3.0], b=[1.0, -2.0], return_sign=True)
    (np.float64(3.0), np.float64(-1.0))
    """
    if (
        (axis is None or axis is _LAST)
        and b is None
        and keepdims is False
        and return_sign is False
        and temperature is None
        and where is None
        and out is None
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := logsumexp_plain(a, axis is None)) is not None
    ):
        return plain
    return normalizers.norm_reduce("logsumexp", a, axis, b, keepdims, return_sign, temperature, where, out, dtype)


def logsumexp_backward(
    grad_output: ArrayLike,
    a: ArrayLike,
    axis: Axis = None,
    *,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Return the gradient with respect to the logits of `logsumexp` without weights.

    .. math:: \partial a_i = g \, \mathrm{softmax}(a / T)_i / T

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result, of its shape with or without `keepdims`.
    a, axis, temperature, where
        As given to `logsumexp`.
    out : ndarray, optional
        Where to write: the shape and dtype of the gradient. May be `a`.

    Returns
    -------
    ndarray
        The shape of `a`, and its dtype unless `grad_output` holds float64.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    logsumexp : The forward function.
    softmax : This gradient where `grad_output` is 1.

    Notes
    -----
    Accuracy: that of `softmax`, and one rounding more.

    Special values: a row of -inf alone has gradient 0, and so have entries that `where` hides.

    The logits are read once, twice for rows that do not fit the cache; probabilities are not stored.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.logsumexp_backward(1.0, [2.0, 2.0, float("-inf")])
    array([0.5, 0.5, 0. ])
    """
    return normalizers.norm_grad("logsumexp_backward", grad_output, a, axis, temperature, where, out)
