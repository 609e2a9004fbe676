# SPDX-License-Identifier: Apache-2.0
"""Drop-in replacements for functions of `scipy.special`, for real dtypes.

Names, argument order and defaults are SciPy's: the normalisers reduce all axes unless told otherwise, and the
element-wise functions take ``where=`` and ``out=(o,)`` as ufuncs do. 16-bit floats keep their dtype, integers become
float64, and an empty input is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._core import log_sigmoid_plain, sigmoid_plain
from ._operands import arrays
from ._ops import elementwise, normalizers
from ._runtime import config
from .errors import Op, message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array, Axis, Reduced

    Out = Array | tuple[Array] | None

__all__ = ["expit", "log_expit", "log_softmax", "logit", "logsumexp", "softmax", "softplus"]

_SOFTMAX = Op("softmax", "special.softmax")
_LOG_SOFTMAX = Op("log_softmax", "special.log_softmax")
_LOGSUMEXP = Op("logsumexp", "special.logsumexp")
_SOFTPLUS = Op("softplus", "special.softplus")
_EXPIT = Op("sigmoid", "special.expit")
_LOG_EXPIT = Op("log_sigmoid", "special.log_expit")
_LOGIT = Op("logit", "special.logit")


def logsumexp(
    a: ArrayLike, axis: Axis = None, b: ArrayLike | None = None, keepdims: bool = False, return_sign: bool = False
) -> Reduced | tuple[Reduced, Reduced]:
    r"""Return the logarithm of a sum of exponentials, over all axes by default.

    .. math:: \log \sum_j b_j \, e^{a_j}

    Parameters
    ----------
    a : array_like
        Logits of any shape.
    axis : int, tuple of int, or None, default None
        Axes to reduce; None means all.
    b : array_like, optional
        Weights that broadcast against `a`; may be negative. A weight of 0 removes its term.
    keepdims : bool, default False
        Keep reduced axes, with length 1.
    return_sign : bool, default False
        Return the sign of the sum too; else a negative sum gives NaN.

    Returns
    -------
    result : scalar or ndarray
        The dtype of the logits, of the wider of `a` and `b`; float64 for integers and bool.
    sign : scalar or ndarray
        With `return_sign`: -1, 0, 1 or NaN, in the dtype of the result.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    Notes
    -----
    Accuracy: that of `vastmax.logsumexp`, and one rounding more to 16 bits.

    Special values: those of `vastmax.logsumexp`.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.logsumexp([1000.0, 1000.0])
    np.float64(1000.6931471805599)
    """
    return normalizers.norm_reduce(_LOGSUMEXP, a, axis, b, keepdims, return_sign, None, None, None, None, narrow=True)


def softmax(x: ArrayLike, axis: Axis = None) -> Array:
    """Return the probabilities that belong to logits, over all axes by default.

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.

    Returns
    -------
    ndarray
        The shape and dtype of `x`; a NumPy scalar for a scalar.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    Notes
    -----
    Accuracy: at most 2 ULP in float32, 4 in float64, 1 in float16 and bfloat16, for any number of classes.

    Special values: -inf beside finite logits gives exactly 0. A row with NaN or +inf, or of -inf alone, gives
    NaN. A row that `where` empties gives zeros. One finite logit gives exactly 1. An empty row stays empty.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.softmax([[0.0, 0.0], [0.0, 0.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    return normalizers.norm_map(_SOFTMAX, x, axis, None, None, None, None)


def log_softmax(x: ArrayLike, axis: Axis = None) -> Array:
    """Return the logarithms of the probabilities that belong to logits, over all axes by default.

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.

    Returns
    -------
    ndarray
        The shape and dtype of `x`; a NumPy scalar for a scalar.

    Raises
    ------
    TypeError
        If an argument is complex, longdouble, object, text or a masked array, or otherwise of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above. Nothing has been written then.

    Notes
    -----
    Accuracy: at most 4 ULP, also near certainty, where the result is close to 0; 1 ULP in float16 and bfloat16.

    Special values: -inf beside finite logits gives -inf. A row with +inf gives NaN there and -inf elsewhere. A
    row with NaN, or of -inf alone, gives NaN. A row that `where` empties gives -inf. One finite logit gives
    exactly +0.0.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return normalizers.norm_map(_LOG_SOFTMAX, x, axis, None, None, None, None)


def softplus(x: ArrayLike, /, out: Out = None, *, where: ArrayLike = True, dtype: DTypeLike | None = None) -> Array:
    """Return ``log(1 + exp(x))``, element by element.

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    out : ndarray or tuple of one ndarray, optional
        Where to write: the shape of the result and its dtype. May be `x`.
    where : array_like of bool, default True
        Broadcasts with `x`. Where it is False, `out` stays as it is, and a new result has 0.
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

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: softplus(-0.0) = ln 2, softplus(+inf) = +inf, softplus(-inf) = 0, NaN stays. There is no threshold.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.softplus(0.0)
    np.float64(0.6931471805599453)
    """
    return _ufunc(_SOFTPLUS, x, out, where, dtype)


def expit(x: ArrayLike, /, out: Out = None, *, where: ArrayLike = True, dtype: DTypeLike | None = None) -> Array:
    """Return the logistic function ``1 / (1 + exp(-x))``, element by element.

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    out : ndarray or tuple of one ndarray, optional
        Where to write: the shape of the result and its dtype. May be `x`.
    where : array_like of bool, default True
        Broadcasts with `x`. Where it is False, `out` stays as it is, and a new result has 0.
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

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: sigmoid(+inf) = 1, sigmoid(-inf) = 0, NaN stays.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.expit(0.0)
    np.float64(0.5)
    """
    return _ufunc(_EXPIT, x, out, where, dtype, sigmoid_plain)


def log_expit(x: ArrayLike, /, out: Out = None, *, where: ArrayLike = True, dtype: DTypeLike | None = None) -> Array:
    """Return the logarithm of the logistic function, element by element.

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    out : ndarray or tuple of one ndarray, optional
        Where to write: the shape of the result and its dtype. May be `x`.
    where : array_like of bool, default True
        Broadcasts with `x`. Where it is False, `out` stays as it is, and a new result has 0.
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

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: log_sigmoid(+inf) = 0, log_sigmoid(-inf) = -inf, NaN stays.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.log_expit(-1000.0)
    np.float64(-1000.0)
    """
    return _ufunc(_LOG_EXPIT, x, out, where, dtype, log_sigmoid_plain)


def logit(x: ArrayLike, /, out: Out = None, *, where: ArrayLike = True, dtype: DTypeLike | None = None) -> Array:
    r"""Return the inverse of the logistic function, element by element.

    .. math:: y = \log(x / (1 - x))

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    out : ndarray or tuple of one ndarray, optional
        Where to write: the shape of the result and its dtype. May be `x`.
    where : array_like of bool, default True
        Broadcasts with `x`. Where it is False, `out` stays as it is, and a new result has 0.
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

    Notes
    -----
    Accuracy: at most 4 ULP in float32 and float64, 1 in float16 and bfloat16.

    Special values: logit(0) = -inf, logit(1) = +inf, and NaN outside [0, 1].

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.logit([0.0, 0.5, 1.0])
    array([-inf,   0.,  inf])
    """
    return _ufunc(_LOGIT, x, out, where, dtype)


def _ufunc(
    op: Op,
    x: ArrayLike,
    out: Out,
    where: ArrayLike,
    dtype: DTypeLike | None,
    plain: Callable[[ArrayLike, Array | None], Array | None] = lambda x, out: None,
) -> Array:
    """Run an element-wise op, called as ufuncs are; `plain` is its short road."""
    if isinstance(out, tuple):
        if len(out) != 1:
            raise ValueError(message(op, "out", f"is a tuple of {len(out)}", "an array, or a tuple of one"))
        (out,) = out
    if where is not True:
        return _where(op, x, out, where, dtype)
    if dtype is None and config.plain and config.scope.get() is None and (found := plain(x, out)) is not None:
        return found
    return elementwise.elementwise(op, x, out, dtype)


def _where(op: Op, x: ArrayLike, out: Array | None, where: ArrayLike, dtype: DTypeLike | None) -> Array:
    """Write the elements that `where` names, and no others."""
    if arrays.device_kind(x) == "cuda":
        raise TypeError(message(op, "where", "is given beside an array on a GPU", "NumPy arrays"))
    values, mask = arrays.as_float_array(op, "x", x, dtype), arrays.as_given(op, "where", where)
    if mask.dtype.kind not in "biu":
        raise TypeError(message(op, "where", f"has dtype {mask.dtype}", "bool"))
    shape = arrays.joint_shape(op, "where", mask, "x", values.shape)
    y = arrays.check_out(op, out, shape, values.dtype)
    found = elementwise.elementwise(op, values, None, None)
    if y is None:
        y = np.zeros(shape, values.dtype)
    mask = arrays.without_overlap(mask, y)
    np.copyto(y, found, where=mask.astype(bool, copy=False))
    return arrays.scalar_or_array(y, out)
