# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import doctest
import pickle
import re
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import vastmax
from support import ROOT, contracts, logit_rows, oracle

dask = pytest.importorskip("dask", reason='without Dask: pip install ".[shards]"')
da = pytest.importorskip("dask.array", reason='without Dask: pip install ".[shards]"')
pytestmark = pytest.mark.any_isa

NAN, INF = np.nan, np.inf
FUNCTIONS = ("logsumexp", "softmax", "log_softmax")


def cut(x: Any, *chunks: Any) -> Any:
    return da.from_array(x, chunks=chunks)


def kind(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


def long_rows(dtype: Any) -> Any:
    """Near certainty, in the last and in the first block, and not."""
    x = logit_rows.integer_logits(60, (5, 30_011)).astype(dtype)
    x[1] -= dtype.type(60)
    x[1, -1] = x[2, 3] = x[3, 9000] = x[3, 20_000] = 40
    return x


def picked(x: Any, ids: Any) -> oracle.Exact:
    """-log p of the targets."""
    log = oracle.log_softmax(x.astype(np.float64))
    one = oracle.Exact(*(np.take_along_axis(part, ids[..., None], -1)[..., 0] for part in log))
    return oracle.Exact(-one.hi, -one.lo, one.exp)


@pytest.mark.parametrize("chunks", [(5, 4096), (2, 8192), ((1, 4), (20_480, 9531)), (5, 30_011)])
def test_bits_of_numpy_where_borders_fall_on_blocks(dtype: Any, chunks: Any) -> None:
    x = long_rows(dtype)
    d = cut(x, *chunks)
    lse = vastmax.dask.logsumexp(d).compute()
    if dtype.itemsize < 8:  # the last bit of float64 is that of a merge
        contracts.assert_equal(lse, vastmax.logsumexp(x, axis=-1))
    contracts.check_logsumexp(lse, oracle.logsumexp(x.astype(np.float64)), x)
    if dtype.itemsize > 2:  # the normaliser of 16-bit results is a shorter one
        contracts.assert_equal(vastmax.dask.softmax(d).compute(), vastmax.softmax(x))
    if dtype.itemsize == 8:
        return
    whole = cut(x, 5, -1)
    for function in (vastmax.dask.softmax, vastmax.dask.log_softmax):
        contracts.assert_equal(function(d).compute(), function(whole).compute())
    ids = np.array([7, 30_010, 3, 20_000, 12_345])
    losses = [vastmax.dask.cross_entropy(y, ids, reduction="none").compute() for y in (d, whole)]
    contracts.assert_equal(*losses)


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_accuracy(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)[None, :200]
    d, z = cut(x, 1, 13), x.astype(np.float64)
    targets = np.array([x.shape[1] // 2]), z.argmax(1)
    lazy = [getattr(vastmax.dask, op)(d) for op in FUNCTIONS]
    lazy += [vastmax.dask.cross_entropy(d, ids, reduction="none") for ids in targets]
    lse, p, log_p, *losses = dask.compute(*lazy, scheduler="synchronous")
    contracts.check_logsumexp(lse, oracle.logsumexp(z), z, hint=name)
    contracts.check_softmax(p, oracle.softmax(z), hint=name)
    contracts.check("log_softmax", log_p, oracle.log_softmax(z), hint=name)
    for loss, ids in zip(losses, targets, strict=True):
        assert loss.dtype == kind(dtype)
        contracts.check("log_softmax", loss, picked(x, ids), hint=name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(contracts.DTYPES),
    axis=st.sampled_from([0, 1, -1, 2, (0, 2), (-1, 1), None]),
    cuts=st.tuples(*(st.lists(st.integers(0, n), max_size=3) for n in (4, 37, 6))),
    split=st.integers(2, 5),
)
def test_any_chunks_along_any_axes(name: str, axis: Any, cuts: Any, split: int) -> None:
    x = logit_rows.integer_logits(61, (4, 37, 6)).astype(contracts.FORMATS[name].dtype)
    chunks = [np.diff([0, *sorted(c), n]).tolist() for c, n in zip(cuts, x.shape, strict=True)]
    d = cut(x, *map(tuple, chunks))
    axes = tuple(range(3)) if axis is None else tuple(np.atleast_1d(axis) % 3)
    rows = np.moveaxis(x, axes, range(-len(axes), 0)).astype(np.float64)
    rows = rows.reshape(*rows.shape[: 3 - len(axes)], -1)

    def as_rows(y: Any) -> Any:
        return np.moveaxis(y, axes, range(-len(axes), 0)).reshape(rows.shape)

    with dask.config.set(scheduler="synchronous", split_every=split):
        sums = vastmax.dask.logsumexp(d, axis)
        got = np.asarray(sums.compute())
        assert (sums.shape, sums.dtype) == (got.shape, got.dtype)
        contracts.check_logsumexp(got, oracle.logsumexp(rows), rows, hint=chunks)
        for op in ("softmax", "log_softmax"):
            y = getattr(vastmax.dask, op)(d, axis)
            assert (y.chunks, y.dtype) == (d.chunks, d.dtype)
            contracts.check(op, as_rows(y.compute()), getattr(oracle, op)(rows), hint=chunks)


SPECIAL = [
    [[]],
    [[-INF], []],
    [[-INF, -INF], [-INF]],
    [[-INF], [3.0]],
    [[3.0], [-INF]],
    [[INF], [3.0]],
    [[3.0], [INF, -INF]],
    [[INF], [INF]],
    [[NAN], [3.0]],
    [[3.0], [1.0, NAN]],
    [[NAN], [INF]],
    [[-INF], [NAN]],
    [[-0.0], []],
    [[-0.0], [-INF]],
]


@pytest.mark.parametrize("chunks", SPECIAL)
def test_special_values(dtype: Any, chunks: list[list[float]]) -> None:
    x = np.array([logit for chunk in chunks for logit in chunk], dtype)
    d = cut(x, tuple(map(len, chunks)))
    for name in FUNCTIONS:
        got = np.asarray(getattr(vastmax.dask, name)(d).compute())
        want = np.asarray(getattr(vastmax, name)(x, axis=-1))
        contracts.assert_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[want == 0]))
    for target in range(len(x)):
        got = vastmax.dask.cross_entropy(d, target).compute()
        contracts.assert_equal(got, -vastmax.log_softmax(x)[target].astype(kind(dtype)))


@pytest.mark.parametrize(
    "x", [np.int8([[1, 2, 100]]), np.array([[True, False]]), np.arange(6.0).reshape(2, 3).astype(">f4")]
)
def test_other_dtypes(x: Any) -> None:
    d = cut(x, 1, 1)
    for name in FUNCTIONS:
        lazy = getattr(vastmax.dask, name)(d)
        want = getattr(vastmax, name)(x, axis=-1)
        assert lazy.dtype == want.dtype
        np.testing.assert_allclose(lazy.compute(), want, rtol=1e-15 if want.dtype == np.float64 else 1e-6)
    assert vastmax.dask.top_k(d, 1)[0].dtype == vastmax.softmax(x).dtype


def test_scalar_is_a_row_of_one() -> None:
    x = da.asarray(np.float32(3))
    assert [getattr(vastmax.dask, name)(x).compute() for name in FUNCTIONS] == [3, 1, 0]


def test_rows_of_unknown_number() -> None:
    x = logit_rows.integer_logits(62, (9, 50))
    d = cut(x, 3, 20)
    some = d[da.from_array(x[:, 0] > 0, chunks=3)]
    for name in FUNCTIONS:
        got = getattr(vastmax.dask, name)(some).compute()
        np.testing.assert_allclose(got, getattr(vastmax, name)(x[x[:, 0] > 0], axis=-1), rtol=1e-14)


# Cross-entropy


@pytest.mark.parametrize("lazy", [False, True])
def test_reductions(wide_dtype: Any, lazy: bool) -> None:
    x = logit_rows.integer_logits(63, (2, 6, 300)).astype(wide_dtype)
    ids = np.random.default_rng(1).integers(0, 300, (2, 6)).astype(np.int16)
    ids[0, 2] = ids[1, 5] = -100
    x[0, 2, 7] = NAN
    kept = ids != -100
    want = picked(np.where(kept[..., None], x, 0), np.where(kept, ids, 0)).float() * kept
    target = da.from_array(ids, chunks=(1, 4)) if lazy else ids
    d = cut(x, 2, 5, 77)
    tight = 4 * np.finfo(wide_dtype).eps
    for reduction, expected in (("none", want), ("sum", want.sum()), ("mean", want.sum() / kept.sum())):
        loss = vastmax.dask.cross_entropy(d, target, reduction=reduction)
        got = loss.compute()
        assert loss.shape == got.shape == expected.shape
        assert loss.dtype == got.dtype == wide_dtype
        np.testing.assert_allclose(got, expected, rtol=tight)
        assert (np.asarray(got) == 0).sum() == (2 if reduction == "none" else 0)
    moved = vastmax.dask.cross_entropy(da.moveaxis(d, -1, 0), target, axis=0)
    np.testing.assert_allclose(moved.compute(), want.sum() / kept.sum(), rtol=tight)


def test_all_rows_ignored() -> None:
    d = cut(np.full((3, 4), NAN, np.float32), 2, 2)
    ids = np.full(3, -100)
    assert np.isnan(vastmax.dask.cross_entropy(d, ids).compute())
    assert vastmax.dask.cross_entropy(d, ids, reduction="sum").compute() == 0
    np.testing.assert_array_equal(vastmax.dask.cross_entropy(d, ids, reduction="none").compute(), [0, 0, 0])


def test_near_certainty() -> None:
    loss = vastmax.dask.cross_entropy(cut(np.array([[0.0, 40.0]]), 1, 1), [1])
    assert loss.compute() == 4.248354255291589e-18


@pytest.mark.parametrize("bad", [10, -1, -99, 2**40, 2**63 - 1])
def test_targets_out_of_range(bad: int) -> None:
    d = da.zeros((5, 10), chunks=(2, 4))
    ids = np.array([0, 1, 2, bad, 4])
    with pytest.raises(IndexError, match=rf"target is {bad} at row 3; accepted: 0 to 9, .*-100"):
        vastmax.dask.cross_entropy(d, ids)
    lazy = vastmax.dask.cross_entropy(d, da.from_array(ids, chunks=2))
    with pytest.raises(IndexError, match=rf"target is {bad} at row 3; accepted: 0 to 9, .*-100"):
        lazy.compute()


# top_k


def best_of(x: Any, k: int) -> tuple[Any, Any]:
    """By sorting whole rows in Python."""
    ids = [
        sorted(range(len(row)), key=lambda i: (row[i] == row[i], -row[i] if row[i] == row[i] else 0, i))[:k]
        for row in x
    ]
    return np.take_along_axis(x, np.array(ids).reshape(len(x), k), 1), np.array(ids).reshape(len(x), k)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(contracts.DTYPES),
    row=st.lists(st.sampled_from([NAN, INF, -INF, -0.0, 0.0, 1.0, 1.5, 2.0, 3.0, -7.0]), min_size=2, max_size=40),
    k=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    split=st.integers(2, 4),
)
def test_top_k(name: str, row: list[float], k: int, cuts: list[int], split: int) -> None:
    x = np.array([row, row[::-1], sorted(row)], contracts.FORMATS[name].dtype)
    k, n = min(k, len(row)), len(row)
    widths = np.diff([0, *sorted(min(c, n) for c in cuts), n]).tolist()
    with dask.config.set(scheduler="synchronous", split_every=split):
        values, indices = vastmax.dask.top_k(cut(x, 2, tuple(widths)), k)
        assert values.shape == indices.shape == (3, k)
        assert (values.dtype, indices.dtype) == (x.dtype, np.int64)
        want = best_of(x, k)
        np.testing.assert_array_equal(indices.compute(), want[1])
        contracts.assert_equal(values.compute(), want[0])


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_top_k_axis(axis: int) -> None:
    x = np.random.default_rng(2).permutation(4 * 50 * 30).reshape(4, 50, 30).astype(np.float32)
    values, indices = vastmax.dask.top_k(cut(x, 3, 7, 8), 3, axis)
    np.testing.assert_array_equal(indices.compute(), np.argsort(-x, axis)[(slice(None),) * (axis % 3) + (slice(3),)])
    np.testing.assert_array_equal(values.compute(), np.take_along_axis(x, indices.compute(), axis))
    assert values.chunks[axis] == (3,)


def test_examples_run() -> None:
    with np.printoptions():
        assert doctest.testmod(vastmax.dask).failed == 0
    text = (ROOT / "docs/how-to/vocabulary_shards.md").read_text()
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], {})


# The graph


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(block: Any) -> Any:
        raise AssertionError("computed")

    x = da.map_blocks(fail, da.zeros((4, 9), chunks=(2, 3)), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    for name in FUNCTIONS:
        getattr(vastmax.dask, name)(x)
    lazy = [vastmax.dask.cross_entropy(x, [0] * 4), *vastmax.dask.top_k(x, 2)]
    with pytest.raises(AssertionError, match="computed"):
        lazy[0].compute()


def test_logits_are_read_once() -> None:
    read = []

    def note(block: Any) -> Any:
        read.append(block.shape)
        return block

    x = da.map_blocks(note, da.zeros((4, 9), chunks=(2, 3)), dtype=float, meta=np.empty((0, 0)))
    for lazy in (vastmax.dask.logsumexp(x), vastmax.dask.cross_entropy(x, [0] * 4), *vastmax.dask.top_k(x, 2)):
        read.clear()
        lazy.compute(scheduler="synchronous")
        assert read == [(2, 3)] * 6


def test_memory_of_a_state_is_known_to_schedulers() -> None:
    state = vastmax.LogSumExp(1000)
    assert sys.getsizeof(state) > 64_000
    assert len(pickle.dumps(state)) < 65_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason='without distributed: pip install ".[shards]"')
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as workers,
        distributed.Client(workers, set_as_default=False) as client,
    ):
        yield client


def test_workers_in_other_processes(cluster: Any, dtype: Any) -> None:
    x = long_rows(dtype)
    x[0, 17] = NAN
    ids = np.array([1, 30_010, 3, -100, 5])
    d, lazy_ids = cut(x, 2, 4096), da.from_array(ids, chunks=3)
    wanted = [getattr(vastmax.dask, name)(d) for name in FUNCTIONS]
    wanted += [vastmax.dask.cross_entropy(d, lazy_ids, reduction="none"), *vastmax.dask.top_k(d, 4)]
    there = [future.result() for future in cluster.compute(wanted)]
    for got, lazy in zip(there, wanted, strict=True):
        contracts.assert_equal(got, lazy.compute(scheduler="synchronous"))
    assert len({worker["pid"] for worker in cluster.run(_who).values()}) == 2
    bad = vastmax.dask.cross_entropy(d, da.from_array(ids + 30_000, chunks=3))
    with pytest.raises(IndexError, match="target is 60010 at row 1"):
        cluster.compute(bad).result()


def _who() -> dict[str, int]:
    import os

    return {"pid": os.getpid()}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f, _: f.logsumexp(np.ones((2, 3))), TypeError, ["dask.logsumexp", "x is a ndarray", "from_array"]),
        (lambda f, x: f.softmax(x.astype(complex)), TypeError, ["dask.softmax", "complex128", "float32"]),
        (lambda f, x: f.log_softmax(x, 2), np.exceptions.AxisError, ["dask.log_softmax", "axis is 2"]),
        (lambda f, x: f.cross_entropy(x, [0, 1, 2]), ValueError, ["target", "(3,)", "(2,)"]),
        (lambda f, x: f.cross_entropy(x, da.zeros(3, dtype=int)), ValueError, ["target", "(3,)", "(2,)"]),
        (lambda f, x: f.cross_entropy(x, [0.0, 1.0]), TypeError, ["target", "float64", "integers"]),
        (lambda f, x: f.cross_entropy(x, da.zeros(2)), TypeError, ["target", "float64", "integers"]),
        (lambda f, x: f.cross_entropy(x[0, 0], 0), ValueError, ["x is a scalar", "axis"]),
        (lambda f, x: f.cross_entropy(x, [0, 1], axis=None), TypeError, ["axis", "None", "one int"]),
        (lambda f, x: f.cross_entropy(x, [0, 1], reduction="max"), ValueError, ["reduction", "'max'", "'mean'"]),
        (lambda f, x: f.cross_entropy(x[:, x[0] > 0], [0, 1]), ValueError, ["unknown", "compute_chunk_sizes"]),
        (lambda f, x: f.top_k(x[:, x[0] > 0], 1), ValueError, ["unknown", "compute_chunk_sizes"]),
        (lambda f, x: f.top_k(x, 0), ValueError, ["dask.top_k", "k is 0", "1 to 3"]),
        (lambda f, x: f.top_k(x, 4), ValueError, ["dask.top_k", "k is 4", "1 to 3"]),
        (lambda f, x: f.top_k(x, 1.5), TypeError, ["dask.top_k", "k is 1.5", "int"]),
    ],
)
def test_errors(call: Any, error: Any, words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call(vastmax.dask, da.ones((2, 3), chunks=2))
    assert all(word in str(caught.value) for word in words), caught.value
