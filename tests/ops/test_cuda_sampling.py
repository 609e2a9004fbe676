# SPDX-License-Identifier: Apache-2.0
"""Draws from logits and their order on a GPU, beside those of the CPU; test_top_k runs there too."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import test_filters
import test_gumbel
import test_sample
import test_top_k

import vastmax
from support import fake_gpu_arrays
from support.goodness_of_fit import follows, uniform_bits

pytestmark = [pytest.mark.usefixtures("simulated", "backend"), pytest.mark.backends("device")]
INF = np.inf
MASKS = ("top_k_mask_logits", "top_p_mask_logits", "min_p_mask_logits")
NAMES = ("top_k", *MASKS, "sample", "gumbel_softmax")
HOST = {name: getattr(vastmax, name) for name in NAMES}


def layouts(x: Any) -> dict[str, Any]:
    """The same rows off a 16-byte boundary, every other class, and across."""
    made = {
        "shifted": np.empty(x.size + 3, x.dtype)[3:].reshape(x.shape),
        "apart": np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)[..., ::2],
        "backwards": np.empty(x.shape, x.dtype)[:, ::-1],
        "across": np.empty(x.shape[::-1], x.dtype).T,
    }
    for other in made.values():
        other[...] = x
    return made


# ---------------------------------------------------------------------------- the order


@pytest.mark.parametrize("n", [1, 2, 31, 1023, 1024, 1025, 9001, 33_000])
def test_top_k_of_every_length(dtype: Any, n: int) -> None:
    x = np.round(np.random.default_rng(n).standard_normal((2, n)) * 4, 1).astype(dtype)
    for k in test_top_k.ks(n):
        test_top_k.check(x, k)


def test_top_k_of_any_layout(dtype: Any) -> None:
    x = np.round(np.random.default_rng(5).standard_normal((3, 4001)), 2).astype(dtype)
    for other in layouts(x).values():
        for k in (1, 20, 700):
            test_top_k.check(other, k)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_top_k_along_any_axis(axis: int) -> None:
    x = np.random.default_rng(3).standard_normal((7, 6, 8)).astype(np.float32)
    test_top_k.check(x, 5, axis=axis)


def test_top_k_of_many_tiles() -> None:
    x = np.round(np.random.default_rng(5).standard_normal((1, 400_000)) * 3, 2).astype(np.float32)
    for k in (1, 50, 3000):
        test_top_k.check(x, k)


def test_top_k_errors() -> None:
    with pytest.raises(ValueError, match="k is 5; accepted: an int from 1 to 4"):
        vastmax.top_k(np.zeros((3, 4), np.float32), 5)
    with pytest.raises(ValueError, match="at least one class"):
        vastmax.top_k(np.zeros((3, 0), np.float32), 1)


# ---------------------------------------------------------------------------- masks


FILTERS = {
    "top_k_mask_logits": (1, 2, 7, 50, 300, 2000, 8999, 9000, 0),
    "top_p_mask_logits": test_filters.SHARES,
    "min_p_mask_logits": (*test_filters.SHARES, 0.25, 1e-300, 5e-324),
}
ROWS = {
    "normal": lambda n: np.random.default_rng(1).standard_normal(n),
    "steep": lambda n: np.random.default_rng(2).standard_normal(n) * 8,
    "ties": lambda n: np.round(np.random.default_rng(3).standard_normal(n) * 2),
    "equal": lambda n: np.full(n, -3.25),
    "far from 0": lambda n: np.random.default_rng(4).standard_normal(n) * 3 - 2e4,
    "holes": lambda n: np.where(np.arange(n) % 5 == 2, np.sin(np.arange(n)), -INF),
    "a peak": lambda n: np.where(np.arange(n) == n // 2, 30.0, np.cos(np.arange(n))),
    "infinities": lambda n: np.where(np.arange(n) % 700 == 2, INF, np.cos(np.arange(n))),
    "nothing": lambda n: np.full(n, -INF),
    "nan": lambda n: np.where(np.arange(n) == 77, np.nan, np.cos(np.arange(n))),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("row", ROWS)
def test_masks_are_those_of_the_cpu(dtype: Any, mask: str, row: str) -> None:
    """Integer masses make the sets of top_p the same, not only alike."""
    x = ROWS[row](9000).astype(dtype)
    for value in FILTERS[mask]:
        got, want = getattr(vastmax, mask)(x, value), HOST[mask](x, value)
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64), err_msg=str(value))


@pytest.mark.parametrize("p", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("n", [1, 2, 17, 1024, 4097])
def test_top_p_against_50_digits(wide_dtype: Any, n: int, p: float) -> None:
    test_filters.check_top_p((np.random.default_rng(n).standard_normal(n) * 3).astype(wide_dtype), p)


def test_a_mask_of_each_row_in_any_layout(dtype: Any) -> None:
    x = np.round(np.random.default_rng(6).standard_normal((4, 3000)), 2).astype(dtype)
    for name, several in zip(MASKS, ([3, 0, 1, 700], [0.7, 1.0, 0.0, 0.3], [0.2, 0.0, 1.0, 0.5]), strict=True):
        want = HOST[name](x, several)
        mask = getattr(vastmax, name)
        np.testing.assert_array_equal(mask(x, several), want)
        np.testing.assert_array_equal(mask(x.T, several, axis=0).T, want)
        for other in layouts(x).values():
            np.testing.assert_array_equal(mask(other, several), want)
        assert mask(np.zeros((0, 5), dtype), several[0]).shape == (0, 5)
        assert mask(np.zeros((2, 0), dtype), several[0]).shape == (2, 0)


def test_many_classes_and_equal_ones() -> None:
    """More equal classes than are listed: the last of them is found by its index."""
    x = np.full(300_001, 1.5, np.float32)
    x[:1000:7] = 2
    for name, value in zip(MASKS, (150_000, 0.4, 1.0), strict=True):
        np.testing.assert_array_equal(getattr(vastmax, name)(x, value), HOST[name](x, value))


# ---------------------------------------------------------------------------- draws


@pytest.mark.conformance
def test_draws_are_those_of_the_inverse_distribution_function() -> None:
    """Another program has the same classes, but where the uniform is within rounding of a border."""
    for name in ("two", "normal", "steep", "ascending", "first", "two peaks", "large logits", "holes", "far tail"):
        x, seed, step, row = test_sample.LAWS[name][:20_000], 99, 3, 1 << 33
        u = (uniform_bits(seed, step, row, 2000, purpose=3) >> 11) * 2.0**-53
        ends = np.cumsum(test_sample.probability(x))
        got = vastmax.sample(x, len(u), seed=seed, step=step, row_offset=row)
        off = np.flatnonzero(got != np.searchsorted(ends, u * ends[-1], side="right"))
        assert len(off) <= 1
        assert np.abs(ends[got[off]] - u[off]).max(initial=0) < 1e-12


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 7.0},
    "certain": {"temperature": 0},
    "uniform": {"temperature": INF},
    "tiny": {"temperature": 1e-30},
    "top_k": {"top_k": 40},
    "top_p": {"top_p": 0.9},
    "min_p": {"min_p": 0.05, "temperature": 1.5},
    "all": {"top_k": 700, "top_p": 0.95, "min_p": 0.001, "temperature": 0.8},
}


@pytest.mark.parametrize("options", OPTIONS)
def test_draws_of_the_cpu(dtype: Any, options: str) -> None:
    """The same but for borders, whose share of all draws docs/how-to/gpu.md states; the same log-probabilities."""
    x = (np.random.default_rng(1).standard_normal((2, 9000)) * 3).astype(dtype)
    x[1] = np.round(x[1].astype(np.float64)).astype(dtype)
    how = {**OPTIONS[options], "seed": 8, "return_log_prob": True, "return_valid": True}
    ids, log_prob, valid = vastmax.sample(x, 1000, **how)
    want, want_log_prob, want_valid = HOST["sample"](x, 1000, **how)
    assert (ids.dtype, log_prob.dtype, valid.dtype) == (want.dtype, want_log_prob.dtype, want_valid.dtype)
    same = ids == want
    assert same.mean() > 0.997
    np.testing.assert_allclose(log_prob[same], want_log_prob[same], rtol=1e-6, atol=1e-300)
    np.testing.assert_array_equal(valid, want_valid)


@pytest.mark.parametrize("options", ["plain", "cold", "all"])
def test_draws_of_any_layout_and_batch(dtype: Any, options: str) -> None:
    x = (np.random.default_rng(1).standard_normal((3, 5001)) * 3).astype(dtype)
    x[1] = (2e4 + x[1].astype(np.float64)).astype(dtype)
    how = {**OPTIONS[options], "seed": 8, "return_log_prob": True}
    want = vastmax.sample(x, 30, **how)
    for other in layouts(x).values():
        np.testing.assert_array_equal(vastmax.sample(other, 30, **how), want)
    np.testing.assert_array_equal(vastmax.sample(x.T, 30, axis=0, **how), want)
    np.testing.assert_array_equal(vastmax.sample(x, 30, where=np.ones(x.shape, bool), **how), want)
    for row in range(3):
        alone = vastmax.sample(x[row], 30, row_offset=row, **how)
        np.testing.assert_array_equal(alone, [part[row] for part in want])
    np.testing.assert_array_equal(vastmax.sample(x, 7, **how), [part[:, :7] for part in want])
    assert vastmax.sample(x, **how)[0].tolist() == want[0][:, 0].tolist()


def test_a_temperature_and_filters_for_each_row() -> None:
    x = np.random.default_rng(1).standard_normal((5, 3000)) * 2
    each = {
        "temperature": np.array([0.0, 0.5, 1.0, INF, 1.0]),
        "top_k": np.array([0, 5, 0, 60, 900]),
        "top_p": np.array([0.5, 1.0, 0.3, 0.9, 1.0]),
        "min_p": np.array([0.0, 0.1, 0.0, 0.0, 0.2]),
    }
    ids = vastmax.sample(x, 40, seed=6, **each)
    for row in range(5):
        one = {name: values[row] for name, values in each.items()}
        np.testing.assert_array_equal(vastmax.sample(x[row], 40, seed=6, row_offset=row, **one), ids[row])


def test_filtered_draws_are_those_of_what_masks_leave(wide_dtype: Any) -> None:
    x = (np.random.default_rng(1).standard_normal((2, 9000)) * 3).astype(wide_dtype)
    for filtered, name, value in (("top_k", MASKS[0], 90), ("top_p", MASKS[1], 0.4), ("min_p", MASKS[2], 0.01)):
        want = vastmax.sample(getattr(vastmax, name)(x, value), 500, seed=3)
        np.testing.assert_array_equal(vastmax.sample(x, 500, seed=3, **{filtered: value}), want)


def test_top_p_changes_only_the_draws_that_it_forbids(wide_dtype: Any) -> None:
    x = (np.random.default_rng(1).standard_normal((2, 9000)) * 3).astype(wide_dtype)
    free, got = vastmax.sample(x, 500, seed=3), vastmax.sample(x, 500, seed=3, top_p=0.7)
    kept = vastmax.top_p_mask_logits(x, 0.7) > -INF
    stays = np.take_along_axis(kept, free, axis=1)
    assert 0.6 < stays.mean() < 0.8
    np.testing.assert_array_equal(got[stays], free[stays])
    assert np.take_along_axis(kept, got, axis=1).all()
    mixed = vastmax.sample(x, 500, seed=3, top_p=[0.7, 0.3], top_k=[0, 50])
    np.testing.assert_array_equal(mixed[0], got[0])
    np.testing.assert_array_equal(mixed[1], vastmax.sample(x[1], 500, seed=3, row_offset=1, top_p=0.3, top_k=50))


@pytest.mark.parametrize("options", [o for o in OPTIONS if o not in ("top_k", "min_p")])
def test_special_rows_affect_only_themselves(wide_dtype: Any, options: str) -> None:
    n = 3000
    x = (np.random.default_rng(2).standard_normal((7, n)) * 2).astype(wide_dtype)
    clean = x.copy()
    x[1, 2321] = np.nan
    x[2] = -INF
    x[3, [2222, 2444]] = INF
    x[4, [2222, 17]] = INF, np.nan
    x[5, 1:] = -INF
    how = {**OPTIONS[options], "seed": 1, "return_log_prob": True, "return_valid": True}
    ids, log_prob, valid = vastmax.sample(x, 9, **how)
    want = vastmax.sample(clean, 9, **how)
    for row in (0, 6):
        np.testing.assert_array_equal(ids[row], want[0][row])
        np.testing.assert_array_equal(log_prob[row], want[1][row])
    for row in (1, 2, 4):
        assert (ids[row] == -1).all()
        assert np.isnan(log_prob[row]).all()
    np.testing.assert_array_equal(valid, np.broadcast_to(np.isin(range(7), (0, 3, 5, 6))[:, None], (7, 9)))
    assert (ids[3] == 2222).all()
    assert (ids[5] == 0).all()
    assert (log_prob[[3, 5]] == 0).all()


@pytest.mark.parametrize("options", ["plain", "cold", "certain", "all"])
def test_where(options: str) -> None:
    x = (np.random.default_rng(2).standard_normal((3, 3000)) * 2).astype(np.float32)
    mask = np.random.default_rng(3).random(x.shape) < 0.3
    mask[2] = False
    how = {**OPTIONS[options], "seed": 1}
    want = vastmax.sample(np.where(mask, x, np.float32(-INF)), 40, **how)
    hidden = np.where(mask, x, np.nan).astype(np.float32)
    np.testing.assert_array_equal(vastmax.sample(hidden, 40, where=mask, **how), want)
    assert (want[2] == -1).all()


@pytest.mark.conformance
def test_a_class_of_probability_0_is_never_drawn(wide_dtype: Any) -> None:
    x = np.where(np.arange(5000) % 3 == 1, np.sin(np.arange(5000.0)), -INF).astype(wide_dtype)
    for temperature in (1.0, 0.5, INF):
        ids = vastmax.sample(x, 5000, temperature=temperature, seed=8)
        assert (ids % 3 == 1).all()
    lone = np.full(5000, -INF, wide_dtype)
    lone[4003] = -1e4
    assert (vastmax.sample(lone, 100, seed=8) == 4003).all()
    tail = np.concatenate([[0.0], np.full(5000, -8.5)]).astype(wide_dtype)
    share = 5000 * np.exp(-8.5)
    drawn = vastmax.sample(tail, 20_000, seed=9)
    assert follows(drawn > 0, np.array([1, share]) / (1 + share))


@pytest.mark.conformance
def test_rows_of_very_many_tiles(wide_dtype: Any) -> None:
    """Their parts are merged by a block, not by a warp."""
    x = (np.random.default_rng(8).standard_normal((1, 300_001)) * 3).astype(wide_dtype)
    for options in ({}, {"temperature": 0.7}, {"top_p": 0.8}):
        ids = vastmax.sample(x, 500, seed=3, **options)
        assert (ids == HOST["sample"](x, 500, seed=3, **options)).mean() > 0.99


def test_log_probabilities_near_certainty() -> None:
    for scale, temperature in ((1.0, 1.0), (0.5, 0.5)):
        x = np.array([40.0, 0.0]) * scale
        _, got = vastmax.sample(x, temperature=temperature, seed=1, return_log_prob=True)
        assert got == pytest.approx(-4.248354255291589e-18, rel=1e-12)


def test_logits_at_the_ends_of_the_range(wide_dtype: Any) -> None:
    most = np.finfo(wide_dtype).max
    x = np.array([-most, most, most / 2, -INF], wide_dtype)
    assert (vastmax.sample(x, 100, seed=1) == 1).all()
    assert follows(vastmax.sample(x, 6000, temperature=INF, seed=1), np.array([1, 1, 1, 0]) / 3)
    shares = np.exp([-2.0, 0, -0.5]) / np.exp([-2.0, 0, -0.5]).sum()
    assert follows(vastmax.sample(x, 6000, temperature=float(most), seed=1), np.append(shares, 0))


def test_no_classes_and_no_draws() -> None:
    ids, valid = vastmax.sample(np.empty((2, 0)), return_valid=True)
    assert ids.tolist() == [-1, -1]
    assert not valid.any()
    assert vastmax.sample(np.zeros((3, 5)), 0).shape == (3, 0)
    assert vastmax.sample(np.zeros((0, 5)), 4).shape == (0, 4)


def test_errors() -> None:
    x = np.zeros((2, 5), np.float32)
    with pytest.raises(ValueError, match="size is 6; accepted: 0 to 5, the classes, without replacement"):
        vastmax.sample(x, 6, replace=False)
    for wrong, how in (("temperature", {"temperature": -1.0}), ("top_p", {"top_p": 1.5}), ("top_k", {"top_k": -1})):
        with pytest.raises(ValueError, match=wrong):
            vastmax.sample(x, 2, **how)


# ---------------------------------------------------------------------------- without replacement


@pytest.mark.parametrize("options", OPTIONS)
def test_unique_draws_are_those_of_the_cpu(dtype: Any, options: str) -> None:
    """All of them: keys are computed class by class."""
    x = (np.random.default_rng(1).standard_normal((3, 3001)) * 3).astype(dtype)
    x[2] = -INF
    x[2, ::700] = 1
    how = {**OPTIONS[options], "seed": 8, "replace": False, "return_log_prob": True, "return_valid": True}
    for size in (1, 5, 300, 3001):
        ids, log_prob, valid = vastmax.sample(x, size, row_offset=5, **how)
        want, want_log_prob, want_valid = HOST["sample"](x, size, row_offset=5, **how)
        np.testing.assert_array_equal(ids, want)
        np.testing.assert_array_equal(valid, want_valid)
        np.testing.assert_allclose(log_prob, want_log_prob, rtol=1e-6, atol=1e-300)


def test_unique_draws_of_special_rows_and_layouts(wide_dtype: Any) -> None:
    x = (np.random.default_rng(2).standard_normal((5, 2000)) * 2).astype(wide_dtype)
    x[1, 321] = np.nan
    x[2] = -INF
    x[3, [222, 444]] = INF
    want = HOST["sample"](x, 9, seed=1, replace=False)
    for other in (x, *layouts(x).values()):
        np.testing.assert_array_equal(vastmax.sample(other, 9, seed=1, replace=False), want)
    mask = np.random.default_rng(3).random(x.shape) < 0.3
    want = HOST["sample"](x, 9, seed=1, replace=False, where=mask)
    np.testing.assert_array_equal(vastmax.sample(x, 9, seed=1, replace=False, where=mask), want)
    assert vastmax.sample(x, seed=1, replace=False).tolist() == HOST["sample"](x, seed=1, replace=False).tolist()
    assert vastmax.sample(x, 0, seed=1, replace=False).shape == (5, 0)


# ---------------------------------------------------------------------------- softmax with noise


@pytest.mark.parametrize("tau", [1.0, 0.3, 20.0])
@pytest.mark.parametrize("n", [1, 2, 31, 1023, 1025, 5001])
def test_noisy_softmax(dtype: Any, n: int, tau: float) -> None:
    test_gumbel.check((np.random.default_rng(n).standard_normal((3, n)) * 3).astype(dtype), tau)


def noisy(x: Any, seed: int) -> Any:
    """Logits with the noise of the CPU, as it adds it."""
    from vastmax import _core

    z = np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    _core.add_gumbel(x, z, seed, 0, 0, 0, -1)
    return z


@pytest.mark.parametrize("tau", [1.0, 0.3, 2e-38])
def test_noise_is_that_of_the_cpu_to_the_last_bit(dtype: Any, tau: float) -> None:
    x = (np.random.default_rng(1).standard_normal((5, 3001)) * 3).astype(dtype)
    want = vastmax.softmax(noisy(x, 4), temperature=tau).astype(dtype)
    got = vastmax.gumbel_softmax(x, tau, seed=4)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("hard", [False, True])
def test_noisy_softmax_of_any_layout(dtype: Any, hard: bool) -> None:
    x = (np.random.default_rng(1).standard_normal((3, 3001)) * 3).astype(dtype)
    want = vastmax.gumbel_softmax(x, 0.7, hard, seed=8)
    for other in layouts(x).values():
        np.testing.assert_array_equal(vastmax.gumbel_softmax(other, 0.7, hard, seed=8), want)
    np.testing.assert_array_equal(vastmax.gumbel_softmax(x.T, 0.7, hard, 0, seed=8).T, want)
    box = np.ascontiguousarray(np.moveaxis(x.reshape(3, 1, 3001), -1, 0))
    np.testing.assert_array_equal(vastmax.gumbel_softmax(box, 0.7, hard, 0, seed=8)[:, :, 0].T, want)


@pytest.mark.parametrize("n", [1, 2, 1023, 1025, 9000, 300_001])
def test_the_class_drawn_is_that_of_the_cpu(dtype: Any, n: int) -> None:
    x = (np.random.default_rng(n).standard_normal((2 if n > 9000 else 40, n)) * 3).astype(dtype)
    got = vastmax.gumbel_softmax(x, hard=True, seed=3)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, HOST["gumbel_softmax"](x, hard=True, seed=3))


@pytest.mark.conformance
def test_rows_that_take_turns_in_the_cache() -> None:
    """Two do not fit the memory that noisy logits have."""
    x = np.random.default_rng(1).standard_normal((2, 1_100_000)) * 3
    want = HOST["gumbel_softmax"](x, 0.5, seed=6)
    np.testing.assert_allclose(vastmax.gumbel_softmax(x, 0.5, seed=6), want, rtol=1e-14)


def test_errors_of_noisy_softmax() -> None:
    x = np.zeros((2, 5), np.float32)
    for wrong, how in (("tau is 0", {"tau": 0}), ("tau is inf", {"tau": INF}), ("seed is -1", {"seed": -1})):
        with pytest.raises(ValueError, match=wrong):
            vastmax.gumbel_softmax(x, **how)
    with pytest.raises(TypeError, match="axis is None"):
        vastmax.gumbel_softmax(x, axis=None)
    with vastmax.config(device="cuda"), pytest.raises(RuntimeError, match="gumbel_softmax: cannot run on a GPU"):
        HOST["gumbel_softmax"](x)


# ---------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("library", fake_gpu_arrays.LIBRARIES)
def test_results_come_from_the_library_of_the_logits(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    make, kind = fake_gpu_arrays.LIBRARIES[library]
    modules = make()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    theirs = getattr(list(modules.values())[-1], kind)
    x = np.random.default_rng(2).standard_normal((3, 2000)).astype(np.float32)
    there = theirs(fake_gpu_arrays.filled(x, 1))
    made = [
        *HOST["top_k"](there, 5),
        HOST["top_p_mask_logits"](there, 0.5),
        *HOST["sample"](there, 4, seed=1, return_log_prob=True, return_valid=True),
        HOST["gumbel_softmax"](there, 0.5, seed=1),
        HOST["gumbel_softmax"](there, hard=True, seed=1),
    ]
    here = [
        *HOST["top_k"](x, 5),
        HOST["top_p_mask_logits"](x, 0.5),
        *HOST["sample"](x, 4, seed=1, return_log_prob=True, return_valid=True),
        HOST["gumbel_softmax"](x, 0.5, seed=1),
        HOST["gumbel_softmax"](x, hard=True, seed=1),
    ]
    for got, want in zip(made, here, strict=True):
        assert isinstance(got, theirs)
        assert got.memory.device == 1
        np.testing.assert_allclose(got.get(), want, rtol=1e-6)


def test_parameters_may_live_there_too() -> None:
    x, k = np.random.default_rng(2).standard_normal((3, 2000)), np.array([1, 2, 3])
    got = HOST["top_k_mask_logits"](fake_gpu_arrays.ByDlpack(x), fake_gpu_arrays.ByDlpack(k))
    np.testing.assert_array_equal(got.copy_to_host(), HOST["top_k_mask_logits"](x, k))


@pytest.mark.parametrize("budget", [None, 30_000, 100])
def test_numpy_data_goes_there_in_chunks(monkeypatch: pytest.MonkeyPatch, budget: int | None) -> None:
    from vastmax._backends import policy as _policy

    x = np.random.default_rng(2).standard_normal((3, 4, 1500)).astype(np.float32)
    p = np.linspace(0.2, 0.9, 12).reshape(3, 4)
    calls = (
        lambda: HOST["top_k"](x, 5)[0],
        lambda: HOST["top_k"](np.moveaxis(x, -1, 0), 5, 0)[1],
        lambda: HOST["top_p_mask_logits"](x, p),
        lambda: HOST["sample"](x, 6, seed=1, row_offset=5, temperature=p),
        lambda: HOST["sample"](x, seed=1, top_p=p, return_valid=True)[1],
        lambda: HOST["sample"](x[0, 0], seed=1),
        lambda: HOST["sample"](x, 5, seed=1, replace=False),
    )
    if budget is not None:
        monkeypatch.setattr(_policy, "CHUNK_BYTES", budget)
    for call in calls:
        want = call()
        with vastmax.config(device="cuda"):
            got = call()
        assert isinstance(got, (np.ndarray, np.generic))
        np.testing.assert_array_equal(got, want)
