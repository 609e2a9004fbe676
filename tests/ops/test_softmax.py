# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows, oracle

pytestmark = pytest.mark.usefixtures("backend")


@functools.cache
def want(name: str, dtype: Any, op: str = "softmax", temperature: float | None = None) -> oracle.Exact:
    z = oracle.scaled(logit_rows.row(name, dtype), temperature, contracts.computed_in(contracts.name_of(dtype)))
    return getattr(oracle, op)(z)


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_softmax(dtype: Any, name: str) -> None:
    got = vastmax.softmax(logit_rows.row(name, dtype))
    assert got.dtype == dtype
    contracts.check_softmax(got, want(name, dtype), hint=name)


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_log_softmax(dtype: Any, name: str) -> None:
    got = vastmax.log_softmax(logit_rows.row(name, dtype))
    assert got.dtype == dtype
    contracts.check("log_softmax", got, want(name, dtype, "log_softmax"), hint=name)


@pytest.mark.backends("host", "device")
def test_log_softmax_near_certainty(wide_dtype: Any) -> None:
    """The gap swept from nothing to beyond the smallest number: the certain class keeps its relative accuracy."""
    limit = 103.0 if wide_dtype == np.float32 else 744.0
    gaps = np.linspace(0.01, limit, 4000)
    x = np.stack([np.zeros_like(gaps), -gaps, -gaps - 3.0], -1).astype(wide_dtype)
    for shift in (0.0, 7.5):
        z = (x + wide_dtype.type(shift)).astype(wide_dtype)
        got = vastmax.log_softmax(z)
        contracts.check("log_softmax", got, oracle.log_softmax(z.astype(np.float64)), hint=shift)
        assert (got[:, 0] < 0).all() or shift
    assert vastmax.log_softmax([40.0, 0.0])[0] == -4.248354255291589e-18


@functools.cache
def lengths(dtype: Any) -> list[tuple[np.ndarray[Any, Any], oracle.Exact, oracle.Exact]]:
    rows = []
    for n in logit_rows.TAIL_LENGTHS:
        x = logit_rows.integer_logits(n, (3, n)).astype(dtype)
        z = x.astype(np.float64)
        rows.append((x, oracle.softmax(z), oracle.log_softmax(z)))
    return rows


def test_every_tail_length(dtype: Any) -> None:
    for x, p, log_p in lengths(dtype):
        contracts.check_softmax(vastmax.softmax(x), p, hint=x.shape)
        contracts.check("log_softmax", vastmax.log_softmax(x), log_p, hint=x.shape)


@functools.cache
def random_rows(dtype: Any, sigma: float) -> tuple[Any, oracle.Exact, oracle.Exact]:
    """From even to dominated by a few classes, and long enough for the sum's own rounding to show."""
    rng = np.random.default_rng(20)
    rows = [rng.standard_normal((20, 2000)) * sigma + offset for offset in (0.0, 300.0, -40.0, 5000.0)]
    x = np.concatenate(rows).astype(dtype)
    return x, oracle.softmax(x.astype(np.float64)), oracle.log_softmax(x.astype(np.float64))


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("sigma", [1.0, 5.0, 12.0, 100.0])
def test_random_rows(dtype: Any, sigma: float) -> None:
    x, p, log_p = random_rows(dtype, sigma)
    contracts.check_softmax(vastmax.softmax(x), p, hint=sigma)
    contracts.check("log_softmax", vastmax.log_softmax(x), log_p, hint=sigma)


def test_the_tail_weighs(dtype: Any) -> None:
    """The last element holds nearly all of the mass, so that a dropped tail cannot hide."""
    for n in (1, 2, 15, 16, 17, 33, 130, 1000, 4097, 70_001):
        x = np.zeros(n, dtype)
        x[-1] = 12.0
        contracts.check_softmax(vastmax.softmax(x), oracle.softmax(x.astype(np.float64)), hint=n)


@functools.cache
def cube(dtype: Any, seed: int = 21) -> np.ndarray[Any, Any]:
    return logit_rows.integer_logits(seed, (5, 37, 3, 8)).astype(dtype)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3, (0, 1), (1, 3), (3, 1), (0, 2, 3), (-1, 0), None])
def test_axis(dtype: Any, axis: Any) -> None:
    x = cube(dtype)
    axes = tuple(range(4)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    last = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = last.reshape(*last.shape[: 4 - len(axes)], -1).astype(np.float64)
    for op, check in (
        ("softmax", contracts.check_softmax),
        ("log_softmax", functools.partial(contracts.check, "log_softmax")),
    ):
        got = getattr(vastmax, op)(x, axis=axis)
        assert got.shape == x.shape
        back = np.moveaxis(got, axes, range(-len(axes), 0)).reshape(flat.shape)
        check(back, getattr(oracle, op)(flat), hint=axis)


@functools.cache
def tall(dtype: Any) -> tuple[np.ndarray[Any, Any], oracle.Exact]:
    x = logit_rows.integer_logits(22, (20_000, 3)).astype(dtype)
    return x, oracle.softmax(x.astype(np.float64).T)


def test_first_axis_is_as_accurate_as_the_last(dtype: Any) -> None:
    x, p = tall(dtype)
    contracts.check_softmax(vastmax.softmax(x, axis=0).T, p)


@functools.cache
def vast(dtype: Any) -> tuple[np.ndarray[Any, Any], oracle.Exact, oracle.Exact]:
    x = (np.random.default_rng(23).standard_normal((1, 300_007)) * 5).astype(dtype)
    z = x.astype(np.float64)
    return x, oracle.softmax(z), oracle.log_softmax(z)


@pytest.mark.backends("host", "device")
@pytest.mark.usefixtures("threads")
def test_vast_row(dtype: Any) -> None:
    """Long enough to be split among threads."""
    x, p, log_p = vast(dtype)
    vastmax.set_num_threads(3)
    contracts.check_softmax(vastmax.softmax(x), p)
    contracts.check("log_softmax", vastmax.log_softmax(x), log_p)


@pytest.mark.parametrize("name", ["normal_12", "normal_100", "peaked", "offset_1e4", "subnormal_f32", "certain"])
@pytest.mark.parametrize("temperature", [0.5, 0.7, 3.0, 1e-3])
def test_temperature(dtype: Any, name: str, temperature: float) -> None:
    x = logit_rows.row(name, dtype)
    got = vastmax.softmax(x, temperature=temperature)
    contracts.check_softmax(got, want(name, dtype, "softmax", temperature), hint=(name, temperature))
    got = vastmax.log_softmax(x, temperature=temperature)
    contracts.check("log_softmax", got, want(name, dtype, "log_softmax", temperature), hint=(name, temperature))


def test_temperature_per_row(dtype: Any) -> None:
    x = logit_rows.integer_logits(24, (2, 3, 50)).astype(dtype)
    t = np.array([[0.5, 1.0, 3.0], [0.1, 7.0, 1e4]])
    z = oracle.scaled(x, t[..., None], contracts.computed_in(contracts.name_of(dtype)))
    p = oracle.softmax(z)
    for given in (t.ravel(), t[..., None]):
        contracts.check_softmax(vastmax.softmax(x, temperature=given), p)
    first = vastmax.softmax(np.moveaxis(x, -1, 0), axis=0, temperature=t[None])
    np.testing.assert_array_equal(np.moveaxis(first, 0, -1), vastmax.softmax(x, temperature=t.ravel()))
    row = vastmax.softmax(x, temperature=t[:, :1, None])
    np.testing.assert_array_equal(row[0, 1], vastmax.softmax(x[0, 1], temperature=t[0, 0]))


def test_where(dtype: Any) -> None:
    x = logit_rows.integer_logits(25, (40, 130)).astype(dtype)
    keep = np.random.default_rng(26).random(x.shape) < 0.4
    keep[:, 3] = True
    z = np.where(keep, x.astype(np.float64), -np.inf)
    poisoned = np.where(keep, x, np.array([np.nan, np.inf, -np.inf, 9e3] * 1300, dtype).reshape(40, 130)).astype(dtype)
    for given in (x, poisoned):
        contracts.check_softmax(vastmax.softmax(given, where=keep), oracle.softmax(z))
        contracts.check("log_softmax", vastmax.log_softmax(given, where=keep), oracle.log_softmax(z))
    column = vastmax.softmax(x, where=keep[:1])
    contracts.check_softmax(column, oracle.softmax(np.where(keep[:1], x.astype(np.float64), -np.inf)))
    first = vastmax.softmax(x.T, axis=0, where=keep.T)
    np.testing.assert_array_equal(first.T, vastmax.softmax(x, where=keep))


def test_where_with_temperature(dtype: Any) -> None:
    x = logit_rows.integer_logits(27, (4, 90)).astype(dtype)
    keep = np.arange(90) % 3 != 0
    t = np.array([0.5, 2.0, 0.25, 8.0])
    z = np.where(keep, x.astype(np.float64) / t[:, None], -np.inf)
    contracts.check_softmax(vastmax.softmax(x, temperature=t, where=keep), oracle.softmax(z))


def test_properties(wide_dtype: Any) -> None:
    """What holds exactly, without a reference."""
    x = logit_rows.integer_logits(28, (20, 257)).astype(wide_dtype)
    y = vastmax.softmax(x)
    np.testing.assert_array_equal(vastmax.softmax(x[:, ::-1])[:, ::-1].argmax(-1), y.argmax(-1))
    order = np.argsort(x, -1, kind="stable")
    assert (np.diff(np.take_along_axis(y, order, -1), axis=-1) >= 0).all(), "not monotone"
    equal = np.diff(np.take_along_axis(x, order, -1), axis=-1) == 0
    assert (np.diff(np.take_along_axis(y, order, -1), axis=-1)[equal] == 0).all(), "equal logits, unequal results"
    sums = y.astype(np.longdouble).sum(-1)
    assert (np.abs(sums - 1) <= 2 * np.finfo(wide_dtype).eps).all()


def test_probabilities_below_half_precision_classes() -> None:
    """100,000 classes: a float16 sum would be inf or stall at 2048."""
    x = np.zeros(100_000, np.float16)
    x[7] = 5.0
    contracts.check_softmax(vastmax.softmax(x), oracle.softmax(x.astype(np.float64)))
    assert vastmax.logsumexp(x) == np.float32(np.log(100_000 - 1 + np.exp(5.0)))
