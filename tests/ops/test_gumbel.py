# SPDX-License-Identifier: Apache-2.0
"""Softmax of logits with noise, beside NumPy in extended precision."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax
from support.goodness_of_fit import follows, uniform_bits

INF = np.inf


def noise(seed: int, row: int, n: int) -> Any:
    v = (uniform_bits(seed, 0, row, n, purpose=4).astype(np.longdouble) + 0.5) * np.longdouble(2) ** -64
    return -np.log(-np.log1p(-v))


def soft(z: Any) -> Any:
    e = np.exp(z - z.max())
    return e / e.sum()


def check(x: Any, tau: float) -> None:
    got = vastmax.gumbel_softmax(x, tau, seed=9)
    assert got.dtype == x.dtype
    rows, n = x.shape
    z = np.stack([x[r].astype(np.longdouble) + noise(9, r, n) for r in range(rows)])
    want = np.stack([soft(row / tau) for row in z])
    wide = x.dtype == np.float64
    rounded = 2.0**-22 * (float(np.abs(z).max()) / tau + 1)  # the sum and the quotient, of a class and of the largest
    rtol = 1e-12 if wide else rounded if x.dtype == np.float32 else 1e-2
    atol = {2: 1e-7, 4: 1.5e-45, 8: 0}[x.dtype.itemsize]  # a step of subnormal numbers
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=rtol, atol=atol)


@pytest.mark.parametrize("tau", [1.0, 0.3, 20.0])
def test_values(tau: float, dtype: Any, isa: str) -> None:
    check((np.random.default_rng(0).standard_normal((3, 5001)) * 3).astype(dtype), tau)


def test_the_largest_is_a_draw(isa: str) -> None:
    p = np.array([0.5, 0.25, 0.15, 0.1])
    x = np.broadcast_to(np.log(p), (200_000, 4))
    y = vastmax.gumbel_softmax(x, hard=True, seed=3)
    assert (np.sort(y, -1) == [0, 0, 0, 1]).all()
    assert follows(y.argmax(-1), p)
    np.testing.assert_array_equal(y.argmax(-1), vastmax.sample(x, replace=False, seed=3))


@pytest.mark.backends("host", "device")
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("tau", [2e-38, 1e30])
def test_the_draw_is_the_same_for_any_tau(tau: float, wide_dtype: Any) -> None:
    """Where all logits become infinite, or all probabilities equal, too."""
    x = (np.random.default_rng(3).standard_normal((50, 300)) * 3).astype(wide_dtype)
    y = vastmax.gumbel_softmax(x, tau, hard=True, seed=3)
    assert (np.sort(y, -1) == np.eye(1, 300, 299)).all()
    np.testing.assert_array_equal(y.argmax(-1), vastmax.sample(x, replace=False, seed=3))


def test_the_noise_reaches_the_far_ends() -> None:
    """Noise from 24 bits ends at 16.6, from 32 bits at 22.2."""
    n = 4_000_000
    z = np.log(vastmax.gumbel_softmax(np.zeros(n), seed=1))
    largest = z.max() - np.sort(z)[n // 2] + -np.log(np.log(2))
    assert abs(largest - float(noise(1, 0, n).max())) < 1e-2


def test_axes_threads_and_strides() -> None:
    x = np.random.default_rng(1).standard_normal((4, 70_000, 2)).astype(np.float32)
    want = vastmax.gumbel_softmax(x, 0.5, axis=1, seed=2)
    dense = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    np.testing.assert_array_equal(np.moveaxis(vastmax.gumbel_softmax(dense, 0.5, seed=2), -1, 1), want)
    for isa in vastmax.available_isas():
        with vastmax.config(threads=3, isa=isa):
            np.testing.assert_array_equal(vastmax.gumbel_softmax(x, 0.5, axis=1, seed=2), want)
    hard = vastmax.gumbel_softmax(x, 0.5, True, 1, seed=2)
    np.testing.assert_array_equal(hard.argmax(1), want.argmax(1))
    assert (hard.sum(1) == 1).all()


@pytest.mark.backends("host", "device")
@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("hard", [False, True])
def test_special_rows(hard: bool, dtype: Any) -> None:
    x = np.zeros((4, 300), dtype)
    x[0, 7] = np.nan
    x[1] = -INF
    x[2, ::2] = -INF
    x[3, 1:] = -INF
    y = vastmax.gumbel_softmax(x, hard=hard, seed=1).astype(np.float64)
    assert np.isnan(y[:2]).all()
    assert (y[2, ::2] == 0).all()
    assert y[2].max() > 0
    assert y[3].tolist() == [1.0, *[0.0] * 299]
    assert vastmax.gumbel_softmax(np.empty((2, 0), dtype), hard=hard).shape == (2, 0)
    assert vastmax.gumbel_softmax(3.0, hard=hard, seed=1) == 1


X = np.zeros((2, 5))
BAD: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ValueError, "gumbel_softmax: tau is 0", lambda: vastmax.gumbel_softmax(X, 0)),
    (ValueError, "tau is inf", lambda: vastmax.gumbel_softmax(X, INF)),
    (TypeError, "tau is 'x'", lambda: vastmax.gumbel_softmax(X, "x")),  # type: ignore[arg-type]
    (TypeError, "axis is None", lambda: vastmax.gumbel_softmax(X, axis=None)),  # type: ignore[arg-type]
    (ValueError, "seed is -1", lambda: vastmax.gumbel_softmax(X, seed=-1)),
    (TypeError, "logits has dtype complex128", lambda: vastmax.gumbel_softmax(X * 1j)),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD, ids=[text for _, text, _ in BAD])
def test_bad_input(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()
