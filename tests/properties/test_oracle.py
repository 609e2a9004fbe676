# SPDX-License-Identifier: Apache-2.0
"""The array oracle against mpmath: nothing else may be trusted before this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from support import logit_rows, oracle

pytestmark = pytest.mark.any_isa
RELATIVE = mpmath.mpf(2) ** -90  # 2**37 times finer than the narrowest contract, 4 ULP of float64


def assert_close(got: oracle.Exact, want: list[Any], scale: list[Any] | None = None) -> None:
    for i, exact in enumerate(want):
        size = abs(exact) if scale is None else scale[i]
        if not mpmath.isfinite(exact) or size < mpmath.mpf(2) ** -250000:  # -inf, or under every format
            continue
        assert abs(oracle.as_mp(got[i]) - exact) <= size * RELATIVE, (i, exact)


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_rows(name: str) -> None:
    row = logit_rows.row(name, np.float64)[:200]
    if np.isneginf(row).all():
        row = row[:0]
    if len(row) == 0:
        return
    assert_close(oracle.softmax(row), oracle.softmax_mp(row))
    assert_close(oracle.log_softmax(row), oracle.log_softmax_mp(row))
    total = oracle.logsumexp_mp(row)
    scale = abs(total) if row.max() == 0 else max(abs(total), abs(mpmath.mpf(float(row.max()))))
    assert_close(oracle.logsumexp(row[None]), [total], [scale])


ELEMENTS = np.concatenate(
    [
        np.linspace(-800, 800, 401),
        [0.0, -0.0, 1e-300, -1e-300, 5e-324, 37.0, 33.3, -745.2, 709.8, 1e5],
        np.logspace(-20, 3, 93),
    ]
)


@pytest.mark.parametrize(
    ("op", "reference", "x"),
    [
        (oracle.softplus, oracle.softplus_mp, ELEMENTS),
        (oracle.sigmoid, oracle.sigmoid_mp, ELEMENTS),
        (oracle.log_sigmoid, lambda v: -oracle.softplus_mp(-v), ELEMENTS),
        (
            oracle.logit,
            oracle.logit_mp,
            np.concatenate(
                [np.linspace(0.001, 0.999, 300), [5e-324, 1e-310, 1e-16, 1 - 2**-53, 0.5 + 2**-53, 0.5 - 2**-54]]
            ),
        ),
    ],
    ids=["softplus", "sigmoid", "log_sigmoid", "logit"],
)
def test_elements(op: Callable[[Any], oracle.Exact], reference: Callable[[float], Any], x: Any) -> None:
    assert_close(op(x), [reference(v) for v in x])


def test_known_value_near_certainty() -> None:
    assert oracle.log_softmax(np.array([40.0, 0.0])).float()[0] == -4.248354255291589e-18


@pytest.mark.parametrize("b", [[1.0, 1.0, 1.0], [2.0, -1.0, 0.5], [1.0, -3.0, 0.0], [1.88, 2.84, -0.85]])
def test_weighted(b: list[float]) -> None:
    a = np.array([0.3, 1.1, -2.0])
    got, sign, _, _ = oracle.logsumexp_weighted(a[None], b)
    exact = oracle.mp.fsum(oracle.mp.mpf(w) * oracle.mp.exp(oracle.mp.mpf(v)) for w, v in zip(b, a, strict=True))
    assert sign[0] == mpmath.sign(exact)
    assert abs(oracle.as_mp(got[0]) - oracle.mp.log(abs(exact))) < RELATIVE


def test_backward() -> None:
    rng = np.random.default_rng(5)
    g, y = rng.standard_normal((2, 50))
    y = np.exp(y) / np.exp(y).sum()
    exact_g, exact_y = [oracle.mp.mpf(v) for v in g], [oracle.mp.mpf(v) for v in y]
    inner = oracle.mp.fdot(exact_g, exact_y)
    got, scale = oracle.softmax_backward(g[None], y[None])
    assert_close(
        got[0], [b * (a - inner) for a, b in zip(exact_g, exact_y, strict=True)], [oracle.mp.mpf(v) for v in scale[0]]
    )
    total = oracle.mp.fsum(exact_g)
    got, scale = oracle.log_softmax_backward(g[None], np.log(y)[None])
    want = [a - oracle.mp.exp(oracle.mp.mpf(v)) * total for a, v in zip(exact_g, np.log(y), strict=True)]
    assert_close(got[0], want, [oracle.mp.mpf(v) for v in scale[0]])


@pytest.mark.parametrize("d", [1e-12, 1e-3, 0.5, 30.0])
def test_kl_divergence(d: float) -> None:
    rng = np.random.default_rng(6)
    x = rng.standard_normal(40) * 4
    z = x + d * rng.standard_normal(40)
    x[3] = -np.inf
    log_p, log_q = oracle.log_softmax_mp(np.delete(x, 3)), np.delete(np.array(oracle.log_softmax_mp(z)), 3)
    terms = [oracle.mp.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True)]
    want, largest = oracle.mp.fsum(terms), float(max(map(abs, terms)))
    got, scale = oracle.kl_divergence(x[None], z[None])
    assert abs(oracle.as_mp(got[0]) - want) <= want * 2.0**-75
    np.testing.assert_allclose(scale, largest, rtol=1e-12)


def test_binary_cross_entropy() -> None:
    x = np.array([-120.0, -3.0, 0.0, 2.5, 800.0, -800.0, 30.0])
    t = np.array([1.0, 0.25, 0.5, 0.9, 1.0, 0.0, 0.0])
    loss, slope = oracle.binary_cross_entropy(x, t, 0.7, 3.0)
    w, q = oracle.mp.mpf(0.7), oracle.mp.mpf(3)
    want = [
        w * ((1 - oracle.mp.mpf(b)) * oracle.softplus_mp(a) + q * oracle.mp.mpf(b) * oracle.softplus_mp(-a))
        for a, b in zip(x, t, strict=True)
    ]
    assert_close(loss, want)
    want = [
        w * ((1 - oracle.mp.mpf(b)) * oracle.sigmoid_mp(a) - q * oracle.mp.mpf(b) * oracle.sigmoid_mp(-a))
        for a, b in zip(x, t, strict=True)
    ]
    assert_close(slope, want)
