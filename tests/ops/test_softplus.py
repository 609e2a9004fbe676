# SPDX-License-Identifier: Apache-2.0
"""softplus, sigmoid, log_sigmoid and logit; every input of the 16-bit types. All 2**32 of float32: see CONTRIBUTING."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, oracle

pytestmark = pytest.mark.usefixtures("backend")

OPS = ("softplus", "sigmoid", "log_sigmoid")


@functools.cache
def inputs_of(dtype: Any) -> np.ndarray[Any, Any]:
    if dtype.itemsize == 2:
        return np.arange(2**16, dtype=np.uint16).view(dtype)
    edges = [0.0, 0.5, 1.0, 16.6, 17.0, 18.0, 33.3, 36.7, 37.0, 87.33, 88.72284, 103.28, 103.97, 104.0]
    edges += [
        708.4,
        709.78,
        744.44,
        745.13,
        745.2,
        1e4,
        3e38,
        float(np.finfo(dtype).tiny),
        float(np.finfo(dtype).smallest_subnormal),
    ]
    near = np.array(edges, dtype)
    around = [near]
    for direction in (np.inf, -np.inf):
        step = near
        for _ in range(8):
            step = np.nextafter(step, dtype.type(direction))
            around.append(step)
    around_edges = np.concatenate(around)
    rng = np.random.default_rng(51)
    if dtype == np.float32:
        # Every exponent and sign, by a step that is prime; and densely where the ops bend.
        spread = np.arange(0, 2**32, 16411, dtype=np.uint32).view(np.float32)
        dense = rng.uniform(-110, 110, 60_000).astype(np.float32)
    else:
        spread = (rng.integers(0, 2**64, 20_000, dtype=np.uint64)).view(np.float64)
        dense = np.concatenate([rng.uniform(-760, 760, 40_000), rng.uniform(-40, 40, 30_000)])
    with np.errstate(all="ignore"):
        return np.concatenate([around_edges, -around_edges, spread, dense, [np.inf, -np.inf, np.nan, -0.0]]).astype(
            dtype
        )


@functools.cache
def want(op: str, dtype: Any) -> oracle.Exact:
    with np.errstate(invalid="ignore"):
        return getattr(oracle, op)(inputs_of(dtype).astype(np.float64))


@pytest.mark.parametrize("op", OPS)
def test_accuracy(dtype: Any, op: str) -> None:
    x = inputs_of(dtype)
    got = getattr(vastmax, op)(x)
    assert got.dtype == dtype
    contracts.check_elementwise(op, got, want(op, dtype))


@pytest.mark.parametrize("op", OPS)
def test_special_values(dtype: Any, op: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan]).astype(dtype)
    ends = {"softplus": [np.inf, 0.0], "sigmoid": [1.0, 0.0], "log_sigmoid": [0.0, -np.inf]}[op]
    for n in range(1, 70):  # every lane, every tail
        got = getattr(vastmax, op)(np.repeat(x, n))
        np.testing.assert_array_equal(got.astype(np.float64), np.repeat([*ends, np.nan], n))


def test_zero(dtype: Any) -> None:
    for zero in (0.0, -0.0):
        x = np.array([zero]).astype(dtype)
        assert vastmax.softplus(x)[0] == np.array(np.log(2.0)).astype(dtype)
        assert vastmax.sigmoid(x)[0] == 0.5
        assert vastmax.log_sigmoid(x)[0] == np.array(-np.log(2.0)).astype(dtype)


@pytest.mark.parametrize("op", OPS)
def test_monotone(dtype: Any, op: str) -> None:
    """Every 16-bit input in order; for the wide types neighbours may differ by the contract, so steps are coarser."""
    if dtype.itemsize == 2:
        x = np.sort(inputs_of(dtype)[np.isfinite(inputs_of(dtype).astype(np.float32))].astype(np.float32)).astype(dtype)
    else:
        x = np.linspace(-120, 120, 20_001).astype(dtype)
    y = getattr(vastmax, op)(x).astype(np.float64)
    assert (np.diff(y) >= 0).all()


@pytest.mark.parametrize("beta", [0.5, 2.0, 0.3, 5.0, 100.0, 1e-3])
def test_beta(dtype: Any, beta: float) -> None:
    x = np.linspace(-120, 120, 3001).astype(dtype)
    contracts.check("softplus", vastmax.softplus(x, beta), oracle.softplus(x, beta))
    slope = vastmax.softplus_backward(np.ones_like(x), x, beta)
    contracts.check("softplus_backward", slope, oracle.sigmoid(x, beta))


@functools.cache
def beta_of_any_size(dtype: Any) -> tuple[tuple[float, float, Any, Any], ...]:
    """beta and x of every size, and softplus and its slope there."""
    rng = np.random.default_rng(60)
    info = np.finfo(contracts.computed_in(contracts.name_of(dtype)))
    cases = []
    for product in np.concatenate([10.0 ** rng.uniform(-4, 3.2, 120), rng.uniform(0, 2, 60)]):
        beta = float(np.exp(rng.uniform(np.log(float(info.tiny)), np.log(float(info.max)))))
        for b in (beta, float(rng.choice([0.1, 0.7, 3.3, 2.2, 1 / 3, 10.0]))):
            with np.errstate(over="ignore", under="ignore"):
                x = (np.array(rng.choice([-1, 1]) * product / b)).astype(dtype)
            if np.isfinite(x) and x != 0:
                cases.append((b, x, *oracle.softplus_of_beta_mp(float(x), b)))
    return tuple(cases)


def test_beta_and_x_of_any_size(dtype: Any) -> None:
    cases = beta_of_any_size(dtype)
    assert len(cases) > 100
    got = [vastmax.softplus(np.array(x), beta) for beta, x, _, _ in cases]
    contracts.check("softplus", np.array(got), oracle.from_mp([value for *_, value, _ in cases]))
    got = [vastmax.softplus_backward(np.ones_like(x), np.array(x), beta) for beta, x, _, _ in cases]
    contracts.check("softplus_backward", np.array(got), oracle.from_mp([slope for *_, slope in cases]))


def test_beta_at_infinite_and_overflowing_x(dtype: Any) -> None:
    top = np.finfo(dtype).max if dtype.kind == "f" else contracts.FORMATS["bf16"].max
    x = np.array([np.inf, -np.inf, np.nan, top, -top], dtype)
    for beta in (0.3, 3.3):
        np.testing.assert_array_equal(vastmax.softplus(x, beta).astype(float), [np.inf, 0, np.nan, float(top), 0])
        slope = vastmax.softplus_backward(np.ones_like(x), x, beta)
        np.testing.assert_array_equal(slope.astype(float), [1, 0, np.nan, 1, 0])


def test_beta_has_no_threshold(wide_dtype: Any) -> None:
    """PyTorch returns x itself above beta x > 20: a jump of 2e-9."""
    x = np.linspace(19.0, 21.0, 101).astype(wide_dtype)
    contracts.check("softplus", vastmax.softplus(x), oracle.softplus(x.astype(np.float64)))


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan, np.inf])
def test_beta_must_be_positive(beta: float) -> None:
    for call in (lambda: vastmax.softplus([1.0], beta), lambda: vastmax.softplus_backward([1.0], [1.0], beta)):
        with pytest.raises(ValueError, match=r"softplus.*beta"):
            call()


@functools.cache
def probabilities(dtype: Any) -> tuple[Any, oracle.Exact]:
    if dtype.itemsize == 2:
        p = np.arange(2**16, dtype=np.uint16).view(dtype)
        p = p[(p.astype(np.float32) > 0) & (p.astype(np.float32) < 1)]
    else:
        rng = np.random.default_rng(52)
        p = np.concatenate(
            [rng.random(20_000), 10.0 ** rng.uniform(-37, 0, 2000), 1 - 10.0 ** rng.uniform(-7, -1, 2000)]
        )
        p = np.concatenate([p, 0.5 + rng.uniform(-1e-3, 1e-3, 5000), [0.5]]).astype(dtype)
        p = p[(p > 0) & (p < 1)]
    return p, oracle.logit(p.astype(np.float64))


def test_logit(dtype: Any) -> None:
    p, exact = probabilities(dtype)
    contracts.check("logit", vastmax.special.logit(p), exact)
    ends = np.array([0.0, 1.0, -0.5, 1.5, np.nan]).astype(dtype)
    np.testing.assert_array_equal(
        vastmax.special.logit(ends).astype(np.float64), [-np.inf, np.inf, np.nan, np.nan, np.nan]
    )


def test_shapes_and_strides(dtype: Any) -> None:
    x = np.linspace(-9, 9, 6 * 5 * 44).astype(dtype).reshape(6, 5, 44)
    for op in OPS:
        f = getattr(vastmax, op)
        flat = f(x.ravel())
        for view in (
            x,
            x[::2],
            x[:, ::-1],
            x[..., 3::7],
            x.T,
            x[1],
            x[:, :, 1],
            np.broadcast_to(x[0, 0], (3, 44)),
            x[:0],
        ):
            got = f(view)
            assert got.shape == view.shape
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, f(np.ascontiguousarray(view)))
        np.testing.assert_array_equal(f(x).ravel(), flat)


@pytest.mark.parametrize("op", ["softplus", "softplus_backward"])
def test_beta_out_of_the_range_of_the_dtype(op: str, dtype: Any) -> None:
    """Else it, or its inverse, would round to 0 or inf, and the result be NaN."""
    x = np.array([0.0, 1.0, -1.0, np.inf, -np.inf]).astype(dtype)
    arguments = (x,) if op == "softplus" else (np.ones_like(x), x)
    info = np.finfo(np.float64 if dtype == np.float64 else np.float32)
    least, most = float(info.tiny), float(info.max)
    for bad in (most * 2, least / 2, 10**400, 5e-324):
        with pytest.raises(ValueError, match=rf"{op}: beta is .*; accepted: .*{dtype.name}"):
            getattr(vastmax, op)(*arguments, bad)
    for good in (least, 1.0, most):
        assert not np.isnan(getattr(vastmax, op)(*arguments, good)).any()
