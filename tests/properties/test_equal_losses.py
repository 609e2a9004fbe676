# SPDX-License-Identifier: Apache-2.0
"""Losses of equal meaning are equal under every option and value: the same NaN, infinities and zeros, a few ULP."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts

pytestmark = [
    pytest.mark.conformance,
    pytest.mark.any_isa,
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of NumPy, where a test adds -inf and inf
]
INF, NAN = np.inf, np.nan
AllSampler = vastmax.AllSampler

ROWS: dict[str, list[float]] = {
    "ordinary": [0.5, -1, 2, 0.25, 1.5],
    "-inf among others": [0.5, -INF, 2, -INF, 1.5],
    "-inf alone": [-INF] * 5,
    "one finite": [-INF, -INF, 2, -INF, -INF],
    "+inf": [0.5, INF, 2, 0.25, 1.5],
    "+inf twice": [0.5, INF, 2, INF, -INF],
    "NaN": [0.5, NAN, 2, 0.25, 1.5],
    "NaN and -inf": [NAN, -INF, -INF, -INF, -INF],
    "near certainty": [0, -40, -50, -60, -30],
    "offset": [1e4, 1e4 + 1, 1e4 - 1, 1e4 + 2, 1e4],
    "vast": [1e30, -1e30, 1e30, 0, 1],
    "one class": [3],
    "one class, -inf": [-INF],
    "one class, NaN": [NAN],
    "one class, +inf": [INF],
}
WEIGHTS: dict[str, Any] = {
    "none": lambda w, t: None,
    "ordinary": lambda w, t: w,
    "0 for the target": lambda w, t: np.where(np.arange(len(w)) == t, 0, w),
    "0 for all": lambda w, t: 0 * w,
    "1e300": lambda w, t: w * 1e300,
    "1e-300": lambda w, t: w * 1e-300,
}
OPTIONS = [
    {"label_smoothing": smoothing, "z_loss": z, "softcap": cap}
    for smoothing, z, cap in itertools.product((0.0, 0.1, 1.0), (0.0, 0.5), (None, 3.0))
]


def assert_alike(got: Any, want: Any, what: object, ulp: float, scale: float | None = None) -> None:
    """Equal shapes, dtypes, NaN, infinities and zeros; else so many ULP of `want`, or of `scale`."""
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    with np.errstate(all="ignore"):
        form = contracts.FORMATS[contracts.name_of(want.dtype)]
        got, want = got.astype(np.float64), want.astype(np.float64)
        finite = np.isfinite(want)
        np.testing.assert_array_equal(np.where(np.isfinite(got), 0, got), np.where(finite, 0, want), err_msg=str(what))
        if scale is None:
            np.testing.assert_array_equal(got == 0, want == 0, err_msg=str(what))
        exponent = np.frexp(np.abs(want) if scale is None else np.full(want.shape, scale))[1] - 1
        unit = np.ldexp(1.0, np.maximum(exponent, form.min_exponent) - form.precision + 1)
        off = np.where(finite, np.abs(got - want) / unit, 0)
    assert (off <= ulp).all(), (what, got, want)


def head_of(row: Any, place: str) -> tuple[Any, Any, Any]:
    """Input, weight and bias of a layer whose logits are exactly `row`."""
    x, zeros = np.ones((1, 1), row.dtype), np.zeros(row.shape, row.dtype)
    return (x, row[:, None], zeros) if place == "weight" else (x, zeros[:, None], row)


@pytest.mark.parametrize("place", ["weight", "bias"])
@pytest.mark.parametrize("name", ROWS)
def test_linear_cross_entropy(wide_dtype: Any, name: str, place: str) -> None:
    row = np.array(ROWS[name], wide_dtype)
    x, w, b = head_of(row, place)
    targets = sorted({0, 1 % len(row), len(row) // 2})
    for target, weight, options, reduction in itertools.product(targets, WEIGHTS, OPTIONS, ("none", "mean", "sum")):
        what = (target, weight, options, reduction)
        of_class = WEIGHTS[weight](np.linspace(0.5, 2, len(row)), target)
        arguments = {"weight": of_class, "reduction": reduction, **options}
        want = vastmax.cross_entropy_with_grad(row[None], [target], **arguments)
        loss, lse = vastmax.linear_cross_entropy(x, w, [target], linear_bias=b, return_lse=True, **arguments)
        assert_alike(loss, want.loss, what, 16)
        assert_alike(lse, want.lse, what, 16)
        got = vastmax.linear_cross_entropy_with_grad(x, w, [target], linear_bias=b, **arguments)
        assert_alike(got.loss, loss, what, 0)
        assert_alike(got.lse, lse, what, 0)
        beyond = "1e300" if reduction != "mean" else "1e-300" if options["z_loss"] else ""  # gradients of 1e300
        fits = weight != beyond or (wide_dtype == np.float64 and name != "vast")
        if reduction == "mean" and "0 for" in weight:  # a mean over no weight, whose gradient is 0
            assert not got.grad_bias.any()
        elif fits:
            largest = np.abs(np.nan_to_num(want.grad[0].astype(np.float64))).max()
            a = 1.0 if of_class is None else of_class.max() / (of_class[target] if reduction == "mean" else 1.0)
            assert_alike(got.grad_bias, want.grad[0], what, 64, max(largest, a))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.5, "softcap": 30.0}])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (1, 0, 2), (0,), ()])
def test_linear_cross_entropy_of_rows(wide_dtype: Any, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    x = (rng.integers(-8, 9, (*shape, 4)) / 4).astype(wide_dtype)  # products and their sums are exact
    w = (rng.integers(-8, 9, (300, 4)) / 4).astype(wide_dtype)
    b = np.where(rng.random(300) < 0.1, -INF, rng.integers(-8, 9, 300)).astype(wide_dtype)
    b[:10] = 0
    z = x @ w.T + b
    if options:
        b, z = np.where(np.isinf(b), 0, b), np.where(np.isinf(b), x @ w.T, z)  # smoothing makes the loss of -inf inf
    some = rng.integers(0, 10, shape)
    weight = np.linspace(0.5, 2, 300)
    for ignored, reduction, of_class in itertools.product(
        (0, 3, 1), ("none", "mean", "sum"), (None, weight, 0 * weight)
    ):
        target = np.where(np.arange(some.size).reshape(shape) % ignored == 0, -100, some) if ignored else some
        arguments = {"reduction": reduction, "weight": of_class, **options}
        what = (ignored, reduction, of_class is None)
        want = vastmax.cross_entropy_with_grad(z, target, **arguments)
        loss, lse = vastmax.linear_cross_entropy(x, w, target, linear_bias=b, return_lse=True, **arguments)
        got = vastmax.linear_cross_entropy_with_grad(x, w, target, linear_bias=b, **arguments)
        assert_alike(loss, want.loss, what, 16)
        assert_alike(lse, want.lse, what, 16)
        assert_alike(got.loss, loss, what, 0)
        assert_alike(got.lse, lse, what, 0)
        if reduction == "mean" and of_class is not None and not of_class.any():
            continue
        slopes = want.grad.reshape(-1, 300).astype(np.float64)
        assert_alike(got.grad_bias, slopes.sum(0).astype(wide_dtype), what, 256, np.abs(slopes).max(initial=0.0))
        of_input = (slopes @ w.astype(np.float64)).reshape(x.shape).astype(wide_dtype)
        assert_alike(got.grad_input, of_input, what, 1024, np.abs(of_input).max(initial=0.0))
        of_weight = (slopes.T @ x.reshape(-1, 4)).astype(wide_dtype)
        assert_alike(got.grad_weight, of_weight, what, 1024, np.abs(of_weight).max(initial=0.0))
        assert not got.grad_input[target == -100].any()


def test_ignored_rows_of_nan(wide_dtype: Any) -> None:
    x = np.array([[1], [NAN], [2], [INF]], wide_dtype)
    w, target = np.linspace(-1, 1, 40).astype(wide_dtype)[:, None], np.array([3, -100, 5, -100])
    for options, reduction in itertools.product(OPTIONS, ("none", "mean", "sum")):
        got = vastmax.linear_cross_entropy_with_grad(x, w, target, reduction=reduction, **options)
        want = vastmax.cross_entropy_with_grad(x * w.T, target, reduction=reduction, **options)
        assert_alike(got.loss, want.loss, (options, reduction), 64)
        assert_alike(got.lse[::2], want.lse[::2], options, 64)
        assert np.isnan(got.lse[1])
        assert not got.grad_input[1::2].any()
        assert np.isfinite(got.grad_weight).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"label_smoothing": 1.5},
        {"label_smoothing": "a"},
        {"z_loss": -1},
        {"z_loss": NAN},
        {"softcap": 0},
        {"reduction": "average"},
        {"weight": np.ones(3)},
        {"weight": np.ones(5, complex)},
        {"target": [5, 0]},
        {"target": [0, 1, 2]},
        {"target": [0.0, 1.0]},
        {"grad_output": np.ones(2)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_equal_errors(wrong: dict[str, Any]) -> None:
    options = dict(wrong)
    target, logits = options.pop("target", [0, 1]), np.zeros((2, 5))
    with pytest.raises((TypeError, ValueError, IndexError)) as plain:
        vastmax.cross_entropy_with_grad(logits, target, **options)
    with pytest.raises(plain.type) as linear:
        vastmax.linear_cross_entropy_with_grad(logits, np.eye(5), target, **options)
    if "target" not in wrong:  # which may also be probabilities there
        assert str(linear.value) == str(plain.value).replace(
            "cross_entropy_with_grad", "linear_cross_entropy_with_grad"
        )


@pytest.mark.parametrize("name", ROWS)
def test_reductions_of_a_layer(wide_dtype: Any, name: str) -> None:
    row = np.array(ROWS[name], wide_dtype)
    for place in ("weight", "bias"):
        x, w, b = head_of(row, place)
        assert_alike(vastmax.linear_logsumexp(x, w, b), vastmax.logsumexp(row[None], axis=-1), place, 1)
        for k in range(1, len(row) + 1):
            got, want = vastmax.linear_top_k(x, w, k, b), vastmax.top_k(row[None], k)
            assert_alike(got[0], want[0], (place, k), 0)
            np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.parametrize("name", ROWS)
def test_what_one_row_tells(dtype: Any, name: str) -> None:
    """Log-probabilities, losses and logsumexp, whichever function gives them."""
    row = np.array(ROWS[name], np.float32).astype(dtype)
    classes = len(row)
    for target in range(classes):
        ce = vastmax.cross_entropy_with_grad(row[None], [target], reduction="none")
        stats = vastmax.softmax_stats(row[None], [target])
        assert_alike(0.0 - vastmax.selective_log_softmax(row[None], [target]), ce.loss, target, 0)
        assert_alike(0.0 - stats.target_log_prob, ce.loss, target, 0)
        assert_alike(stats.lse, ce.lse, target, 0)
        assert_alike(vastmax.logsumexp(row[None], axis=-1), ce.lse, target, 0)
        state = vastmax.LogSumExp((1,), ce.lse.dtype)
        for chunk in (row[None, :2], row[None, 2:2], row[None, 2:]):
            state.update(chunk)
        assert_alike(state.value, ce.lse, target, 1)
        one_hot = np.eye(classes, dtype=dtype)[[target]]
        pairs = (np.array([[target, target, (target + 1) % classes]]), np.array([[0.25, 0.75, 0.0]]))
        for goal in (one_hot, pairs, (np.array([[target]]), np.ones((1, 1)))):
            other = vastmax.cross_entropy_with_grad(row[None], goal, reduction="none")
            assert_alike(other.loss, ce.loss, (target, goal), 4)
            assert_alike(other.lse, ce.lse, (target, goal), 0)
            assert_alike(other.grad, ce.grad, (target, goal), 8, 1.0)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("name", ROWS)
def test_all_classes_as_sample(wide_dtype: Any, name: str, share: str) -> None:
    row = np.array(ROWS[name], wide_dtype)
    if name in ("vast", "offset"):  # a correction of the logits is as good as their last place
        return
    for place, target in itertools.product(("weight", "bias"), range(len(row))):
        x, w, b = head_of(row, place)
        want = vastmax.cross_entropy_with_grad(row[None], [target], reduction="none")
        for correction in ("importance", "candidate", "none"):
            options = {"sampler": AllSampler(len(row)), "correction": correction, "share": share}
            got = vastmax.sampled_softmax(x, w, [target], bias=b, **options)
            assert_alike(got.loss.astype(wide_dtype), want.loss, (place, target, correction), 64)


@pytest.mark.parametrize("name", ROWS)
def test_tensorflow_with_all_candidates(wide_dtype: Any, name: str) -> None:
    row = np.array(ROWS[name], wide_dtype)
    n = len(row)
    for place, target in itertools.product(("weight", "bias"), range(n)):
        x, w, b = head_of(row, place)
        values = vastmax.tf.all_candidate_sampler([[target]], 1, n, True)
        got = vastmax.tf.sampled_softmax_loss(w, b, [[target]], x, n, n, sampled_values=values)
        want = vastmax.cross_entropy(row[None], [target], reduction="none")
        assert_alike(got.astype(want.dtype), want, (place, target), 64)


def test_dask(dtype: Any) -> None:
    da = pytest.importorskip("dask.array", reason='without Dask: pip install ".[shards]"')
    x = np.array([row for row in ROWS.values() if len(row) == 5], np.float32).astype(dtype)
    lent = da.from_array(x, chunks=(4, 2))
    for function in ("logsumexp", "softmax", "log_softmax"):
        options = {"axis": -1} if function == "logsumexp" else {}
        want = getattr(vastmax, function)(x, **options)
        got = getattr(vastmax.dask, function)(lent).compute()
        assert_alike(got.astype(np.float64), want.astype(np.float64), function, 2**30 if dtype.itemsize < 8 else 2)
    for target, reduction in itertools.product(range(5), ("none", "mean", "sum")):
        for rows, ignored in ((len(x), 1), (len(x), 3), (len(x), len(x) + 1), (0, 1)):
            ids = np.where(np.arange(rows) % ignored == 0, -100, target)
            got = vastmax.dask.cross_entropy(lent[:rows], ids, reduction=reduction).compute()
            want = vastmax.cross_entropy(x[:rows], ids, reduction=reduction)
            assert_alike(got, want, (target, reduction, rows, ignored), 2)
