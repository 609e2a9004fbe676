# SPDX-License-Identifier: Apache-2.0
"""Linear layers over many classes. Inputs are small multiples of powers of two wherever a bound is tested, so that the
matrix product is exact in float32 and what is left is ours."""

from __future__ import annotations

import functools
import sys
import tracemalloc
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import vastmax
from support import contracts, logit_rows, oracle, subprocesses
from vastmax import (
    LinearCrossEntropyResult,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    linear_logsumexp,
    linear_top_k,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or uses Linux calls")
NAN, INF = np.nan, np.inf


class Problem(NamedTuple):
    x: Any
    w: Any
    b: Any
    t: Any
    z: Any  # the logits in float64


@functools.cache
def problem(dtype: Any, rows: int = 9, features: int = 6, classes: int = 10_007) -> Problem:
    rng = np.random.default_rng(60)
    x = rng.integers(-8, 9, (rows, features)) / 4
    w = rng.integers(-8, 9, (classes, features)) / 8
    b = rng.integers(-8, 9, classes) / 4
    t = rng.integers(0, classes, rows)
    if rows > 2:  # certain, and all but impossible
        z = x @ w.T + b
        t[0], t[1] = z[0].argmax(), z[1].argmin()
    return Problem(x.astype(dtype), w.astype(dtype), b.astype(dtype), t, x @ w.T + b)


def kind(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


def losses(z: Any, t: Any) -> oracle.Exact:
    exact = oracle.log_softmax(z)[np.arange(len(t)), t]
    return oracle.Exact(-exact.hi, -exact.lo, exact.exp)


@pytest.fixture(params=["one tile", "many tiles", "logits computed again"])
def cut(request: Any, monkeypatch: Any) -> None:
    """Tiles of a few hundred classes, batches of a few rows, no room for all of the logits."""
    if request.param != "one tile":
        monkeypatch.setattr("vastmax._backends.policy.TILE_BYTES", 16_384)
        monkeypatch.setattr("vastmax._backends.policy.TILE_ROWS", 4)
        monkeypatch.setattr("vastmax._backends.policy.LEAST_GRADIENT_ROWS", 2)
    if request.param == "logits computed again":
        monkeypatch.setattr("vastmax._backends.policy.GRADIENT_BYTES", 60_000)


@pytest.mark.usefixtures("isa", "cut")
def test_loss_and_logsumexp(dtype: Any) -> None:
    p = problem(dtype)
    loss, lse = linear_cross_entropy(p.x, p.w, p.t, linear_bias=p.b, reduction="none", return_lse=True)
    assert loss.dtype == lse.dtype == kind(dtype)
    contracts.check("log_softmax", loss, losses(p.z, p.t))
    contracts.check_logsumexp(lse, oracle.logsumexp(p.z), p.z)
    contracts.check_logsumexp(linear_logsumexp(p.x, p.w, p.b), oracle.logsumexp(p.z), p.z)


@pytest.mark.usefixtures("isa", "cut")
def test_slopes_of_the_logits(dtype: Any) -> None:
    """With one row the gradient of the bias is the slope of each logit."""
    p = problem(dtype)
    for row in range(3):
        got = linear_cross_entropy_with_grad(p.x[row], p.w, p.t[row], linear_bias=p.b)
        z, t = p.z[row], int(p.t[row])
        want = oracle.softmax(z[None])[0]
        others = np.delete(np.arange(len(z)), t)
        contracts.check("logsumexp_backward", got.grad_bias[others], want[others])
        values, counts = np.unique(z[others] - z[t], return_counts=True)
        odds = (int(n) * mpmath.exp(mpmath.mpf(v)) for v, n in zip(values, counts, strict=True))
        missing = -float(mpmath.fsum(odds))
        missing /= 1 - missing
        contracts.check("log_softmax", got.grad_bias[[t]], oracle.exact([missing]), within=4)


def test_true_class_near_certainty() -> None:
    got = linear_cross_entropy_with_grad(np.float32([1]), np.float32([[20], [0]]), 0, linear_bias=np.zeros(2, "f4"))
    assert got.loss == np.float32(2.0611536e-9)
    np.testing.assert_array_equal(got.grad_bias, np.float32([-2.0611536e-9, 2.0611536e-9]))


class Options(NamedTuple):
    reduction: str = "mean"
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None


OPTIONS = st.builds(
    Options,
    st.sampled_from(["none", "mean", "sum"]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from([0.0, 0.01]),
    st.sampled_from([None, 3.0]),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    options=OPTIONS,
    weighted=st.booleans(),
    biased=st.booleans(),
    ignored=st.lists(st.integers(0, 11), max_size=3),
    scaled=st.booleans(),
    rows=st.integers(0, 12),
    features=st.sampled_from([2, 5, 9]),
    tile=st.sampled_from([1 << 10, 1 << 14, 1 << 25]),
    budget=st.sampled_from([0, 20_000, 1 << 28]),
    seed=st.integers(0, 1000),
)
def test_against_torch(
    options: Options,
    weighted: bool,
    biased: bool,
    ignored: list[int],
    scaled: bool,
    rows: int,
    features: int,
    tile: int,
    budget: int,
    seed: int,
) -> None:
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    rng = np.random.default_rng(seed)
    classes = 513
    x, w, b = (rng.standard_normal(shape) for shape in ((rows, features), (classes, features), classes))
    weight = rng.random(classes) + 0.1 if weighted else None
    target = rng.integers(0, classes, rows)
    target[[i for i in ignored if i < rows]] = -1
    outer = rng.standard_normal(rows if options.reduction == "none" else ()) if scaled else None

    parts = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    z = functional.linear(parts[0], parts[1], parts[2] if biased else None)
    if options.softcap:
        z = options.softcap * torch.tanh(z / options.softcap)
    lse = torch.logsumexp(z, 1)
    # z_loss is a part of each row's loss: added before the reduction.
    kept = torch.tensor(target) != -1
    each = functional.cross_entropy(
        z,
        torch.tensor(target),
        None if weight is None else torch.tensor(weight),
        reduction="none",
        ignore_index=-1,
        label_smoothing=options.label_smoothing,
    )
    each = each + torch.where(kept, options.z_loss * lse**2, 0.0)
    mass = torch.tensor(np.ones(rows) if weight is None else weight[target]) * kept
    total = {"none": each, "sum": each.sum(), "mean": each.sum() / mass.sum()}[options.reduction]
    (total * (1.0 if outer is None else torch.tensor(outer))).sum().backward()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vastmax._backends.policy.TILE_BYTES", tile)
        patch.setattr("vastmax._backends.policy.TILE_ROWS", 5)
        patch.setattr("vastmax._backends.policy.GRADIENT_BYTES", budget)
        patch.setattr("vastmax._backends.policy.LEAST_GRADIENT_ROWS", 3)
        more = {"weight": weight, "ignore_index": -1, "linear_bias": b if biased else None, **options._asdict()}
        got = linear_cross_entropy_with_grad(x, w, target, grad_output=outer, **more)
        loss, seen = linear_cross_entropy(x, w, target, return_lse=True, **more)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13)
    close(got.loss, total.detach().numpy())
    close(loss, got.loss)
    close(got.lse, lse.detach().numpy())
    close(seen, got.lse)
    if kept.any():  # torch divides 0 by 0
        close(got.grad_input, parts[0].grad.numpy())
        close(got.grad_weight, parts[1].grad.numpy())
        if biased:
            close(got.grad_bias, parts[2].grad.numpy())
    else:
        assert not got.grad_input.any()
        assert not got.grad_weight.any()
    assert (got.grad_bias is None) is not biased


@pytest.mark.parametrize("options", [Options(), Options("sum", 0.2, 0.05, 2.0), Options("mean", 0.0, 0.0, 1.5)])
def test_gradients_against_differences(options: Options) -> None:
    """The loss in mpmath, differentiated there."""
    rng = np.random.default_rng(61)
    x, w, b = rng.standard_normal((2, 3)), rng.standard_normal((4, 3)), rng.standard_normal(4)
    target, weight = [1, 3], [0.5, 1.0, 2.0, 0.25]
    got = linear_cross_entropy_with_grad(x, w, target, linear_bias=b, weight=weight, **options._asdict())
    mp = oracle.mp

    def loss(flat: list[Any]) -> Any:
        xs, ws, bs = flat[:6], flat[6:18], flat[18:]
        total = mass = mp.mpf(0)
        for row, t in enumerate(target):
            z = [mp.fsum(xs[3 * row + d] * ws[3 * c + d] for d in range(3)) + bs[c] for c in range(4)]
            if options.softcap:
                z = [options.softcap * mp.tanh(v / options.softcap) for v in z]
            lse = mp.log(mp.fsum(mp.exp(v) for v in z))
            total += (1 - options.label_smoothing) * weight[t] * (lse - z[t]) + options.z_loss * lse**2
            total += options.label_smoothing / 4 * mp.fsum(weight[c] * (lse - z[c]) for c in range(4))
            mass += weight[t]
        return total / mass if options.reduction == "mean" else total

    flat = [mp.mpf(float(v)) for v in np.concatenate([x.ravel(), w.ravel(), b])]
    step = mp.mpf(10) ** -18
    want = []
    for i in range(len(flat)):
        up, down = list(flat), list(flat)
        up[i] += step
        down[i] -= step
        want.append(float((loss(up) - loss(down)) / (2 * step)))
    np.testing.assert_allclose(got.loss, float(loss(flat)), rtol=1e-14)
    found = np.concatenate([got.grad_input.ravel(), got.grad_weight.ravel(), got.grad_bias])
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("threads")
def test_bits_do_not_depend_on_threads_or_isa(wide_dtype: Any) -> None:
    p = problem(wide_dtype, rows=40)
    want = None
    for threads in (1, 3):
        for isa in vastmax.available_isas():
            with vastmax.config(threads=threads, isa=isa):
                got = linear_cross_entropy_with_grad(
                    p.x, p.w, p.t, linear_bias=p.b, reduction="none", label_smoothing=0.1, z_loss=1e-3
                )
            bits = [np.asarray(part).tobytes() for part in got]
            want = want or bits
            assert bits == want, (threads, isa)


def test_shapes_and_dtypes(dtype: Any) -> None:
    p = problem(dtype, rows=6)
    for shape in ((6,), (2, 3), (6, 1)):
        x, t = p.x.reshape(*shape, -1), p.t.reshape(shape)
        got = linear_cross_entropy_with_grad(x, p.w, t, linear_bias=p.b, reduction="none")
        assert isinstance(got, LinearCrossEntropyResult)
        assert got.loss.shape == got.lse.shape == shape
        assert (got.grad_input.shape, got.grad_input.dtype) == (x.shape, x.dtype)
        assert (got.grad_weight.shape, got.grad_weight.dtype) == (p.w.shape, p.w.dtype)
        assert (got.grad_bias.shape, got.grad_bias.dtype) == (p.b.shape, p.b.dtype)
        assert linear_logsumexp(x, p.w).shape == shape
        assert linear_top_k(x, p.w, 3)[1].shape == (*shape, 3)
    one = linear_cross_entropy(p.x[0], p.w, p.t[0])
    assert isinstance(one, kind(dtype).type)
    assert isinstance(linear_logsumexp(p.x[0], p.w), kind(dtype).type)


def test_wider_of_the_dtypes() -> None:
    p = problem(np.dtype(np.float32))
    got = linear_cross_entropy_with_grad(p.x.astype(np.float64), p.w.astype(np.float16), p.t, linear_bias=p.b)
    assert got.loss.dtype == got.lse.dtype == got.grad_input.dtype == np.float64
    assert got.grad_weight.dtype == np.float16
    assert got.grad_bias.dtype == np.float32
    integers = np.rint(p.w * 8).astype(np.int8)
    got = linear_cross_entropy_with_grad(p.x, integers, p.t)
    assert got.loss.dtype == got.grad_weight.dtype == np.float64


@pytest.mark.parametrize("layout", ["transposed", "every other", "backwards", "big-endian", "unaligned", "file"])
def test_weights_of_any_layout(wide_dtype: Any, layout: str, tmp_path: Path) -> None:
    p = problem(wide_dtype)
    if layout == "transposed":
        w = np.asfortranarray(p.w)
    elif layout == "every other":
        w = np.repeat(np.repeat(p.w, 2, 0), 2, 1)[::2, ::2]
    elif layout == "backwards":
        w = p.w[::-1, ::-1].copy()[::-1, ::-1]
    elif layout == "big-endian":
        w = p.w.astype(p.w.dtype.newbyteorder(">"))
    elif layout == "unaligned":
        w = np.frombuffer(b"0" + p.w.tobytes(), np.uint8)[1:].view(p.w.dtype).reshape(p.w.shape)
    else:
        np.save(tmp_path / "w.npy", p.w)
        w = np.load(tmp_path / "w.npy", mmap_mode="r")
    want = linear_cross_entropy_with_grad(p.x, p.w, p.t)
    for a, b in zip(linear_cross_entropy_with_grad(p.x, w, p.t), want, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-5 if wide_dtype == np.float32 else 1e-13, atol=1e-9)
            assert np.asarray(a).dtype == wide_dtype


def test_inputs_of_any_layout(wide_dtype: Any) -> None:
    p = problem(wide_dtype)
    x = np.repeat(p.x, 2, 1)[:, ::2]
    assert linear_cross_entropy(x, p.w, p.t) == linear_cross_entropy(p.x, p.w, p.t)
    assert linear_cross_entropy(p.x[::-1], p.w, p.t[::-1]) == pytest.approx(linear_cross_entropy(p.x, p.w, p.t), 1e-6)


@pytest.mark.usefixtures("isa")
def test_softcap_of_each_logit(wide_dtype: Any) -> None:
    """The logsumexp of one class is its logit; the slope is the gradient of z_loss, 2 lse dz/dx."""
    size = 2.0 ** np.arange(-30, 12)
    x = (np.concatenate([-size, size, size * 1.37, [0.0]])).astype(wide_dtype)
    one, t = np.ones((1, 1), wide_dtype), np.zeros(len(x), int)
    for cap in (1.0, 30.0):
        got = linear_cross_entropy_with_grad(x[:, None], one, t, softcap=cap, z_loss=0.5, reduction="none")
        tanh = [oracle.mp.tanh(oracle.mp.mpf(float(v)) / cap) for v in x]
        contracts.check("log_softmax", got.lse, oracle.exact([cap * v for v in tanh]), within=3)
        steep = np.abs(x) < 30 * cap  # beyond, the slope is below 1e-25
        near = [oracle.mp.mpf(float(v)) / cap for v in x[steep]]
        want = oracle.exact([cap * oracle.mp.tanh(v) / oracle.mp.cosh(v) ** 2 for v in near])
        contracts.check("log_softmax", got.grad_input[steep, 0], want, within=8)
        assert (np.abs(got.grad_input[~steep, 0]) < 1e-24).all()


def test_ignored_rows_bring_nothing(wide_dtype: Any) -> None:
    p = problem(wide_dtype)
    x, t = np.concatenate([p.x, np.full((2, p.x.shape[1]), NAN, wide_dtype)]), np.append(p.t, [-100, -100])
    want, got = linear_cross_entropy_with_grad(p.x, p.w, p.t), linear_cross_entropy_with_grad(x, p.w, t)
    assert got.loss == want.loss
    np.testing.assert_array_equal(got.grad_weight, want.grad_weight)
    np.testing.assert_array_equal(got.grad_input[:-2], want.grad_input)
    assert not got.grad_input[-2:].any()
    np.testing.assert_array_equal(np.isnan(got.lse), [False] * 9 + [True] * 2)
    each = linear_cross_entropy(x, p.w, t, reduction="none")
    np.testing.assert_array_equal(each[-2:], 0)


def test_every_row_ignored() -> None:
    p = problem(np.dtype(np.float32))
    t = np.full(9, -100)
    for reduction, want in (("mean", NAN), ("sum", 0.0), ("none", np.zeros(9))):
        np.testing.assert_array_equal(linear_cross_entropy(p.x, p.w, t, reduction=reduction), np.float32(want))
        got = linear_cross_entropy_with_grad(p.x, p.w, t, reduction=reduction, linear_bias=p.b)
        np.testing.assert_array_equal(got.loss, np.float32(want))
        assert not any(part.any() for part in got[1:4])
        assert np.isfinite(got.lse).all()


def test_no_rows_and_no_classes() -> None:
    none, w = np.empty((0, 3), np.float32), np.ones((5, 3), np.float32)
    assert np.isnan(linear_cross_entropy(none, w, np.empty(0, int)))
    assert linear_cross_entropy(none, w, np.empty(0, int), reduction="sum") == 0
    assert linear_logsumexp(none, w).shape == (0,)
    assert linear_top_k(none, w, 2)[0].shape == (0, 2)
    np.testing.assert_array_equal(linear_logsumexp(np.ones((2, 3), "f4"), none), [-INF, -INF])
    no_features = np.ones((2, 0), "f4"), np.ones((5, 0), "f4")
    np.testing.assert_array_equal(linear_logsumexp(*no_features), np.float32([np.log(5)] * 2))


def test_infinite_logits() -> None:
    """A bias of -inf forbids a class; the rest is as without it."""
    p = problem(np.dtype(np.float64))
    b = p.b.copy()
    forbidden = np.setdiff1d(np.arange(0, 10_007, 3), p.t)
    b[forbidden] = -INF
    allowed = np.setdiff1d(np.arange(10_007), forbidden)
    got = linear_cross_entropy_with_grad(p.x, p.w, p.t, linear_bias=b)
    want = linear_cross_entropy_with_grad(p.x, p.w[allowed], np.searchsorted(allowed, p.t), linear_bias=b[allowed])
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-14)
    np.testing.assert_allclose(got.grad_weight[allowed], want.grad_weight, rtol=1e-9, atol=1e-15)
    assert not got.grad_weight[forbidden].any()
    assert linear_cross_entropy(p.x[0], p.w, forbidden[0], linear_bias=b) == INF
    assert linear_logsumexp(p.x[0], p.w, np.where(np.arange(10_007) == 5, INF, p.b)) == INF
    assert np.isnan(linear_logsumexp(p.x[0], p.w, np.where(np.arange(10_007) == 5, NAN, p.b)))


# The k largest


def ranked(z: Any, k: int) -> tuple[Any, Any]:
    """By NaN first, then value, then class: Python's sort."""
    order = [sorted(range(len(row)), key=lambda i: (not np.isnan(row[i]), -row[i], i))[:k] for row in z]
    return np.take_along_axis(z, np.array(order), 1), np.array(order)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(contracts.DTYPES),
    classes=st.integers(1, 400),
    share=st.floats(0, 1),
    levels=st.sampled_from([1, 3, 1000]),
    specials=st.sampled_from([0.0, 0.02, 0.9]),
    tile=st.sampled_from([1, 8192, 1 << 25]),
    seed=st.integers(0, 10_000),
)
def test_top_k(name: str, classes: int, share: float, levels: int, specials: float, tile: int, seed: int) -> None:
    """Many ties, NaN and infinities by way of the bias, ascending and descending rows."""
    rng = np.random.default_rng(seed)
    dtype = contracts.FORMATS[name].dtype
    k = max(1, round(share * classes))
    w = rng.integers(0, levels, (classes, 1)) / 8
    w = {0: w, 1: np.sort(w, 0), 2: -np.sort(-w, 0)}[seed % 3].astype(dtype)
    x = np.array([[1], [-1], [0]] * 30, dtype)
    b = np.where(rng.random(classes) < specials, rng.choice([NAN, INF, -INF, -0.0], classes), 0.0).astype(dtype)
    z = x.astype(np.float64) @ w.astype(np.float64).T + b.astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vastmax._backends.policy.TILE_BYTES", tile)
        values, ids = linear_top_k(x, w, k, b)
    want_values, want_ids = ranked(z, k)
    assert values.dtype == kind(dtype)
    assert ids.dtype == np.int64
    np.testing.assert_array_equal(values, want_values)
    np.testing.assert_array_equal(ids, want_ids)


def test_top_k_is_that_of_the_logits() -> None:
    p = problem(np.dtype(np.float32))
    for given_bias, z in ((None, p.z - p.b), (p.b, p.z)):
        values, ids = linear_top_k(p.x, p.w, 20, given_bias)
        want_values, want_ids = ranked(z, 20)
        np.testing.assert_array_equal(values, want_values)
        np.testing.assert_array_equal(ids, want_ids)


# Errors

GOOD = {"x": np.ones((4, 3), "f4"), "w": np.ones((7, 3), "f4"), "t": np.array([0, 1, 2, 6])}


@pytest.mark.parametrize("function", [linear_cross_entropy, linear_cross_entropy_with_grad])
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": np.ones((4, 2))}, ValueError, ["input", "(4, 2)", "3"]),
        ({"x": np.float32(1)}, ValueError, ["input", "()"]),
        ({"x": np.ones((4, 3), complex)}, TypeError, ["input", "complex128"]),
        ({"w": np.ones(3)}, ValueError, ["linear_weight", "(3,)", "(classes, features)"]),
        ({"w": np.ones((7, 3), "U1")}, TypeError, ["linear_weight"]),
        ({"w": np.ma.ones((7, 3))}, TypeError, ["linear_weight", "masked"]),
        ({"t": np.array([0, 1, 7, 6])}, IndexError, ["target", "7", "row 2", "7 classes"]),
        ({"t": np.array([0, 1, 2, -1])}, IndexError, ["target", "-1", "row 3"]),
        ({"t": np.array([0, 1, 2, 2**63], np.uint64)}, IndexError, ["target", "9223372036854775808", "row 3"]),
        ({"t": np.ones(4)}, TypeError, ["target", "float64", "integers"]),
        ({"t": np.ones(4, bool)}, TypeError, ["target", "bool"]),
        ({"t": np.ones((4, 1), int)}, ValueError, ["target", "(4, 1)", "(4,)"]),
        ({"linear_bias": np.ones(3)}, ValueError, ["linear_bias", "(3,)", "(7,)"]),
        ({"weight": np.ones(3)}, ValueError, ["weight", "(3,)", "(7,)"]),
        ({"reduction": "avg"}, ValueError, ["reduction", "'avg'", "'mean'"]),
        ({"label_smoothing": 1.5}, ValueError, ["label_smoothing", "1.5", "0 to 1"]),
        ({"label_smoothing": NAN}, ValueError, ["label_smoothing", "nan"]),
        ({"z_loss": -1.0}, ValueError, ["z_loss", "-1.0"]),
        ({"z_loss": "1"}, TypeError, ["z_loss", "'1'"]),
        ({"softcap": 0.0}, ValueError, ["softcap", "0.0", "a finite number"]),
        ({"softcap": INF}, ValueError, ["softcap", "inf"]),
        ({"ignore_index": 1.5}, TypeError, ["ignore_index", "1.5"]),
    ],
)
def test_errors(function: Any, change: dict[str, Any], error: Any, words: list[str]) -> None:
    given_arguments = {**GOOD, **change}
    arrays = [given_arguments.pop(name) for name in ("x", "w", "t")]
    with pytest.raises(error) as caught:
        function(*arrays, **given_arguments)
    assert str(caught.value).startswith(f"{function.__name__}: ")
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("k", [0, -1, 8, 1.5, None])
def test_top_k_errors(k: Any) -> None:
    with pytest.raises(ValueError if isinstance(k, int) else TypeError, match=r"linear_top_k: k is .*; accepted: "):
        linear_top_k(GOOD["x"], GOOD["w"], k)


@pytest.mark.parametrize(("reduction", "shape"), [("mean", (4,)), ("sum", (1,)), ("none", (3,))])
def test_grad_output_of_a_wrong_shape(reduction: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grad_output has shape"):
        linear_cross_entropy_with_grad(*GOOD.values(), reduction=reduction, grad_output=np.ones(shape))


def test_absent_gpu() -> None:
    with vastmax.config(device="cuda"), pytest.raises(vastmax.BackendUnavailable):
        linear_cross_entropy(*GOOD.values())


def test_explain_computes_nothing() -> None:
    endless = np.broadcast_to(np.float32(1), (2**33, 4))
    plan = vastmax.explain(linear_cross_entropy, np.ones((3, 4), "f4"), endless, [1, 2, 3])
    assert (plan.strategy, plan.rows, plan.classes) == ("tiles", 3, 2**33)
    with pytest.raises(IndexError):
        vastmax.explain(linear_cross_entropy, np.ones((3, 4), "f4"), endless, [1, 2, -3])


def test_progress_goes_to_standard_error(capsys: Any) -> None:
    linear_cross_entropy(*GOOD.values(), progress=True)
    linear_cross_entropy_with_grad(*GOOD.values(), progress=True)
    linear_logsumexp(GOOD["x"], GOOD["w"], progress=True)
    linear_top_k(GOOD["x"], GOOD["w"], 2, progress=True)
    assert capsys.readouterr().out == ""


# Memory, size, interruption


def peak(call: Any) -> float:
    """MiB that a call allocates at its worst, its results included."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.conformance
@pytest.mark.parametrize("name", contracts.DTYPES)
def test_memory(name: str) -> None:
    """1024 rows of 128,256 classes: in float32 the logits would take 501 MiB."""
    dtype = contracts.FORMATS[name].dtype
    features = 8 if name == "f64" else 64
    x = np.ones((1024, features), dtype)
    w = np.zeros((128_256, features), dtype)
    t = np.arange(1024)
    assert peak(lambda: linear_cross_entropy(x, w, t)) < 64
    assert peak(lambda: linear_logsumexp(x, w)) < 64
    assert peak(lambda: linear_top_k(x, w, 5)) < 64
    grads = (x.size + w.size) * (dtype.itemsize + 4 * (dtype.itemsize < 4)) / 2**20
    assert peak(lambda: linear_cross_entropy_with_grad(x, w, t)) < 256 + 96 + grads


def test_logits_are_kept_where_their_gradient_will_be() -> None:
    """With as many features as rows, the kept logits need no room of their own."""
    x, w = np.ones((250, 256), "f4"), np.zeros((128_256, 256), "f4")
    grads = (x.nbytes + w.nbytes) / 2**20
    assert peak(lambda: linear_cross_entropy_with_grad(x, w, np.arange(250))) < 64 + grads


@pytest.mark.slow
def test_ten_million_classes() -> None:
    w = logit_rows.integer_logits(62, (10_000_000, 2)).astype(np.float32)
    x = np.array([[0.5, 0.25], [-1, 0.125]], np.float32)
    z = x.astype(np.float64) @ w.astype(np.float64).T
    t = np.array([9_999_999, 17])
    loss, lse = linear_cross_entropy(x, w, t, reduction="none", return_lse=True)
    exact = oracle.logsumexp(z)
    contracts.check_logsumexp(lse, exact, z)
    np.testing.assert_allclose(loss, exact.float() - z[[0, 1], t], rtol=1e-6)
    values, ids = linear_top_k(x, w, 3)
    want = np.argsort(-z, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(ids, want)
    np.testing.assert_array_equal(values, np.take_along_axis(z, want, 1))
    got = linear_cross_entropy_with_grad(x, w, t, reduction="sum")
    p = np.exp(z - exact.float()[:, None])
    p[[0, 1], t] -= 1
    np.testing.assert_allclose(got.grad_input, p @ w, rtol=1e-4)
    np.testing.assert_allclose(got.grad_weight, p.T @ x, rtol=1e-5, atol=1e-12)


INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np, vastmax
    x, w, t = np.ones((64, 4), "f4"), np.broadcast_to(np.float32(1), (2**32, 4)), np.zeros(64, int)
    calls = {
        "loss": lambda: vastmax.linear_cross_entropy(x, w, t),
        "top": lambda: vastmax.linear_top_k(x, w, 3),
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sent = []
    def interrupt():
        time.sleep(0.5)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        calls[sys.argv[1]]()
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    else:
        raise AssertionError("ended before the interrupt")
    print(vastmax.linear_logsumexp(x[:1], w[:8])[0])
"""


@linux
@pytest.mark.parametrize("call", ["loss", "top"])
def test_keyboard_interrupt(call: str) -> None:
    late, after = subprocesses.run(INTERRUPTED, args=(call,), timeout=60).split()
    assert float(late) < 1.0
    assert np.float32(after) == np.float32(4 + np.log(8))
