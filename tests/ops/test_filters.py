# SPDX-License-Identifier: Apache-2.0
"""The masks: sets equal to those of 50 digits wherever the mass of no set lies within 1e-12 of the one asked for."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

import vastmax
from support import logit_rows

pytestmark = pytest.mark.usefixtures("backend")

Array = np.ndarray[Any, Any]
NEAR = 1e-12
LENGTHS = (1, 2, 17, 64, 1000, 4095, 4097, 9001, 70_001)
SHARES = (0.0, 1e-9, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9, 1.0)


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


def ordered(z: Array) -> Array:
    """Indices by descending logit, ties to the lower index."""
    return np.lexsort((np.arange(z.size), -z))


class Nucleus(NamedTuple):
    """What the sets of one row are checked against: its order, and the share of the mass up to each place of it."""

    order: Array
    share: Any
    possible: int


def nucleus(z: Array) -> Nucleus:
    order = ordered(z)
    falling = z[order]
    if z.size <= 1000:
        with mpmath.workdps(50):
            through = np.cumsum([mpmath.exp(mpmath.mpf(v) - mpmath.mpf(falling[0])) for v in falling.tolist()])
            share = through / through[-1]
    else:  # good to 1e-15: what is left is far below the margin
        summed = np.cumsum(np.exp(falling.astype(np.longdouble) - falling[0]))
        share = summed / summed[-1]
    return Nucleus(order, share, int((z > -np.inf).sum()))


def kept_of(y: Array, x: Array) -> Array:
    """Which are kept; the others are -inf, and those that are kept as they were."""
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    kept = wide(y) > -np.inf
    assert y[kept].tobytes() == x[kept].tobytes()
    return np.asarray(kept)


def check_order(kept: Array, order: Array) -> int:
    """Check that a start of the order is kept, of what can be; return how many."""
    count = int(kept.sum())
    assert kept[order[:count]].all()
    return count


def check_top_p(x: Array, p: float, want: Nucleus | None = None) -> None:
    order, share, possible = want or nucleus(wide(x))
    count = check_order(kept_of(vastmax.top_p_mask_logits(x, p), x), order)
    if p == 1:
        assert count == possible
        return
    assert count >= 1
    assert share[count - 1] >= p - NEAR or count == possible
    assert count == 1 or share[count - 2] < p + NEAR


@functools.cache
def known(name: str, dtype: Any) -> tuple[Array, Nucleus]:
    x = logit_rows.row(name, dtype)
    return x, nucleus(wide(x))


@pytest.mark.backends("host")
@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_top_p(dtype: Any, name: str) -> None:
    x, want = known(name, dtype)
    for p in SHARES:
        check_top_p(x, p, want)


@functools.cache
def random_rows(n: int, sigma: float, dtype: Any) -> list[tuple[Array, Nucleus]]:
    """One row as drawn and one with ties."""
    x = (np.random.default_rng(n).standard_normal(n) * sigma).astype(dtype)
    return [(y, nucleus(wide(y))) for y in (x, np.round(wide(x), 1).astype(dtype))]


@pytest.mark.backends("host")
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("sigma", [0.0, 1e-3, 1.0, 5.0, 40.0])
def test_top_p_of_every_length(dtype: Any, n: int, sigma: float) -> None:
    for x, want in random_rows(n, sigma, dtype):
        for p in SHARES:
            check_top_p(x, p, want)


@pytest.mark.backends("host")
@pytest.mark.parametrize("offset", [0.0, 300.0, -2e4, 5e4])
def test_top_p_far_from_zero(dtype: Any, offset: float) -> None:
    x = (np.random.default_rng(2).standard_normal(20_000) * 3 + offset).astype(dtype)
    want = nucleus(wide(x))
    for p in SHARES:
        check_top_p(x, p, want)


@pytest.mark.backends("host", "device")
def test_top_p_of_equal_logits_keeps_the_lowest_indices(dtype: Any) -> None:
    for n in (10, 5000, 70_000):
        x = np.full(n, -3.25, dtype)
        got = vastmax.top_p_mask_logits(x, 0.30000001)
        np.testing.assert_array_equal(kept_of(got, x), np.arange(n) < int(np.ceil(0.30000001 * n)))
    x = np.full((2, 8), 2.0, dtype)
    got = vastmax.top_p_mask_logits(x, [0.5, 0.5 + 1e-9])  # 4 of 8 are exactly half
    assert (wide(got) > -np.inf).sum(-1).tolist() == [4, 5]


@pytest.mark.backends("host")
def test_many_small_rows(wide_dtype: Any) -> None:
    rng = np.random.default_rng(12)
    x = np.round(rng.standard_normal((3000, 40)) * 4, 1).astype(wide_dtype)
    p = rng.random(3000)
    got = vastmax.top_p_mask_logits(x, p)
    for row in range(0, 3000, 7):
        assert got[row].tobytes() == vastmax.top_p_mask_logits(x[row], p[row]).tobytes()
        check_top_p(x[row], float(p[row]))


MIN_SHARES = (*SHARES, 0.25, 1e-30, 1e-300, 5e-324)


@functools.cache
def likely_enough(name: str, dtype: Any) -> dict[float, tuple[Array, Array]]:
    """For each p: what is kept, and whether that is certain."""
    z = wide(logit_rows.row(name, dtype))
    with mpmath.workdps(50):
        ratio = np.array([mpmath.exp(mpmath.mpf(gap)) for gap in (z - z.max()).tolist()])
        return {p: ((ratio >= p) & (z > -np.inf), (p in (0, 1)) | (abs(ratio - p) > NEAR * p)) for p in MIN_SHARES}


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_min_p(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)
    for p, (want, certain) in likely_enough(name, dtype).items():
        kept = kept_of(vastmax.min_p_mask_logits(x, p), x)
        np.testing.assert_array_equal(kept[certain], want[certain], str(p))


@pytest.mark.backends("host")
def test_min_p_where_adding_to_the_largest_would_round() -> None:
    x = np.array([1e15, 1e15 - 0.625, 1e15 - 0.75])
    assert (vastmax.min_p_mask_logits(x, 0.5) > -np.inf).tolist() == [True, True, False]
    x = np.array([2.0**53, 2.0**53 - 1, 2.0**53 - 2])
    assert (vastmax.min_p_mask_logits(x, 0.3) > -np.inf).tolist() == [True, True, False]


@pytest.mark.backends("host", "device")
def test_min_p_between_neighbours_of_0(dtype: Any) -> None:
    """A search for the least logit from number to number would take seconds in float32, and centuries in float64."""
    x = np.array([1.0, 2.0**-9, -(2.0**-9), -1.0, -np.inf], dtype)
    for p, kept in ((np.exp(-1.0), 2), (0.3672, 2), (0.3671, 3), (0.368, 2), (0.369, 1)):
        assert (wide(vastmax.min_p_mask_logits(x, p)) > -np.inf).sum() == kept
        assert set(vastmax.sample(x, 300, min_p=p, seed=1)) == set(range(kept))


@pytest.mark.backends("host")
@pytest.mark.parametrize("n", LENGTHS)
def test_top_k(dtype: Any, n: int) -> None:
    x = np.round(np.random.default_rng(n).standard_normal((3, n)), 1).astype(dtype)
    for k in (1, 2, 50, n // 3, n - 1, n, n + 5, 2**40):
        if k < 1:
            continue
        got = vastmax.top_k_mask_logits(x, k)
        for row in range(3):
            assert check_order(kept_of(got[row], x[row]), ordered(wide(x[row]))) == min(k, n)
    for k in (0, None):
        assert vastmax.top_k_mask_logits(x, k).tobytes() == x.tobytes()


MASKS = (
    (vastmax.top_k_mask_logits, 3, [3, 0, 1, 7]),
    (vastmax.top_p_mask_logits, 0.7, [0.7, 1.0, 0.0, 0.3]),
    (vastmax.min_p_mask_logits, 0.2, [0.2, 0.0, 1.0, 0.5]),
)


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize(("mask", "one", "several"), MASKS)
def test_one_for_each_row_axis_and_strides(dtype: Any, mask: Any, one: Any, several: Any) -> None:
    x = np.round(np.random.default_rng(6).standard_normal((4, 9000)), 2).astype(dtype)
    got = mask(x, several)
    for row in range(4):
        assert got[row].tobytes() == mask(x[row], several[row]).tobytes()
    same = mask(x, one)
    np.testing.assert_array_equal(mask(x.T, one, axis=0).T, same)
    np.testing.assert_array_equal(mask(np.asfortranarray(x), one), same)
    np.testing.assert_array_equal(mask(x[::-1, ::-1][::-1, ::-1], one), same)
    np.testing.assert_array_equal(mask(x.reshape(2, 2, 9000), np.reshape(several, (2, 2))).reshape(4, -1), got)
    np.testing.assert_array_equal(mask(x.reshape(2, 2, 9000), [several[:2]]).reshape(4, -1)[:2], got[:2])
    assert mask(x, None).tobytes() == x.tobytes()
    assert mask(np.zeros((0, 5), dtype), one).shape == (0, 5)
    assert mask(np.zeros((2, 0), dtype), one).shape == (2, 0)
    for threads in (1, 3):
        with vastmax.config(threads=threads):
            vast = np.resize(x, 300_001)
            assert mask(vast, one).tobytes() == mask(vast.copy(), one).tobytes()


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("n", [6, 5000, 70_000])
def test_special_rows(dtype: Any, n: int) -> None:
    nan, inf = np.nan, np.inf
    x = np.full((5, n), -inf).astype(dtype)
    x[0, n // 2] = 3
    x[1, [1, 3, n - 1]] = 1, inf, inf
    x[2, [0, 3]] = 1.5, nan
    x[4] = 0
    for mask, one in ((vastmax.top_k_mask_logits, 1), (vastmax.top_p_mask_logits, 0.4), (vastmax.min_p_mask_logits, 1)):
        got = mask(x, one)
        for row in (0, 2, 3):
            np.testing.assert_array_equal(wide(got[row]), wide(x[row]))
        left = [1, 2][mask is vastmax.min_p_mask_logits]
        assert np.flatnonzero(wide(got[1]) == inf).tolist() == [3, n - 1][:left]
        assert (wide(got[1]) > -inf).sum() == left
        assert mask(x[4], one).tobytes() == got[4].tobytes()


@pytest.mark.backends("host")
def test_errors() -> None:
    x = np.zeros((3, 4), np.float32)
    top_k, top_p, min_p = (mask for mask, *_ in MASKS)
    cases: list[tuple[type[Exception], Any, tuple[str, ...], Any]] = [
        (ValueError, top_k, ("top_k_mask_logits", "k", "-1", ">= 0"), -1),
        (ValueError, top_k, ("k", "-7"), [1, -7, 2]),
        (TypeError, top_k, ("k", "float64", "int"), 2.0),
        (TypeError, top_k, ("k", "bool"), True),
        (ValueError, top_k, ("k", "(2,)", "(3,)"), [1, 2]),
        (ValueError, top_p, ("top_p_mask_logits", "p", "1.5", "0 to 1"), 1.5),
        (ValueError, top_p, ("p", "-0.1"), [0.5, -0.1, 0.5]),
        (ValueError, top_p, ("p", "nan"), np.nan),
        (TypeError, top_p, ("p", "complex128"), 1j),
        (ValueError, min_p, ("min_p_mask_logits", "p", "(4,)", "(3,)"), np.zeros(4)),
        (ValueError, min_p, ("p", "1.0000"), np.nextafter(1, 2)),
    ]
    for error, mask, words, value in cases:
        with pytest.raises(error) as caught:
            mask(x, value)
        assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.backends("host")
@pytest.mark.slow
def test_vast_rows() -> None:
    rng = np.random.default_rng(4)
    for n in (2**24 + 1, 50_000_000):
        for sigma in (0.0, 1.0, 5.0):
            x = rng.standard_normal(n, np.float32) * np.float32(sigma)
            check_top_p(x, 0.9)
