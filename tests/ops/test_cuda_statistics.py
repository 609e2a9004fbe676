# SPDX-License-Identifier: Apache-2.0
"""Row statistics of arrays that live on a GPU, around tiles and their merges; test_row_statistics runs on them too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_row_statistics import ordered, wide

import vastmax
from support import contracts, oracle
from support.fake_gpu_arrays import ByDlpack

pytestmark = [pytest.mark.usefixtures("simulated", "backend"), pytest.mark.backends("device")]
NAMES = ("softmax_stats", "entropy", "selective_log_softmax", "kl_divergence")
HOST = {name: getattr(vastmax, name) for name in (*NAMES, "logsumexp")}


def test_results_live_on_the_gpu() -> None:
    x = ByDlpack(np.array([[0, 1, 2, 3], [5, 5, 0, 0]], np.float32))
    stats = HOST["softmax_stats"](x, ByDlpack(np.array([0, 1], np.int32)), top_n=2)
    for each in stats:
        assert isinstance(each, vastmax.cuda.DeviceArray)
    np.testing.assert_array_equal(stats.argmax.copy_to_host(), [3, 0])
    np.testing.assert_array_equal(stats.target_rank.copy_to_host(), [4, 1])
    np.testing.assert_array_equal(stats.top_indices.copy_to_host(), [[3, 2], [0, 1]])
    assert stats.top_indices.dtype == np.int64
    for name, more in (("entropy", ()), ("selective_log_softmax", ([1, 2],)), ("kl_divergence", (x,))):
        assert isinstance(HOST[name](x, *more), vastmax.cuda.DeviceArray)


def check_top(x: Any, top_n: int) -> None:
    """The classes are exactly those of a full sort, whatever is above, below or equal."""
    got = vastmax.softmax_stats(x, top_n=top_n)
    np.testing.assert_array_equal(got.top_indices, ordered(x)[..., :top_n])


@pytest.mark.parametrize("top_n", [1, 2, 20, 300, 1025, 3000, 50_257])
@pytest.mark.parametrize("kind", ["normal", "constant", "rising", "falling", "few values", "nan"])
def test_the_largest_of_any_row(kind: str, top_n: int) -> None:
    n = 50_257
    rng = np.random.default_rng(3)
    row = {
        "normal": lambda: rng.standard_normal(n),
        "constant": lambda: np.zeros(n),
        "rising": lambda: np.arange(n),
        "falling": lambda: -np.arange(n),
        "few values": lambda: rng.integers(0, 3, n),
        "nan": lambda: np.where(rng.random(n) < 0.3, np.nan, rng.standard_normal(n)),
    }[kind]()
    check_top(row[None].astype(np.float32), top_n)


@pytest.mark.conformance
@pytest.mark.parametrize("top_n", [1, 5, 40])
def test_the_largest_of_many_tiles(top_n: int) -> None:
    """More tiles than are looked through one by one, of each dtype."""
    rng = np.random.default_rng(4)
    for dtype in (np.float16, np.float64):
        check_top(np.round(rng.standard_normal((1, 1_400_000)) * 5, 1).astype(dtype), top_n)


def test_signed_zeros_are_equal() -> None:
    x = np.array([[-0.0, 0.0, -1.0, 0.0]], np.float32)
    got = vastmax.softmax_stats(x, np.array([3]), top_n=3)
    assert got.argmax == 0
    assert got.target_rank == 1
    np.testing.assert_array_equal(got.top_indices, [[0, 1, 3]])


@pytest.mark.parametrize("offset", [1, 3])
@pytest.mark.parametrize("n", [5, 1023, 50_257])
def test_bases_off_their_boundaries(n: int, offset: int, dtype: Any) -> None:
    """The same bits as from a boundary, from every other class, and from rows that lie across."""
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((2, n)) * 4).astype(dtype)
    target = rng.integers(0, n, 2)
    shifted = np.empty(x.size + offset, dtype)[offset:].reshape(x.shape)
    apart = np.empty((2, 2 * n), dtype)[:, ::2]
    across = np.empty((n, 2), dtype).T
    for other in (shifted, apart, across):
        other[...] = x
    want = [
        *vastmax.softmax_stats(x, target, top_n=4),
        vastmax.kl_divergence(x, x[::-1].copy()),
        vastmax.selective_log_softmax(x, target),
    ]
    for other in (shifted, apart, across):
        got = [
            *vastmax.softmax_stats(other, target, top_n=4),
            vastmax.kl_divergence(other, x[::-1].copy()),
            vastmax.selective_log_softmax(other, target),
        ]
        assert [np.asarray(a).tobytes() for a in got] == [np.asarray(a).tobytes() for a in want]


@pytest.mark.conformance
def test_rows_of_very_many_tiles(dtype: Any) -> None:
    """Their parts are merged by a block, not by a warp."""
    n = 300_001
    rng = np.random.default_rng(8)
    x, z = ((rng.standard_normal((1, n)) * 4).astype(dtype) for _ in range(2))
    got = vastmax.softmax_stats(x, np.array([7]), top_n=2)
    contracts.check("entropy", got.entropy, oracle.entropy(wide(x)))
    assert got.target_rank == 1 + (wide(x) > wide(x)[0, 7]).sum()
    np.testing.assert_array_equal(got.lse, vastmax.logsumexp(x, axis=-1))
    want, largest = oracle.kl_divergence(wide(x), wide(z))
    scale = np.maximum(np.abs(want.float()), largest)
    contracts.check("kl_divergence", vastmax.kl_divergence(x, z), want, scale=scale)


def test_what_p_cannot_reach_adds_nothing() -> None:
    """A class without probability in p adds nothing, though q lacks it: also where a tile is out of reach."""
    x, z = np.zeros((2, 5000)), np.zeros((2, 5000))
    x[:, -1] = 10_000
    z[:, 0] = -np.inf
    for call in (vastmax.kl_divergence, HOST["kl_divergence"]):
        np.testing.assert_allclose(call(x, z), np.log(4999))


@pytest.mark.parametrize("wrong", [4, -1, 2**40])
@pytest.mark.parametrize("name", ["softmax_stats", "selective_log_softmax"])
def test_classes_out_of_range_are_refused(name: str, wrong: int) -> None:
    with pytest.raises(IndexError, match=f"{name}: .* is {wrong} at row 1; accepted: 0 to 3"):
        HOST[name](ByDlpack(np.zeros((2, 4), np.float32)), ByDlpack(np.array([1, wrong])))


def test_empty_arrays() -> None:
    for shape in ((0, 4), (2, 0)):
        x = np.zeros(shape, np.float32)
        device = vastmax.cuda.DeviceArray(shape, x.dtype, 0, 0)
        want = [HOST["entropy"](x), HOST["kl_divergence"](x, x)]
        for call, expected in (
            (lambda a: HOST["entropy"](a), want[0]),
            (lambda a: HOST["kl_divergence"](a, a), want[1]),
        ):
            np.testing.assert_array_equal(call(device).copy_to_host(), expected)
    rows = vastmax.cuda.DeviceArray((0, 4), np.dtype(np.float32), 0, 0)
    assert HOST["softmax_stats"](rows, top_n=2).top_indices.copy_to_host().shape == (0, 2)
    some = ByDlpack(np.zeros((2, 3), np.float32))
    assert HOST["selective_log_softmax"](some, np.zeros((2, 0), int)).copy_to_host().shape == (2, 0)
