# SPDX-License-Identifier: Apache-2.0
"""Binary cross-entropy of logits: the oracle's value, and PyTorch's semantics."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, oracle

pytestmark = pytest.mark.usefixtures("backend")

bce = vastmax.binary_cross_entropy_with_logits


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


def loss_dtype(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


def problem(dtype: Any, shape: tuple[int, ...] = (40, 33)) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(101)
    x = (rng.standard_normal(shape) * rng.choice([0.1, 3.0, 30.0], shape)).astype(dtype)
    t = rng.choice([0.0, 1.0, 0.25, 0.9], shape).astype(dtype)
    return x, t, rng.uniform(0.1, 3.0, shape).astype(dtype), rng.uniform(0.2, 9.0, shape[-1:]).astype(dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_each_element(dtype: Any, weighted: bool, positive: bool) -> None:
    x, t, w, q = problem(dtype)
    loss, slope = oracle.binary_cross_entropy(
        wide(x), wide(t), wide(w) if weighted else 1.0, wide(q) if positive else 1.0
    )
    got, grad = bce(
        x, t, w if weighted else None, pos_weight=q if positive else None, reduction="none", return_grad=True
    )
    assert got.dtype == loss_dtype(dtype)
    assert grad.dtype == dtype
    contracts.check("binary_cross_entropy", got, loss)
    # The slope is a difference of two terms; each is as exact as the contract says.
    toward = wide(t) * (wide(q) if positive else 1.0) * oracle.sigmoid(-wide(x)).float()
    away = (1 - wide(t)) * oracle.sigmoid(wide(x)).float()
    scale = np.maximum(toward, away) * (wide(w) if weighted else 1.0)
    contracts.check("binary_cross_entropy gradient", grad, slope, scale=scale)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_hard_targets_keep_relative_accuracy_of_the_gradient(wide_dtype: Any, target: float) -> None:
    x = np.linspace(-80, 80, 4001).astype(wide_dtype)
    t = np.full_like(x, target)
    loss, slope = oracle.binary_cross_entropy(wide(x), target)
    got, grad = bce(x, t, reduction="none", return_grad=True)
    contracts.check("binary_cross_entropy", got, loss)
    contracts.check("binary_cross_entropy gradient", grad, slope)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions(dtype: Any, reduction: str) -> None:
    x, t, w, q = problem(dtype)
    loss, slope = oracle.binary_cross_entropy(wide(x), wide(t), wide(w), wide(q))
    n = x.size
    total = oracle._sum(tuple(part.ravel() for part in oracle._plain(loss)))
    value = total[0] if reduction == "sum" else total[0] / n
    got, grad = bce(x, t, w, pos_weight=q, reduction=reduction, return_grad=True)
    assert isinstance(got, np.generic)
    assert got.dtype == loss_dtype(dtype)
    contracts.check("binary_cross_entropy", np.reshape(got, 1), oracle.exact([value]))
    np.testing.assert_array_equal(got, bce(x, t, w, pos_weight=q, reduction=reduction))
    factor = 1.0 if reduction == "sum" else 1.0 / n
    terms = wide(w) * np.maximum(
        wide(t) * wide(q) * oracle.sigmoid(-wide(x)).float(), (1 - wide(t)) * oracle.sigmoid(wide(x)).float()
    )
    name = contracts.name_of(dtype)
    bound = contracts.MAX_ULP["binary_cross_entropy gradient"][name] + (dtype.itemsize > 2)
    contracts.check("binary_cross_entropy gradient", grad, slope.times(factor), scale=terms * factor, within=bound)


def test_mean_is_the_default() -> None:
    x, t, _, _ = problem(np.dtype(np.float64))
    assert bce(x, t) == bce(x, t, reduction="mean")


def test_special_values(wide_dtype: Any) -> None:
    """No finite logit overflows; an infinite logit with its certain target is no loss (pytorch#49844, #13773)."""
    inf, nan = np.inf, np.nan
    x = np.array([inf, -inf, inf, -inf, nan, 1e37, -1e37, -120.0], wide_dtype)
    t = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], wide_dtype)
    big = float(wide_dtype.type(1e37))
    got = bce(x, t, reduction="none")
    np.testing.assert_array_equal(got, np.array([0.0, 0.0, inf, inf, nan, big, big, 120.0], wide_dtype))
    got = bce(x[-1:], t[-1:], pos_weight=np.array([500.0], wide_dtype))
    assert got == wide_dtype.type(60000.0)


def test_empty(dtype: Any) -> None:
    x = np.zeros((0, 3), dtype)
    assert np.isnan(bce(x, x))
    assert bce(x, x, reduction="sum") == 0
    loss, grad = bce(x, x, reduction="none", return_grad=True)
    assert loss.shape == grad.shape == (0, 3)


def test_layouts(dtype: Any) -> None:
    x, t, w, q = problem(dtype, (70, 300))
    views: tuple[Callable[[Any], Any], ...] = (
        np.asfortranarray,
        lambda a: np.repeat(a, 2, a.ndim - 1)[..., ::2],
        lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    )
    for reduction in ("none", "sum", "mean"):
        for others in ((t,), (t, w)):  # a broadcast pos_weight hides the order of the others
            for pos_weight in (None, q):
                want = bce(x, *others, pos_weight=pos_weight, reduction=reduction, return_grad=True)
                for view in views:
                    given = [view(a) for a in (x, *others)]
                    got = bce(*given, pos_weight=pos_weight, reduction=reduction, return_grad=True)
                    np.testing.assert_array_equal(got[0], want[0])
                    np.testing.assert_array_equal(got[1], want[1])


@pytest.mark.backends("host")
def test_same_bits_for_any_number_of_threads(dtype: Any) -> None:
    x, t, w, _ = problem(dtype, (7, 30_011))
    want = [a.tobytes() for a in bce(x, t, w, return_grad=True)]
    for threads in (1, 2, 3, 8):
        with vastmax.config(threads=threads):
            assert [a.tobytes() for a in bce(x, t, w, return_grad=True)] == want


def test_errors() -> None:
    x = np.zeros((3, 4))
    name = "binary_cross_entropy_with_logits"
    cases: list[tuple[type[Exception], tuple[str, ...], tuple[Any, ...], dict[str, Any]]] = [
        (ValueError, ("target", "(3, 5)", "(3, 4)"), (x, np.zeros((3, 5))), {}),
        (ValueError, ("weight", "(5,)", "(3, 4)"), (x, x, np.zeros(5)), {}),
        (ValueError, ("pos_weight", "(5,)", "(3, 4)"), (x, x), {"pos_weight": np.zeros(5)}),
        (ValueError, ("reduction", "average", "mean", "sum", "none"), (x, x), {"reduction": "average"}),
        (TypeError, ("input", "complex128", "float64"), (x.astype(complex), x), {}),
        (TypeError, ("target", "complex128", "float64"), (x, x.astype(complex)), {}),
    ]
    for kind, words, args, options in cases:
        with pytest.raises(kind) as caught:
            bce(*args, **options)
        for word in (name, *words):
            assert re.search(rf"(?<!\w){re.escape(word)}", str(caught.value)), (word, str(caught.value))


def test_against_torch(wide_dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    x, t, w, q = problem(wide_dtype)
    x = np.clip(x, -20, 20)
    for reduction in ("none", "mean", "sum"):
        logits = torch.tensor(x, requires_grad=True)
        want = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(t), torch.tensor(w), pos_weight=torch.tensor(q), reduction=reduction
        )
        want.sum().backward()
        loss, grad = bce(x, t, w, pos_weight=q, reduction=reduction, return_grad=True)
        # PyTorch's error is absolute, of the size of the logits it subtracts.
        eps = float(np.finfo(wide_dtype).eps)
        np.testing.assert_allclose(loss, want.detach().numpy(), rtol=64 * eps, atol=64 * eps)
        np.testing.assert_allclose(grad, logits.grad.numpy(), rtol=64 * eps, atol=64 * eps * float(np.abs(grad).max()))
