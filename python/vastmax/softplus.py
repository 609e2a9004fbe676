# SPDX-License-Identifier: Apache-2.0
"""softplus, sigmoid, log_sigmoid and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsFloat

from ._core import log_sigmoid_plain, sigmoid_plain, softplus_plain
from ._ops import elementwise
from ._runtime import config

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array

_ONE = 1.0


def softplus(
    x: ArrayLike, beta: SupportsFloat = _ONE, *, out: Array | None = None, dtype: DTypeLike | None = None
) -> Array:
    r"""Return the smooth form of ``max(x, 0)``, element by element.

    .. math:: y = \log(1 + e^{\beta x}) / \beta

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
    beta : float, default 1.0
        Sharpness, finite and > 0; a normal number of the type computed in.
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
    sigmoid : Its derivative.
    log_sigmoid : The negative of softplus(-x).
    softplus_backward : Its gradient.
    torch.nn.functional.softplus

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: softplus(-0.0) = ln 2, softplus(+inf) = +inf, softplus(-inf) = 0, NaN stays. There is no threshold.

    Signature as in PyTorch, whose `threshold` is not needed here.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.softplus([float("-inf"), 0.0, 1000.0])
    array([0.00000000e+00, 6.93147181e-01, 1.00000000e+03])
    """
    if (
        beta is _ONE
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := softplus_plain(x, out)) is not None
    ):
        return plain
    return elementwise.elementwise("softplus", x, out, dtype, beta)


def sigmoid(x: ArrayLike, *, out: Array | None = None, dtype: DTypeLike | None = None) -> Array:
    r"""Return the logistic function, element by element.

    .. math:: y = 1 / (1 + e^{-x})

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
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
    log_sigmoid : Its logarithm.
    softplus : Its integral.
    scipy.special.expit, torch.sigmoid

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: sigmoid(+inf) = 1, sigmoid(-inf) = 0, NaN stays.

    `scipy.special.expit` and `torch.sigmoid` are the same function.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.sigmoid([float("-inf"), 0.0, float("inf")])
    array([0. , 0.5, 1. ])
    """
    if (
        out is None
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := sigmoid_plain(x, out)) is not None
    ):
        return plain
    return elementwise.elementwise("sigmoid", x, out, dtype)


def log_sigmoid(x: ArrayLike, *, out: Array | None = None, dtype: DTypeLike | None = None) -> Array:
    r"""Return the logarithm of the logistic function, element by element.

    .. math:: y = -\log(1 + e^{-x})

    Parameters
    ----------
    x : array_like
        Any shape. float16, bfloat16 (ml_dtypes), float32 and float64 keep their dtype; bool, integers and
        Python numbers become float64.
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
    sigmoid : The probability itself.
    binary_cross_entropy_with_logits : A loss made of it.
    scipy.special.log_expit, torch.nn.functional.logsigmoid

    Notes
    -----
    Accuracy: at most 1 ULP in float32, 2 in float64, 1 in float16 and bfloat16, into the subnormals.

    Special values: log_sigmoid(+inf) = 0, log_sigmoid(-inf) = -inf, NaN stays.

    `scipy.special.log_expit` and `torch.nn.functional.logsigmoid` are the same function.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.log_sigmoid([-1000.0, 0.0])
    array([-1.00000000e+03, -6.93147181e-01])
    """
    if (
        out is None
        and dtype is None
        and config.plain
        and config.scope.get() is None
        and (plain := log_sigmoid_plain(x, out)) is not None
    ):
        return plain
    return elementwise.elementwise("log_sigmoid", x, out, dtype)


def softplus_backward(
    grad_output: ArrayLike, x: ArrayLike, beta: SupportsFloat = 1.0, *, out: Array | None = None
) -> Array:
    r"""Return the gradient with respect to `x` of `softplus`.

    .. math:: \partial x = g \, / (1 + e^{-\beta x})

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result of the forward op, of its shape.
    x, beta
        As given to `softplus`.
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
    softplus : The forward function.

    Notes
    -----
    Accuracy: that of `sigmoid`, and one rounding more.

    Special values: at +inf the gradient is :math:`g`, at -inf 0.

    The derivative of softplus is the logistic function.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.softplus_backward([1.0, 2.0], [0.0, 0.0])
    array([0.5, 1. ])
    """
    return elementwise.elementwise_grad("softplus_backward", grad_output, "x", x, out, beta)


def sigmoid_backward(grad_output: ArrayLike, output: ArrayLike, *, out: Array | None = None) -> Array:
    r"""Return the gradient with respect to `x` of `sigmoid`.

    .. math:: \partial x = g \, y \, (1 - y)

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result of the forward op, of its shape.
    output : array_like
        :math:`y`, what `sigmoid` returned.
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
    sigmoid : The forward function.

    Notes
    -----
    Accuracy: a few ULP of the formula at the given `output`.

    Special values: where `output` is 0 or 1 the gradient is 0.

    Takes the output, as PyTorch's autograd does. Where 1 - y has lost what matters, use the gradient of
    `binary_cross_entropy_with_logits` instead.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.sigmoid_backward([1.0, 4.0], [0.5, 0.5])
    array([0.25, 1.  ])
    """
    return elementwise.elementwise_grad("sigmoid_backward", grad_output, "output", output, out)


def log_sigmoid_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    r"""Return the gradient with respect to `x` of `log_sigmoid`.

    .. math:: \partial x = g \, / (1 + e^{x})

    Parameters
    ----------
    grad_output : array_like
        :math:`g`, the gradient with respect to the result of the forward op, of its shape.
    x : array_like
        As given to `log_sigmoid`.
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
    log_sigmoid : The forward function.

    Notes
    -----
    Accuracy: that of `sigmoid`, and one rounding more.

    Special values: at +inf the gradient is 0, at -inf :math:`g`.

    Takes the input: the output has lost what matters where it rounds to 0.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.log_sigmoid_backward([1.0, 2.0], [0.0, float("inf")])
    array([0.5, 0. ])
    """
    return elementwise.elementwise_grad("log_sigmoid_backward", grad_output, "x", x, out)
