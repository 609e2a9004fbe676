# SPDX-License-Identifier: Apache-2.0
"""The sets that filters keep of random rows with ties: alone, one after another, and in `sample`.

The reference sorts and sums in extended precision. With 64 bits of mantissa the distance of a logit to the largest, its
quotient by the temperature, the exponential and each addition round by 2**-64 of themselves or little more, so a share
of the mass of n classes is right to n 2**-61: 2e-14 for the longest rows here, where sets are held to the reference
unless it lies within 1e-12 of what was asked for. Some rows hold it to that with 50 digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest

import vastmax
from support import contracts

Array = np.ndarray[Any, Any]
NEAR = 1e-12
LENGTHS = {5: 0.3, 64: 0.3, 300: 0.25, 1000: 0.1, 4097: 0.045, 20_000: 0.005}  # and the share of the rows
A_CHUNK = 2_000_000  # logits

pytestmark = pytest.mark.skipif(np.finfo(np.longdouble).eps > 2.0**-63, reason="long double is no wider than double")


class Filters(NamedTuple):
    """One of each for each row."""

    top_k: Array
    top_p: Array
    min_p: Array

    def only(self, name: str) -> Filters:
        none = Filters(np.zeros_like(self.top_k), np.ones_like(self.top_p), np.zeros_like(self.min_p))
        return none._replace(**{name: getattr(self, name)})


def random_filters(rng: Any, rows: int, n: int) -> Filters:
    def powers_of_ten() -> Any:
        return 10.0 ** -rng.uniform(0, 10, rows)

    def one_of(*choices: Any) -> Any:
        return np.choose(rng.integers(len(choices), size=rows), choices)

    return Filters(
        one_of(0, np.int64(n ** rng.random(rows)), rng.integers(1, 2 * n, rows)),
        np.where(
            rng.random(rows) < 0.02, one_of(0.0, 1.0), one_of(rng.random(rows), powers_of_ten(), 1 - powers_of_ten())
        ),
        one_of(0.0, powers_of_ten(), rng.random(rows)),
    )


def random_rows(rng: Any, rows: int, n: int, dtype: Any) -> Array:
    """Flat and peaked, with few or many ties, some far from 0, some with classes that are impossible."""
    x = rng.standard_normal((rows, n)) * 10 ** rng.uniform(-3, 1.6, (rows, 1))
    grid = rng.choice([2.0**-40, 2.0**-6, 0.1, 1.0], (rows, 1))
    x = np.round(x / grid) * grid + rng.choice([0.0, 0.0, 300.0, -2e4], (rows, 1))
    x[(rng.random((rows, n)) < 0.3) & (rng.random((rows, 1)) < 0.1)] = -np.inf
    x[:, 0] = np.maximum(x[:, 0], -6e4)
    return np.asarray(x.astype(dtype))


class Order:
    """Rows by descending logit, ties to the lower index, and their masses at some temperatures."""

    def __init__(self, x: Array, temperature: Any = 1.0) -> None:
        z = x.astype(np.float64)
        self.order = np.argsort(-z, axis=-1, kind="stable")
        falling = np.take_along_axis(z, self.order, -1).astype(np.longdouble)
        self.possible = falling > -np.inf
        with np.errstate(under="ignore"):
            self.mass = np.exp((falling - falling[:, :1]) / np.reshape(temperature, (-1, 1)))

    def shares(self, top_k: Array) -> Any:
        """Of the mass that top_k leaves, up to each place."""
        n = self.mass.shape[-1]
        left = np.arange(n) < np.where(top_k == 0, n, top_k)[:, None]
        through = np.cumsum(np.where(left, self.mass, 0), -1)
        return left, through / through[:, -1:]

    def close(self, rng: Any, filters: Filters) -> Filters:
        """A top_p and a min_p that are little off the share and the mass of some class, each in half of the rows."""
        left, share = self.shares(filters.top_k)
        rows = np.arange(len(share))
        place = np.int64(left.sum(-1) ** rng.random((2, len(rows)))) - 1

        def beside(values: Any, otherwise: Array) -> Any:
            off = rng.choice([-1, 1], len(rows)) * 10 ** rng.uniform(-11.9, -8, len(rows))
            return np.where(rng.random(len(rows)) < 0.5, np.clip(values * (1 + off), 0, 1), otherwise).astype(
                np.float64
            )

        p = beside(share[rows, place[0]], filters.top_p)
        return filters._replace(top_p=p, min_p=beside(self.mass[rows, place[1]], filters.min_p))

    def kept(self, filters: Filters) -> tuple[Array, Array]:
        """Which classes are kept, and of which rows that is certain."""
        left, share = self.shares(filters.top_k)
        p, least = filters.top_p[:, None], filters.min_p[:, None]
        places = np.argmax(share >= p, -1)[:, None]
        kept = left & self.possible & ((np.arange(left.shape[-1]) <= places) | (p == 1)) & (self.mass >= least)
        near = (abs(share - p) <= NEAR) & (p > 0) & (p < 1)
        near |= (abs(self.mass - least) <= NEAR * least) & (least > 0) & (least < 1)
        by_index = np.zeros_like(kept)
        np.put_along_axis(by_index, self.order, kept, -1)
        return by_index, ~near.any(-1)


def check_shares(x: Array) -> None:
    n = x.shape[-1]
    order = Order(x)
    _, shares = order.shares(np.zeros(len(x), np.int64))
    with mpmath.workdps(50):
        for row, share in zip(np.take_along_axis(x.astype(np.float64), order.order, -1), shares, strict=True):
            through = np.cumsum([mpmath.exp(mpmath.mpf(z) - mpmath.mpf(row[0])) for z in row.tolist()])
            parts = [(float(s), float(s - np.longdouble(float(s)))) for s in share]
            off = max(abs(mpmath.mpf(a) + b - t / through[-1]) for (a, b), t in zip(parts, through, strict=True))
            assert off <= n * mpmath.mpf(2) ** -61


def left_by(x: Array, filters: Filters) -> Array:
    for mask, values in zip(
        (vastmax.top_k_mask_logits, vastmax.top_p_mask_logits, vastmax.min_p_mask_logits), filters, strict=True
    ):
        x = mask(x, values)
    return x.astype(np.float64) > -np.inf


def drawn_from(x: Array, temperature: Array, filters: Filters) -> Array:
    """Without replacement, until nothing is left."""
    rows, n = x.shape
    options = {"temperature": temperature, "seed": 1, **filters._asdict()}
    ids, log_prob = vastmax.sample(x, n, replace=False, return_log_prob=True, **options)
    found = np.zeros((rows, n + 1), bool)
    np.put_along_axis(found, ids, True, -1)  # -1 is the last
    total = np.exp(log_prob.astype(np.float64)).sum(-1, where=ids >= 0)
    np.testing.assert_allclose(total, 1, rtol=2e-5 if log_prob.dtype == np.float32 else 1e-12)
    assert np.take_along_axis(found, vastmax.sample(x, 3, **options), -1).all()
    return found[:, :n]


class Tally(dict[str, list[int]]):
    """Rows that were certain, and others, for each way to filter."""

    def check(self, way: str, got: Array, want: tuple[Array, Array]) -> None:
        kept, certain = want
        wrong = np.flatnonzero(certain & (got != kept).any(-1))
        assert wrong.size == 0, f"{way}: {wrong.size} rows, the first of them {wrong[0]}"
        counts = self.setdefault(way, [0, 0])
        counts[0] += int(certain.sum())
        counts[1] += int((~certain).sum())


def chunks(rows: int) -> Iterator[tuple[int, int]]:
    for n, share in LENGTHS.items():
        left, most = round(rows * share), A_CHUNK // n
        while left > 0:
            yield min(left, most), n
            left -= most


def check_sets(rows: int, dtype: Any) -> Tally:
    tally, rng = Tally(), np.random.default_rng(rows)
    for count, n in chunks(rows):
        x, filters = random_rows(rng, count, n, dtype), random_filters(rng, count, n)
        t = np.where(rng.random(count) < 0.2, 1.0, 10 ** rng.uniform(-1, 1, count))
        order, tempered = Order(x), Order(x, t)
        for name in Filters._fields:
            one = order.close(rng, filters).only(name)
            tally.check(name, left_by(x, one), order.kept(one))
        several = order.close(rng, filters)
        tally.check("one after another", left_by(x, several), order.kept(several))
        several = tempered.close(rng, filters)
        tally.check("sample", drawn_from(x, t, several), tempered.kept(several))
        if n <= 1000:
            check_shares(x[:: max(1, count // 4)])
    return tally


def test_random_rows(dtype: Any, isa: str) -> None:
    tally = check_sets(400, dtype)
    assert all(certain > 360 for certain, _ in tally.values()), tally


@pytest.mark.slow
@pytest.mark.parametrize("name", contracts.DTYPES)
def test_a_hundred_thousand_rows(name: str) -> None:
    """The figures of docs/development/measured.md: `pytest -m slow tests/properties/test_filter_sets.py -s`."""
    tally = check_sets(100_000, contracts.FORMATS[name].dtype)
    print(f"\n{name}: rows that are equal, rows that lie within 1e-12: {dict(tally)}")
    assert all(certain > 90_000 for certain, _ in tally.values())


def test_the_order_of_filters() -> None:
    """Another order would keep other sets."""
    x = np.log([0.4, 0.3, 0.2, 0.1])

    def size(x: Any, **options: Any) -> int:
        return int((vastmax.sample(x, 4, replace=False, seed=1, **options) >= 0).sum())

    assert size(x, top_p=0.75) == 3
    assert size(x, top_p=0.75, top_k=3) == 2  # of what top_k leaves
    assert size(x, top_p=0.55, min_p=0.6) == 2  # of more than min_p leaves, where 0.4 is 0.57
    assert size(x, top_p=0.39) == 1
    assert size(2 * x, top_p=0.39, temperature=2) == 1
    assert size(x, top_p=0.39, temperature=2) == 2  # of the tempered mass
    assert size(x, min_p=0.6) == 2
    assert size(x, min_p=0.6, temperature=2) == 3
    assert size(x, top_k=2, top_p=1, min_p=0) == 2
