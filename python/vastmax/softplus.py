# SPDX-License-Identifier: Apache-2.0
"""softplus, sigmoid, log_sigmoid and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsFloat

from ._core import log_sigmoid_plain, sigmoid_plain, softplus_plain
from ._docstrings import filled
from ._ops import elementwise
from ._runtime import config

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array

_ONE = 1.0


@filled
def softplus(
    x: ArrayLike, beta: SupportsFloat = _ONE, *, out: Array | None = None, dtype: DTypeLike | None = None
) -> Array:
    r"""Return the smooth form of ``max(x, 0)``, element by element.

    .. math:: y = \log(1 + e^{\beta x}) / \beta

    Parameters
    ----------
    %(x)s
    beta : float, default 1.0
        Sharpness, finite and > 0; a normal number of the type computed in.
    %(out)s
    %(dtype)s

    %(returns)s

    %(raises)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(softplus_values)s

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


@filled
def sigmoid(x: ArrayLike, *, out: Array | None = None, dtype: DTypeLike | None = None) -> Array:
    r"""Return the logistic function, element by element.

    .. math:: y = 1 / (1 + e^{-x})

    %(element_wise)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(sigmoid_values)s

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


@filled
def log_sigmoid(x: ArrayLike, *, out: Array | None = None, dtype: DTypeLike | None = None) -> Array:
    r"""Return the logarithm of the logistic function, element by element.

    .. math:: y = -\log(1 + e^{-x})

    %(element_wise)s

    Notes
    -----
    %(element_wise_accuracy)s

    %(log_sigmoid_values)s

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


@filled
def softplus_backward(
    grad_output: ArrayLike, x: ArrayLike, beta: SupportsFloat = 1.0, *, out: Array | None = None
) -> Array:
    r"""Return the gradient with respect to `x` of `softplus`.

    .. math:: \partial x = g \, / (1 + e^{-\beta x})

    Parameters
    ----------
    %(grad_output)s
    x, beta
        As given to `softplus`.
    %(gradient)s

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


@filled
def sigmoid_backward(grad_output: ArrayLike, output: ArrayLike, *, out: Array | None = None) -> Array:
    r"""Return the gradient with respect to `x` of `sigmoid`.

    .. math:: \partial x = g \, y \, (1 - y)

    Parameters
    ----------
    %(grad_output)s
    output : array_like
        :math:`y`, what `sigmoid` returned.
    %(gradient)s

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


@filled
def log_sigmoid_backward(grad_output: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    r"""Return the gradient with respect to `x` of `log_sigmoid`.

    .. math:: \partial x = g \, / (1 + e^{x})

    Parameters
    ----------
    %(grad_output)s
    x : array_like
        As given to `log_sigmoid`.
    %(gradient)s

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
