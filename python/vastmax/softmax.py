# SPDX-License-Identifier: Apache-2.0
"""softmax, log_softmax and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._core import log_softmax_plain, softmax_plain
from ._docstrings import filled
from ._ops import normalizers
from ._runtime import config

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array, Axis

_LAST = -1


@filled
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
    %(x)s
    %(axis)s
    %(temperature)s
    where : array_like of bool, optional
        Broadcasts to `x`. False entries take no part, whatever they hold, and get 0.
    %(out)s
    %(dtype)s

    %(returns)s

    %(raises)s

    Notes
    -----
    %(softmax_values)s

    Maximum and sum are found in one read (Milakov and Gimelshein, "Online normalizer calculation for softmax",
    2018), block by block in an order that no thread count, batch, stride or instruction set changes.

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


@filled
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
    %(x)s
    %(axis)s
    %(temperature)s
    where : array_like of bool, optional
        Broadcasts to `x`. False entries take no part, whatever they hold, and get -inf.
    %(out)s
    %(dtype)s

    %(returns)s

    %(raises)s

    Notes
    -----
    %(log_softmax_values)s

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


@filled
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
    %(grad_output)s
    output : array_like
        :math:`y`, what `softmax` returned.
    axis, temperature
        As given to `softmax`.
    %(gradient)s

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


@filled
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
    %(grad_output)s
    output : array_like
        :math:`y`, what `log_softmax` returned.
    axis, temperature
        As given to `log_softmax`.
    %(gradient)s

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
