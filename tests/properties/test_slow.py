# SPDX-License-Identifier: Apache-2.0
"""Beyond 2**31 elements, and ten million classes. Not in the default run: `pytest -m slow tests` (10 GB)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, oracle

pytestmark = pytest.mark.slow

N = 2**31 + 8


def needs_memory(gigabytes: int) -> None:
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return
    if available < gigabytes:
        pytest.skip(f"needs {gigabytes} GB, {available:.0f} are free")


def test_one_row_beyond_2_31() -> None:
    """The classes past 2**31 are the ones with the mass."""
    needs_memory(10)
    x = np.full(N, -15.0, np.float16)
    x[-3:] = 8.0
    x[0] = 7.0
    rest = np.float64(N - 4) * np.exp(-23.0)
    total = 3.0 + np.exp(-1.0) + rest
    assert vastmax.logsumexp(x) == np.float32(8.0 + np.log(total))
    out = np.empty_like(x)
    vastmax.softmax(x, out=out)
    for index, value in (
        (0, np.exp(-1.0) / total),
        (-1, 1 / total),
        (-3, 1 / total),
        (-4, np.exp(-23.0) / total),
        (2**31, np.exp(-23.0) / total),
    ):
        assert abs(float(out[index]) - value) <= float(np.spacing(np.float16(value))), index
    vastmax.log_softmax(x, out=x)
    assert x[-1] == np.float16(-np.log(total))
    assert x[2**31 - 1] == np.float16(-23.0 - np.log(total))


@pytest.mark.parametrize("axis", [0, 1])
def test_many_rows_beyond_2_31(axis: int) -> None:
    needs_memory(10)
    rows = N // 8
    shape = (rows, 8) if axis else (8, rows)
    x = np.zeros(shape, np.float16)
    last = x[-1] if axis else x[:, -1]
    last[:] = np.arange(8)
    lse = vastmax.logsumexp(x, axis=axis)
    assert lse.shape == (rows,)
    assert (lse[:-1] == np.float32(np.log(8.0))).all()
    assert lse[-1] == np.float32(oracle.logsumexp(np.arange(8.0)[None]).float()[0])
    vastmax.softmax(x, axis=axis, out=x)
    last = x[-1] if axis else x[:, -1]
    contracts.check_softmax(last, oracle.softmax(np.arange(8.0)))
    middle = x[-2] if axis else x[:, -2]
    assert (middle == np.float16(0.125)).all()


def test_elementwise_beyond_2_31() -> None:
    needs_memory(10)
    x = np.zeros(N, np.float16)
    x[2**31 :] = 2.0
    vastmax.softplus(x, out=x)
    assert x[2**31 - 1] == np.float16(np.log(2.0))
    assert (x[2**31 :] == np.float16(np.log1p(np.exp(2.0)))).all()


def test_logical_elements_beyond_2_32() -> None:
    """A zero stride: 2**33 elements and no memory."""
    x = np.broadcast_to(np.float16(1.5), (1, 2**33))
    np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1), np.float32(1.5 + 33 * np.log(2.0)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sigma", [1.0, 12.0, 100.0])
def test_ten_million_classes(wide_dtype: Any, sigma: float, axis: int) -> None:
    x = (np.random.default_rng(121).standard_normal((1, 10_000_000)) * sigma).astype(wide_dtype)
    given = x if axis else np.ascontiguousarray(x.T)
    p = vastmax.softmax(given, axis=axis).reshape(x.shape)
    lse = vastmax.logsumexp(given, axis=axis)
    for isa in vastmax.available_isas():
        with vastmax.config(isa=isa):
            assert vastmax.softmax(given, axis=axis).tobytes() == p.tobytes(), isa
            assert vastmax.logsumexp(given, axis=axis).tobytes() == lse.tobytes(), isa
    # In slices: the double-double oracle would need gigabytes at once.
    z = x.astype(np.float64)
    m = z.max()
    total = oracle_sum(z[0], m)
    for start in range(0, 10_000_000, 1_000_000):
        part = slice(start, start + 1_000_000)
        e = oracle._exp(oracle._two_sum(z[:, part], np.full((1, 1_000_000), -m)))
        hi, lo = oracle._div((e.hi, e.lo), (np.full_like(e.hi, total[0]), np.full_like(e.hi, total[1])))
        contracts.check_softmax(p[:, part], oracle.Exact(hi, lo, e.exp), hint=start)
    value = oracle._add((np.array(m), np.zeros(())), oracle._log((np.array(total[0]), np.array(total[1]))))
    contracts.check_logsumexp(lse, oracle.Exact(*(np.reshape(v, 1) for v in value), np.zeros(1, np.int64)), x)


def test_losses_and_statistics_of_ten_million_classes() -> None:
    """Against sums in long double; class numbers in int32."""
    n = 10_000_000
    x = (np.random.default_rng(31).standard_normal((2, n)) * 3).astype(np.float32)
    t = np.array([n - 1, x[1].argmax()], np.int32)
    picks = np.array([[0, n - 1], [17, n // 2]], np.int32)
    loss = vastmax.cross_entropy(x, t, reduction="none")
    graded = vastmax.cross_entropy_with_grad(x, t, reduction="sum")
    stats = vastmax.softmax_stats(x, t, top_n=20)
    np.testing.assert_array_equal(vastmax.entropy(x), stats.entropy)
    picked, divergence = vastmax.selective_log_softmax(x, picks), vastmax.kl_divergence(x[0], x[1])
    log_p = []

    def close(got: Any, want: Any, ulps: int, scale: Any = 0.0) -> None:
        assert abs(got - want) <= ulps * np.spacing(np.float32(max(abs(want), scale))), (got, want)

    for row in range(2):
        z = x[row].astype(np.longdouble)
        top = z.max()
        e = np.exp(z - top)
        log = np.log(e.sum())
        log_p.append((z - top) - log)
        close(loss[row], -log_p[row][t[row]], 4)
        close(stats.target_log_prob[row], log_p[row][t[row]], 4)
        close(stats.entropy[row], log + (e * (top - z)).sum() / e.sum(), 8)
        p = np.exp(log_p[row][picks[row]])
        for k, index in enumerate(picks[row]):
            close(picked[row, k], log_p[row][index], 4)
            if index != t[row]:
                close(graded.grad[row, index], p[k], 4)
        close(graded.grad[row, t[row]], -(e.sum() - e[t[row]]) / e.sum(), 4)
        order = np.argsort(-x[row], kind="stable")[:20]
        np.testing.assert_array_equal(stats.top_indices[row], order)
        assert stats.target_rank[row] == 1 + (x[row] > x[row, t[row]]).sum()
    terms = np.exp(log_p[0]) * (log_p[0] - log_p[1])
    close(divergence, terms.sum(), 8, np.abs(terms).max())


def test_worst_of_millions() -> None:
    """The figures of docs/development/measured.md: `pytest -m slow -k millions -s`."""
    rng = np.random.default_rng(123)
    worst = dict.fromkeys(("softmax", "log_softmax"), 0.0)
    for sigma in (1.0, 3.0, 12.0):
        for classes in (55, 1000, 50_257):
            x = (rng.standard_normal((1_000_000 // classes, classes)) * sigma).astype(np.float32)
            shifted = x.astype(np.longdouble) - x.max(axis=1, keepdims=True)
            terms = np.exp(shifted)
            np.put_along_axis(terms, x.argmax(axis=1, keepdims=True), 0, axis=1)
            rest = np.log1p(terms.sum(axis=1, keepdims=True))
            for name, exact in (("softmax", np.exp(shifted - rest)), ("log_softmax", shifted - rest)):
                unit = np.spacing(np.maximum(np.abs(exact), np.finfo(np.float32).tiny).astype(np.float64))
                unit *= 2.0**29  # of float32, in the binade of the exact value
                error = float((np.abs(getattr(vastmax, name)(x) - exact) / unit).max())
                worst[name] = max(worst[name], error)
    print(worst)
    for name, error in worst.items():
        assert error <= contracts.MAX_ULP[name]["f32"], name


def oracle_sum(z: Any, m: float) -> tuple[float, float]:
    parts = [
        oracle._sum(oracle._plain(oracle._exp(oracle._two_sum(c, np.full_like(c, -m))))) for c in np.array_split(z, 20)
    ]
    hi, lo = oracle._sum((np.array([p[0] for p in parts]), np.array([p[1] for p in parts])))
    return float(hi), float(lo)


def test_peers_are_wrong_where_we_are_right() -> None:
    """The cases that the demo shows, held as facts."""
    x = (np.random.default_rng(122).standard_normal(10_000_000) * 3).astype(np.float32)
    exact = np.exp(x.astype(np.longdouble) - x.max())
    exact = (exact / exact.sum()).astype(np.float64)
    p = vastmax.softmax(x)
    assert (np.abs(p - exact) <= 2 * np.spacing(exact.astype(np.float32))).all()
