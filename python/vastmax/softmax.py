# SPDX-License-Identifier: Apache-2.0
"""softmax, log_softmax and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import log_softmax_plain, softmax_plain
from ._ops import normalizers
from ._runtime import config

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array, Axis

_LAST = -1


def softmax(
    x: ArrayLike,
    axis: Axis = _LAST,
    *,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Return the probabilities that belong to logits, along `axis`.

    .. math:: y_i = e^{x_i / T} \big/ \sum_j e^{x_j / T}

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.
    where : array_like of bool, optional
        Broadcasts to `x`. False entries take no part, whatever they hold, and get 0.
    out : ndarray, optional
        Where to write: the shape of `x` and the dtype of the result. May be `x`.
    dtype : dtype, optional
        Converts the input first: float16, bfloat16, float32 or float64.

    Returns
    -------
    ndarray
        The shape and dtype of `x`; `out` if given; a NumPy scalar for a scalar.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    log_softmax : Its logarithm, without cancellation.
    logsumexp : The logarithm of the denominator.
    softmax_backward : Its gradient.
    scipy.special.softmax, torch.nn.functional.softmax

    Notes
    -----
    Accuracy: at most 2 ULP in float32, 4 in float64, 1 in float16 and bfloat16, for any number of classes.

    Special values: -inf beside finite logits gives exactly 0. A row with NaN or +inf, or of -inf alone, gives
    NaN. A row that `where` empties gives zeros. One finite logit gives exactly 1. An empty row stays empty.

    Maximum and sum are found in one read [1]_, block by block in an order that no thread count, batch, stride or
    instruction set changes.

    References
    ----------
    .. [1] Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
    .. [2] Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", IMA J. Numer.
       Anal. 2021.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.softmax([0.0, 0.0, float("-inf")])
    array([0.5, 0.5, 0. ])
    >>> vastmax.softmax(np.full((2, 4), 1000, np.float32))
    array([[0.25, 0.25, 0.25, 0.25],
           [0.25, 0.25, 0.25, 0.25]], dtype=float32)
    >>> vastmax.softmax([5.0, 1.0, 5.0], where=[True, False, True])
    array([0.5, 0. , 0.5])
    """
    if (
        axis is _LAST  # the default, or any other -1: small ints are one object
        and temperature is None
        and where is None
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := softmax_plain(x, out)) is not None
    ):
        return plain
    return normalizers.norm_map("softmax", x, axis, temperature, where, out, dtype)


def log_softmax(
    x: ArrayLike,
    axis: Axis = _LAST,
    *,
    temperature: ArrayLike | None = None,
    where: ArrayLike | None = None,
    out: Array | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    r"""Return the logarithms of the probabilities that belong to logits, along `axis`.

    .. math:: y_i = x_i / T - \log \sum_j e^{x_j / T}

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.
    temperature : array_like, optional
        :math:`T`: a number, an array that broadcasts to the shape of the logits with `axis` of length 1, or one
        number for each row. Finite and > 0. Divides the logits first.
    where : array_like of bool, optional
        Broadcasts to `x`. False entries take no part, whatever they hold, and get -inf.
    out : ndarray, optional
        Where to write: the shape of `x` and the dtype of the result. May be `x`.
    dtype : dtype, optional
        Converts the input first: float16, bfloat16, float32 or float64.

    Returns
    -------
    ndarray
        The shape and dtype of `x`; `out` if given; a NumPy scalar for a scalar.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    softmax : The probabilities themselves.
    selective_log_softmax : The log-probabilities of a few classes.
    log_softmax_backward : Its gradient.
    scipy.special.log_softmax, torch.nn.functional.log_softmax

    Notes
    -----
    Accuracy: at most 4 ULP, also near certainty, where the result is close to 0; 1 ULP in float16 and bfloat16.

    Special values: -inf beside finite logits gives -inf. A row with +inf gives NaN there and -inf elsewhere. A
    row with NaN, or of -inf alone, gives NaN. A row that `where` empties gives -inf. One finite logit gives
    exactly +0.0.

    The sum is carried over all but one largest logit and finished with log1p, so that nothing cancels.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.log_softmax([40.0, 0.0])
    array([-4.24835426e-18, -4.00000000e+01])
    >>> vastmax.log_softmax([7.0])
    array([0.])
    """
    if (
        axis is _LAST
        and temperature is None
        and where is None
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := log_softmax_plain(x, out)) is not None
    ):
        return plain
    return normalizers.norm_map("log_softmax", x, axis, temperature, where, out, dtype)


def softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Return the gradient with respect to the logits of `softmax`.

    .. math:: \partial x_i = y_i \, (g_i - \sum_j g_j y_j) / T

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result of the forward op, of its shape.
    output : array_like
        :math:`y`, what `softmax` returned.
    axis, temperature
        As given to `softmax`.
    out : ndarray, optional
        Where to write: the shape and dtype of the result. May be either input.

    Returns
    -------
    ndarray
        The shape of the inputs. Where their dtypes differ, the wider.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    softmax : The forward function.
    logsumexp_backward : A gradient that needs no stored probabilities.

    Notes
    -----
    Accuracy: at most 4 ULP of :math:`|y| \max(|g|, |\langle g, y \rangle|)`; 1 in float16 and bfloat16.

    Special values: NaN in a row makes all of the row NaN.

    PyTorch calls this ``torch._softmax_backward_data``.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.softmax_backward([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    return normalizers.row_grad("softmax_backward", grad_output, output, axis, temperature, out)


def log_softmax_backward(
    grad_output: ArrayLike,
    output: ArrayLike,
    axis: Axis = -1,
    *,
    temperature: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    r"""Return the gradient with respect to the logits of `log_softmax`.

    .. math:: \partial x_i = (g_i - e^{y_i} \sum_j g_j) / T

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result of the forward op, of its shape.
    output : array_like
        :math:`y`, what `log_softmax` returned.
    axis, temperature
        As given to `log_softmax`.
    out : ndarray, optional
        Where to write: the shape and dtype of the result. May be either input.

    Returns
    -------
    ndarray
        The shape of the inputs. Where their dtypes differ, the wider.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    See Also
    --------
    log_softmax : The forward function.
    cross_entropy_with_grad : Loss and gradient in one call.

    Notes
    -----
    Accuracy: at most 4 ULP of :math:`\max(|g_i|, e^{y_i} |\sum_j g_j|)`; 1 in float16 and bfloat16.

    Special values: -inf in `output` gives the gradient :math:`g_i / T` there.

    PyTorch calls this ``torch._log_softmax_backward_data``.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.log_softmax_backward([1.0, 0.0], vastmax.log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return normalizers.row_grad("log_softmax_backward", grad_output, output, axis, temperature, out)
