# SPDX-License-Identifier: Apache-2.0
"""Drop-in replacements for functions of `scipy.special`, for real dtypes.

Names, argument order and defaults are SciPy's: the normalisers reduce all axes unless told otherwise. 16-bit
floats keep their dtype, integers become float64, and an empty input is no error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _call
from ._docstrings import filled
from .logsumexp import logsumexp
from .softmax import log_softmax as _log_softmax
from .softmax import softmax as _softmax
from .softplus import log_sigmoid, sigmoid
from .softplus import softplus as _softplus

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array, Axis

__all__ = ["expit", "log_expit", "log_softmax", "logit", "logsumexp", "softmax", "softplus"]


@filled
def softmax(x: ArrayLike, axis: Axis = None) -> Array:
    """Return the probabilities that belong to logits, over all axes by default.

    Parameters
    ----------
    %(x)s
    %(axis)s

    Returns
    -------
    ndarray
        The shape and dtype of `x`; a NumPy scalar for a scalar.

    %(raises)s

    Notes
    -----
    %(softmax_values)s

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.softmax([[0.0, 0.0], [0.0, 0.0]])
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    return _softmax(x, axis)


@filled
def log_softmax(x: ArrayLike, axis: Axis = None) -> Array:
    """Return the logarithms of the probabilities that belong to logits, over all axes by default.

    Parameters
    ----------
    %(x)s
    %(axis)s

    Returns
    -------
    ndarray
        The shape and dtype of `x`; a NumPy scalar for a scalar.

    %(raises)s

    Notes
    -----
    %(log_softmax_values)s

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.log_softmax([1000.0, 0.0])
    array([    0., -1000.])
    """
    return _log_softmax(x, axis)


@filled
def softplus(x: ArrayLike, /, out: Array | None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Return ``log(1 + exp(x))``, element by element.

    %(element_wise)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(softplus_values)s

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.softplus(0.0)
    np.float64(0.6931471805599453)
    """
    return _softplus(x, out=out, dtype=dtype)


@filled
def expit(x: ArrayLike, /, out: Array | None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Return the logistic function ``1 / (1 + exp(-x))``, element by element.

    %(element_wise)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(sigmoid_values)s

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.expit(0.0)
    np.float64(0.5)
    """
    return sigmoid(x, out=out, dtype=dtype)


@filled
def log_expit(x: ArrayLike, /, out: Array | None = None, *, dtype: DTypeLike | None = None) -> Array:
    """Return the logarithm of the logistic function, element by element.

    %(element_wise)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(log_sigmoid_values)s

    Examples
    --------
    >>> import vastmax
    >>> vastmax.special.log_expit(-1000.0)
    np.float64(-1000.0)
    """
    return log_sigmoid(x, out=out, dtype=dtype)


@filled
def logit(x: ArrayLike, /, out: Array | None = None, *, dtype: DTypeLike | None = None) -> Array:
    r"""Return the inverse of the logistic function, element by element.

    .. math:: y = \log(x / (1 - x))

    %(element_wise)s

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
    return _call.elementwise("logit", x, out, dtype)
