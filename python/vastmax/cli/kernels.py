# SPDX-License-Identifier: Apache-2.0
"""Every kernel: how to call it, inputs made from logits and a gradient, what it should give, and its error bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax
from vastmax import special

from . import exact
from .exact import wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .exact import Array, Long, Truth

    Inputs = tuple[Array, ...]
    Bounds = dict[str, float]

TEMPERATURE = 0.7
_ULP_1_2: Bounds = {"float16": 1, "bfloat16": 1, "float32": 1, "float64": 2}
_ULP_2_3: Bounds = {"float16": 1, "bfloat16": 1, "float32": 2, "float64": 3}
_ULP_2_4: Bounds = {"float16": 1, "bfloat16": 1, "float32": 2, "float64": 4}
_ULP_3_5: Bounds = {"float16": 1, "bfloat16": 1, "float32": 3, "float64": 5}
_ULP_4: Bounds = {"float16": 1, "bfloat16": 1, "float32": 4, "float64": 4}
_ULP_8: Bounds = {"float16": 1, "bfloat16": 1, "float32": 8, "float64": 8}


@dataclass(frozen=True)
class Kernel:
    """One function in one way of calling it."""

    name: str
    prepare: Callable[[Array, Array], Inputs]  # of logits and a gradient, both of the dtype
    run: Callable[..., Array]  # of the axis and the inputs
    truth: Callable[..., Truth]  # of the name of the dtype and the widened inputs
    bounds: Bounds  # ULP, by the dtype of the result
    by_rows: bool = True
    special: bool = True  # what it gives for nan and inf is settled


def _logits(x: Array, _: Array) -> Inputs:
    return (x,)


def _both(x: Array, g: Array) -> Inputs:
    return x, g


def _probabilities(x: Array, g: Array) -> Inputs:
    return g, exact.softmax(wide(x)).value.astype(np.float64).astype(x.dtype)


def _log_probabilities(x: Array, g: Array) -> Inputs:
    return g, exact.log_softmax(wide(x)).value.astype(np.float64).astype(x.dtype)


def _squashed(x: Array) -> Array:
    return exact.sigmoid(wide(x)).value.astype(np.float64).astype(x.dtype)


def _accumulates_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _one_gradient_per_row(x: Array, g: Array) -> Inputs:
    return g[:, 0].astype(_accumulates_in(x.dtype)), x


def _weights(x: Array, g: Array) -> Inputs:
    return x, np.clip(np.abs(g), 0.125, 8).astype(x.dtype)


def _kept(g: Array) -> NDArray[np.bool_]:
    return np.greater(g, -1.5)


def _quotient(dtype: str, x: Long) -> Long:
    """Divided by the temperature, rounded once to the dtype computed in."""
    if dtype == "float64":
        return (x.astype(np.float64) / TEMPERATURE).astype(np.longdouble)
    return (x / np.longdouble(TEMPERATURE)).astype(np.float32).astype(np.longdouble)


def _masked_run(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda axis, x, g: function(x, axis, where=_kept(g), temperature=TEMPERATURE)


def _masked_truth(function: Callable[[Long], Truth], fill: float) -> Callable[..., Truth]:
    def truth(dtype: str, x: Long, g: Long) -> Truth:
        kept = _kept(g)
        value, scale = function(np.where(kept, _quotient(dtype, x), -np.inf))
        if value.ndim == x.ndim:
            value = np.where(kept, value, fill)
        return exact.Truth(value, np.where(np.isnan(scale), 0, scale))

    return truth


def _normalisers() -> list[Kernel]:
    made = []
    for function, truth, fill, bounds in (
        (vastmax.softmax, exact.softmax, 0.0, _ULP_2_4),
        (vastmax.log_softmax, exact.log_softmax, -np.inf, _ULP_4),
        (vastmax.logsumexp, exact.logsumexp, -np.inf, _ULP_1_2),
    ):
        name = function.__name__
        made.append(Kernel(name, _logits, _along(function), _of_values(truth), bounds))
        made.append(
            Kernel(f"{name} where= temperature=", _both, _masked_run(function), _masked_truth(truth, fill), bounds)
        )
    return made


def _along(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda axis, *inputs: function(*inputs, axis)


def _of_values(truth: Callable[..., Truth]) -> Callable[..., Truth]:
    return lambda _, *inputs: truth(*inputs)


def _rows_with_gradients() -> list[Kernel]:
    return [
        Kernel(
            "logsumexp b=",
            _weights,
            lambda axis, x, b: vastmax.logsumexp(x, axis, b),
            _of_values(exact.logsumexp_weighted),
            _ULP_4,
            special=False,
        ),
        Kernel(
            "logsumexp_backward",
            _one_gradient_per_row,
            lambda axis, g, x: vastmax.logsumexp_backward(g, x, axis),
            lambda dtype, g, x: exact.times(g[:, None], exact.softmax(x).value, dtype),
            _ULP_3_5,
            special=False,
        ),
        Kernel(
            "softmax_backward",
            _probabilities,
            _along(vastmax.softmax_backward),
            _of_values(exact.softmax_backward),
            _ULP_4,
            special=False,
        ),
        Kernel(
            "log_softmax_backward",
            _log_probabilities,
            _along(vastmax.log_softmax_backward),
            _of_values(exact.log_softmax_backward),
            _ULP_4,
            special=False,
        ),
    ]


def _bce_prepare(x: Array, g: Array) -> Inputs:
    return x, _squashed(g)


def _bce_gradient(_: int, x: Array, t: Array) -> Array:
    return vastmax.binary_cross_entropy_with_logits(x, t, reduction="sum", return_grad=True)[1]


def _bce_loss(_: int, x: Array, t: Array) -> Array:
    return np.asarray(vastmax.binary_cross_entropy_with_logits(x, t, reduction="none"))


def _element_wise() -> list[Kernel]:
    plain = (
        ("softplus", vastmax.softplus, exact.softplus, _logits, _ULP_1_2),
        ("sigmoid", vastmax.sigmoid, exact.sigmoid, _logits, _ULP_1_2),
        ("log_sigmoid", vastmax.log_sigmoid, exact.log_sigmoid, _logits, _ULP_1_2),
        ("logit", special.logit, exact.logit, lambda x, _: (_squashed(x),), _ULP_4),
    )
    gradients = (
        ("softplus_backward", vastmax.softplus_backward, exact.sigmoid, lambda x, g: (g, x), _ULP_2_3),
        (
            "sigmoid_backward",
            vastmax.sigmoid_backward,
            lambda y: exact.Truth(y * (1 - y), y),
            lambda x, g: (g, _squashed(x)),
            _ULP_4,
        ),
        (
            "log_sigmoid_backward",
            vastmax.log_sigmoid_backward,
            lambda x: exact.sigmoid(-x),
            lambda x, g: (g, x),
            _ULP_2_3,
        ),
    )
    return [
        *(Kernel(name, prepare, _each(f), _of_values(truth), ulp, False) for name, f, truth, prepare, ulp in plain),
        *(Kernel(name, prepare, _each(f), _product(slope), ulp, False) for name, f, slope, prepare, ulp in gradients),
        Kernel("binary_cross_entropy", _bce_prepare, _bce_loss, _of_values(exact.bce), _ULP_8, False, False),
        Kernel(
            "binary_cross_entropy gradient",
            _bce_prepare,
            _bce_gradient,
            _of_values(exact.bce_gradient),
            _ULP_8,
            False,
            False,
        ),
    ]


def _each(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda _, *inputs: function(*inputs)


def _product(slope: Callable[[Long], Truth]) -> Callable[..., Truth]:
    return lambda dtype, g, x: exact.times(g, slope(x).value, dtype)


def _targets(x: Array, axis: int) -> NDArray[np.intp]:
    """Return the class in the middle for each row."""
    rows = np.delete(x.shape, axis)
    return np.full(rows, x.shape[axis] // 2)


def _of_targets(function: Callable[[Long], Truth], sign: int = 1) -> Callable[..., Truth]:
    def truth(_: str, x: Long) -> Truth:
        value, scale = (part[..., x.shape[-1] // 2] for part in function(x))
        return exact.Truth(sign * value, scale)

    return truth


def _losses_and_statistics() -> list[Kernel]:
    return [
        Kernel(
            "cross_entropy",
            _logits,
            lambda axis, x: np.asarray(vastmax.cross_entropy(x, _targets(x, axis), axis=axis, reduction="none")),
            _of_targets(exact.log_softmax, -1),
            _ULP_4,
            special=False,
        ),
        Kernel(
            "cross_entropy_with_grad",
            _logits,
            lambda axis, x: vastmax.cross_entropy_with_grad(x, _targets(x, axis), axis=axis, reduction="sum").grad,
            lambda _, x: exact.cross_entropy_gradient(x, _targets(x, -1)),
            _ULP_4,
            special=False,
        ),
        Kernel(
            "selective_log_softmax",
            _logits,
            lambda axis, x: np.asarray(vastmax.selective_log_softmax(x, _targets(x, axis), axis)),
            _of_targets(exact.log_softmax),
            _ULP_4,
            special=False,
        ),
        Kernel(
            "entropy",
            _logits,
            lambda axis, x: np.asarray(vastmax.entropy(x, axis)),
            _of_values(exact.entropy),
            _ULP_8,
            special=False,
        ),
        Kernel(
            "kl_divergence",
            lambda x, g: (x, (x.astype(np.float64) + g.astype(np.float64) / 64).astype(x.dtype)),
            lambda axis, x, z: np.asarray(vastmax.kl_divergence(x, z, axis)),
            _of_values(exact.kl_divergence),
            _ULP_8,
            special=False,
        ),
    ]


KERNELS = (*_normalisers(), *_rows_with_gradients(), *_losses_and_statistics(), *_element_wise())
