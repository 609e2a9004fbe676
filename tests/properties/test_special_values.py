# SPDX-License-Identifier: Apache-2.0
"""The table of special values, at every position 0..130 of a row, for every dtype, axis and instruction set.

All positions are rows of one array: column j of row i is special where i == j. The reference is spelled out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts
from support.loops import in_a_loop

# The bits of `offload` are those of `device`: test_backends.
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.backends("host", "device")]

N = 131
INF, NAN = np.inf, np.nan
LENGTHS = (1, 2, 7, 16, 33, 64, 130, N)
AXES = pytest.mark.parametrize("axis", [-1, 0, 1])


def place(x: Any, axis: int) -> Any:
    """The row axis of a [rows, n] array moved to `axis` of a 1-, 2- or 3-d array."""
    return {-1: x, 0: np.ascontiguousarray(x.T), 1: np.ascontiguousarray(x.reshape(x.shape[0], x.shape[1], 1))}[axis]


def run(op: str, x: Any, axis: int, **options: Any) -> Any:
    """Back in [rows, n] (or [rows]) and float64."""
    options = {k: place(np.broadcast_to(v, x.shape), axis) if k == "where" else v for k, v in options.items()}
    got = getattr(vastmax, op)(place(x, axis), axis=axis, **options).astype(np.float64)
    if op == "logsumexp":
        return got.reshape(-1)
    return got.T if axis == 0 else got.reshape(x.shape)


def base(n: int) -> Any:
    """Unequal finite logits, exact in every format."""
    return np.tile((np.arange(n) * 7 % 16 - 8) / 4.0, (n, 1))


def at_each_position(n: int, value: float, dtype: Any) -> tuple[Any, Any]:
    diagonal = np.eye(n, dtype=bool)
    return np.where(diagonal, value, base(n)).astype(dtype), diagonal


@AXES
@in_a_loop(n=LENGTHS)
def test_nan_anywhere_is_nan_everywhere(dtype: Any, axis: int, n: int) -> None:
    x, _ = at_each_position(n, NAN, dtype)
    for op in ("softmax", "log_softmax", "logsumexp"):
        assert np.isnan(run(op, x, axis)).all(), op


@AXES
@in_a_loop(n=LENGTHS)
def test_nan_beside_infinities(dtype: Any, axis: int, n: int) -> None:
    """NaN wins over +inf before or after it, and over -inf."""
    x, diagonal = at_each_position(n, NAN, dtype)
    for fill in (INF, -INF):
        y = np.where(diagonal, NAN, fill).astype(dtype)
        for op in ("softmax", "log_softmax", "logsumexp"):
            assert np.isnan(run(op, y, axis)).all(), (op, fill)
    if n > 1:
        y = np.where(np.roll(diagonal, 1, 1), INF, x).astype(dtype)
        for op in ("softmax", "log_softmax", "logsumexp"):
            assert np.isnan(run(op, y, axis)).all(), op


@AXES
@in_a_loop(n=LENGTHS)
def test_plus_infinity(dtype: Any, axis: int, n: int) -> None:
    x, diagonal = at_each_position(n, INF, dtype)
    assert np.isnan(run("softmax", x, axis)).all()
    np.testing.assert_array_equal(run("log_softmax", x, axis), np.where(diagonal, NAN, -INF))
    np.testing.assert_array_equal(run("logsumexp", x, axis), np.full(n, INF))


@AXES
@in_a_loop(n=LENGTHS)
def test_minus_infinity_beside_finite(dtype: Any, axis: int, n: int) -> None:
    """The rest of the row is as if the entry were not there."""
    if n == 1:
        return
    x, diagonal = at_each_position(n, -INF, dtype)
    shorter = x[~diagonal].reshape(n, n - 1)
    p = run("softmax", x, axis)
    assert (p[diagonal] == 0).all()
    assert not np.signbit(p[diagonal]).any()
    log_p = run("log_softmax", x, axis)
    assert np.isneginf(log_p[diagonal]).all()
    # A shorter row may add up in another order: within the contracts, not to the bit.
    unit = 2.0 * np.finfo(np.float16 if dtype.itemsize == 2 else dtype).eps * (8 if dtype.itemsize == 2 else 1)
    np.testing.assert_allclose(p[~diagonal].reshape(n, n - 1), run("softmax", shorter, axis), rtol=4 * unit, atol=0)
    np.testing.assert_allclose(run("logsumexp", x, axis), run("logsumexp", shorter, axis), rtol=4 * unit, atol=4 * unit)
    where = run("softmax", x, axis, where=~diagonal)
    np.testing.assert_array_equal(p, where)


@AXES
@in_a_loop(n=LENGTHS)
def test_all_minus_infinity(dtype: Any, axis: int, n: int) -> None:
    x = np.full((5, n), -INF).astype(dtype)
    assert np.isnan(run("softmax", x, axis)).all()
    assert np.isnan(run("log_softmax", x, axis)).all()
    assert np.isneginf(run("logsumexp", x, axis)).all()


@AXES
@in_a_loop(n=LENGTHS, value=[0.0, -0.0, 3.5, -60000.0, 60000.0, 2.0**-14])
def test_one_finite(dtype: Any, axis: int, n: int, value: float) -> None:
    diagonal = np.eye(n, dtype=bool)
    x = np.where(diagonal, value, -INF).astype(dtype)
    exact = np.array(value).astype(dtype).astype(np.float64)
    p, log_p, lse = (run(op, x, axis) for op in ("softmax", "log_softmax", "logsumexp"))
    np.testing.assert_array_equal(p, diagonal.astype(np.float64))
    np.testing.assert_array_equal(log_p, np.where(diagonal, 0.0, -INF))
    assert not np.signbit(log_p[diagonal]).any(), "exactly +0.0"
    np.testing.assert_array_equal(lse, np.full(n, exact))


@pytest.mark.backends("host")
def test_any_one_finite(dtype: Any) -> None:
    """Alone, and beside -inf."""
    x = (np.random.default_rng(5).standard_normal(100_000) * 3).astype(dtype)
    assert (vastmax.softmax(x[:, None], axis=1) == 1).all()
    assert (vastmax.softmax(x[None, :20_000], axis=0) == 1).all()
    for n in (40, 5000):
        beside = np.full((20_000 // n, n), -INF).astype(dtype)
        beside[:, 7] = x[: len(beside)]
        assert (vastmax.softmax(beside, axis=1)[:, 7] == 1).all()


@AXES
@in_a_loop(n=LENGTHS, hidden=[NAN, INF, -INF, 6e4])
def test_where_hides_anything(dtype: Any, axis: int, n: int, hidden: float) -> None:
    if n == 1:
        return
    x, diagonal = at_each_position(n, hidden, dtype)
    clean, _ = at_each_position(n, 0.0, dtype)
    for op, fill in (("softmax", 0.0), ("log_softmax", -INF), ("logsumexp", None)):
        got = run(op, x, axis, where=~diagonal)
        np.testing.assert_array_equal(got, run(op, clean, axis, where=~diagonal))
        assert np.isfinite(got if fill is None else got[~diagonal]).all()
        if fill is not None:
            np.testing.assert_array_equal(got[diagonal], np.full(n, fill))


@AXES
@in_a_loop(n=LENGTHS, content=[0.0, NAN, INF, -INF])
def test_where_all_false(dtype: Any, axis: int, n: int, content: float) -> None:
    x = np.full((3, n), content).astype(dtype)
    for op, fill in (("softmax", 0.0), ("log_softmax", -INF), ("logsumexp", -INF)):
        got = run(op, x, axis, where=False)
        np.testing.assert_array_equal(got, np.full(got.shape, fill))


@AXES
@in_a_loop(n=LENGTHS)
def test_where_true_on_one(dtype: Any, axis: int, n: int) -> None:
    diagonal = np.eye(n, dtype=bool)
    x = np.where(diagonal, 1.5, NAN).astype(dtype)
    np.testing.assert_array_equal(run("softmax", x, axis, where=diagonal), diagonal.astype(float))
    np.testing.assert_array_equal(run("log_softmax", x, axis, where=diagonal), np.where(diagonal, 0.0, -INF))
    np.testing.assert_array_equal(run("logsumexp", x, axis, where=diagonal), np.full(n, 1.5))


def test_where_true_on_minus_infinity_only(dtype: Any) -> None:
    """Not the same as all False: the row has entries, and they are all -inf."""
    x = np.array([[-INF, 1.0, -INF]]).astype(dtype)
    keep = [[True, False, True]]
    np.testing.assert_array_equal(vastmax.softmax(x, where=keep).astype(float), [[NAN, 0.0, NAN]])
    np.testing.assert_array_equal(vastmax.log_softmax(x, where=keep).astype(float), [[NAN, -INF, NAN]])
    np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1, where=keep), [-INF])


def test_empty(dtype: Any) -> None:
    for shape in ((0,), (3, 0), (0, 5), (2, 0, 4), (0, 0)):
        x = np.zeros(shape, dtype)
        for op in ("softmax", "log_softmax"):
            for axis in (*range(-len(shape), len(shape)), None):
                got = getattr(vastmax, op)(x, axis=axis)
                assert got.shape == shape
                assert got.dtype == dtype
        for axis in range(len(shape)):
            got = vastmax.logsumexp(x, axis=axis)
            np.testing.assert_array_equal(got, np.full(np.sum(np.zeros(shape), axis=axis).shape, -INF))
        assert vastmax.logsumexp(x) == -INF
        for op in ("softplus", "sigmoid", "log_sigmoid"):
            assert getattr(vastmax, op)(x).shape == shape


def test_special_rows_leave_their_neighbours_alone(dtype: Any) -> None:
    """A poisoned row of a batch changes no bit of the others."""
    x = base(65)[:40].astype(dtype)
    clean = vastmax.softmax(x)
    lse = vastmax.logsumexp(x, axis=1)
    for value in (NAN, INF, -INF):
        y = x.copy()
        y[::3] = value
        keep = np.arange(40) % 3 != 0
        np.testing.assert_array_equal(vastmax.softmax(y)[keep], clean[keep])
        np.testing.assert_array_equal(vastmax.logsumexp(y, axis=1)[keep], lse[keep])
        first = vastmax.softmax(y.T, axis=0).T
        np.testing.assert_array_equal(first[keep], clean[keep])


@pytest.mark.backends("host")
@pytest.mark.parametrize("position", [0, 1, 150_000, 299_998, 299_999])
def test_vast_rows(dtype: Any, position: int) -> None:
    """A special value in one of many blocks, threads or not."""
    x = np.zeros(300_000, dtype)
    for value, lse in ((NAN, NAN), (INF, INF)):
        x[position] = value
        for threads in (1, 3):
            with vastmax.config(threads=threads):
                np.testing.assert_array_equal(vastmax.logsumexp(x), np.float32(lse))
                assert np.isnan(vastmax.softmax(x)).all()
    x[:] = -INF
    assert vastmax.logsumexp(x) == -INF
    x[position] = 2.0
    assert vastmax.logsumexp(x) == 2.0
    p = vastmax.softmax(x)
    assert p[position] == 1
    assert np.count_nonzero(p) == 1


@pytest.mark.backends("host")
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_of_minus_infinity_beside_low_ones(dtype: Any, threads: int) -> None:
    """Nothing finite stands for -inf: whole blocks of it, before and after a block of very low logits."""
    x = np.full(200_000, -INF).astype(dtype)
    for low in (-6e4, -300.0):
        for start in (0, 70_000, 199_996):
            x[start : start + 4] = low
            with vastmax.config(threads=threads):
                p = vastmax.softmax(x)
                assert (p[start : start + 4] == 0.25).all()
                assert np.count_nonzero(p) == 4
                np.testing.assert_allclose(vastmax.logsumexp(x), float(dtype.type(low)) + np.log(4.0), rtol=1e-6)
            x[start : start + 4] = -INF


def test_lowest_finite_beside_minus_infinity(dtype: Any) -> None:
    lowest = -contracts.FORMATS[contracts.name_of(dtype)].max
    for n in (2, 17, 130):
        x = np.where(np.eye(n, dtype=bool), lowest, -INF).astype(dtype)
        np.testing.assert_array_equal(vastmax.softmax(x).astype(float), np.eye(n))
        np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1), np.full(n, lowest))
        np.testing.assert_array_equal(vastmax.log_softmax(x).astype(float), np.where(np.eye(n, dtype=bool), 0.0, -INF))


def test_extremes_do_not_overflow(wide_dtype: Any) -> None:
    big = np.finfo(wide_dtype).max
    x = np.array([[big, big], [big, -big], [-big, -big]], wide_dtype)
    np.testing.assert_array_equal(vastmax.softmax(x), [[0.5, 0.5], [1, 0], [0.5, 0.5]])
    np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1), [big, big, -big])
    log_p = vastmax.log_softmax(x)
    np.testing.assert_array_equal(log_p[[0, 2]], np.full((2, 2), np.log(wide_dtype.type(0.5))))
    assert log_p[1, 0] == 0
    assert log_p[1, 1] == -INF  # -2 max is beyond the format


@AXES
def test_gradients(dtype: Any, axis: int) -> None:
    """An all -inf row has a gradient of 0; a masked entry has 0."""
    x = base(17).astype(dtype)
    x[3] = -INF
    g = np.ones(17, np.float64 if dtype == np.float64 else np.float32)
    shaped = {-1: g, 0: g, 1: g[:, None]}[axis]
    got = vastmax.logsumexp_backward(shaped, place(x, axis), axis=axis)
    got = got.T if axis == 0 else got.reshape(x.shape)
    assert (got[3] == 0).all()
    np.testing.assert_array_equal(np.delete(got, 3, 0), np.delete(vastmax.softmax(x), 3, 0))
    keep = np.arange(17) != 4
    got = vastmax.logsumexp_backward(
        shaped, place(x, axis), axis=axis, where=place(np.broadcast_to(keep, x.shape), axis)
    )
    got = got.T if axis == 0 else got.reshape(x.shape)
    assert (got[:, 4] == 0).all()
