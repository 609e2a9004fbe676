# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows, oracle

pytestmark = pytest.mark.usefixtures("backend")


@functools.cache
def logits(name: str, dtype: Any, temperature: float | None = None) -> Any:
    return oracle.scaled(logit_rows.row(name, dtype), temperature, contracts.computed_in(contracts.name_of(dtype)))[
        None
    ]


@functools.cache
def want(name: str, dtype: Any, temperature: float | None = None) -> oracle.Exact:
    return oracle.logsumexp(logits(name, dtype, temperature))


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_logsumexp(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)
    got = vastmax.logsumexp(x)
    assert got.dtype == contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype
    assert isinstance(got, np.generic)
    contracts.check_logsumexp(np.reshape(got, 1), want(name, dtype), logits(name, dtype), hint=name)


@functools.cache
def lengths(dtype: Any) -> list[tuple[Any, oracle.Exact]]:
    rows = [logit_rows.integer_logits(n, (3, n)).astype(dtype) for n in logit_rows.TAIL_LENGTHS]
    return [(x, oracle.logsumexp(x.astype(np.float64))) for x in rows]


def test_every_tail_length(dtype: Any) -> None:
    for x, exact in lengths(dtype):
        contracts.check_logsumexp(vastmax.logsumexp(x, axis=-1), exact, x, hint=x.shape)


@functools.cache
def random_rows(dtype: Any, sigma: float) -> tuple[Any, oracle.Exact]:
    rng = np.random.default_rng(30)
    rows = [rng.standard_normal((20, 2000)) * sigma + offset for offset in (0.0, 300.0, -40.0, 5000.0)]
    x = np.concatenate(rows).astype(dtype)
    return x, oracle.logsumexp(x.astype(np.float64))


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("sigma", [1.0, 5.0, 12.0, 100.0])
def test_random_rows(dtype: Any, sigma: float) -> None:
    x, exact = random_rows(dtype, sigma)
    contracts.check_logsumexp(vastmax.logsumexp(x, axis=1), exact, x, hint=sigma)


@pytest.mark.backends("host", "device")
def test_largest_logit_zero(wide_dtype: Any) -> None:
    """The log1p form: relative accuracy however small the rest is."""
    limit = 103.0 if wide_dtype == np.float32 else 744.0
    gaps = np.linspace(0.01, limit, 4000)
    x = np.stack([-gaps, np.zeros_like(gaps), -gaps - 3.0], -1).astype(wide_dtype)
    got = vastmax.logsumexp(x, axis=-1)
    contracts.check_logsumexp(got, oracle.logsumexp(x.astype(np.float64)), x)
    assert (got > 0).all()


@pytest.mark.backends("host", "device")
def test_result_that_cancels(wide_dtype: Any) -> None:
    """A million times -log(1e6): the true value is about one ULP of the logits, and SciPy's answer in float32 is 0."""
    x = np.full((1, 1_000_000), -np.log(1e6)).astype(wide_dtype)
    exact = oracle.logsumexp(np.full((1, 1_000_000), x[0, 0], np.float64))
    contracts.check_logsumexp(vastmax.logsumexp(x, axis=1), exact, x)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (2, 0), (-1, -3), (0, 1, 2), None])
def test_axis(dtype: Any, axis: Any, keepdims: bool) -> None:
    x = logit_rows.integer_logits(31, (6, 41, 5)).astype(dtype)
    axes = (0, 1, 2) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    last = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = last.reshape(*last.shape[: 3 - len(axes)], -1).astype(np.float64)
    got = vastmax.logsumexp(x, axis=axis, keepdims=keepdims)
    assert got.shape == np.sum(x.astype(np.float32), axis=axis, keepdims=keepdims).shape
    contracts.check_logsumexp(np.reshape(got, flat.shape[:-1]), oracle.logsumexp(flat), flat, hint=axis)


def test_first_axis_is_as_accurate_as_the_last(dtype: Any) -> None:
    x, exact = tall(dtype)
    contracts.check_logsumexp(vastmax.logsumexp(x, axis=0), exact, x, axis=0)


@functools.cache
def tall(dtype: Any) -> tuple[Any, oracle.Exact]:
    x = logit_rows.integer_logits(32, (20_000, 3)).astype(dtype)
    return x, oracle.logsumexp(x.astype(np.float64).T)


@functools.cache
def vast(dtype: Any) -> tuple[Any, oracle.Exact]:
    x = (np.random.default_rng(33).standard_normal((1, 300_007)) * 5).astype(dtype)
    return x, oracle.logsumexp(x.astype(np.float64))


@pytest.mark.backends("host", "device")
@pytest.mark.usefixtures("threads")
def test_vast_row(dtype: Any) -> None:
    x, exact = vast(dtype)
    vastmax.set_num_threads(3)
    contracts.check_logsumexp(vastmax.logsumexp(x, axis=1), exact, x)


@pytest.mark.parametrize("name", ["normal_12", "normal_100", "peaked", "offset_1e4", "certain", "largest_zero"])
@pytest.mark.parametrize("temperature", [0.5, 0.7, 3.0])
def test_temperature(dtype: Any, name: str, temperature: float) -> None:
    got = vastmax.logsumexp(logit_rows.row(name, dtype), temperature=temperature)
    exact = want(name, dtype, temperature)
    contracts.check_logsumexp(np.reshape(got, 1), exact, logits(name, dtype, temperature), hint=(name, temperature))


def nearest_float32(q: Fraction) -> np.float32:
    """Ties to even, by exact comparison with the two neighbours."""
    if abs(q) >= Fraction(2) ** 128 - Fraction(2) ** 103:
        return np.float32(np.inf if q > 0 else -np.inf)
    near = np.float32(float(q))
    around = [f for f in (np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)) if np.isfinite(f)]
    return min((near, *around), key=lambda f: (abs(Fraction(float(f)) - q), int(f.view(np.uint32)) & 1))


@functools.cache
def quotients() -> tuple[tuple[float, Any, Any], ...]:
    """Temperatures, logits, quotients rounded once. For 1/8 of x, x / 0.1 is a tie but for the last bits of 0.1."""
    rng = np.random.default_rng(46)
    x = np.concatenate(
        [rng.normal(size=150) * 80, 10.0 ** rng.uniform(-44, 38, 60), rng.integers(-(2**24), 2**24, 100)]
    ).astype(np.float32)
    exact = {}
    for t in (0.1, 0.2, 0.05, 0.7, 0.3, 0.6, 1 / 3, 3.3, 1e-3, 1e10, 1e-30, 1e-44, 1e40, 1e300, 1e-320, 5e-324):
        with np.errstate(over="ignore"):
            exact[t] = np.array([nearest_float32(Fraction(float(v)) / Fraction(t)) for v in x])
    return tuple((t, x, q) for t, q in exact.items())


@pytest.mark.backends("host", "device")
def test_a_temperature_divides_with_one_rounding() -> None:
    """The logsumexp of one logit is the logit."""
    for t, x, want_quotient in quotients():
        got = vastmax.logsumexp(x[:, None], axis=1, temperature=t)
        np.testing.assert_array_equal(got, want_quotient, err_msg=str(t))
        per_row = vastmax.logsumexp(x[None, :], axis=0, temperature=np.full(x.size, t))
        np.testing.assert_array_equal(per_row, want_quotient, err_msg=str(t))


def test_temperature_per_row(dtype: Any) -> None:
    x = logit_rows.integer_logits(34, (4, 50)).astype(dtype)
    t = np.array([0.5, 1.0, 3.0, 0.1])
    z = oracle.scaled(x, t[:, None], contracts.computed_in(contracts.name_of(dtype)))
    for given in (t, t[:, None]):
        contracts.check_logsumexp(vastmax.logsumexp(x, axis=1, temperature=given), oracle.logsumexp(z), z)


def test_where(dtype: Any) -> None:
    x = logit_rows.integer_logits(35, (40, 130)).astype(dtype)
    keep = np.random.default_rng(36).random(x.shape) < 0.4
    keep[5] = False
    z = np.where(keep, x.astype(np.float64), -np.inf)
    poisoned = np.where(keep, x, np.array([np.nan, np.inf, -np.inf, 9e3] * 1300, dtype).reshape(40, 130)).astype(dtype)
    for given in (x, poisoned):
        got = vastmax.logsumexp(given, axis=1, where=keep)
        assert np.isneginf(got[5])
        contracts.check_logsumexp(got, oracle.logsumexp(z), z)
    np.testing.assert_array_equal(vastmax.logsumexp(poisoned.T, axis=0, where=keep.T), got)


# b=: SciPy's semantics


@functools.cache
def weighted(dtype: Any, kind: str) -> tuple[Any, Any]:
    a = logit_rows.integer_logits(37, (30, 131)).astype(dtype)
    b = np.random.default_rng(38).random(a.shape) * 3
    if kind == "signed":
        b -= 0.4
    if kind == "with zeros":
        b[np.random.default_rng(39).random(a.shape) < 0.5] = 0.0
    return a, b.astype(dtype)


@pytest.mark.parametrize("kind", ["positive", "signed", "with zeros"])
def test_weights(dtype: Any, kind: str) -> None:
    a, b = weighted(dtype, kind)
    exact, sign, scale, condition = oracle.logsumexp_weighted(a.astype(np.float64), b.astype(np.float64))
    got, got_sign = vastmax.logsumexp(a, axis=1, b=b, return_sign=True)
    np.testing.assert_array_equal(got_sign, sign)
    name = contracts.reduced(contracts.name_of(dtype))
    assert got.dtype == got_sign.dtype == contracts.FORMATS[name].dtype
    error = contracts.ulp_error(got, exact, contracts.FORMATS[name], scale)
    assert (error <= contracts.MAX_ULP["logsumexp_weighted"][name] * condition).all(), error.max()
    plain = vastmax.logsumexp(a, axis=1, b=b)
    np.testing.assert_array_equal(plain, np.where(sign < 0, np.nan, got))


def test_weights_broadcast_and_move_with_the_axis(wide_dtype: Any) -> None:
    a = logit_rows.integer_logits(40, (4, 1, 6)).astype(wide_dtype)
    b = np.random.default_rng(41).random((5, 1)).astype(wide_dtype)
    full_a, full_b = np.broadcast_arrays(a, b)
    got = vastmax.logsumexp(a, axis=1, b=b)
    assert got.shape == (4, 6)
    np.testing.assert_array_equal(got, vastmax.logsumexp(full_a.copy(), axis=1, b=full_b.copy()))
    np.testing.assert_array_equal(vastmax.logsumexp(a, axis=None, b=b), vastmax.logsumexp(full_a, b=full_b))
    np.testing.assert_array_equal(
        vastmax.logsumexp(np.moveaxis(full_a, 1, 0), axis=0, b=np.moveaxis(full_b, 1, 0)), got
    )


WEIGHTS_OF_ANY_SIZE = [
    # The sum is close to 1: what rounding takes from it is the result.
    ([0.0, -40.0], [1.0, 1.0]),
    ([0.0, -40.0], [1.0, -1.0]),
    ([0.0, 0.0, -40.0], [0.5, 0.5, 1.0]),
    ([0.0, 0.0], [0.3, 0.7 + 1e-12]),
    # The sum is beyond float64, or its terms are below it.
    ([0.0] * 10, [1e308] * 10),
    ([0.0, -690.0], [1e-300, 1.0]),
    ([1400.0, 0.0], [1e-300, 1e300]),
    ([0.0, -745.0], [1e-310, 1.0]),
    ([0.0, 1454.0], [1.7e308, 5e-324]),
    ([3.0, 4.0], [5e-324, 5e-324]),
    ([1e300, 1e300], [1e300, 1e-300]),
    ([-1e300, -1e300, 0.0], [1e300, -1e-300, 0.0]),
    ([-700.0, -1400.0], [1e-300, 1e300]),
    ([88.0, -88.0], [1e-38, 1e38]),
    # The largest terms cancel.
    ([0.0, 0.0], [1e308, -1e308]),
    ([0.0, 0.0, -1.0], [1e308, -1e308, 1.0]),
    ([0.0, 0.0], [1.0, -1 + 1e-16]),
    ([0.5, 0.2], [1e-30, -2e-30]),
]


@pytest.mark.parametrize(("a", "b"), WEIGHTS_OF_ANY_SIZE)
@pytest.mark.parametrize("padding", [0, 1, 4100])
def test_weights_of_any_size(a: list[float], b: list[float], padding: int) -> None:
    """Padding that cancels, or has no weight, puts the terms into two blocks."""
    x = np.array([a[0], *[-3.0] * padding, *a[1:]])
    w = np.array([b[0], *[0.0] * padding, *b[1:]])
    value, sign = oracle.logsumexp_weighted_mp(x, w)
    got, got_sign = vastmax.logsumexp(x, b=w, return_sign=True)
    assert got_sign == sign
    if sign == 0:
        assert np.isneginf(got)
        return
    largest = np.abs(x[w != 0]).max()
    scale = None if largest == 0 else [max(abs(float(value)), largest)]
    error = contracts.ulp_error(np.reshape(got, 1), oracle.from_mp([value]), contracts.FORMATS["f64"], scale)
    assert error[0] <= contracts.MAX_ULP["logsumexp where the largest logit is 0"]["f64"], got


INF, NAN = np.inf, np.nan
WEIGHTED_SPECIAL = [
    # a, b, result with return_sign, sign
    ([1.0, 10000.0], [1.0, 0.0], 1.0, 1.0),
    ([1.0, INF], [1.0, 0.0], 1.0, 1.0),
    ([1.0, NAN], [1.0, 0.0], 1.0, 1.0),
    ([1.0, 1.0], [1.0, -1.0], -INF, 0.0),
    ([1.0, 2.0], [0.0, 0.0], -INF, 0.0),
    ([NAN, INF], [0.0, 0.0], -INF, 0.0),
    ([INF], [-1.0], INF, -1.0),
    ([INF], [1.0], INF, 1.0),
    ([INF, 3.0], [-1.0, 5.0], INF, -1.0),
    ([-INF, 0.0], [2.0, 1.0], 0.0, 1.0),
    ([-INF, -INF], [1.0, 1.0], -INF, 0.0),
    ([0.0, NAN], [1.0, 1.0], NAN, NAN),
    ([0.0, 1.0], [1.0, NAN], NAN, NAN),
    ([0.0], [-1.0], 0.0, -1.0),
    ([1.0, 1.0, 1.0], [1.0, -1.0, -1.0], 1.0, -1.0),
]


@pytest.mark.parametrize(("a", "b", "result", "sign"), WEIGHTED_SPECIAL)
@pytest.mark.parametrize("padding", [0, 1, 16, 61])
def test_weights_special(
    wide_dtype: Any, a: list[float], b: list[float], result: float, sign: float, padding: int
) -> None:
    """Padding with weight 0 moves the case to another lane and changes nothing."""
    x = np.array([7.0] * padding + a, wide_dtype)
    w = np.array([0.0] * padding + b, wide_dtype)
    got, got_sign = vastmax.logsumexp(x, b=w, return_sign=True)
    np.testing.assert_array_equal(got, wide_dtype.type(result))
    np.testing.assert_array_equal(got_sign, wide_dtype.type(sign))
    np.testing.assert_array_equal(vastmax.logsumexp(x, b=w), wide_dtype.type(NAN if sign < 0 else result))


def test_return_sign_without_weights(dtype: Any) -> None:
    x = np.array([[1.0, 2.0], [-np.inf, -np.inf], [np.inf, 0.0]]).astype(dtype)
    got, sign = vastmax.logsumexp(x, axis=1, return_sign=True)
    np.testing.assert_array_equal(got, vastmax.logsumexp(x, axis=1))
    np.testing.assert_array_equal(sign, [1.0, 0.0, 1.0])
    got, sign = vastmax.logsumexp(x, axis=1, keepdims=True, return_sign=True)
    assert got.shape == sign.shape == (3, 1)


def test_scipy_issues() -> None:
    """scipy#18295, #22903, #23548."""
    assert vastmax.logsumexp([0.0, -40.0]) == np.logaddexp(0.0, -40.0)
    a = [3.01, 2.9, 0.1]
    assert np.isfinite(vastmax.logsumexp(a, b=[1.88, 2.84, -0.85]))
    assert np.isnan(vastmax.logsumexp([0.0, 0.0, 3.0], b=[1.88, 2.84, -3.85]))
    assert vastmax.logsumexp([np.inf], return_sign=True) == (np.inf, 1.0)
    assert vastmax.logsumexp([np.inf], b=[-1.0], return_sign=True) == (np.inf, -1.0)


def test_weights_with_where_and_temperature(wide_dtype: Any) -> None:
    a, b = weighted(wide_dtype, "positive")
    keep = np.random.default_rng(42).random(a.shape) < 0.6
    got = vastmax.logsumexp(a, axis=1, b=b, where=keep, temperature=2.0)
    np.testing.assert_array_equal(
        got,
        vastmax.logsumexp((a / wide_dtype.type(2)).astype(wide_dtype), axis=1, b=np.where(keep, b, wide_dtype.type(0))),
    )
