# SPDX-License-Identifier: Apache-2.0
"""Reduced losses at infinities, near cancellation, and at the ends of the range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, oracle
from support.fake_gpu_arrays import ByDlpack

pytestmark = pytest.mark.usefixtures("isa")
INF, NAN = np.inf, np.nan
bce = vastmax.binary_cross_entropy_with_logits


@pytest.fixture(params=["host", "device"])
def lent(request: pytest.FixtureRequest, isa: str) -> Any:
    """What makes an array one of NumPy, or one of another library on the GPU."""
    if request.param == "host":
        return np.asarray
    if isa != vastmax.available_isas()[0]:
        pytest.skip("a device has one instruction set")
    if not (vastmax.cuda.is_available() and pytest.importorskip("vastmax._cuda").simulated):
        pytest.skip("no SIMT build")
    return lambda a: ByDlpack(np.asarray(a))


@pytest.mark.parametrize("n", [1, 5, 2049])
@pytest.mark.parametrize("special", [(INF,), (NAN,), (INF, NAN), (INF, INF)])
def test_one_loss_that_is_infinite_or_nan(dtype: Any, lent: Any, n: int, special: tuple[float, ...]) -> None:
    want = NAN if np.isnan(special).any() else INF
    if n < len(special) or (n > 5 and lent is not np.asarray and special != (INF,)):  # the host plays the device slowly
        return
    at = np.linspace(0, n - 1, len(special)).astype(int)
    for reduction in ("mean", "sum"):
        x = np.zeros(n, dtype)
        x[at] = special
        np.testing.assert_array_equal(bce(lent(x), lent(0 * np.zeros(n, dtype)), reduction=reduction), want)
        below, ones = np.where(np.isinf(x), -x, x), np.ones(n, dtype)
        np.testing.assert_array_equal(bce(lent(below), lent(ones), reduction=reduction), want)
        rows = np.zeros((n, 3), dtype)
        rows[at, 1] = special  # of another class than the target's
        target = np.zeros(n, np.int64)
        np.testing.assert_array_equal(vastmax.cross_entropy(lent(rows), lent(target), reduction=reduction), want)
        if lent is np.asarray and dtype.itemsize > 2:
            x, w = np.ones((n, 1), dtype), np.array([[0], [-INF if want == INF else NAN]], dtype)
            loss = vastmax.linear_cross_entropy(x, w, np.where(np.isin(np.arange(n), at), 1, 0), reduction=reduction)
            np.testing.assert_array_equal(loss, want)


@pytest.mark.parametrize("signed", [False, True])
def test_binary_cross_entropies_add_up(signed: bool) -> None:
    rng = np.random.default_rng(1)
    for n in (100, 2048, 70_001):
        x, t = rng.standard_normal(n) * 5, rng.random(n)
        w = rng.standard_normal(n) if signed else None  # of both signs: most of the sum cancels
        want = math.fsum(bce(x, t, w, reduction="none"))
        contracts.check(
            "binary_cross_entropy", np.reshape(bce(x, t, w, reduction="sum"), 1), oracle.exact([want]), within=1
        )


def test_means_at_the_end_of_the_range(wide_dtype: Any) -> None:
    most = float(np.finfo(wide_dtype).max)
    large = wide_dtype.type(most * 0.9)
    x = np.array([[large, 0], [large, 0]], wide_dtype)
    assert vastmax.cross_entropy(x, [1, 1]) == large
    rows, layer = np.ones((2, 1), wide_dtype), x[:1].T
    for mean in (
        vastmax.cross_entropy(x, [1, 1], sample_weight=[1e300, 1e300]),
        vastmax.cross_entropy(x, [1, 1], [0, 1e-300]),
        vastmax.linear_cross_entropy(rows, layer, [1, 1]),
        vastmax.linear_cross_entropy(rows, layer, [1, 1], weight=[0.0, 1e300]),
    ):
        np.testing.assert_allclose(mean, large, rtol=4 * np.finfo(wide_dtype).eps)
    assert vastmax.cross_entropy(x, [1, 1], reduction="sum") == INF
    half = x / 2
    np.testing.assert_allclose(vastmax.cross_entropy(np.concatenate([half, -half], 1), np.ones((2, 4)) / 4), large / 2)


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mean_does_not_depend_on_the_size_of_the_weights(
    dtype: Any, lent: Any, size: float, smoothing: float
) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((6, 40)).astype(dtype), rng.uniform(0.5, 2, 40)
    w[7] = 0
    x[1, 3] = -INF if not smoothing else 0
    for target in (np.arange(6), np.full(6, 7)):  # of class 7 nothing counts
        goal = lent(target)
        want = vastmax.cross_entropy_with_grad(lent(x), goal, lent(w), label_smoothing=smoothing)
        got = vastmax.cross_entropy_with_grad(lent(x), goal, lent(w * size), label_smoothing=smoothing)
        np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6)
        if target[0] == 7:
            continue
        unit = 2.0 ** -precision(dtype)  # of p and the target's share, at most 1, whose difference the gradient is
        np.testing.assert_allclose(host(got.grad), host(want.grad), rtol=4 * unit, atol=4 * unit)


def test_one_draw_that_is_infinite(wide_dtype: Any) -> None:
    x, w, b = np.ones((2, 3), wide_dtype), np.eye(50, 3, dtype=wide_dtype), np.zeros(50, wide_dtype)
    for value, share in ((INF, "batch"), (INF, "row"), (NAN, "batch"), (NAN, "row")):
        b[7] = value
        options = {"bias": b, "sampler": vastmax.AllSampler(50), "share": share}
        np.testing.assert_array_equal(vastmax.nce_loss(x, w, [1, 2], **options).loss, value)
        np.testing.assert_array_equal(vastmax.sampled_softmax(x, w, [1, 2], **options).loss, value)


@pytest.mark.parametrize("n", [3, 4099])
def test_an_infinite_gradient(wide_dtype: Any, lent: Any, n: int) -> None:
    g, y = np.zeros(n, wide_dtype), np.full(n, 1 / n, wide_dtype)
    g[1] = INF
    want = np.where(np.arange(n) == 1, NAN, -INF)
    np.testing.assert_array_equal(host(vastmax.softmax_backward(lent(g), lent(y))), want)
    np.testing.assert_array_equal(host(vastmax.log_softmax_backward(lent(g), lent(np.log(y)))), want)


def host(a: Any) -> Any:
    return (a if isinstance(a, np.ndarray) else a.copy_to_host()).astype(np.float64)


def precision(dtype: Any) -> int:
    return contracts.FORMATS[contracts.name_of(dtype)].precision
