# SPDX-License-Identifier: Apache-2.0
"""Gradients against their closed forms, and the closed forms against differences in 50 digits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows, oracle

pytestmark = pytest.mark.usefixtures("backend")

ROWS = (
    "peaked",
    "flat",
    "one_hot",
    "certain",
    "normal_1",
    "normal_12",
    "normal_100",
    "masked",
    "subnormal_f32",
    "offset_208",
)


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


@functools.cache
def saved(name: str, dtype: Any) -> tuple[Any, Any, Any]:
    """A gradient, and outputs of the forward ops made by the oracle, rounded to the dtype."""
    z = wide(logit_rows.row(name, dtype))[None]
    rng = np.random.default_rng(91)
    g = (rng.standard_normal(z.shape) * 10.0 ** rng.uniform(-3, 1, z.shape)).astype(dtype)
    log_y = oracle.log_softmax(z).float()
    with np.errstate(over="ignore"):
        return g, oracle.softmax(z).float().astype(dtype), log_y.astype(dtype)


@pytest.mark.parametrize("name", ROWS)
def test_softmax_backward(dtype: Any, name: str) -> None:
    g, y, _ = saved(name, dtype)
    got = vastmax.softmax_backward(g, y)
    assert got.dtype == dtype
    exact, scale = oracle.softmax_backward(g, y)
    contracts.check("softmax_backward", got, exact, scale=scale, hint=name)


@pytest.mark.parametrize("name", ROWS)
def test_log_softmax_backward(dtype: Any, name: str) -> None:
    g, _, log_y = saved(name, dtype)
    got = vastmax.log_softmax_backward(g, log_y)
    assert got.dtype == dtype
    exact, scale = oracle.log_softmax_backward(g, log_y)
    contracts.check("log_softmax_backward", got, exact, scale=scale, hint=name)


@pytest.mark.parametrize("name", ROWS)
def test_logsumexp_backward(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)
    kind = contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype
    exact = oracle.softmax(wide(x)[None])
    for g in (1.0, -0.3, 7.7):
        grad = np.array([g], kind)
        got = vastmax.logsumexp_backward(grad, x[None], axis=1)
        assert got.dtype == dtype
        want = exact.times(wide(grad)[:, None])
        scale = contracts.times_a_subnormal(want, g, contracts.name_of(dtype))
        contracts.check("logsumexp_backward", got, want, scale=scale, hint=(name, g))


@functools.cache
def random_rows(dtype: Any, sigma: float) -> tuple[Any, ...]:
    rng = np.random.default_rng(90)
    z = (rng.standard_normal((40, 2000)) * sigma).astype(dtype)
    g = rng.standard_normal(z.shape).astype(dtype)
    y = oracle.softmax(wide(z)).float().astype(dtype)
    log_y = oracle.log_softmax(wide(z)).float().astype(dtype)
    return g, y, log_y, oracle.softmax_backward(g, y), oracle.log_softmax_backward(g, log_y)


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("sigma", [1.0, 5.0, 12.0])
def test_random_rows(dtype: Any, sigma: float) -> None:
    """Inner products of either sign, some of which cancel."""
    g, y, log_y, (exact, scale), (log_exact, log_scale) = random_rows(dtype, sigma)
    contracts.check("softmax_backward", vastmax.softmax_backward(g, y), exact, scale=scale, hint=sigma)
    got = vastmax.log_softmax_backward(g, log_y)
    contracts.check("log_softmax_backward", got, log_exact, scale=log_scale, hint=sigma)


def test_cancelling_inner_product(dtype: Any) -> None:
    """A constant gradient: the result is 0 but for rounding, which the contract measures by the terms."""
    y = oracle.softmax(wide(logit_rows.row("normal_1", dtype))[None]).float().astype(dtype)
    g = np.full_like(y, 3.0)
    exact, scale = oracle.softmax_backward(g, y)
    contracts.check("softmax_backward", vastmax.softmax_backward(g, y), exact, scale=scale)


def test_true_class_near_certainty(wide_dtype: Any) -> None:
    """Cross-entropy by hand: d/dx of -log p is p - onehot; at [20, 0] in float32 the true class has -2.06e-9, not 0."""
    x = np.array([[20.0, 0.0]], wide_dtype)
    log_y = vastmax.log_softmax(x)
    got = vastmax.log_softmax_backward(np.array([[-1.0, 0.0]], wide_dtype), log_y)
    want = np.exp(-20.0) / (1 + np.exp(-20.0))
    np.testing.assert_allclose(got[0, 1], want, rtol=8 * np.finfo(wide_dtype).eps)
    assert got[0, 0] <= 0


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (1, 2), None])
def test_axis(dtype: Any, axis: Any) -> None:
    g = logit_rows.integer_logits(92, (4, 17, 5)).astype(dtype)
    y = np.abs(logit_rows.integer_logits(93, (4, 17, 5), spread=1)).astype(dtype)
    axes = (0, 1, 2) if axis is None else axis if isinstance(axis, tuple) else (axis,)

    def rows(a: Any) -> Any:
        last = np.moveaxis(a, axes, range(-len(axes), 0))
        return last.reshape(*last.shape[: 3 - len(axes)], -1)

    for op in ("softmax_backward", "log_softmax_backward"):
        got = getattr(vastmax, op)(g, y, axis=axis)
        want = getattr(vastmax, op)(np.ascontiguousarray(rows(g)), np.ascontiguousarray(rows(y)))
        np.testing.assert_array_equal(rows(got), want)
    lse = np.asarray(vastmax.logsumexp(y, axis=axis))
    got = vastmax.logsumexp_backward(np.ones_like(lse), y, axis=axis)
    np.testing.assert_array_equal(got, vastmax.softmax(y, axis=axis))
    kept = vastmax.logsumexp(y, axis=axis, keepdims=True)
    np.testing.assert_array_equal(vastmax.logsumexp_backward(np.ones_like(kept), y, axis=axis), got)


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature(wide_dtype: Any, temperature: float) -> None:
    """The gradient with respect to the logits before they are divided: 1 / T of that after."""
    g, y, log_y = saved("normal_1", wide_dtype)
    name = contracts.name_of(wide_dtype)
    for op, output in (("softmax_backward", y), ("log_softmax_backward", log_y)):
        exact, scale = getattr(oracle, op)(g, output)
        got = getattr(vastmax, op)(g, output, temperature=temperature)
        bound = contracts.MAX_ULP[op][name] + 1
        contracts.check(op, got, exact.over(temperature), scale=scale / temperature, within=bound, hint=temperature)
    x = logit_rows.row("normal_1", wide_dtype)[None]
    exact = oracle.softmax(oracle.scaled(x, temperature, wide_dtype)).over(temperature)
    got = vastmax.logsumexp_backward(np.ones(1, wide_dtype), x, axis=1, temperature=temperature)
    contracts.check("logsumexp_backward", got, exact, within=contracts.MAX_ULP["logsumexp_backward"][name] + 1)


def test_central_differences() -> None:
    """The closed forms are derivatives of the forward ops; in mpmath, so that no step size has to be tuned."""
    mp = oracle.mp
    x = [0.3, -1.2, 2.5, 0.0]
    g = [0.7, -0.2, 1.1, 0.4]
    h = mp.mpf(10) ** -20

    def moved(i: int, by: Any) -> list[Any]:
        return [mp.mpf(v) + (by if i == j else 0) for j, v in enumerate(x)]

    def softmax(row: list[Any]) -> list[Any]:
        e = [mp.exp(v) for v in row]
        return [v / mp.fsum(e) for v in e]

    def loss(row: list[Any], op: str) -> Any:
        if op == "logsumexp":
            return mp.log(mp.fsum(mp.exp(v) for v in row))
        y = softmax(row) if op == "softmax" else [mp.log(v) for v in softmax(row)]
        return mp.fsum(a * b for a, b in zip(g, y, strict=True))

    got = {
        "softmax": vastmax.softmax_backward(g, vastmax.softmax(x)),
        "log_softmax": vastmax.log_softmax_backward(g, vastmax.log_softmax(x)),
        "logsumexp": vastmax.logsumexp_backward(1.0, x),
    }
    for op, gradient in got.items():
        want = [float((loss(moved(i, h), op) - loss(moved(i, -h), op)) / (2 * h)) for i in range(4)]
        np.testing.assert_allclose(gradient, want, rtol=1e-14, atol=0)


@functools.cache
def elements(dtype: Any) -> Any:
    if dtype.itemsize == 2:
        x = np.arange(2**16, dtype=np.uint16).view(dtype)
        return x[np.isfinite(x.astype(np.float32))]
    return np.concatenate([np.linspace(-110, 110, 20_001), np.linspace(-1, 1, 5001)]).astype(dtype)


@pytest.mark.parametrize("op", ["softplus_backward", "log_sigmoid_backward"])
def test_elementwise_backward(dtype: Any, op: str) -> None:
    x = elements(dtype)
    slope = oracle.sigmoid(wide(x) if op == "softplus_backward" else -wide(x))
    for g in (1.0, -0.3, 100.0):
        grad = np.full_like(x, g)
        got = getattr(vastmax, op)(grad, x)
        assert got.dtype == dtype
        want = slope.times(wide(grad))
        contracts.check(op, got, want, scale=contracts.times_a_subnormal(want, g, contracts.name_of(dtype)), hint=g)


def test_sigmoid_backward(dtype: Any) -> None:
    y = np.linspace(0, 1, 3001).astype(dtype)
    if dtype.itemsize == 4:
        y = np.concatenate([y, [1e-30, 1e-38, 1 - 2.0**-24]]).astype(dtype)
    wide_y = wide(y)
    # y (1 - y) has more bits than a double-double's head, so both factors stay exact.
    for g in (1.0, -0.3):
        grad = np.full_like(y, g)
        exact = oracle.exact(wide_y).times(1.0 - wide_y) if dtype != np.float64 else _product(wide_y)
        contracts.check("sigmoid_backward", vastmax.sigmoid_backward(grad, y), exact.times(wide(grad)), hint=g)


def _product(y: Any) -> oracle.Exact:
    """y (1 - y) for float64, where 1 - y may round."""
    rest = oracle._two_sum(np.ones_like(y), -y)
    hi, lo = oracle._mul((y, np.zeros_like(y)), rest)
    return oracle.Exact(hi, lo, np.zeros(y.shape, np.int64))


def test_softplus_backward_beta(wide_dtype: Any) -> None:
    x = np.linspace(-20, 20, 2001).astype(wide_dtype)
    for beta in (0.5, 4.0):
        got = vastmax.softplus_backward(np.ones_like(x), x, beta)
        contracts.check("softplus_backward", got, oracle.sigmoid(wide(x) * beta), hint=beta)


def test_infinities(dtype: Any) -> None:
    x = np.array([np.inf, -np.inf, np.nan]).astype(dtype)
    g = np.array([2.0, 2.0, 2.0]).astype(dtype)
    np.testing.assert_array_equal(wide(vastmax.softplus_backward(g, x)), [2.0, 0.0, np.nan])
    np.testing.assert_array_equal(wide(vastmax.log_sigmoid_backward(g, x)), [0.0, 2.0, np.nan])
    y = np.array([1.0, 0.0, np.nan]).astype(dtype)
    np.testing.assert_array_equal(wide(vastmax.sigmoid_backward(g, y)), [0.0, 0.0, np.nan])


@pytest.mark.backends("host")
def test_a_python_number_takes_the_dtype_of_what_was_saved() -> None:
    for number in (2, 2**70, 0.5, True):
        assert vastmax.sigmoid_backward(number, np.float32(0.5)).dtype == np.float32, number
