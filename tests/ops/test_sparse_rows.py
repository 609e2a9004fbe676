# SPDX-License-Identifier: Apache-2.0
"""Gradients of few rows: what they add up to, and what they do to a table."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vastmax
from vastmax._ops.sampled.gradients import group

V, D = 1000, 24


def gradients(dtype=np.float32, rows=50):
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(rows, D)).astype(dtype), rng.normal(size=(V, D)).astype(dtype)
    t = rng.integers(0, V, rows)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": 64, "seed": 1}
    both = {share: vastmax.sampled_softmax(x, w, t, share=share, **options).grad_weight for share in ("batch", "row")}
    return w, both


@pytest.mark.parametrize("n", [0, 1, 7, 5000])
@pytest.mark.parametrize("classes", [1, 2, 2048, 2**33 + 5])
def test_the_sort_is_numpys(n, classes):
    ids = np.random.default_rng(n).integers(0, classes, n)
    groups = group(ids, classes)
    assert_array_equal(groups.order, np.argsort(ids, kind="stable"))
    values, counts = np.unique(ids, return_counts=True)
    assert_array_equal(groups.ids, values)
    assert_array_equal(np.diff(groups.starts), counts)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_sums_and_scipy(share):
    _, both = gradients(np.float64)
    gradient = both[share]
    sparse = gradient.coalesce()
    matrix = gradient.to_scipy()
    assert matrix.shape == (V, D)
    dense = matrix.toarray()
    assert_array_equal(dense[sparse.ids], sparse.rows)
    if share == "row":
        want = np.zeros((V, D))
        drawn = gradient.ids()
        for b, row in enumerate(gradient.input):
            np.add.at(want, drawn[b], gradient.coefficients[b][:, None] * row)
        targets = gradient.targets
        np.add.at(want, targets.ids, gradient.target_coefficients[:, None] * gradient.input[targets.rows])
        assert_allclose(dense, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sgd(isa, share, dtype):
    kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    w, both = gradients(np.float64 if dtype == "float64" else np.float32)
    table = w.astype(kind)
    before = table.copy()
    both[share].apply_sgd_(table, 0.25)
    sparse = both[share].coalesce()
    compute = np.float64 if dtype == "float64" else np.float32
    changed = before[sparse.ids].astype(compute) - compute(0.25) * sparse.rows  # a power of two: one rounding
    assert_array_equal(table[sparse.ids], changed.astype(kind))
    untouched = np.setdiff1d(np.arange(V), sparse.ids)
    assert_array_equal(table[untouched], before[untouched])


@pytest.mark.parametrize("share", ["batch", "row"])
def test_adagrad(isa, share):
    w, both = gradients(np.float64)
    table, state = w.copy(), np.zeros(V)
    sparse = both[share].coalesce()
    for _ in range(2):
        both[share].apply_adagrad_(table, state, 0.1, eps=1e-6)
    want, total = w.copy(), np.zeros(V)
    for _ in range(2):
        total[sparse.ids] += (sparse.rows**2).mean(1)
        want[sparse.ids] -= 0.1 * sparse.rows / (np.sqrt(total[sparse.ids]) + 1e-6)[:, None]
    assert_allclose(state, total, rtol=1e-12)
    assert_allclose(table, want, rtol=1e-12, atol=1e-13)


def test_threads_change_no_bit(isa):
    w, both = gradients()
    with vastmax.config(threads=1, isa="scalar"):
        want = both["row"].coalesce().rows
        table = w.copy()
        both["row"].apply_sgd_(table, 0.1)
    for threads in (1, 2, 8):
        with vastmax.config(threads=threads):
            assert_array_equal(both["row"].coalesce().rows, want)
            other = w.copy()
            both["row"].apply_sgd_(other, 0.1)
            assert_array_equal(other, table)


def test_errors_leave_the_table_alone():
    w, both = gradients()
    for gradient in both.values():
        with pytest.raises(ValueError, match=r"weight has shape \(3, 24\)"):
            gradient.apply_sgd_(w[:3], 0.1)
        with pytest.raises(TypeError, match="weight is of dtype int64"):
            gradient.apply_sgd_(w.astype(int), 0.1)
        fixed = w.copy()
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            gradient.apply_sgd_(fixed, 0.1)
        with pytest.raises(ValueError, match=r"state has shape \(3,\)"):
            gradient.apply_adagrad_(w, np.zeros(3), 0.1)
        with pytest.raises(TypeError, match="state is of dtype float32"):
            gradient.apply_adagrad_(w, np.zeros(V, np.float32), 0.1)
    assert_array_equal(w, gradients()[0])


def test_rows_that_are_the_table() -> None:
    """Changes that look at the weights they change are those of before."""
    weight = np.arange(8.0).reshape(4, 2)
    want = weight - 0.5 * np.vstack([np.zeros((1, 2)), weight[:3]])
    vastmax.SparseRows(np.arange(1, 4), weight[:3], (4, 2)).apply_sgd_(weight, 0.5)
    assert_array_equal(weight, want)


def test_a_column_of_any_stride() -> None:
    weight = np.ones((4, 6))[:, 1:2]
    vastmax.SparseRows(np.array([2]), np.ones((1, 1)), (4, 1)).apply_sgd_(weight.T.copy().T, 0.5)
    vastmax.SparseRows(np.array([2]), np.ones((1, 1)), (4, 1)).apply_sgd_(weight, 0.5)
    assert_array_equal(weight[:, 0], [1, 1, 0.5, 1])


def test_ids_that_come_twice():
    rng = np.random.default_rng(0)
    ids, rows = rng.integers(0, 9, 40), rng.normal(size=(40, 3))
    gradient = vastmax.SparseRows(ids, rows, (9, 3))
    want = np.zeros((9, 3))
    np.add.at(want, ids, rows)
    sparse = gradient.coalesce()
    assert_array_equal(sparse.ids, np.unique(ids))
    assert_allclose(sparse.rows, want[sparse.ids], rtol=1e-13)
    assert_allclose(gradient.to_scipy().toarray(), want, rtol=1e-13)
    table = np.zeros((9, 3))
    gradient.apply_sgd_(table, 1.0)
    assert_allclose(table, -want, rtol=1e-13)


@pytest.mark.parametrize(
    ("ids", "rows", "error", "match"),
    [
        ([9], np.zeros((1, 3)), IndexError, "ids is 9"),
        ([-1], np.zeros((1, 3)), IndexError, "ids is -1"),
        ([0.5], np.zeros((1, 3)), TypeError, "ids has dtype float64"),
        ([0, 1], np.zeros((1, 3)), ValueError, r"ids has shape \(2,\)"),
        ([0], np.zeros((1, 4)), ValueError, r"rows has shape \(1, 4\)"),
        ([0], np.zeros((1, 3), np.float16), TypeError, "rows is of dtype float16"),
    ],
)
def test_what_is_no_gradient(ids, rows, error, match):
    with pytest.raises(error, match=match):
        vastmax.SparseRows(np.array(ids), rows, (9, 3))
