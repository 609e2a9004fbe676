# SPDX-License-Identifier: Apache-2.0
"""softmax_stats, entropy, selective_log_softmax and kl_divergence: the oracle's values, exact ranks and indices."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows, oracle

# The bits of `offload` are those of `device`: test_backends.
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.backends("host", "device")]

LENGTHS = (1, 2, 15, 16, 17, 33, 64, 130, 4095, 4096, 4097, 9001, 70_001)


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


def float_dtype(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


def ordered(x: Any) -> Any:
    """Indices by descending logit, ties to the lower index, NaN first."""
    z = wide(x)
    index = np.broadcast_to(np.arange(z.shape[-1]), z.shape)
    return np.lexsort((index, -np.where(np.isnan(z), 0, z), ~np.isnan(z)), -1)


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_rows(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)
    n = x.size
    top_n = min(n, 25)
    for target in {0, n - 1, int(wide(x).argmax())}:
        got = vastmax.softmax_stats(x, target, top_n=top_n)
        log_p = oracle.log_softmax(wide(x))
        order = ordered(x)[:top_n]
        assert got.lse == vastmax.logsumexp(x)
        assert got.max == wide(x).max()
        assert got.argmax == order[0]
        assert got.target_rank == 1 + (wide(x) > wide(x)[target]).sum()
        np.testing.assert_array_equal(got.top_indices, order)
        contracts.check("selective_log_softmax", got.top_log_probs, log_p[order], hint=name)
        contracts.check("selective_log_softmax", got.target_log_prob, log_p[target], hint=name)
        contracts.check("entropy", got.entropy, oracle.entropy(wide(x)), hint=name)
    assert got.entropy.dtype == got.lse.dtype == float_dtype(dtype)
    assert vastmax.entropy(x) == got.entropy


@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(dtype: Any, n: int) -> None:
    """Tails, blocks, and rows that threads share; many ties, which go to the lowest index."""
    rng = np.random.default_rng(n)
    x = np.round(rng.standard_normal((3, n)) * 4, 1).astype(dtype)
    target = rng.integers(0, n, 3)
    top_n = min(n, 130)
    got = vastmax.softmax_stats(x, target, top_n=top_n)
    order = ordered(x)[:, :top_n]
    log_p = oracle.log_softmax(wide(x))
    np.testing.assert_array_equal(got.top_indices, order)
    np.testing.assert_array_equal(got.argmax, wide(x).argmax(-1))
    larger = wide(x) > np.take_along_axis(wide(x), target[:, None], -1)
    np.testing.assert_array_equal(got.target_rank, 1 + larger.sum(-1))
    contracts.check("selective_log_softmax", got.top_log_probs, log_p[np.arange(3)[:, None], order])
    contracts.check("entropy", got.entropy, oracle.entropy(wide(x)))
    np.testing.assert_array_equal(got.lse, vastmax.logsumexp(x, axis=-1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axis_and_temperature(dtype: Any, axis: int) -> None:
    rng = np.random.default_rng(21)
    x = (rng.standard_normal((7, 11, 66)) * 3).astype(dtype)
    last = np.moveaxis(x, axis, -1)
    target = rng.integers(0, x.shape[axis], last.shape[:-1])
    for t in (None, 0.6):
        z = oracle.scaled(last, t, contracts.computed_in(contracts.name_of(dtype)))
        got = vastmax.softmax_stats(x, target, axis=axis, top_n=3, temperature=t)
        contracts.check("entropy", got.entropy, oracle.entropy(z))
        np.testing.assert_array_equal(got.top_indices, ordered(last)[..., :3])
        want = oracle.log_softmax(z)
        picked = oracle.Exact(*(np.take_along_axis(part, target[..., None], -1)[..., 0] for part in want))
        contracts.check("selective_log_softmax", got.target_log_prob, picked)
        one = vastmax.selective_log_softmax(x, target, axis, temperature=t)
        np.testing.assert_array_equal(one, got.target_log_prob)
        several = vastmax.selective_log_softmax(x, got.top_indices, axis, temperature=t)
        np.testing.assert_array_equal(several, got.top_log_probs)
        np.testing.assert_array_equal(vastmax.entropy(x, axis, temperature=t), got.entropy)


def test_a_temperature_does_not_change_the_order() -> None:
    """Quotients may round two logits into one; ranks and indices are those of the logits."""
    x = np.array([1.0, np.nextafter(1.0, 2.0), 0.0])
    got = vastmax.softmax_stats(x, 0, top_n=3, temperature=1e300)
    assert got.argmax == 1
    assert got.target_rank == 2
    np.testing.assert_array_equal(got.top_indices, [1, 0, 2])


@pytest.mark.parametrize("n", [6, 5000, 70_000])
def test_special_rows(dtype: Any, n: int) -> None:
    nan, inf = np.nan, np.inf
    x = np.full((6, n), -inf).astype(dtype)
    x[0, n // 2] = 3
    x[1, [1, n - 1]] = 2
    x[3, [2, n - 2]] = inf
    x[4, [0, 3]] = 1.5, nan
    x[5, [1, 4]] = inf, nan
    target = [n - 1, n - 1, 5, 0, 0, 1]
    got = vastmax.softmax_stats(x, target, top_n=2)
    kind = got.lse.dtype
    same = np.testing.assert_array_equal
    same(got.entropy, np.array([0, kind.type(np.log(2)), nan, nan, nan, nan]))
    same(got.lse, vastmax.logsumexp(x, axis=-1))
    same(got.max, np.array([3, 2, -inf, inf, nan, nan], kind))
    same(got.argmax, [n // 2, 1, 0, 2, 3, 4])
    same(got.target_rank, [2, 1, 1, 3, 2, 2])
    same(got.top_indices[:, 1], [0, n - 1, 1, n - 2, 0, 1])
    same(got.top_log_probs[0], [0, -inf])
    same(got.target_log_prob, np.array([-inf, kind.type(np.log(0.5)), nan, -inf, nan, nan]))
    assert np.isnan(got.top_log_probs[2:]).all()
    same(vastmax.entropy(x), got.entropy)
    everything = vastmax.softmax_stats(x, top_n=6)
    same(everything.top_indices, ordered(x)[:, :6])


def test_only_what_is_asked_for() -> None:
    got = vastmax.softmax_stats(np.zeros((2, 3, 5), np.float32))
    assert got.target_log_prob is got.target_rank is got.top_log_probs is got.top_indices is None
    assert got.lse.shape == (2, 3)
    one = vastmax.softmax_stats([1.0, 2.0], 0)
    assert isinstance(one.lse, np.float64)
    assert isinstance(one.argmax, np.int64)
    assert vastmax.softmax_stats(np.zeros((0, 4)), top_n=2).top_indices.shape == (0, 2)
    assert vastmax.entropy(np.zeros((2, 0))).tolist() == [0, 0]
    assert vastmax.selective_log_softmax(np.zeros((2, 3)), np.zeros((2, 0), int)).shape == (2, 0)


def test_selective_log_softmax_is_log_softmax(wide_dtype: Any) -> None:
    for n in LENGTHS:
        x = (np.random.default_rng(n).standard_normal((4, n)) * 6).astype(wide_dtype)
        index = np.random.default_rng(n).integers(0, n, (4, 3))
        want = oracle.log_softmax(wide(x))
        got = vastmax.selective_log_softmax(x, index)
        contracts.check("selective_log_softmax", got, want[np.arange(4)[:, None], index])
        np.testing.assert_array_equal(vastmax.selective_log_softmax(x, index[:, 0]), got[:, 0])
    assert vastmax.selective_log_softmax([40.0, 0.0], 0) == -4.248354255291589e-18


@functools.cache
def apart(dtype: Any, n: int, distance: float) -> tuple[Any, Any, Any, Any]:
    """Two rows of logits so far apart, their divergence, and its largest term."""
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((2, n)) * 4).astype(dtype)
    z = (wide(x) + distance * rng.standard_normal((2, n)) + [[0.0], [50.0]]).astype(dtype)
    x[:, n // 3] = -np.inf if n > 1 else 0
    return x, z, *oracle.kl_divergence(wide(x), wide(z))


@pytest.mark.parametrize(
    ("n", "distance"), [(n, d) for n in LENGTHS for d in (0.0, 1e-6, 1e-3, 1.0, 30.0) if n < 10_000 or d == 1e-3]
)
def test_kl_divergence(dtype: Any, n: int, distance: float) -> None:
    x, z, want, largest = apart(dtype, n, distance)
    got = vastmax.kl_divergence(x, z)
    assert got.dtype == float_dtype(dtype)
    contracts.check("kl_divergence", got, want, scale=np.maximum(np.abs(want.float()), largest))
    np.testing.assert_array_equal(vastmax.kl_divergence(x.T, z.T, axis=0), got)


def test_kl_divergence_special_values(wide_dtype: Any) -> None:
    nan, inf = np.nan, np.inf
    x = np.array([[0, -inf], [0, 0], [0, nan], [-inf, -inf], [0, inf], [0, 0], [0, 0]], wide_dtype)
    z = np.array([[0, 0], [0, -inf], [0, 0], [0, 0], [0, 0], [-inf, -inf], [0, 0]], wide_dtype)
    want = np.array([np.log(2), inf, nan, nan, nan, nan, 0], wide_dtype)
    np.testing.assert_array_equal(vastmax.kl_divergence(x, z), want)


def test_errors() -> None:
    x = np.zeros((3, 4), np.float32)
    stats, pick, kl = vastmax.softmax_stats, vastmax.selective_log_softmax, vastmax.kl_divergence
    cases: list[tuple[type[Exception], Any, tuple[str, ...], tuple[Any, ...], dict[str, Any]]] = [
        (IndexError, stats, ("target", "4", "row 1", "0 to 3"), (x, [0, 4, 0]), {}),
        (IndexError, stats, ("target", "-100"), (x, [0, -100, 0]), {}),
        (TypeError, stats, ("target", "float64", "integers"), (x, [0.0, 1.0, 0.0]), {}),
        (ValueError, stats, ("target", "(2,)", "(3,)"), (x, [0, 1]), {}),
        (ValueError, stats, ("top_n", "5", "0 to 4"), (x,), {"top_n": 5}),
        (ValueError, stats, ("top_n", "-1"), (x,), {"top_n": -1}),
        (TypeError, stats, ("top_n", "2.5"), (x,), {"top_n": 2.5}),
        (TypeError, stats, ("axis", "None"), (x,), {"axis": None}),
        (ValueError, stats, ("logits", "(3, 0)"), (x[:, :0],), {}),
        (IndexError, pick, ("index", "4", "row 2"), (x, [[0, 1], [0, 1], [4, 0]]), {}),
        (IndexError, pick, ("index", "-1"), (x, [0, -1, 0]), {}),
        (ValueError, pick, ("index", "(4,)", "(3,)", "K"), (x, [0, 0, 0, 0]), {}),
        (ValueError, pick, ("temperature", "-1"), (x, [0, 0, 0]), {"temperature": -1}),
        (ValueError, kl, ("q_logits", "(4,)", "(3, 4)"), (x, x[0]), {}),
        (TypeError, kl, ("q_logits", "complex64"), (x, x.astype(np.complex64)), {}),
    ]
    for kind, function, words, args, options in cases:
        with pytest.raises(kind) as caught:
            function(*args, **options)
        for word in (function.__name__, *words):
            assert re.search(rf"(?<!\w){re.escape(word)}", str(caught.value)), (word, str(caught.value))


@pytest.mark.backends("host")
def test_same_bits(dtype: Any) -> None:
    """Any number of threads, batch and layout."""
    rng = np.random.default_rng(23)
    for rows, n in ((1, 300_001), (40, 1000), (5, 30_011)):
        x = (rng.standard_normal((rows, n)) * 5).astype(dtype)
        z = (rng.standard_normal((rows, n)) * 5).astype(dtype)
        target = rng.integers(0, n, rows)

        def found(x: Any, z: Any, target: Any, axis: int = -1) -> list[bytes]:
            stats = vastmax.softmax_stats(x, target, axis=axis, top_n=7)
            more = vastmax.kl_divergence(x, z, axis), vastmax.selective_log_softmax(x, target, axis)
            return [np.asarray(a).tobytes() for a in (*stats, *more)]

        with vastmax.config(threads=1, isa=vastmax.available_isas()[-1]):
            want = found(x, z, target)
        for threads in (1, 2, 3, 8):
            with vastmax.config(threads=threads):
                assert found(x, z, target) == want
                if n < 300_000:
                    assert found(np.asfortranarray(x), z[::-1].copy()[::-1], target) == want
                    assert found(x.T, np.ascontiguousarray(z.T), target, 0) == want
        first = [np.frombuffer(b, np.uint8).reshape(rows, -1)[0].tobytes() for b in want]
        assert found(x[:1], z[:1], target[:1]) == first


def test_divergence_of_two_classes_that_are_alike() -> None:
    p, q = np.array([2.296696618087855, 1.8949388632916673]), np.array([0.5090661362914279, 0.16250602265460307])
    exact = [oracle.mp.mpf(float(v)) for v in (*p, *q)]
    log_p, log_q = ([v - oracle.mp.log(sum(map(oracle.mp.exp, z))) for v in z] for z in (exact[:2], exact[2:]))
    terms = [oracle.mp.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True)]
    scale = np.array([float(max(map(abs, terms)))])
    contracts.check("kl_divergence", np.array([vastmax.kl_divergence(p, q)]), oracle.exact([sum(terms)]), scale=scale)


def nearly_alike(x: Any, d: float) -> Iterator[tuple[str, Any, Any]]:
    """Logits of p and of q, which differ by about d."""
    rng = np.random.default_rng(25)
    n = x.size
    noise = d * rng.standard_normal(n)
    first = np.arange(n) < min(2048, (n + 1) // 2)  # a block of float64
    one = np.where(np.arange(n) == n // 2, d, 0)
    yield "noise", x, x + noise
    yield "moved", x, x + noise + 1e5
    yield "moved by more than the exponent reduction reaches", x + 1e5, x + 7e3 + noise
    yield "certain", x * 20, x * 20 + noise
    yield "a block", x, x + d * first
    yield "either way", x, x + 0.35 * d * np.sign(noise)
    yield "one class", x, x + one
    yield "one class of q is gone", x, x - one * 1e6
    yield "one class of q is almost all", x, x + noise + one * 300
    yield "one class of p is gone", np.where(one != 0, -np.inf, x), x + noise
    yield "a block of p is gone", np.where(first, -np.inf, x), x + noise
    yield "a block of p is faint", np.where(first, x - 800, x), x + noise
    yield "a block of q is faint", x, np.where(first, x - 2000, x) + noise


@pytest.mark.parametrize("n", [2, 3, 17, 100, 2049, 5000])
@pytest.mark.parametrize("d", [1.0, 1e-2, 1e-5, 1e-9, 1e-15])
def test_divergence_of_rows_that_are_nearly_alike(n: int, d: float) -> None:
    for name, x, z in nearly_alike(np.random.default_rng(n).standard_normal(n) * 3, d):
        want, largest = oracle.kl_divergence(x, z)
        scale = np.maximum(np.abs(want.float()), largest)
        contracts.check("kl_divergence", vastmax.kl_divergence(x, z), want, scale=scale, hint=name)


def test_divergence_of_one_class_is_none() -> None:
    rng = np.random.default_rng(26)
    x, z = rng.standard_normal((2, 1000, 1)) * 10.0 ** rng.uniform(-3, 6, (2, 1000, 1))
    np.testing.assert_array_equal(vastmax.kl_divergence(x, z), np.zeros(1000))
