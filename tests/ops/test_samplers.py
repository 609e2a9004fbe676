# SPDX-License-Identifier: Apache-2.0
"""Samplers: the laws, by G-tests with fixed seeds; the same ids always; estimates that are unbiased; bad input.

Laws are written here anew. A test that is named after a defect of another implementation has that defect in it, and
must find it.
"""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import optimize

import vastmax
from support.goodness_of_fit import follows, independent, p_value, uniform_bits
from vastmax import _core

VAST = 100_000_000
ZIPF = np.floor(1e6 / np.arange(1, 5001) ** 1.1)  # counts with heavy ties in the tail
SHUFFLED = np.random.default_rng(0).permutation(ZIPF)


def unigram(counts: Any, power: float) -> Any:
    weights = np.asarray(counts, np.float64) ** power * (np.asarray(counts) > 0)
    return weights / weights.sum()


def log_uniform(classes: int) -> Any:
    k = np.arange(classes, dtype=np.float64)
    return np.log1p(1 / (k + 1)) / np.log1p(classes)


def log_uniform_below(k: Any, classes: int) -> Any:
    """The probability of a class below k."""
    return np.log1p(np.asarray(k, np.float64)) / np.log1p(classes)


def rows(sampler: Any, count: int, n: int, *, seed: int = 1, step: int = 0, row: int = 0) -> Any:
    return _core.draw_rows(sampler._native, seed, step, row, count, n, 0, -1)


LAWS: dict[str, tuple[Callable[[], Any], Any]] = {
    "uniform": (lambda: vastmax.UniformSampler(1000), np.full(1000, 1e-3)),
    "log-uniform": (lambda: vastmax.LogUniformSampler(3000), log_uniform(3000)),
    "log-uniform of one": (lambda: vastmax.LogUniformSampler(1), np.ones(1)),
    "descending counts": (lambda: vastmax.UnigramSampler(ZIPF), unigram(ZIPF, 0.75)),
    "ascending counts": (lambda: vastmax.UnigramSampler(ZIPF[::-1]), unigram(ZIPF[::-1], 0.75)),
    "counts": (lambda: vastmax.UnigramSampler(SHUFFLED), unigram(SHUFFLED, 0.75)),
    "counts as they are": (lambda: vastmax.UnigramSampler(SHUFFLED, power=1), unigram(SHUFFLED, 1)),
    "roots of counts": (lambda: vastmax.UnigramSampler(SHUFFLED, power=0.5), unigram(SHUFFLED, 0.5)),
    "counts, flat": (lambda: vastmax.UnigramSampler([3, 0, 1, 9, 0, 1], 0), unigram([3, 0, 1, 9, 0, 1], 0)),
    "rare first": (lambda: vastmax.UnigramSampler([1, 2, 4, 8], -0.5), unigram([1, 2, 4, 8], -0.5)),
    "zeros at the end": (lambda: vastmax.UnigramSampler([5, 1, 0, 0], 1), unigram([5, 1, 0, 0], 1)),
    "zeros first": (lambda: vastmax.UnigramSampler([0, 0, 1, 5, 5], 1), unigram([0, 0, 1, 5, 5], 1)),
    "one of many": (lambda: vastmax.UnigramSampler([0, 2.5, 0]), np.array([0, 1, 0])),
    "all distinct": (
        lambda: vastmax.UnigramSampler(np.arange(1, 2000) ** 0.5),
        unigram(np.arange(1, 2000) ** 0.5, 0.75),
    ),
    "mixture": (
        lambda: vastmax.MixtureSampler([vastmax.UniformSampler(5000), vastmax.UnigramSampler(SHUFFLED)], [1, 3]),
        0.25 / 5000 + 0.75 * unigram(SHUFFLED, 0.75),
    ),
    "mixture of disjoint parts": (
        lambda: vastmax.MixtureSampler(
            [vastmax.UnigramSampler([1, 0, 2, 0], 1), vastmax.UnigramSampler([0, 3, 0, 1], 1)], [2, 1]
        ),
        np.array([2 / 9, 1 / 4, 4 / 9, 1 / 12]),
    ),
    "mixture of a mixture": (
        lambda: vastmax.MixtureSampler(
            [
                vastmax.UnigramSampler([1, 0, 0], 1),
                vastmax.MixtureSampler([vastmax.UnigramSampler([0, 1, 0]), vastmax.UniformSampler(3)], [1, 1]),
            ],
            [1, 1],
        ),
        np.array([7, 4, 1]) / 12,
    ),
}


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Any:
    make, probability = LAWS[request.param]
    return make(), probability


def test_draws_follow_the_law(law: Any) -> None:
    sampler, probability = law
    ids = sampler.sample(1_000_000, seed=11)
    assert ids.dtype == np.int64
    if (np.asarray(probability) > 0).sum() == 1:
        assert (ids == np.argmax(probability)).all()
    else:
        assert follows(ids, probability)


def test_log_prob_is_that_of_the_law(law: Any) -> None:
    sampler, probability = law
    with np.errstate(divide="ignore"):
        want = np.log(probability)
    got = sampler.log_prob(np.arange(len(probability)))
    np.testing.assert_allclose(got, want, rtol=2e-14, atol=2e-14)
    assert abs(np.exp(got).sum() - 1) < 1e-12
    assert sampler.log_prob([[0, 0]]).shape == (1, 2)
    assert np.isscalar(sampler.log_prob(0))


def test_expected_counts(law: Any) -> None:
    sampler, probability = law
    ids, drawable = np.arange(len(probability)), int((np.asarray(probability) > 0).sum())
    np.testing.assert_allclose(sampler.expected_count(ids, 7), 7 * probability, rtol=2e-13)
    for size in {1, drawable // 2, drawable - 1, drawable} - {0}:
        got = sampler.expected_count(ids, size, unique=True)
        assert abs(got.sum() - size) < 1e-9 * size, size
        assert ((got >= 0) & (got <= 1)).all()
        assert ((got > 0) == (np.asarray(probability) > 0)).all()
    got = sampler.expected_count(ids, drawable, unique=True)
    np.testing.assert_array_equal(got, np.asarray(probability) > 0)


# ---------------------------------------------------------------------------- the same ids, always


def test_same_ids_on_each_instruction_set_and_for_any_threads(isa: str, law: Any) -> None:
    sampler, _ = law
    size = 100_003
    with vastmax.config(isa="scalar", threads=1):
        want = sampler.sample(size, seed=5, step=3)
        log_q = sampler.log_prob(want)
    for threads in (1, 2, 8):
        with vastmax.config(isa=isa, threads=threads):
            np.testing.assert_array_equal(sampler.sample(size, seed=5, step=3), want)
            np.testing.assert_array_equal(sampler.log_prob(want), log_q)
    np.testing.assert_array_equal(sampler.sample(777, seed=5, step=3), want[:777])
    several = (np.exp(log_q) < 1).any()
    assert (sampler.sample(size, seed=5, step=4) != want).any() == several


def test_same_unique_ids_on_each_instruction_set(isa: str, law: Any) -> None:
    sampler, probability = law
    drawable = int((np.asarray(probability) > 0).sum())
    for size in {1, drawable // 3, drawable - 1, drawable} - {0}:
        with vastmax.config(isa="scalar", threads=1):
            want = sampler._draw("test", size, 5, 3, True)
        with vastmax.config(isa=isa):
            got = sampler._draw("test", size, 5, 3, True)
        np.testing.assert_array_equal(got.ids, want.ids)
        assert got.arrival == want.arrival


@pytest.mark.parametrize("n", [1, 5, 300, 40_000])
def test_rows_do_not_depend_on_the_batch_around_them(n: int) -> None:
    sampler = vastmax.LogUniformSampler(VAST)._native
    whole = _core.draw_rows(sampler, 3, 1, 10, 9, n, 2, -1)
    assert whole.shape == (9, n)
    for first, count, threads in ((0, 4, 1), (4, 5, 8), (8, 1, 2)):
        part = _core.draw_rows(sampler, 3, 1, 10 + first, count, n, threads, -1)
        np.testing.assert_array_equal(part, whole[first : first + count])


@pytest.mark.parametrize(("seed", "step", "row"), [(0, 0, 0), (2**64 - 1, 2**32 - 1, 2**48 - 1), (12345 << 20, 7, 99)])
def test_ids_are_those_of_philox(seed: int, step: int, row: int) -> None:
    """A user can have the ids of another program, in a few lines."""
    bits = uniform_bits(seed, step, row, 1001)
    for classes in (3, 1000, VAST, 2**40):
        want = [int(b) * classes >> 64 for b in bits]
        got = _core.draw_rows(vastmax.UniformSampler(classes)._native, seed, step, row, 1, 1001, 1, -1)[0]
        assert got.tolist() == want
    u = (bits >> 11) * 2.0**-53
    for classes in (3, 1000, VAST):
        got = _core.draw_rows(vastmax.LogUniformSampler(classes)._native, seed, step, row, 1, 1001, 1, -1)[0]
        want = np.exp(u * np.log1p(classes)) - 1
        assert ((got <= want * (1 + 1e-13)) & (got > (want - 1) * (1 - 1e-13))).all()


@pytest.mark.parametrize("name", ["uniform", "log-uniform", "counts", "mixture"])
def test_draws_are_independent(name: str) -> None:
    """Neighbours, and the same draw of the next row, step and seed."""
    sampler, bins = LAWS[name][0](), 16
    fold = sampler.classes // bins + 1
    ids = rows(sampler, 2, 500_000) // fold if name == "uniform" else rows(sampler, 2, 500_000) % bins
    assert independent(ids[0, :-1], ids[0, 1:], bins)
    assert independent(ids[0, :-2], ids[0, 2:], bins)
    assert independent(ids[0], ids[1], bins)
    narrow = rows(sampler, 200_000, 3) % bins
    assert independent(narrow[:-1, 0], narrow[1:, 0], bins)
    for other in ({"step": 1}, {"seed": 2}, {"seed": 1 + (1 << 32)}, {"row": 1 << 32}):
        assert independent(ids[0] % bins, rows(sampler, 1, 500_000, **other)[0] % bins, bins), other


# ---------------------------------------------------------------------------- 100 million classes


def test_the_far_tail_of_a_vast_log_uniform_law() -> None:
    ids = vastmax.LogUniformSampler(VAST).sample(4_000_000, seed=2)
    edges = np.unique([*(2**k - 1 for k in range(27)), *np.linspace(VAST // 2, VAST, 300).astype(np.int64)])
    below = log_uniform_below(edges, VAST)
    assert p_value(np.histogram(ids, edges)[0], np.diff(below)) > 1e-6
    tail = ids[ids >= VAST // 2]
    assert follows(tail % 64, np.full(64, 1 / 64))  # a class is as likely as its neighbour
    assert tail_is_dense(tail)


def tail_is_dense(tail: Any) -> bool:
    """Whether ids from [VAST / 2, VAST) repeat no more often than classes of equal probability would."""
    q = 1 / (np.arange(VAST // 2, VAST, 1000) + 1.5)  # of the class, in steps of 1000
    pairs = len(tail) * (len(tail) - 1) / 2 * (q**2).sum() * 1000 / (q.sum() * 1000) ** 2
    repeated = len(tail) - len(np.unique(tail))
    return abs(repeated - pairs) < 5 * np.sqrt(pairs) + 0.02 * pairs  # triples are not counted


def test_uniforms_of_24_bits_would_show() -> None:
    u = np.random.default_rng(0).integers(1 << 24, size=4_000_000) * 2.0**-24
    ids = np.exp(u * np.log1p(VAST)).astype(np.int64) - 1
    assert not tail_is_dense(ids[ids >= VAST // 2])


def test_a_vast_uniform_law() -> None:
    ids = vastmax.UniformSampler(VAST).sample(2_000_000, seed=3)
    assert follows(ids // 100_000, np.full(1000, 1e-3))
    assert follows(ids % 1009, (VAST // 1009 + (np.arange(1009) < VAST % 1009)) / VAST)


@pytest.mark.parametrize("classes", [1, 2, VAST, 2**40])
def test_log_prob_of_a_vast_law_to_the_last_digit(classes: int) -> None:
    sampler = vastmax.LogUniformSampler(classes)
    with mpmath.workdps(40):
        for k in {0, 1 % classes, classes // 3, classes - 1}:
            want = float(mpmath.log(mpmath.log1p(mpmath.mpf(1) / (k + 1)) / mpmath.log1p(classes)))
            assert sampler.log_prob(k) == pytest.approx(want, rel=4e-16, abs=4e-16)
    assert vastmax.UniformSampler(classes).log_prob(0) == pytest.approx(-np.log(classes), rel=2e-16)


def test_log_uniform_expected_counts_by_blocks_are_those_of_the_classes() -> None:
    classes = 1_000_000
    sampler, q = vastmax.LogUniformSampler(classes), log_uniform(classes)
    for size in (1, 1000, 300_000, 999_000):
        time = optimize.brentq(lambda t: -np.expm1(-q * t).sum() - size, size, 1e4 * size, rtol=1e-14)  # noqa: B023
        got = sampler.expected_count(np.arange(classes), size, unique=True)
        np.testing.assert_allclose(got, -np.expm1(-q * time), rtol=1e-9)


# ---------------------------------------------------------------------------- without replacement


def test_unique_draws_are_the_distinct_ones_of_the_stream() -> None:
    for sampler in (vastmax.LogUniformSampler(VAST), vastmax.UnigramSampler(SHUFFLED), vastmax.UniformSampler(5000)):
        stream = sampler.sample(20_000, seed=8, step=2)
        _, first = np.unique(stream, return_index=True)
        want = stream[np.sort(first)][:1000]
        np.testing.assert_array_equal(sampler.sample(1000, seed=8, step=2, unique=True), want)


@pytest.mark.parametrize("clocks", [False, True])
def test_unique_draws_follow_the_law_in_order(clocks: bool) -> None:
    """Each ordered outcome of three of five classes; and when the fourth comes, which estimates need."""
    counts = np.array([5.0, 3, 2, 1, 1])
    q = counts / counts.sum()
    sampler = vastmax.UnigramSampler(counts, power=1)
    outcomes = list(itertools.permutations(range(5), 3))
    p = [np.prod([q[i] / (1 - q[list(o[:k])].sum()) for k, i in enumerate(o)]) for o in outcomes]
    drawn = [_core.draw_unique(sampler._native, 4, 0, row, 3, clocks, 1, -1) for row in range(60_000)]
    number = {o: i for i, o in enumerate(outcomes)}
    assert follows(np.array([number[tuple(ids.tolist())] for ids, _ in drawn]), np.array(p))
    weight = np.zeros((len(drawn), 5))
    for row, (ids, arrival) in enumerate(drawn):
        weight[row, ids] = 1 / -np.expm1(-q[ids] * arrival)
    error = (weight.mean(0) - 1) / (weight.std(0) / np.sqrt(len(drawn)))
    assert (np.abs(error) < 5).all(), error


@pytest.mark.parametrize("name", LAWS)
def test_unique_draws_of_all_classes(name: str) -> None:
    make, probability = LAWS[name]
    sampler, classes = make(), np.flatnonzero(probability)
    drawn = sampler._draw("test", len(classes), 3, 0, True)
    np.testing.assert_array_equal(np.sort(drawn.ids), classes)
    assert drawn.arrival == np.inf
    assert (drawn.log_expected == 0).all()
    if len(classes) > 1:
        fewer = sampler.sample(len(classes) - 1, seed=3, unique=True)
        assert len(np.unique(fewer)) == len(classes) - 1
        assert np.isin(fewer, classes).all()
    assert sampler.sample(0, seed=3, unique=True).size == 0


def test_rejection_or_clocks_is_decided_by_the_law_and_the_size() -> None:
    flat, heavy = vastmax.UniformSampler(100_000), vastmax.UnigramSampler([10.0**9, *np.ones(99_999)], power=1)
    assert not flat._by_clocks(1000)
    assert flat._by_clocks(99_000)
    assert heavy._by_clocks(1000)  # nearly every draw would be class 0
    assert not vastmax.LogUniformSampler(VAST)._by_clocks(1_000_000)
    assert len(np.unique(heavy.sample(1000, seed=0, unique=True))) == 1000


class Estimates:
    """Estimates of Z = sum f of a sample of distinct classes, and what they divide f by."""

    classes, size, trials = 200, 50, 20_000

    def __init__(self) -> None:
        self.q = log_uniform(self.classes)
        self.f = np.exp(np.random.default_rng(0).standard_normal(self.classes))
        self.sampler = vastmax.LogUniformSampler(self.classes)
        self.drawn = [self.sampler._draw("test", self.size, 1, step, True) for step in range(self.trials)]
        streams = (rows(self.sampler, 1, 1000, step=step)[0] for step in range(self.trials))
        self.tries = [int(np.sort(np.unique(s, return_index=True)[1])[self.size - 1]) + 1 for s in streams]

    def error(self, expected: Callable[[int], Any]) -> float:
        """How many standard errors the mean of the estimates is off, if Q is `expected` in a trial."""
        z = [np.sum(self.f[d.ids] / expected(i)[d.ids]) for i, d in enumerate(self.drawn)]
        return float((np.mean(z) - self.f.sum()) / (np.std(z) / np.sqrt(len(z))))


@pytest.fixture(scope="module")
def estimates() -> Estimates:
    return Estimates()


def test_estimates_from_unique_draws_are_unbiased(estimates: Estimates) -> None:
    z = [np.sum(estimates.f[d.ids] / np.exp(d.log_expected)) for d in estimates.drawn]
    error = (np.mean(z) - estimates.f.sum()) / (np.std(z) / np.sqrt(len(z)))
    assert abs(error) < 5
    q, drawn = estimates.q, estimates.drawn
    assert estimates.error(lambda i: -np.expm1(-q * drawn[i].arrival)) == pytest.approx(error)
    fixed = estimates.sampler.expected_count(np.arange(len(q)), estimates.size, unique=True)
    assert abs(estimates.error(lambda _: fixed)) < 5


def test_the_formula_of_tensorflow_is_biased(estimates: Estimates) -> None:
    q, tries = estimates.q, estimates.tries
    assert estimates.error(lambda i: -np.expm1(tries[i] * np.log1p(-q))) > 5


def test_estimates_from_draws_with_replacement_are_unbiased() -> None:
    q = log_uniform(200)
    f = np.exp(np.random.default_rng(0).standard_normal(200))
    ids = rows(vastmax.LogUniformSampler(200), 20_000, 50)
    z = (f[ids] / (50 * q[ids])).sum(1)
    assert abs(z.mean() - f.sum()) < 5 * z.std() / np.sqrt(len(z))


# ---------------------------------------------------------------------------- defects of other implementations


def test_defect_2_totals_that_stall_and_remainders() -> None:
    """Weights added up in float32 (TensorFlow), and bits reduced by a remainder."""
    counts = np.ones(4001)
    counts[0] = 2.0**24
    sampler = vastmax.UnigramSampler(counts, power=1)
    stalled = np.float32(0)
    for c in counts:
        stalled += np.float32(c)
    want = np.log(1 / counts.sum())
    assert abs(sampler.log_prob(1) - want) < 1e-14
    assert abs(np.log(1 / float(stalled)) - want) > 1e-4
    rare = int((sampler.sample(20_000_000, seed=1) > 0).sum())
    assert abs(rare - 20e6 * 4000 / counts.sum()) < 5 * np.sqrt(20e6 * 4000 / counts.sum())

    classes = 3 << 30
    thirds = np.full(3, 1 / 3)
    assert follows(vastmax.UniformSampler(classes).sample(100_000, seed=1) >> 30, thirds)
    assert not follows(np.random.default_rng(1).integers(1 << 32, size=100_000) % classes >> 30, thirds)


def test_defect_3_unique_draws_that_lose_the_largest_ids() -> None:
    """Sorted, then cut off (Transformers4Rec)."""
    classes, size = 1_000_000, 1000
    sampler = vastmax.LogUniformSampler(classes)
    edges = np.array([0, 200_000, 500_000, classes])
    expected = [sampler.expected_count(np.arange(a, b), size, unique=True).sum() for a, b in itertools.pairwise(edges)]
    ours = np.concatenate([sampler.sample(size, seed=1, step=step, unique=True) for step in range(200)])
    assert p_value(np.histogram(ours, edges)[0], np.array(expected) / size) > 1e-6
    theirs = np.concatenate([np.unique(rows(sampler, 1, 2 * size, step=step)[0])[:size] for step in range(200)])
    assert (theirs < 200_000).all()


def test_defect_4_probabilities_that_vanish() -> None:
    """Differences of logarithms in float32 (Merlin, Transformers4Rec), over 10 million classes."""
    classes = 10_000_000
    k = np.arange(classes - 100_000, classes)
    with mpmath.workdps(30):
        want = [
            float(mpmath.log(mpmath.log1p(mpmath.mpf(1) / (int(i) + 1)) / mpmath.log1p(classes))) for i in k[::9999]
        ]
    np.testing.assert_allclose(vastmax.LogUniformSampler(classes).log_prob(k[::9999]), want, rtol=1e-15)
    theirs = np.diff(np.log(np.arange(classes - 100_000, classes + 1, dtype=np.float32) + 1))
    assert (theirs == 0).mean() > 0.5


def test_defect_5_inclusion_by_the_number_of_samples(estimates: Estimates) -> None:
    """1 - (1 - q)^S (Merlin), which is too small by far; and a mixture has a q like any other."""
    q, size = estimates.q, estimates.size
    assert estimates.error(lambda _: -np.expm1(size * np.log1p(-q))) > 50
    mixture = LAWS["mixture"][0]()
    assert np.isfinite(mixture._draw("test", 500, 0, 0, True).log_expected).all()


def test_defect_6_rounding_to_nearest() -> None:
    """lround(e^(u log V)) - 1, corrected with the probabilities of another law (PyTorch_GBW_LM)."""
    classes = 1000
    assert follows(vastmax.LogUniformSampler(classes).sample(1_000_000, seed=6), log_uniform(classes))
    u = np.random.default_rng(6).random(1_000_000)
    theirs = np.minimum(np.rint(np.exp(u * np.log(classes))).astype(np.int64) - 1, classes - 1)
    assert not follows(theirs, log_uniform(classes))


@pytest.mark.parametrize("sorted_counts", [True, False])
def test_defect_10_more_than_2_to_the_24_classes(sorted_counts: bool) -> None:
    """torch.multinomial refuses them, and missed half of the classes below that."""
    classes = (1 << 24) + (1 << 20)
    counts = np.full(classes, 1, np.uint8)
    counts[: classes // 2] = 2
    if not sorted_counts:
        counts[-1] = 2
    ids = vastmax.UnigramSampler(counts, power=1).sample(2_000_000, seed=1)
    share = np.repeat([2.0, 1.0], 50) / 150
    assert follows(np.minimum(ids * 100 // classes, 99), share)
    assert follows(ids[ids >= classes // 2] % 64, np.bincount(np.arange(classes // 2, classes) % 64) / (classes / 2))


# ---------------------------------------------------------------------------- the rest


def test_all_classes() -> None:
    sampler = vastmax.AllSampler(5)
    np.testing.assert_array_equal(sampler.sample(5, seed=None), np.arange(5))
    np.testing.assert_allclose(sampler.expected_count(np.arange(5), 5), 1)
    np.testing.assert_array_equal(sampler.expected_count(np.arange(5), 5, unique=True), 1)
    assert np.exp(sampler.log_prob(np.arange(5))).sum() == pytest.approx(1)
    drawn = sampler._draw("test", 5, None, 0, False)
    assert drawn.replaced is False
    assert (drawn.log_expected == 0).all()


def test_preset_classes() -> None:
    sampler = vastmax.PresetSampler([4, 1, 4, 9], [-1, -2, -1, -3], target_log_q=[[-1.5], [-np.inf]])
    np.testing.assert_array_equal(sampler.sample(4, seed=None), [4, 1, 4, 9])
    np.testing.assert_array_equal(sampler.log_prob([9, 4]), [-3, -1])
    np.testing.assert_allclose(sampler.expected_count([4], 4), 4 * np.exp(-1))
    with pytest.raises(ValueError, match="log_q has different numbers for class 4"):
        vastmax.PresetSampler([4, 1, 4], [-1, -2, -3])


@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint8, np.int32, np.uint64, np.float16, np.float32, ">f8", ">i4"]
)
def test_counts_of_any_dtype(dtype: Any) -> None:
    counts = np.array([1, 0, 1, 1], dtype)
    want = vastmax.UnigramSampler([1.0, 0, 1, 1])
    got = vastmax.UnigramSampler(counts)
    np.testing.assert_array_equal(got.sample(100, seed=1), want.sample(100, seed=1))
    np.testing.assert_array_equal(got.log_prob(np.arange(4)), want.log_prob(np.arange(4)))


def test_classes_too_rare_for_float64() -> None:
    """q is subnormal or underflows, yet the class can be drawn: their clocks are the last, none is lost."""
    counts = vastmax.softmax(np.r_[0.0, -736.0, -737.0, -738.0, -739.0, -740.0])
    sampler = vastmax.UnigramSampler(counts, power=1)
    for size in range(1, 7):
        ids = sampler.sample(size, seed=1, unique=True)
        assert ids[0] == 0
        assert len(np.unique(ids)) == size
        assert np.isin(ids, np.arange(6)).all()
        assert np.isfinite(sampler._draw("test", size, 1, 0, True).log_expected).all()
    np.testing.assert_array_equal(sampler.expected_count(np.arange(6), 6, unique=True), 1)


def test_weights_of_any_size() -> None:
    parts = [vastmax.UniformSampler(3), vastmax.LogUniformSampler(3)]
    want = vastmax.MixtureSampler(parts, [1, 1]).sample(1000, seed=3)
    np.testing.assert_array_equal(vastmax.MixtureSampler(parts, [1e308, 1e308]).sample(1000, seed=3), want)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e300, 1.5e308])
@pytest.mark.parametrize("power", [0.75, 1, 2, -1])
def test_counts_of_any_size(scale: float, power: float) -> None:
    counts = np.array([1, 0.5, 0.125, 0.5]) * scale
    want = unigram(np.array([1, 0.5, 0.125, 0.5]), power)
    rtol = 1e-2 if scale == 1e-320 else 1e-12
    got = np.exp(vastmax.UnigramSampler(counts, power).log_prob(np.arange(4)))
    np.testing.assert_allclose(got, want, rtol=rtol)


def test_pickles() -> None:
    counts = np.random.default_rng(3).integers(0, 50, 3000)
    unigram = vastmax.UnigramSampler(counts, power=0.6)
    laws = [
        vastmax.UniformSampler(3000),
        vastmax.LogUniformSampler(3000),
        unigram,
        vastmax.UnigramSampler(np.sort(counts)[::-1]),
        vastmax.MixtureSampler([unigram, vastmax.UniformSampler(3000)], [0.3, 0.1]),
    ]
    for law in laws:
        again = pickle.loads(pickle.dumps(law))
        assert repr(again) == repr(law)
        np.testing.assert_array_equal(again.sample(500, seed=1), law.sample(500, seed=1))
        np.testing.assert_array_equal(again.sample(500, seed=1, unique=True), law.sample(500, seed=1, unique=True))
        np.testing.assert_array_equal(again.log_prob(np.arange(3000)), law.log_prob(np.arange(3000)))
    preset = pickle.loads(pickle.dumps(vastmax.PresetSampler([4, 2], np.log([0.5, 0.25]))))
    assert preset.log_prob([2, 4]).tolist() == np.log([0.25, 0.5]).tolist()
    assert pickle.loads(pickle.dumps(vastmax.AllSampler(7))).sample(7, seed=None).tolist() == list(range(7))


def test_seeds() -> None:
    sampler = vastmax.UniformSampler(VAST)

    def ids(seed: Any) -> list[int]:
        return list(sampler.sample(4, seed=seed))

    sequence = np.random.SeedSequence(7)
    assert ids(sequence) == ids(int(sequence.generate_state(1, np.uint64)[0])) == ids(np.random.SeedSequence(7))
    generator = np.random.default_rng(7)
    assert ids(generator) != ids(generator)
    assert ids(np.random.default_rng(7)) == ids(np.random.default_rng(7))
    assert ids(None) != ids(None)
    assert ids(np.int64(3)) == ids(3) != ids(3 + (1 << 32))


UNIFORM = vastmax.UniformSampler(10)
BAD: list[tuple[type[Exception], str, Callable[[], Any]]] = [
    (ValueError, "num_classes is 0; accepted: an int from 1 to 2**40", lambda: vastmax.UniformSampler(0)),
    (ValueError, "LogUniformSampler: num_classes is 1099511627777", lambda: vastmax.LogUniformSampler(2**40 + 1)),
    (TypeError, "AllSampler: num_classes is 2.5", lambda: vastmax.AllSampler(2.5)),  # type: ignore[arg-type]
    (ValueError, "counts is -1.0 at class 1; accepted: finite numbers >= 0", lambda: vastmax.UnigramSampler([3, -1.0])),
    (ValueError, "counts is nan at class 0", lambda: vastmax.UnigramSampler([np.nan, 1])),
    (ValueError, "counts is inf at class 70000", lambda: vastmax.UnigramSampler(np.repeat([1, np.inf], [70_000, 1]))),
    (ValueError, "counts is 0 for every class", lambda: vastmax.UnigramSampler(np.zeros(3, np.int8))),
    (ValueError, "counts has shape (0,)", lambda: vastmax.UnigramSampler([])),
    (ValueError, "counts has shape (1, 2)", lambda: vastmax.UnigramSampler([[1, 2]])),
    (TypeError, "counts has dtype complex128", lambda: vastmax.UnigramSampler(np.ones(2, complex))),
    (ValueError, "power is inf", lambda: vastmax.UnigramSampler([1], power=np.inf)),
    (TypeError, "power is 'x'", lambda: vastmax.UnigramSampler([1], power="x")),  # type: ignore[arg-type]
    (ValueError, "size is 11; accepted: 0 to 10", lambda: UNIFORM.sample(11, seed=0, unique=True)),
    (
        ValueError,
        "size is 3; accepted: 0 to 2, the classes that can be drawn",
        lambda: vastmax.UnigramSampler([1, 0, 4]).sample(3, seed=0, unique=True),
    ),
    (ValueError, "size is 11; accepted: 0 to 10", lambda: UNIFORM.expected_count(0, 11, unique=True)),
    (ValueError, "UniformSampler.sample: size is -1", lambda: UNIFORM.sample(-1, seed=0)),
    (ValueError, "size is 4294967296", lambda: UNIFORM.sample(1 << 32, seed=0)),
    (TypeError, "size is 1.5", lambda: UNIFORM.sample(1.5, seed=0)),  # type: ignore[arg-type]
    (ValueError, "step is 4294967296; accepted: an int from 0 to", lambda: UNIFORM.sample(1, seed=0, step=1 << 32)),
    (ValueError, "seed is -1; accepted: an int from 0 to 2**64 - 1", lambda: UNIFORM.sample(1, seed=-1)),
    (ValueError, "seed is 18446744073709551616", lambda: UNIFORM.sample(1, seed=1 << 64)),
    (TypeError, "seed is 'x'", lambda: UNIFORM.sample(1, seed="x")),  # type: ignore[arg-type]
    (IndexError, "UniformSampler.log_prob: ids is 10 at row 1", lambda: UNIFORM.log_prob([3, 10])),
    (IndexError, "ids is -1", lambda: UNIFORM.expected_count([-1], 3)),
    (TypeError, "ids has dtype float64", lambda: UNIFORM.log_prob([0.5])),
    (TypeError, "samplers has a AllSampler", lambda: vastmax.MixtureSampler([vastmax.AllSampler(3)], [1])),  # type: ignore[list-item]
    (TypeError, "samplers has a int", lambda: vastmax.MixtureSampler([3], [1])),  # type: ignore[list-item]
    (
        ValueError,
        "samplers of [10, 11] classes",
        lambda: vastmax.MixtureSampler([UNIFORM, vastmax.UniformSampler(11)], [1, 1]),
    ),
    (ValueError, "samplers of [] classes", lambda: vastmax.MixtureSampler([], [])),
    (ValueError, "weights has shape (2,)", lambda: vastmax.MixtureSampler([UNIFORM], [1, 2])),
    (ValueError, "weights is [0.0]", lambda: vastmax.MixtureSampler([UNIFORM], [0])),
    (ValueError, "size is 2; accepted: 3", lambda: vastmax.AllSampler(3).sample(2, seed=0)),
    (ValueError, "size is 2; accepted: 1", lambda: vastmax.PresetSampler([1], [-1]).sample(2, seed=0)),
    (ValueError, "unique is True", lambda: vastmax.PresetSampler([1], [-1]).sample(1, seed=0, unique=True)),
    (ValueError, "log_q has shape (2,)", lambda: vastmax.PresetSampler([1], [-1, -2])),
    (ValueError, "log_q is 0.5", lambda: vastmax.PresetSampler([1], [0.5])),
    (ValueError, "log_q is nan", lambda: vastmax.PresetSampler([1], [np.nan])),
    (ValueError, "log_q is -inf for a class that was drawn", lambda: vastmax.PresetSampler([1], [-np.inf])),
    (IndexError, "ids is -1", lambda: vastmax.PresetSampler([-1], [-1])),
    (TypeError, "ids has dtype float64", lambda: vastmax.PresetSampler([1.0], [-1])),
    (
        IndexError,
        "ids has 2; accepted: classes among the preset ones",
        lambda: vastmax.PresetSampler([1], [-1]).log_prob(2),
    ),
]


@pytest.mark.parametrize(("error", "text", "call"), BAD, ids=[text for _, text, _ in BAD])
def test_bad_input(error: type[Exception], text: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_the_core_guards_itself() -> None:
    native = vastmax.UniformSampler(10)._native
    out = np.empty(1)
    for call in (
        lambda: _core.draw_rows(native, 0, 0, 2**48 - 1, 2, 1, 1, -1),
        lambda: _core.draw_unique(native, 0, 0, 0, 11, False, 1, -1),
        lambda: _core.log_prob(native, np.array([10]), out, 1, -1),
        lambda: _core.log_prob(native, np.array([0, 1]), out, 1, -1),
        lambda: _core.Sampler.uniform(0),
        lambda: _core.Sampler.unigram(np.array([-1.0]), 1),
        lambda: _core.Sampler.unigram(np.array([1], np.float32), 1),
        lambda: _core.Sampler.mixture([], []),
        lambda: _core.Sampler.mixture([native, _core.Sampler.uniform(3)], [1, 1]),
    ):
        with pytest.raises(ValueError, match=r"draw|log_prob|sampler|must|dense"):
            call()
