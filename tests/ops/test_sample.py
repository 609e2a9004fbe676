# SPDX-License-Identifier: Apache-2.0
"""Draws from logits: the law, by G-tests with fixed seeds and class by class beside NumPy; the same draws always."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import vastmax
from support.goodness_of_fit import follows, p_value, uniform_bits
from vastmax import _core

INF = np.inf
VOCABULARY = 128_256


def normal(n: int, scale: float, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(n) * scale


def spiked(n: int, *spikes: tuple[int, float]) -> Any:
    x = normal(n, 1)
    for at, height in spikes:
        x[at] = height
    return x


def far_tail() -> Any:
    """One logit of 0, and a tail that has 0.25 of its mass although each class has 1e-9."""
    return np.concatenate([[0.0], np.full(262_144, -np.log(4 * 262_144))])


def gaps(n: int) -> Any:
    x = normal(n, 2)
    x[np.random.default_rng(1).random(n) < 0.9] = -INF
    return x


LAWS: dict[str, Any] = {
    "one": np.array([3.0]),
    "two": np.array([0.0, 1.0]),
    "all alike": np.zeros(5000),
    "all alike, far from 0": np.full(700, -3e4),
    "normal": normal(4096, 1),
    "steep": normal(10_000, 5),
    "a block and one": normal(4097, 1),
    "a vocabulary": normal(VOCABULARY, 3),
    "ascending": np.linspace(-8, 8, 20_000),
    "descending": np.linspace(8, -8, 20_000),
    "first": spiked(9000, (0, 12.0)),
    "last": spiked(9000, (8999, 12.0)),
    "two peaks": spiked(50_000, (511, 14.0), (40_960, 14.5)),
    "near certain": spiked(3000, (1234, 20.0)),
    "large logits": 3e4 + normal(6000, 2),
    "blocks of any size": np.concatenate([normal(4096, 1), 2e4 + normal(4096, 1), 2e4 + normal(100, 1)]),
    "far tail": far_tail(),
    "holes": gaps(30_000),
    "zipf": -1.1 * np.log(np.arange(1, 50_001)),
    "subnormal differences": np.arange(600) * 1e-300,
}
FORMS = [(1.0, np.float32), (1.0, np.float64), (0.5, np.float32), (3.0, np.float16), (INF, np.float64)]


def probability(x: Any, temperature: float = 1.0) -> Any:
    z = np.asarray(x, np.float64)
    gap = np.where(z == -INF, -INF, 0) if temperature == INF else (z - z.max()) / temperature
    p = np.exp(gap)
    return p / p.sum()


@pytest.mark.parametrize("name", LAWS)
def test_laws(name: str) -> None:
    """Ten million draws in all."""
    for i, (temperature, dtype) in enumerate(FORMS):
        x = LAWS[name].astype(dtype)
        if not np.isfinite(x.max()):
            continue
        ids = vastmax.sample(x, 100_000, temperature=temperature, seed=11 * i + 1)
        p = probability(x, temperature)
        if (p > 1e-4).sum() < 2 or len(x) == 1:
            assert (p[ids] > 0).all()
            continue
        assert follows_pooled(ids, p), (temperature, dtype)


def follows_pooled(ids: Any, p: Any) -> bool:
    """G-tests of classes by themselves, and of stretches of the index."""
    if (p[ids] == 0).any():
        return False
    order = np.argsort(-p, kind="stable")
    rank = np.empty(len(p), np.int64)
    rank[order] = np.arange(len(p))
    likely = follows(rank[ids], p[order])
    edges = np.unique(np.linspace(0, len(p), 65).astype(np.int64))
    share = np.add.reduceat(p, edges[:-1])
    if (share * len(ids) >= 10).sum() < 2:
        return likely
    return likely and p_value(np.histogram(ids, edges)[0], share) > 1e-6


def test_a_law_that_is_off_by_a_fiftieth_would_show() -> None:
    x = LAWS["normal"]
    ids = vastmax.sample(x, 2_000_000, seed=2)
    assert follows_pooled(ids, probability(x))
    assert not follows_pooled(ids, probability(np.where(np.arange(len(x)) < 2000, x + 0.02, x)))


@pytest.mark.conformance
def test_the_far_tail_is_drawn_at_its_rate() -> None:
    """Running sums in float32 lose it: each class of the tail is 1e-9 of the first."""
    x = np.concatenate([[0.0], np.full(262_144, -20.5)]).astype(np.float32)
    tail = 262_144 * np.exp(-20.5)
    ids = vastmax.sample(x, 40_000_000, seed=5)
    rare = ids[ids > 0]
    expected = len(ids) * tail / (1 + tail)
    assert abs(len(rare) - expected) < 5 * np.sqrt(expected)
    assert np.histogram(rare, [1, 131_073, 262_145])[0].min() > 0.4 * len(rare)
    terms = np.exp(x, dtype=np.float32)
    assert np.cumsum(terms, dtype=np.float32)[-1] < 1 + tail / 2


@pytest.mark.parametrize("name", LAWS)
def test_draws_are_those_of_the_inverse_distribution_function(name: str, isa: str) -> None:
    """Another program has the same classes, but where the uniform is within rounding of a border."""
    x, seed, step, row = LAWS[name], 99, 3, 1 << 33
    bits = uniform_bits(seed, step, row, 20_000, purpose=3)
    u = (bits >> 11) * 2.0**-53
    ends = np.cumsum(probability(x))
    want = np.searchsorted(ends, u * ends[-1], side="right")
    got = vastmax.sample(x, len(u), seed=seed, step=step, row_offset=row)
    assert (got == want).mean() > 0.9999
    off = np.flatnonzero(got != want)
    lower = np.minimum(got, want)[off]
    assert np.abs(ends[lower] - u[off]).max(initial=0) < 1e-12
    narrow = vastmax.sample(x.astype(np.float32), len(u), seed=seed, step=step, row_offset=row)
    ends = np.cumsum(probability(x.astype(np.float32)))
    assert (narrow == np.searchsorted(ends, u * ends[-1], side="right")).mean() > 0.999


# ---------------------------------------------------------------------------- the same draws always


ROWS = np.stack([normal(VOCABULARY, 3, 1), normal(VOCABULARY, 1, 2), LAWS["a vocabulary"]]).astype(np.float32)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
@pytest.mark.parametrize("size", [None, 1, 700])
def test_threads_batches_and_instruction_sets(temperature: float, size: int | None) -> None:
    def draw(x: Any, **more: Any) -> Any:
        return vastmax.sample(x, size, temperature=temperature, seed=4, step=9, return_log_prob=True, **more)

    want = draw(ROWS)
    for isa in vastmax.available_isas():
        for threads in (1, 2, 5):
            with vastmax.config(threads=threads, isa=isa):
                got = draw(ROWS)
                alone = [draw(ROWS[i], row_offset=i) for i in range(3)]
            for k in range(2):
                np.testing.assert_array_equal(got[k], want[k])
                np.testing.assert_array_equal([a[k] for a in alone], want[k])
    many = draw(np.repeat(ROWS, 4, 0))  # rows go to threads whole
    np.testing.assert_array_equal(many[0][0], want[0][0])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_strides_and_alignment(temperature: float, dtype: Any, isa: str) -> None:
    x = normal(5 * 9001, 2).reshape(5, 9001).astype(dtype)
    x[1] = 2e4 + x[1]
    x[3, ::2] = -INF
    want = vastmax.sample(x, 50, temperature=temperature, seed=1)
    raw = np.empty(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    wide = np.zeros((10, 9001, 3), x.dtype)
    wide[::2, :, 1] = x
    for same, axis in (
        (unaligned, -1),
        (wide[::2, :, 1], 1),
        (np.asfortranarray(x), 1),
        (x.T, 0),
        (np.ascontiguousarray(x[:, ::-1])[:, ::-1], -1),
        (x.astype(x.dtype.newbyteorder(">")) if x.dtype.isbuiltin == 1 else x, -1),
    ):
        np.testing.assert_array_equal(vastmax.sample(same, 50, axis=axis, temperature=temperature, seed=1), want)
    everything = vastmax.sample(x, 50, temperature=temperature, seed=1, where=np.ones(x.shape, bool))
    np.testing.assert_array_equal(everything, want)


def test_a_larger_size_goes_on_where_a_smaller_one_ends() -> None:
    x = ROWS[0]
    many = vastmax.sample(x, 1000, seed=7)
    for size in (0, 1, 2, 33):
        np.testing.assert_array_equal(vastmax.sample(x, size, seed=7), many[:size])
    assert vastmax.sample(x, seed=7) == many[0]


def test_golden_draws() -> None:
    """Draws change only in a major release."""
    x = np.cos(np.arange(10_000) * 0.37) * 4
    golden = {
        (np.float64, 1.0): GOLDEN_64,
        (np.float32, 1.0): GOLDEN_32,
        (np.float32, 0.25): GOLDEN_COLD,
    }
    for (dtype, temperature), want in golden.items():
        got = vastmax.sample(x.astype(dtype), 8, temperature=temperature, seed=2026, step=1, row_offset=5)
        assert got.tolist() == want
    unique = vastmax.sample(x, 8, replace=False, seed=2026, step=1, row_offset=5)
    assert unique.tolist() == GOLDEN_UNIQUE


GOLDEN_UNIQUE = [2650, 9477, 2904, 3378, 3429, 2070, 438, 7251]
GOLDEN_64 = [9732, 5317, 4875, 1816, 9647, 6468, 2515, 5892]
GOLDEN_32 = [9732, 5317, 4875, 1816, 9647, 6468, 2515, 5892]
GOLDEN_COLD = [9731, 5316, 4874, 1816, 9646, 6454, 2514, 5892]


def test_shapes() -> None:
    x = normal(2 * 3 * 50, 1).reshape(2, 50, 3)
    assert isinstance(vastmax.sample(x[0, :, 0]), np.int64)
    assert vastmax.sample(x, axis=1).shape == (2, 3)
    ids, log_prob, valid = vastmax.sample(x, 4, axis=1, return_log_prob=True, return_valid=True)
    assert ids.shape == log_prob.shape == valid.shape == (2, 3, 4)
    assert (ids.dtype, log_prob.dtype, valid.dtype) == (np.int64, np.float64, np.bool_)
    assert vastmax.sample(x.astype(np.float16), return_log_prob=True)[1].dtype == np.float32
    assert vastmax.sample(x, 0, axis=1).shape == (2, 3, 0)
    assert vastmax.sample(np.empty((0, 5))).shape == (0,)
    assert vastmax.sample([0, -INF]) == 0
    assert vastmax.explain(vastmax.sample, x).op == "sample"


def test_rows_draw_by_their_number_in_index_order() -> None:
    x = normal(2 * 3 * 500, 1).reshape(2, 3, 500)
    ids = vastmax.sample(x, 5, seed=3)
    for i in range(2):
        for j in range(3):
            alone = vastmax.sample(x[i, j], 5, seed=3, row_offset=3 * i + j)
            np.testing.assert_array_equal(alone, ids[i, j])
    moved = vastmax.sample(np.moveaxis(x, 1, 0), 5, seed=3)
    assert (moved[1, 0] != ids[0, 1]).any()


def test_a_temperature_for_each_row() -> None:
    x, t = np.stack([ROWS[0]] * 4), np.array([0.0, 0.5, 1.0, INF])
    ids = vastmax.sample(x, 30, temperature=t, seed=6)
    for same in (t[:, None], t.astype(np.float32)):
        np.testing.assert_array_equal(vastmax.sample(x, 30, temperature=same, seed=6), ids)
    for r in range(4):
        np.testing.assert_array_equal(vastmax.sample(x[r], 30, temperature=t[r], seed=6, row_offset=r), ids[r])


# ---------------------------------------------------------------------------- special values


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-40, 0.5, 1.0, 4.0, 1e300, INF])
def test_special_rows_affect_only_themselves(temperature: float, wide_dtype: Any, isa: str) -> None:
    n = 5000
    x = normal(7 * n, 2).reshape(7, n).astype(wide_dtype)
    clean = x.copy()
    x[1, 4321] = np.nan
    x[2] = -INF
    x[3, [2222, 4444]] = INF
    x[4, [2222, 17]] = INF, np.nan
    x[5, 1:] = -INF
    ids, log_prob, valid = vastmax.sample(
        x, 9, temperature=temperature, seed=1, return_log_prob=True, return_valid=True
    )
    want = vastmax.sample(clean, 9, temperature=temperature, seed=1, return_log_prob=True)
    for r in (0, 6):
        np.testing.assert_array_equal(ids[r], want[0][r])
        np.testing.assert_array_equal(log_prob[r], want[1][r])
    for r in (1, 2, 4):
        assert (ids[r] == -1).all()
        assert np.isnan(log_prob[r]).all()
    np.testing.assert_array_equal(valid, np.broadcast_to(np.isin(range(7), (0, 3, 5, 6))[:, None], (7, 9)))
    assert (ids[3] == 2222).all()
    assert (ids[5] == 0).all()
    assert (log_prob[[3, 5]] == 0).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.3])
def test_where(temperature: float) -> None:
    x = ROWS[:, :9000].copy()
    mask = np.random.default_rng(3).random(x.shape) < 0.3
    mask[2] = False
    want = vastmax.sample(np.where(mask, x, -INF), 40, temperature=temperature, seed=1)
    hidden = np.where(mask, x, np.nan).astype(np.float32)
    ids, valid = vastmax.sample(hidden, 40, temperature=temperature, where=mask, seed=1, return_valid=True)
    np.testing.assert_array_equal(ids, want)
    assert valid[:2].all()
    assert not valid[2].any()
    assert (ids[2] == -1).all()


def test_no_classes() -> None:
    ids, valid = vastmax.sample(np.empty((2, 0)), return_valid=True)
    assert ids.tolist() == [-1, -1]
    assert not valid.any()


@pytest.mark.parametrize("temperature", [1.0, 0.5, INF])
def test_classes_of_probability_0(temperature: float, wide_dtype: Any) -> None:
    x = gaps(9000).astype(wide_dtype)
    x[:600] = -INF
    x[-700:] = -INF
    ids = vastmax.sample(x, 300_000, temperature=temperature, seed=8)
    assert np.isfinite(x[ids]).all()
    lone = np.full(9000, -INF, wide_dtype)
    lone[5003] = -1e4
    assert (vastmax.sample(lone, 1000, temperature=temperature, seed=8) == 5003).all()


def test_temperature_0_is_the_first_of_the_largest(dtype: Any, isa: str) -> None:
    x = np.zeros((3, 9000), dtype)
    x[0, [4100, 4101, 8999]] = 1
    x[1, 0] = -0.0
    x[2] = -INF
    x[2, 77] = -5
    assert vastmax.sample(x, temperature=0, seed=1).tolist() == [4100, 0, 77]


def test_tiny_temperatures_share_among_the_largest() -> None:
    x = np.zeros(9000, np.float32)
    x[[5, 8000]] = 1
    for temperature in (1e-3, 1e-30, 1e-45, 5e-324):
        ids = vastmax.sample(x, 10_000, temperature=temperature, seed=1)
        assert follows(ids == 5, [0.5, 0.5])
        assert set(ids) == {5, 8000}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_at_the_ends_of_the_range(dtype: Any) -> None:
    most = np.finfo(dtype).max
    x = np.array([-most, most, most / 2, -INF], dtype)
    assert (vastmax.sample(x, 100, seed=1) == 1).all()
    assert follows(vastmax.sample(x, 30_000, temperature=INF, seed=1), np.array([1, 1, 1, 0]) / 3)
    shares = np.exp([-2.0, 0, -0.5]) / np.exp([-2.0, 0, -0.5]).sum()
    assert follows(vastmax.sample(x, 30_000, temperature=float(most), seed=1), np.append(shares, 0))


# ---------------------------------------------------------------------------- log-probabilities


@pytest.mark.parametrize("name", ["two", "steep", "near certain", "large logits", "far tail", "holes"])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 5.0, INF])
def test_log_probabilities(name: str, temperature: float, wide_dtype: Any) -> None:
    x = LAWS[name].astype(wide_dtype)
    ids, got = vastmax.sample(x, 30, temperature=temperature, seed=1, return_log_prob=True)
    with mpmath.workdps(40):
        t = mpmath.mpf(temperature)
        largest = mpmath.mpf(float(x.max()))
        levels, counts = np.unique(x[x > -INF].astype(np.float64), return_counts=True)
        gap = {z: mpmath.mpf(0) if temperature == INF else (mpmath.mpf(z) - largest) / t for z in levels.tolist()}
        mass = mpmath.fsum(int(c) * mpmath.exp(gap[z]) for z, c in zip(levels.tolist(), counts, strict=True))
        want = [float(gap[float(x[i])] - mpmath.log(mass)) for i in ids]
    np.testing.assert_allclose(got, want, rtol=1e-6 if wide_dtype == np.float32 else 1e-13)


def test_log_probabilities_near_certainty() -> None:
    for scale, temperature in ((1.0, 1.0), (0.5, 0.5)):
        _, got = vastmax.sample(np.array([40.0, 0.0]) * scale, temperature=temperature, seed=1, return_log_prob=True)
        assert got == pytest.approx(-4.248354255291589e-18, rel=1e-12)


# ---------------------------------------------------------------------------- filters


FILTERS: dict[str, dict[str, Any]] = {
    "one": {"top_k": 1},
    "few": {"top_k": 50},
    "many": {"top_k": 3000},
    "more than there are": {"top_k": 1 << 40},
    "nucleus": {"top_p": 0.9007},
    "nearly all": {"top_p": 0.9999},
    "none": {"top_p": 0.0},
    "close to the likeliest": {"min_p": 0.02},
    "far from it": {"min_p": 1e-7},
    "the likeliest": {"min_p": 1.0},
    "all of them": {"top_k": 400, "top_p": 0.8007, "min_p": 0.01},
    "many and nearly all": {"top_k": 4000, "top_p": 0.999, "min_p": 1e-9},
}


def kept(x: Any, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Any:
    """Which classes filters keep, by sorting in extended precision."""
    z = x.astype(np.longdouble)
    z = np.where(z == -INF, -INF, 0) if temperature == INF else (z - z.max()) / temperature
    order = np.argsort(-x.astype(np.float64), kind="stable")
    if top_k:
        order = order[:top_k]
    mass = np.exp(z[order])
    if top_p < 1:
        order = order[: int(np.searchsorted(np.cumsum(mass), top_p * mass.sum())) + 1]
    order = order[np.exp(z[order]) >= min_p]
    mask = np.zeros(len(x), bool)
    mask[order] = True
    return mask & (x > -INF)


@pytest.mark.parametrize(
    "name", ["steep", "a vocabulary", "two peaks", "holes", "ascending", "large logits", "all alike"]
)
@pytest.mark.parametrize("chosen", FILTERS)
def test_filters(name: str, chosen: str, wide_dtype: Any) -> None:
    """A draw from what is left; of at least half of it, the draw without the filter unless the filter takes it."""
    x = LAWS[name].astype(wide_dtype)
    tries = FILTERS[chosen].get("top_p", 0) >= 0.5 and "top_k" not in FILTERS[chosen]

    def drawn(p: Any, purpose: int) -> Any:
        ends = np.cumsum(p)
        u = (uniform_bits(31, 0, 2, 3000, purpose=purpose) >> 11) * 2.0**-53
        return np.searchsorted(ends, u * ends[-1], side="right")

    for temperature in (1.0, 0.6, 1.7):
        mask = kept(x, temperature, **FILTERS[chosen])
        p = probability(np.where(mask, x, -INF), temperature)
        want = drawn(p, 5 if tries else 3)
        if tries:
            first = drawn(probability(x, temperature), 3)
            want = np.where(mask[first], first, want)
        ids, log_prob = vastmax.sample(
            x, 3000, temperature=temperature, seed=31, row_offset=2, return_log_prob=True, **FILTERS[chosen]
        )
        assert mask[ids].all(), temperature
        assert (ids == want).mean() > 0.998, temperature
        with np.errstate(divide="ignore"):
            rtol, atol = (1e-5, 1e-6) if wide_dtype == np.float32 else (1e-11, 1e-13)
            np.testing.assert_allclose(log_prob, np.log(p)[ids], rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", [(1000, 900), (20, 20_000), (1, 300_000)])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"temperature": 40.0}, {"min_p": 0.01}], ids=str)
def test_one_draw_is_the_first_of_many(shape: tuple[int, int], options: dict[str, Any], dtype: Any) -> None:
    """Whether a filter keeps one class is asked of sums in float32, for several the cut is made."""
    rng = np.random.default_rng(11)
    for digits, spread in ((9, 1.0), (9, 6.0), (0, 2.0), (0, 0.1)):  # a few values, and one
        x = np.round(rng.standard_normal(shape) * spread, digits).astype(dtype)
        for p in (0.5, 0.9, 0.9999):
            want = vastmax.sample(x, 2, top_p=p, seed=5, **options)[:, 0]
            for threads in (1, 2):
                with vastmax.config(threads=threads):
                    np.testing.assert_array_equal(vastmax.sample(x, top_p=p, seed=5, **options), want)
            alone, _ = vastmax.sample(x, top_p=p, seed=5, return_log_prob=True, **options)
            np.testing.assert_array_equal(alone, want)


@pytest.mark.parametrize("digits", [9, 0], ids=["distinct", "ties"])
def test_draws_at_the_border(digits: int, wide_dtype: Any) -> None:
    """A share as large as what comes before the class that would be drawn, but for a few parts in 10^5 or 10^8."""
    x = np.round(np.random.default_rng(12).standard_normal((400, 5000)) * 2, digits).astype(wide_dtype)
    free = vastmax.sample(x, seed=4)
    order = np.argsort(-x, axis=1, kind="stable")
    mass = np.exp(np.take_along_axis(x, order, axis=1).astype(np.float64))
    before = (np.cumsum(mass, axis=1) - mass) / mass.sum(axis=1, keepdims=True)
    share = before[order == free[:, None]]
    for nearly in (1 - 3e-5, 1 - 1e-8, 1 + 1e-8, 1 + 3e-5):
        p = share * nearly
        at = (p > 0.5) & (p < 1)
        got = vastmax.sample(x, seed=4, top_p=np.where(at, p, 1))
        assert at.sum() > 100
        assert ((got == free) == (nearly > 1))[at].all()


@pytest.mark.parametrize("chosen", FILTERS)
def test_filters_do_not_depend_on_threads_batches_and_strides(chosen: str, dtype: Any) -> None:
    x = ROWS[:, :70_001].astype(dtype)
    options = {"temperature": 0.8, "seed": 3, "return_log_prob": True, **FILTERS[chosen]}
    want = vastmax.sample(x, 20, **options)
    wide = np.zeros((3, 70_001, 2), x.dtype)
    wide[..., 0] = x
    for isa in vastmax.available_isas():
        for threads in (1, 3):
            with vastmax.config(threads=threads, isa=isa):
                alone = vastmax.sample(x[2], 20, row_offset=2, **options)
                got = vastmax.sample(wide[..., 0], 20, **options)
                masked = vastmax.sample(x, 20, where=np.ones(70_001, bool), **options)
            for k in range(2):
                np.testing.assert_array_equal(got[k], want[k])
                np.testing.assert_array_equal(masked[k], want[k])
                np.testing.assert_array_equal(alone[k], want[k][2])


def test_filters_of_each_row() -> None:
    x = np.stack([ROWS[0]] * 5)
    given = {"top_k": [0, 50, 0, 900, 5], "top_p": [1, 1, 0.5, 0.9, 0], "min_p": [0, 0, 0, 1e-3, 1]}
    t = np.array([1.0, 0.5, 1.0, 2.0, INF])
    ids = vastmax.sample(x, 30, temperature=t, seed=6, **given)
    for r in range(5):
        alone = {name: value[r] for name, value in given.items()}
        np.testing.assert_array_equal(vastmax.sample(x[r], 30, temperature=t[r], seed=6, row_offset=r, **alone), ids[r])
    np.testing.assert_array_equal(vastmax.sample(x[0], 30, seed=6), ids[0])


@pytest.mark.parametrize("chosen", FILTERS)
def test_filters_and_special_rows(chosen: str, isa: str) -> None:
    x = np.stack([normal(5000, 2)] * 5)
    x[1, 4321] = np.nan
    x[2] = -INF
    x[3, [2222, 4444]] = INF
    x[4, 7:] = -INF
    for temperature in (0.0, 1.0, 0.5, INF):
        ids, valid = vastmax.sample(x, 9, temperature=temperature, seed=1, return_valid=True, **FILTERS[chosen])
        alone = vastmax.sample(x[0], 9, temperature=temperature, seed=1, **FILTERS[chosen])
        np.testing.assert_array_equal(ids[0], alone)
        assert (ids[[1, 2]] == -1).all()
        assert valid[:, 0].tolist() == [True, False, False, True, True]
        assert (ids[3] == 2222).all()
        assert (ids[4] < 7).all()


@pytest.mark.parametrize("chosen", ["few", "many", "nucleus", "nearly all", "all of them"])
def test_unique_draws_under_filters(chosen: str) -> None:
    x = LAWS["steep"]
    mask = kept(x, 0.9, **FILTERS[chosen])
    keys = np.where(mask, (x - x.max()) / 0.9, -INF) + noise(5, 0, len(x))
    size = 60
    want = np.argsort(-keys, kind="stable")[:size]
    want[mask.sum() :] = -1
    got = vastmax.sample(x, size, temperature=0.9, replace=False, seed=5, **FILTERS[chosen])
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------------------- without replacement


def noise(seed: int, row: int, n: int, step: int = 0) -> Any:
    """-log(-log(1 - v)) in extended precision."""
    v = (uniform_bits(seed, step, row, n, purpose=4).astype(np.longdouble) + 0.5) * np.longdouble(2) ** -64
    return -np.log(-np.log1p(-v))


@pytest.mark.parametrize("name", ["two", "all alike", "steep", "a vocabulary", "two peaks", "large logits", "holes"])
@pytest.mark.parametrize("temperature", [1.0, 0.2, 30.0, INF])
def test_unique_draws_are_the_largest_with_noise(name: str, temperature: float, wide_dtype: Any, isa: str) -> None:
    x = LAWS[name].astype(wide_dtype)
    gap = np.where(x == -INF, -INF, 0) if temperature == INF else (x.astype(np.longdouble) - x.max()) / temperature
    keys = gap + noise(12, 7, len(x), 3)
    size = min(200, len(x))
    want = np.argsort(-keys, kind="stable")[:size]
    got = vastmax.sample(x, size, temperature=temperature, replace=False, seed=12, step=3, row_offset=7)
    np.testing.assert_array_equal(got, want)


def test_unique_draws_follow_the_law_in_order() -> None:
    """Each ordered outcome of three of five classes."""
    q = np.array([5.0, 3, 2, 1, 1]) / 12
    outcomes = list(itertools.permutations(range(5), 3))
    p = [np.prod([q[i] / (1 - q[list(o[:k])].sum()) for k, i in enumerate(o)]) for o in outcomes]
    ids = vastmax.sample(np.broadcast_to(2 * np.log(q), (200_000, 5)), 3, temperature=2, replace=False, seed=4)
    number = {o: i for i, o in enumerate(outcomes)}
    assert follows(np.array([number[tuple(row)] for row in ids.tolist()]), np.array(p))


def test_unique_draws_of_all_classes_and_of_few() -> None:
    x = np.stack([normal(9000, 2), np.full(9000, -INF), gaps(9000), normal(9000, 1), normal(9000, 1)])
    x[2, np.flatnonzero(x[2] > -INF)[5:]] = -INF
    x[3, 8000] = np.nan
    x[4, 8000] = INF
    ids, log_prob, valid = vastmax.sample(x, 9000, replace=False, seed=1, return_log_prob=True, return_valid=True)
    np.testing.assert_array_equal(np.sort(ids[0]), np.arange(9000))
    assert valid.sum(1).tolist() == [9000, 0, 5, 0, 1]
    np.testing.assert_array_equal(valid, ids >= 0)
    np.testing.assert_array_equal(valid, ~np.isnan(log_prob))
    assert (np.diff(valid.astype(int)) <= 0).all()
    np.testing.assert_array_equal(np.sort(ids[2, :5]), np.flatnonzero(x[2] > -INF))
    assert ids[4, 0] == 8000
    np.testing.assert_allclose(np.exp(log_prob[[0, 2]]).sum(1, where=valid[[0, 2]]), 1, rtol=1e-12)
    cold = vastmax.sample(x[:1], 3, replace=False, temperature=0, seed=1)
    assert cold.tolist() == [[int(x[0].argmax()), -1, -1]]


def test_unique_draws_do_not_depend_on_threads_or_batches() -> None:
    x = np.concatenate([ROWS, ROWS[:, ::-1]])
    want = vastmax.sample(x, 40, replace=False, temperature=0.5, seed=1)
    for isa in vastmax.available_isas():
        for threads in (1, 5):
            with vastmax.config(threads=threads, isa=isa):
                np.testing.assert_array_equal(vastmax.sample(x, 40, replace=False, temperature=0.5, seed=1), want)
                alone = vastmax.sample(x[4], 40, replace=False, temperature=0.5, seed=1, row_offset=4)
                np.testing.assert_array_equal(alone, want[4])
    np.testing.assert_array_equal(vastmax.sample(x, 9, replace=False, temperature=0.5, seed=1), want[:, :9])


def test_a_certain_class_comes_first_without_replacement() -> None:
    x = spiked(5000, (777, 200.0))
    ids = vastmax.sample(np.broadcast_to(x, (50, 5000)), 3, replace=False, seed=2)
    assert (ids[:, 0] == 777).all()
    assert len(np.unique(ids[:, 1])) > 40


# ---------------------------------------------------------------------------- many classes


@pytest.mark.parametrize("classes", [(1 << 24) + 1, pytest.param(50_000_000, marks=pytest.mark.slow)])
def test_more_classes_than_2_to_the_24(classes: int) -> None:
    """torch.multinomial refuses them."""
    x = np.zeros(classes, np.float32)
    x[classes // 2 :] = np.log(3)
    ids = vastmax.sample(x, 200_000, seed=1)
    edges = np.linspace(0, classes, 101).astype(np.int64)
    p = np.exp(x.astype(np.float64))
    p /= p.sum()
    assert p_value(np.histogram(ids, edges)[0], np.add.reduceat(p, edges[:-1])) > 1e-6
    assert follows(ids % 64, np.bincount(np.arange(classes) % 64, p))
    x[-1] = 60
    assert (vastmax.sample(x, 10, seed=1) == classes - 1).all()


# ---------------------------------------------------------------------------- bad input


X = np.zeros((2, 5))
BAD: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ValueError, "sample: temperature is -1; accepted: numbers >= 0", lambda: vastmax.sample(X, temperature=-1)),
    (ValueError, "temperature is nan", lambda: vastmax.sample(X, temperature=[1, np.nan])),
    (TypeError, "temperature has dtype complex128", lambda: vastmax.sample(X, temperature=1j)),  # type: ignore[arg-type]
    (ValueError, "temperature has shape (3,)", lambda: vastmax.sample(X, temperature=[1, 1, 1])),
    (ValueError, "size is -1", lambda: vastmax.sample(X, -1)),
    (TypeError, "size is 1.5", lambda: vastmax.sample(X, 1.5)),  # type: ignore[arg-type]
    (ValueError, "sample: top_k is -1; accepted: ints >= 0", lambda: vastmax.sample(X, top_k=-1)),
    (TypeError, "top_k has dtype float64", lambda: vastmax.sample(X, top_k=1.5)),
    (ValueError, "top_p is 1.5; accepted: numbers from 0 to 1", lambda: vastmax.sample(X, top_p=[1, 1.5])),
    (ValueError, "top_p is nan", lambda: vastmax.sample(X, top_p=np.nan)),
    (ValueError, "min_p is -0.5", lambda: vastmax.sample(X, min_p=-0.5)),
    (ValueError, "min_p has shape (3,)", lambda: vastmax.sample(X, min_p=[0, 0, 0])),
    (ValueError, "size is 6; accepted: 0 to 5", lambda: vastmax.sample(X, 6, replace=False)),
    (TypeError, "axis is None", lambda: vastmax.sample(X, axis=None)),  # type: ignore[arg-type]
    (ValueError, "seed is -1", lambda: vastmax.sample(X, seed=-1)),
    (ValueError, "step is 4294967296", lambda: vastmax.sample(X, step=1 << 32)),
    (ValueError, "row_offset is 281474976710655", lambda: vastmax.sample(X, row_offset=(1 << 48) - 1)),
    (TypeError, "where has dtype int64", lambda: vastmax.sample(X, where=np.ones(5, int))),
    (TypeError, "logits has dtype complex128", lambda: vastmax.sample(X * 1j)),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD, ids=[text for _, text, _ in BAD])
def test_bad_input(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_a_bad_call_takes_nothing_from_a_generator() -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    with pytest.raises(ValueError, match="temperature"):
        vastmax.sample(X, temperature=-1, seed=generator)
    assert generator.bit_generator.state == before


def test_the_core_guards_itself() -> None:
    ids = np.empty(2, np.int64)
    ones = np.ones(2)

    def call(**changed: Any) -> None:
        given: dict[str, Any] = {
            "x": X, "size": 1, "replace": True, "temperature": ones, "top_k": None, "top_p": None, "min_p": None,
            "seed": 0, "step": 0, "row": 0, "ids": ids, "log_prob": None, "valid": None, "where": None, "threads": 1,
            "isa": -1,
        }  # fmt: skip
        _core.sample(*(given | changed).values())

    call()
    for wrong in (
        {"x": np.array(1.0)},
        {"size": 2},
        {"temperature": np.array([1.0, -1.0])},
        {"temperature": np.ones(3)},
        {"row": 2**48 - 1},
        {"top_k": np.ones(3, np.int64)},
        {"top_p": np.ones(2, np.float32)},
        {"size": 6, "replace": False, "ids": np.empty(12, np.int64)},
        {"ids": None},
        {"ids": ids.astype(np.int32)},
        {"log_prob": np.empty(1)},
        {"valid": np.empty(2, np.int8)},
        {"where": np.ones(5, bool)},
    ):
        with pytest.raises(ValueError, match=r"sample|must|needed|0-d"):
            call(**wrong)
