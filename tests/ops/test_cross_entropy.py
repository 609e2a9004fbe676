# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy and its gradient: the oracle's values, PyTorch's semantics, derivatives, targets out of range."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows, oracle

pytestmark = pytest.mark.usefixtures("backend")

REDUCTIONS = ("none", "mean", "sum")


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


def loss_dtype(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


def one_hot(target: Any, n: int) -> Any:
    return (np.arange(n) == np.asarray(target)[..., None]).astype(np.float64)


def repeated(row: Any) -> tuple[Any, Any]:
    """The row once for each of some targets: the largest logits, the smallest finite ones, some in between."""
    finite = np.flatnonzero(np.isfinite(wide(row)))
    order = finite[np.argsort(wide(row)[finite], kind="stable")]
    targets = np.unique(np.concatenate([order[:2], order[-3:], order[:: max(1, len(order) // 5)]]))
    return np.repeat(row[None], len(targets), 0), targets


def subnormal_scale(want: Any, dtype: Any) -> Any:
    """Of results made of a probability that may be subnormal: its spacing."""
    return np.maximum(np.abs(want), 2.0 ** contracts.FORMATS[contracts.name_of(dtype)].min_exponent)


# One class for each row


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_one_class(dtype: Any, name: str) -> None:
    x, target = repeated(logit_rows.row(name, dtype))
    a = oracle.target_weights(one_hot(target, x.shape[-1]))
    want = oracle.cross_entropy(wide(x), a)
    slope, _ = oracle.cross_entropy_grad(wide(x), a)
    loss = vastmax.cross_entropy(x, target, reduction="none")
    assert loss.dtype == loss_dtype(dtype)
    contracts.check("cross_entropy", loss, want, hint=name)
    again, grad, lse = vastmax.cross_entropy_with_grad(x, target, reduction="none")
    np.testing.assert_array_equal(again, loss)
    np.testing.assert_array_equal(lse, vastmax.logsumexp(x, axis=-1))
    assert grad.dtype == dtype
    contracts.check("cross_entropy_with_grad", grad, slope, hint=name)


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 64, 4095, 4096, 4097, 9001, 70_001])
def test_every_length(dtype: Any, n: int) -> None:
    """Tails, blocks, and rows that threads share; targets in the first block and the last."""
    x = (np.random.default_rng(n).standard_normal((3, n)) * 4).astype(dtype)
    target = np.array([0, n - 1, n // 2])
    a = oracle.target_weights(one_hot(target, n))
    loss, grad, _ = vastmax.cross_entropy_with_grad(x, target, reduction="none")
    contracts.check("cross_entropy", loss, oracle.cross_entropy(wide(x), a))
    contracts.check("cross_entropy_with_grad", grad, oracle.cross_entropy_grad(wide(x), a)[0])


def test_near_certainty() -> None:
    assert vastmax.cross_entropy([40.0, 0.0], 0) == 4.248354255291589e-18
    loss, grad, _ = vastmax.cross_entropy_with_grad(np.array([20, 0], np.float32), 0)
    assert loss == np.float32(2.0611536e-09)
    np.testing.assert_array_equal(grad, np.array([-2.0611536e-09, 2.0611536e-09], np.float32))
    grad = vastmax.cross_entropy_with_grad([600.0, 0.0, 0.0], 0).grad
    want = oracle.exact([-2.0, 1.0, 1.0]).times(float(oracle.mp.exp(-600)))
    contracts.check("cross_entropy_with_grad", grad, want)


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_axis(dtype: Any, axis: int) -> None:
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((7, 11, 66)) * 3).astype(dtype)
    target = rng.integers(0, x.shape[axis], np.delete(x.shape, axis))
    target.flat[::9] = -100
    last = np.moveaxis(x, axis, -1)
    a = oracle.target_weights(one_hot(target, x.shape[axis]))
    got, grad, _ = vastmax.cross_entropy_with_grad(x, target, axis=axis, reduction="none")
    contracts.check("cross_entropy", got, oracle.cross_entropy(wide(last), a))
    want, _ = oracle.cross_entropy_grad(wide(last), a)
    assert grad.shape == x.shape
    contracts.check("cross_entropy_with_grad", np.moveaxis(grad, axis, -1), want)
    for kind in ("into", "in place"):
        z = x.copy()
        out = z if kind == "in place" else np.empty_like(z)
        assert vastmax.cross_entropy_with_grad(z, target, axis=axis, reduction="none", out=out).grad is out
        contracts.assert_equal(out, grad)


# Every option against the oracle


class Problem(NamedTuple):
    x: Any
    target: Any
    options: dict[str, Any]
    reduction: str


@st.composite
def problems(draw: Any, dtype: Any, torch: bool = False) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, n = draw(st.sampled_from([(1, 1), (3, 5), (4, 33), (2, 4100)]))
    x = (rng.standard_normal((rows, n)) * draw(st.sampled_from([0.5, 3.0, 20.0]))).astype(dtype)
    kind = draw(st.sampled_from(["classes", "probabilities"] + ([] if torch else ["pairs"])))
    options: dict[str, Any] = {}
    if kind == "classes":
        target: Any = rng.integers(0, n, rows)
        if draw(st.booleans()):
            target[rng.integers(rows)] = -100
    elif kind == "probabilities":
        target = rng.dirichlet(np.full(n, 0.3), rows).astype(dtype)
    else:
        k = draw(st.integers(1, 4))
        target = (rng.integers(0, n, (rows, k)), rng.dirichlet(np.ones(k), rows))
    if draw(st.booleans()):
        options["weight"] = rng.uniform(0.2, 3.0, n).astype(np.float32).astype(np.float64)
    if draw(st.booleans()):
        options["label_smoothing"] = draw(st.sampled_from([0.125, 0.5, 1.0]))
    if torch:
        return Problem(x, target, options, draw(st.sampled_from(REDUCTIONS)))
    if draw(st.booleans()):
        options["z_loss"] = draw(st.sampled_from([2.0**-13, 0.25]))
    if draw(st.booleans()):
        options["temperature"] = draw(st.sampled_from([0.7, 3.0]))
    if draw(st.booleans()):
        options["sample_weight"] = rng.uniform(0.1, 2.0, rows)
    if draw(st.booleans()) and n > 1:
        keep = rng.random((rows, n)) < 0.7
        if kind == "classes":
            keep[np.arange(rows), np.maximum(target, 0)] = True
        elif kind == "pairs":
            np.put_along_axis(keep, target[0], True, -1)
        else:
            keep[:, 0] = True
            target = np.where(keep, target, 0).astype(dtype)
        options["where"] = keep
    return Problem(x, target, options, draw(st.sampled_from(REDUCTIONS)))


def dense_target(p: Problem) -> Any:
    n = p.x.shape[-1]
    if isinstance(p.target, tuple):
        return (one_hot(p.target[0], n) * p.target[1][..., None]).sum(-2)
    return wide(p.target) if p.target.shape == p.x.shape else one_hot(p.target, n)


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_every_option(dtype: Any, data: Any) -> None:
    p = data.draw(problems(dtype))
    o = p.options
    name = contracts.name_of(dtype)
    z = oracle.scaled(p.x, o.get("temperature"), contracts.computed_in(name))
    kept = o.get("where", np.ones(p.x.shape, bool))
    z = np.where(kept, z, -np.inf)
    a = oracle.target_weights(dense_target(p), o.get("weight", 1.0), o.get("label_smoothing", 0.0), kept)
    lam = o.get("z_loss", 0.0)
    s = np.asarray(o.get("sample_weight", np.ones(len(z))))
    classes = not isinstance(p.target, tuple) and p.target.shape != p.x.shape
    out = (p.target == -100) if classes else np.zeros(len(z), bool)
    w = np.asarray(o.get("weight", np.ones(p.x.shape[-1])))
    divisor = (s * (w[np.maximum(p.target, 0)] if classes else 1.0))[~out].sum()

    rows = oracle.cross_entropy(z, a, lam).times(np.where(out, 0.0, s))
    got = vastmax.cross_entropy_with_grad(p.x, p.target, reduction=p.reduction, **o)
    np.testing.assert_array_equal(got.loss, vastmax.cross_entropy(p.x, p.target, reduction=p.reduction, **o))
    kind = contracts.name_of(got.loss.dtype)
    slack = 1.0 if kind == "f64" else 0.0  # the reference rounds s times the loss once
    bound = contracts.MAX_ULP["cross_entropy"][kind] + slack
    if p.reduction == "none":
        contracts.check("cross_entropy", got.loss, rows, within=bound)
        scale = np.where(out, 0.0, s)
    else:
        total = oracle._sum(oracle._plain(rows))
        with np.errstate(all="ignore"):
            mean = p.reduction == "mean"
            want = oracle.exact(total[0]).over(divisor) if mean else oracle.exact(total[0])
            scale = np.where(out, 0.0, s / divisor if mean else s)
        contracts.check("cross_entropy", np.asarray(got.loss), want, within=bound)
    with np.errstate(all="ignore"):
        scale = scale / np.asarray(o.get("temperature", 1.0))
        slope, size = oracle.cross_entropy_grad(z, a, lam)
        slope, size = slope.times(scale[:, None]), size * np.abs(scale[:, None])
    slope = oracle.Exact(*(np.where(kept & ~out[:, None], part, 0) for part in slope))
    bound = contracts.MAX_ULP["cross_entropy_with_grad"][name] + 2 * slack  # and here three times
    contracts.check(
        "cross_entropy_with_grad", got.grad, slope, scale=np.where(kept & ~out[:, None], size, 0.0), within=bound
    )


@pytest.mark.parametrize("cap", [5.0, 30.0])
def test_softcap(dtype: Any, cap: float) -> None:
    rng = np.random.default_rng(17)
    x = (rng.standard_normal((6, 700)) * [[0.01], [0.3], [2.0], [9.0], [40.0], [300.0]]).astype(dtype)
    x[:, 3] = np.inf
    x[:, 5] = -np.inf
    target = rng.integers(0, 700, 6)
    target[:2] = 3, 5
    name = contracts.name_of(dtype)
    z = oracle.softcapped(x, cap, contracts.computed_in(name))
    a = oracle.target_weights(one_hot(target, 700))
    got = vastmax.cross_entropy_with_grad(x, target, softcap=cap, reduction="none")
    want = oracle.cross_entropy(z, a)
    contracts.check("cross_entropy", got.loss, want)
    slope, size = oracle.cross_entropy_grad(z, a)
    # sech^2 from the logits: 1 - (z / c)^2 would cancel
    u = np.abs(wide(x).astype(np.longdouble) / cap)
    e = np.exp(-2 * u)
    outer = (4 * e / (1 + e) ** 2).astype(np.float64)
    with np.errstate(all="ignore"):
        scale = subnormal_scale(size * outer, dtype)
        contracts.check("cross_entropy_with_grad", got.grad, slope.times(outer), scale=scale)


# Derivatives, and PyTorch


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.25}, {"z_loss": 0.125}, {"softcap": 4.0}, {"weight": 1}])
def test_gradient_is_the_slope_of_the_loss(options: dict[str, Any]) -> None:
    """Central differences of the loss, in 100 digits."""
    mp = oracle.mp
    x = np.random.default_rng(3).standard_normal(6) * 2
    w = [0.5, 2.0, 2.5, 3.0, 0.25, 1.5] if "weight" in options else [1.0] * 6
    e = options.get("label_smoothing", 0.0)
    a = [w[j] * ((1 - e) * (j == 2) + e / 6) for j in range(6)]
    arguments = {**options, "weight": w} if "weight" in options else options
    got = vastmax.cross_entropy_with_grad(x, 2, reduction="sum", **arguments)

    def loss(j: int, step: Any) -> Any:
        row = [mp.mpf(float(v)) + (step if i == j else 0) for i, v in enumerate(x)]
        return oracle.cross_entropy_mp(row, a, options.get("z_loss", 0.0), options.get("softcap", 0.0))

    with mp.workdps(100):
        h = mp.mpf(10) ** -30
        for j in range(6):
            slope = (loss(j, h) - loss(j, -h)) / (2 * h)
            assert abs(mp.mpf(float(got.grad[j])) - slope) < 1e-14 * max(a[j], 0.01)
        assert abs(mp.mpf(float(got.loss)) - loss(0, 0)) < 1e-14 * loss(0, 0)


@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(data=st.data())
def test_against_torch(wide_dtype: Any, data: Any) -> None:
    """All that PyTorch has. Its rounding errors are larger; where it is wrong we differ on purpose.

    -inf logits of classes without probability: it multiplies 0 by inf (pytorch#66861, and #85005 for vast arrays).
    """
    torch = pytest.importorskip("torch")
    p = data.draw(problems(wide_dtype, torch=True))
    weight = p.options.get("weight")
    smoothing = p.options.get("label_smoothing", 0.0)
    logits = torch.tensor(p.x, requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        logits,
        torch.tensor(p.target),
        None if weight is None else torch.tensor(weight.astype(wide_dtype)),
        reduction=p.reduction,
        label_smoothing=smoothing,
    )
    want.sum().backward()
    got = vastmax.cross_entropy_with_grad(p.x, p.target, weight, reduction=p.reduction, label_smoothing=smoothing)
    eps = float(np.finfo(wide_dtype).eps)
    size = float(np.abs(p.x).max()) + 1
    expected = want.detach().numpy()
    np.testing.assert_allclose(got.loss, expected, rtol=64 * eps, atol=64 * eps * size)
    slopes = logits.grad.numpy()
    if np.isnan(expected).any():
        return  # the mean of nothing; PyTorch's gradients are then NaN or 0 by version, ours are 0
    np.testing.assert_allclose(got.grad, slopes, rtol=2e-3 if eps > 1e-8 else 1e-10, atol=64 * eps * 4)


# Special values


def test_minus_infinity_beside_the_target(dtype: Any) -> None:
    x = np.array([[1.0, -np.inf, 2.0], [-np.inf, 0.0, -np.inf]], dtype)
    loss, grad, _ = vastmax.cross_entropy_with_grad(x, [0, 1], reduction="none")
    contracts.check("cross_entropy", loss, oracle.cross_entropy(wide(x), oracle.target_weights(one_hot([0, 1], 3))))
    assert loss[1] == 0
    assert (wide(grad)[[0, 1, 1], [1, 0, 2]] == 0).all()
    assert wide(grad)[1, 1] == 0
    q = np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]], dtype)
    loss = vastmax.cross_entropy(x, q, reduction="none")
    assert np.isfinite(loss).all()  # PyTorch: NaN, 0 times inf
    assert np.isposinf(vastmax.cross_entropy(x, [1, 0], reduction="none")).all()
    assert np.isposinf(vastmax.cross_entropy(x, [0, 1], label_smoothing=0.1, reduction="none")).all()


@pytest.mark.backends("host", "device")
@pytest.mark.parametrize("n", [5, 5000, 70_000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_special_rows(dtype: Any, n: int, smoothing: float) -> None:
    x = np.zeros((6, n), dtype)
    x[0, n - 1] = np.nan
    x[1, :] = -np.inf
    x[2, 1] = np.inf
    x[3, 1] = np.inf
    x[4, 1], x[4, 2] = np.nan, np.inf
    target = np.array([0, 0, 0, 1, 0, 0])
    loss, grad, lse = vastmax.cross_entropy_with_grad(x, target, reduction="none", label_smoothing=smoothing)
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(loss[:5], np.array([nan, nan, nan if smoothing else inf, nan, nan], loss.dtype))
    np.testing.assert_array_equal(lse[:5], np.array([nan, -inf, inf, inf, nan], loss.dtype))
    assert np.isnan(wide(grad[:5])).all()
    assert np.isfinite(loss[5])
    assert np.isfinite(wide(grad[5])).all()


def test_ignored_rows_count_as_nothing(dtype: Any) -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal((5, 100)).astype(dtype)
    x[1] = np.nan
    x[3] = np.inf
    target = np.array([3, -100, 5, -100, 99])
    keep = [0, 2, 4]
    for options in ({}, {"label_smoothing": 0.25}, {"z_loss": 0.5}, {"softcap": 3.0}):
        for reduction in ("mean", "sum"):
            got = vastmax.cross_entropy_with_grad(x, target, reduction=reduction, **options)
            want = vastmax.cross_entropy_with_grad(x[keep], target[keep], reduction=reduction, **options)
            assert got.loss == want.loss
            contracts.assert_equal(got.grad[keep], want.grad)
            assert (wide(got.grad[[1, 3]]) == 0).all()
        loss = vastmax.cross_entropy(x, target, reduction="none", **options)
        assert (loss[[1, 3]] == 0).all()
    z = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
    got = vastmax.cross_entropy_with_grad(x, np.where(target < 0, 0, target), sample_weight=z, reduction="sum")
    assert got.loss == vastmax.cross_entropy(x[keep], target[keep], reduction="sum")
    assert (wide(got.grad[[1, 3]]) == 0).all()
    # an ignore_index that is a class
    got = vastmax.cross_entropy_with_grad(x[keep], target[keep], ignore_index=5, reduction="none")
    assert got.loss[1] == 0
    assert (wide(got.grad[1]) == 0).all()


@pytest.mark.backends("host", "offload")
def test_nothing_to_average(dtype: Any) -> None:
    x = np.ones((2, 3), dtype)
    for target in ([-100, -100], (np.full((2, 2), -100), np.full((2, 2), 0.5))):
        loss, grad, _ = vastmax.cross_entropy_with_grad(x, target)
        assert np.isnan(loss)  # PyTorch decided so in pytorch#70348
        assert (wide(grad) == 0).all()
        assert vastmax.cross_entropy(x, target, reduction="sum") == 0
        assert (vastmax.cross_entropy(x, target, reduction="none") == 0).all()
    assert np.isnan(vastmax.cross_entropy(x[:0], []))
    assert vastmax.cross_entropy(x[:0], [], reduction="none").shape == (0,)
    assert vastmax.cross_entropy(x[:, :0], [-100, -100], reduction="sum") == 0


def test_where_hides_anything(dtype: Any) -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((3, 50)).astype(dtype)
    keep = rng.random((3, 50)) < 0.5
    keep[:, 7] = True
    y = np.where(keep, x, np.array([np.nan, np.inf, -np.inf], dtype)[:, None])
    for options in ({}, {"label_smoothing": 0.5}, {"z_loss": 1.0}, {"softcap": 2.0}):
        got = vastmax.cross_entropy_with_grad(y, [7, 7, 7], where=keep, reduction="none", **options)
        for i in range(3):
            want = vastmax.cross_entropy_with_grad(x[i][keep[i]], np.count_nonzero(keep[i][:7]), **options)
            np.testing.assert_allclose(got.loss[i], want.loss, rtol=1e-6)
        assert (wide(got.grad)[~keep] == 0).all()
        assert (wide(got.grad)[keep] != 0).all()
    hidden = np.flatnonzero(~keep[0])[0]
    loss, grad, _ = vastmax.cross_entropy_with_grad(x[:1], [hidden], where=keep[:1])
    assert loss == np.inf
    assert (wide(grad)[~keep[:1]] == 0).all()
    nothing = np.zeros(50, bool)
    loss, grad, lse = vastmax.cross_entropy_with_grad(x, [0, 1, 2], where=nothing)
    assert loss == np.inf
    assert (wide(grad) == 0).all()
    assert np.isneginf(lse).all()


@pytest.mark.parametrize("factor", [0.0, -3.0, 1e-30, 1e30, np.inf, np.nan])
def test_grad_output(wide_dtype: Any, factor: float) -> None:
    x = (np.random.default_rng(10).standard_normal((4, 300)) * 5).astype(wide_dtype)
    target = [0, 5, 17, 299]
    plain = vastmax.cross_entropy_with_grad(x, target, reduction="none")
    got = vastmax.cross_entropy_with_grad(x, target, reduction="none", grad_output=factor).grad
    each = vastmax.cross_entropy_with_grad(x, target, reduction="none", grad_output=np.full(4, factor)).grad
    np.testing.assert_array_equal(got, each)
    if not np.isfinite(factor):
        assert not np.isfinite(got).any()
        return
    a = oracle.target_weights(one_hot(target, 300))
    want = oracle.cross_entropy_grad(wide(x), a)[0].times(factor)
    contracts.check("cross_entropy_with_grad", got, want)
    assert (np.sign(got) == np.sign(factor) * np.sign(plain.grad)).all()


# Targets out of range, and other errors


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"])
def test_integer_dtypes(kind: str) -> None:
    x = np.random.default_rng(11).standard_normal((3, 100)).astype(np.float32)
    want = vastmax.cross_entropy(x, [1, 99, 0], reduction="none")
    np.testing.assert_array_equal(vastmax.cross_entropy(x, np.array([1, 99, 0], kind), reduction="none"), want)
    with pytest.raises(IndexError):
        vastmax.cross_entropy(x, np.array([1, 100, 0], kind))


@pytest.mark.parametrize("bad", [5, -1, -99, 2**31, 2**40, -(2**63), 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("pairs", [False, True])
def test_out_of_range(bad: int, pairs: bool) -> None:
    x = np.zeros((2, 3, 5), np.float32)
    target = np.zeros((2, 3), np.uint64 if bad > 2**63 - 1 else np.int64)
    target[1, 2] = bad
    out = np.full_like(x, 7)
    given: Any = (target[..., None], np.ones((2, 3, 1))) if pairs else target
    with pytest.raises(IndexError) as caught:
        vastmax.cross_entropy_with_grad(x, given, out=out)
    for word in ("cross_entropy_with_grad", "target", str(bad), "(1, 2)", "0 to 4", "5 classes", "-100"):
        assert word in str(caught.value), (word, str(caught.value))
    assert (out == 7).all()


def test_errors() -> None:
    x = np.zeros((3, 4), np.float32)
    t = [0, 1, 2]
    pairs = (np.zeros((3, 2), int), np.ones((3, 3)))
    cases: list[tuple[type[Exception], tuple[str, ...], tuple[Any, ...], dict[str, Any]]] = [
        (TypeError, ("target", "float64", "(3,)", "integers"), (x, [0.0, 1.0, 2.0]), {}),
        (TypeError, ("target", "bool"), (x, np.zeros(3, bool)), {}),
        (ValueError, ("target", "(2,)", "(3,)", "(3, 4)"), (x, [0, 1]), {}),
        (ValueError, ("target", "(3, 4)", "(3,)"), (x, np.zeros((3, 4), int)), {}),
        (ValueError, ("target", "(3, 3)", "(3, 2)"), (x, pairs), {}),
        (ValueError, ("target", "(2, 3)", "K"), (x, (np.zeros((2, 3), int), np.ones((2, 3)))), {}),
        (TypeError, ("target", "float64", "integers"), (x, (np.zeros((3, 2)), np.ones((3, 2)))), {}),
        (ValueError, ("weight", "(3,)", "(4,)"), (x, t, np.ones(3)), {}),
        (ValueError, ("sample_weight", "(4,)", "(3,)"), (x, t), {"sample_weight": np.ones(4)}),
        (ValueError, ("reduction", "average", "mean"), (x, t), {"reduction": "average"}),
        (ValueError, ("label_smoothing", "1.5", "0 to 1"), (x, t), {"label_smoothing": 1.5}),
        (ValueError, ("label_smoothing", "nan"), (x, t), {"label_smoothing": float("nan")}),
        (ValueError, ("z_loss", "-1"), (x, t), {"z_loss": -1}),
        (ValueError, ("z_loss", "1000"), (x, t), {"z_loss": 10**400}),
        (ValueError, ("softcap", "0"), (x, t), {"softcap": 0}),
        (TypeError, ("softcap", "'a'"), (x, t), {"softcap": "a"}),
        (TypeError, ("axis", "(0, 1)"), (x, t), {"axis": (0, 1)}),
        (TypeError, ("axis", "None"), (x, t), {"axis": None}),
        (TypeError, ("logits", "complex128"), (x.astype(complex), t), {}),
        (ValueError, ("temperature", "0"), (x, t), {"temperature": 0.0}),
        (TypeError, ("where", "int64"), (x, t), {"where": np.ones(4, int)}),
        (ValueError, ("out", "(3, 5)", "(3, 4)"), (x, t), {"out": np.zeros((3, 5), np.float32)}),
        (ValueError, ("out", "float64", "float32"), (x, t), {"out": np.zeros((3, 4))}),
        (ValueError, ("grad_output", "(3,)", "()"), (x, t), {"grad_output": np.ones(3)}),
    ]
    for kind, words, args, options in cases:
        with pytest.raises(kind) as caught:
            vastmax.cross_entropy_with_grad(*args, **options)
        for word in ("cross_entropy_with_grad", *words):
            assert re.search(rf"(?<!\w){re.escape(word)}", str(caught.value)), (word, str(caught.value))


def test_partly_overlapping_out(dtype: Any) -> None:
    buffer = (np.random.default_rng(12).standard_normal((5, 300)) * 3).astype(dtype)
    x, out = buffer[:4], buffer[1:]
    target = [0, 1, 2, 3]
    q = np.random.default_rng(13).dirichlet(np.ones(300), 4).astype(dtype)
    for goal in (target, q):
        want = vastmax.cross_entropy_with_grad(x.copy(), goal)
        again = buffer.copy()
        got = vastmax.cross_entropy_with_grad(again[:4], goal, out=again[1:])
        assert got.loss == want.loss
        contracts.assert_equal(again[1:], want.grad)
    got = vastmax.cross_entropy_with_grad(buffer[:4].copy(), mine := q.copy(), out=mine)
    contracts.assert_equal(mine, vastmax.cross_entropy_with_grad(buffer[:4], q).grad)
    assert out.shape == x.shape


@pytest.mark.backends("host")
def test_dtypes_that_meet() -> None:
    """float64 is never narrowed; narrower probabilities leave the logits what they are."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((3, 20))
    q = rng.dirichlet(np.ones(20), 3)
    for logits, target, dtype in (
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float64),
        (np.float16, np.float32, np.float16),
        (np.float32, np.float16, np.float32),
    ):
        got = vastmax.cross_entropy_with_grad(x.astype(logits), q.astype(target))
        assert got.grad.dtype == dtype
        assert got.loss.dtype == (np.float64 if dtype == np.float64 else np.float32)
        a = oracle.target_weights(wide(q.astype(target)))
        want = oracle.cross_entropy(wide(x.astype(logits)), a).float().mean()
        np.testing.assert_allclose(got.loss, want, rtol=1e-6)
    assert vastmax.cross_entropy(np.arange(4), 2).dtype == np.float64


@pytest.mark.conformance
@pytest.mark.backends("host")
def test_many_classes() -> None:
    x = np.random.default_rng(15).standard_normal((1, 10_000_000), np.float32) * 3
    z = x.astype(np.float64)
    top = z.max()
    log = top + np.log(np.exp(z - top).sum())
    for target in (0, 9_999_999, int(x.argmax())):
        got = vastmax.cross_entropy(x, [target])
        assert abs(float(got) - (log - z[0, target])) <= 2 * np.spacing(np.float32(got))
