# SPDX-License-Identifier: Apache-2.0
"""What bit users of other libraries, and what bit users of this one: reported inputs, with right values of their own.

Sources are named as owner/repository#number where a case comes from a public report. Right values are exact rationals,
50 digits of mpmath, or arithmetic that is plain to see; none is made by vastmax.
"""

from __future__ import annotations

import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import inf, isnan, log, nan
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
import pytest

import vastmax
from support import subprocesses

mpmath.mp.dps = 50
FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
floats = pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: np.dtype(kind).name)


def layouts(x: Any) -> Iterator[Any]:
    """The same numbers, laid out in other ways."""
    yield x
    yield np.asfortranarray(x)
    yield np.repeat(x, 2, axis=-1)[..., ::2]
    yield x[..., ::-1].copy()[..., ::-1]


def exact_softmax(row: Any) -> list[mpmath.mpf]:
    terms = [mpmath.exp(mpmath.mpf(float(v))) for v in row]
    return [t / mpmath.fsum(terms) for t in terms]


def exact_lse(row: Any) -> mpmath.mpf:
    return mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(v))) for v in row))


# normalisers


@floats
def test_rows_of_minus_infinity(kind: Any, isa: str) -> None:
    """rmcgibbo/logsumexp#2, tensorflow#11692, onnxruntime#28461: NaN, or the smallest finite number."""
    for n in range(1, 41):
        for x in layouts(np.full((3, n), -inf, kind)):
            np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1), [-inf] * 3)


def test_a_weight_of_0_at_the_largest_logit() -> None:
    """scipy#4702."""
    assert vastmax.logsumexp([-1000.0, 0.0], b=[1, 0]) == -1000


@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "u8", "?"])
def test_integers_do_not_wrap(kind: str) -> None:
    """rsokl/MyGrad#193."""
    x = np.array([[1, 2, 3], [0, 0, 255 if kind != "?" else 1]]).astype(kind)
    got = vastmax.softmax(x)
    assert got.dtype == np.float64
    for row, p in zip(x, got, strict=True):
        np.testing.assert_allclose(p, [float(v) for v in exact_softmax(row)], rtol=1e-15)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (0, 2), (1, 2), None])
def test_along_the_axis_that_was_asked_for(axis: Any) -> None:
    """scikit-hep/awkward PR#3072, onnx#3244."""
    x = np.random.default_rng(1).normal(size=(3, 4, 5))
    e = np.exp(x)
    np.testing.assert_allclose(vastmax.softmax(x, axis=axis), e / e.sum(axis=axis, keepdims=True), rtol=1e-14)


@floats
def test_masked_entries_take_no_part(kind: Any) -> None:
    """deepmd-kit PR#5717, numpy#25953: what the mask hides reached the maximum, or old content of out= the result."""
    big = ml_dtypes.finfo(kind).max
    x = np.array([[1, big, 2], [nan, 0.5, 1], [inf, 3, 4]], kind)
    mask = np.array([[1, 0, 1], [0, 1, 1], [0, 1, 1]], bool)
    out = np.full_like(x, 7)
    assert vastmax.softmax(x, where=mask, out=out) is out
    for row, keep, p in zip(x, mask, out, strict=True):
        np.testing.assert_array_equal(p[~keep], 0)
        np.testing.assert_array_equal(p[keep], vastmax.softmax(row[keep]))
        np.testing.assert_allclose(p[keep].astype(float), [float(v) for v in exact_softmax(row[keep])], rtol=4e-3)


def test_pairs_of_equal_logits() -> None:
    """openvino#32839: v + ln 2, in 16 bits up to their largest numbers."""
    for kind, values in ((np.float16, (10, 1000, 65000)), (np.float32, (10, 1e20, 3e38))):
        for v in (*values, *(-w for w in values)):
            v = kind(v)
            want = np.float32(float(mpmath.mpf(float(v)) + mpmath.log(2)))
            np.testing.assert_allclose(vastmax.logsumexp(np.array([v, v])), want, rtol=2e-7)


def test_lengths_with_minus_infinity_at_every_third_place() -> None:
    """gabrieldemarmiesse/torch-mojo-backend PR#319."""
    for n in (*range(1, 71), 2047, 2048, 2049):
        x = np.linspace(-3, 3, n)
        x[2::3] = -inf
        got = vastmax.log_softmax(x)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(x))
        np.testing.assert_allclose(got[0], float(x[0] - exact_lse(x)), rtol=1e-14, atol=0)


def test_states_of_nothing() -> None:
    """flashinfer#4051, tinygrad PR#17853: merged states of -inf gave NaN."""
    nothing, some = vastmax.LogSumExp(dtype=np.float64), vastmax.LogSumExp(dtype=np.float64)
    assert nothing.merge(vastmax.LogSumExp(dtype=np.float64)).value == -inf
    assert some.update([-inf, -inf]).value == -inf
    assert some.merge(nothing).update([1.0]).merge(nothing).value == 1
    assert vastmax.LogSumExp().update(np.float32([2e38])).update(np.float32([2e38])).value == np.float32(2e38)


def test_gradient_of_large_pairs() -> None:
    """stan-dev/math#1679: 0.5 each, whatever the size."""
    for v in (1e14, 1e16, 1e20):
        np.testing.assert_array_equal(vastmax.logsumexp_backward(1.0, [v, v]), [0.5, 0.5])
    np.testing.assert_allclose(vastmax.logsumexp_backward(1.0, np.ones(100)), np.full(100, 0.01), rtol=1e-15)
    want = [float(v) for v in exact_softmax([0, 0.625])]
    np.testing.assert_allclose(vastmax.logsumexp_backward(1.0, [0, 0.625]), want, rtol=1e-15)


# element by element


def test_no_cut_offs() -> None:
    """aesara#29, ocropy PR#201, pytorch#1835, tenstorrent/tt-metal#55798."""
    for x in (15, 16, 17, 19, -88.1, -89, -103):
        v = mpmath.mpf(float(np.float32(x)))
        want = 1 / (1 + mpmath.exp(-v))
        assert abs(mpmath.mpf(float(vastmax.sigmoid(np.float32(x)))) - want) <= mpmath.mpf(2) ** -149 + want * 2.0**-23
    for x, want in ((-300, -300), (-1e4, -1e4), (710, -mpmath.exp(-710))):
        assert abs(vastmax.log_sigmoid(float(x)) / float(want) - 1) < 1e-9  # exp(-710) is subnormal
    for x in (-8.72e6, -8.78182e6, -1e7, -(2.0**24), -3e38):
        assert vastmax.softplus(np.float32(x)) == 0
    assert vastmax.softplus(-1e300) == 0


def test_binary_cross_entropy_at_the_ends() -> None:
    """pytorch PR#1792."""
    bce = vastmax.binary_cross_entropy_with_logits
    small = float(mpmath.log1p(mpmath.exp(-100)))
    got = bce([0.0, 0.0, 100.0, 100.0, -100.0, -100.0], [0, 1, 1, 0, 0, 1], reduction="none")
    np.testing.assert_allclose(got, [log(2), log(2), small, 100, small, 100], rtol=1e-15)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_an_element_of_weight_0_counts_as_nothing(reduction: str, isa: str) -> None:
    for kind in FLOATS:
        for n in (4, 67):
            x, t, w = np.full(n, 1, kind), np.full(n, 0, kind), np.full(n, 1, kind)
            x[:3], w[:3] = (inf, nan, -inf), 0
            t[2] = 1
            loss, grad = vastmax.binary_cross_entropy_with_logits(x, t, w, reduction=reduction, return_grad=True)
            left = vastmax.binary_cross_entropy_with_logits(x[3:], t[3:], reduction="sum")
            total = np.sum(loss) * (n if reduction == "mean" else 1)
            np.testing.assert_allclose(float(total), float(left), rtol=1e-5)
            np.testing.assert_array_equal(grad[:3].astype(float), 0)
            assert (grad[3:].astype(float) > 0).all()


# divergences and losses


def test_divergence_with_zeros() -> None:
    """uber/causalml#167, torchmetrics#1029: 0 log 0 is 0, and p > 0 over q = 0 is inf."""
    with np.errstate(divide="ignore"):
        for p, q, want in (
            ([0, 0.3, 0.7], [0.2, 0.3, 0.5], 0.7 * log(1.4)),
            ([1, 0], [0.5, 0.5], log(2)),
            ([0.5, 0.5], [1, 0], inf),
            ([1, 0], [1, 0], 0.0),
        ):
            np.testing.assert_allclose(vastmax.kl_divergence(np.log(p), np.log(q)), want, rtol=1e-14)


def test_divergence_of_near_equals_is_never_negative() -> None:
    """pytorch#80488, keras#13747."""
    rng = np.random.default_rng(2)
    for n in (3, 7, 100, 5000):
        p = rng.normal(size=(50, n))
        assert (vastmax.kl_divergence(p, p + rng.normal(size=p.shape) * 1e-9) >= 0).all()
        np.testing.assert_array_equal(vastmax.kl_divergence(p, p.copy()), 0)
        np.testing.assert_array_equal(vastmax.kl_divergence(np.round(p * 8) / 8, np.round(p * 8) / 8 + 4), 0)


def test_ranks_count_from_1() -> None:
    """vllm#15420, PR#3516; abetlen/llama-cpp-python PR#453: of the token that was asked for."""
    x = np.array([[9.0, 8, 7, 6], [2, 5, 5, 1]])
    for target, ranks in (([0, 0], [1, 3]), ([1, 1], [2, 1]), ([3, 2], [4, 1]), ([2, 3], [3, 4])):
        stats = vastmax.softmax_stats(x, target)
        np.testing.assert_array_equal(stats.target_rank, ranks)
        want = [float(row[t] - exact_lse(row)) for row, t in zip(x, target, strict=True)]
        np.testing.assert_allclose(stats.target_log_prob, want, rtol=1e-14)


def test_class_weights_smoothing_and_an_ignored_row() -> None:
    """pytorch#104776: sum_j w_j ((1 - e)[j = t] + e / K) (-log p_j) / w_t."""
    logits, w, e = [[1.0, 2.0], [3.0, 0.4]], (0.2, 0.3), 0.1
    log_p = [mpmath.mpf(v) - exact_lse(logits[1]) for v in logits[1]]
    want = sum(w[j] * ((1 - e) * (j == 1) + e / 2) * -log_p[j] for j in range(2)) / w[1]
    got = vastmax.cross_entropy(logits, [-100, 1], w, label_smoothing=e)
    np.testing.assert_allclose(got, float(want), rtol=1e-14)
    np.testing.assert_allclose(got, 2.5404506137682086, rtol=1e-14)


@pytest.mark.parametrize("ignored", [0, -1, 10**9, 2**63 - 1, -(2**63)])
def test_any_number_may_be_ignored(ignored: int) -> None:
    """pytorch#63004: a class too, which stays in the denominator of the others."""
    logits = [[-5.0, 1, 1], [0.0, 1, 2]]
    want = float(exact_lse(logits[1]) - 2)
    np.testing.assert_allclose(vastmax.cross_entropy(logits, [ignored, 2], ignore_index=ignored), want, rtol=1e-14)


LOSSES: dict[str, Callable[..., Any]] = {
    "cross_entropy": lambda **options: vastmax.cross_entropy(np.zeros((2, 3)), [0, 1], **options),
    "cross_entropy_with_grad": lambda **options: vastmax.cross_entropy_with_grad(np.zeros((2, 3)), [0, 1], **options),
    "linear_cross_entropy": lambda **options: vastmax.linear_cross_entropy(
        np.zeros((2, 3)), np.zeros((4, 3)), [0, 1], **options
    ),
    "linear_cross_entropy_with_grad": lambda **options: vastmax.linear_cross_entropy_with_grad(
        np.zeros((2, 3)), np.zeros((4, 3)), [0, 1], **options
    ),
}


@pytest.mark.parametrize("op", LOSSES)
def test_ignore_index_is_checked(op: str) -> None:
    for value, error in (
        *((v, TypeError) for v in (1.5, None, "a", [1], np.zeros(2, int))),
        *((v, ValueError) for v in (2**63, 2**70, -(2**63) - 1)),
    ):
        with pytest.raises(error, match=f"^{op}: ignore_index is .*; accepted: an int"):
            LOSSES[op](ignore_index=value)
    with pytest.raises(ValueError, match="ignore_index"):
        vastmax.cross_entropy(np.zeros((2, 3)), np.uint64([2**63, 1]), ignore_index=2**63)


def test_transposed_batches() -> None:
    """NVIDIA/TransformerEngine#2734."""
    x = np.random.default_rng(3).normal(size=(5, 3, 40)).astype(np.float32).transpose(1, 0, 2)
    t = np.arange(15).reshape(3, 5)
    for got, want in zip(
        vastmax.cross_entropy_with_grad(x, t), vastmax.cross_entropy_with_grad(x.copy(), t), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_gradients_row_by_row() -> None:
    """Liger-Kernel#678: each row's gradient times its own number, 0 where the row is ignored."""
    x, scale = np.random.default_rng(4).normal(size=(4, 6)), np.array([2, 0, -1, 0.5])
    target = np.array([1, 3, -100, 5])
    got = vastmax.cross_entropy_with_grad(x, target, reduction="none", grad_output=scale).grad
    for i, t in enumerate(target):
        p = np.array([float(v) for v in exact_softmax(x[i])])
        want = (p - (np.arange(6) == t)) * scale[i] if t >= 0 else np.zeros(6)
        np.testing.assert_allclose(got[i], want, rtol=1e-13, atol=1e-16)


def test_smoothing_is_shared_by_all_classes() -> None:
    """aprender PR#2199, fastai PR#1814: e / C on every class, the target included."""
    z = [2.0, 1, 0, -1, 0.5]
    lse = exact_lse(z)
    want = mpmath.mpf("0.9") * (lse - 2) + mpmath.mpf("0.1") / 5 * sum(lse - mpmath.mpf(v) for v in z)
    np.testing.assert_allclose(vastmax.cross_entropy(z, 0, label_smoothing=0.1), float(want), rtol=1e-14)
    np.testing.assert_allclose(float(want), 0.7244379, rtol=1e-7)


def test_masked_classes() -> None:
    """tensorflow#2327, allennlp#890, mxnet PR#19703, optax PR#1762: 0 log 0."""
    x = np.array([[1, -inf, 2], [-inf, -inf, -inf], [0, 1, -inf]])
    q = np.array([[0.25, 0, 0.75], [1, 0, 0], [1, 0, 0]])
    got = vastmax.cross_entropy_with_grad(x, q, reduction="none")
    lse = float(exact_lse([1, 2]))
    np.testing.assert_allclose(got.loss, [lse - 1.75, nan, float(exact_lse([0, 1]))], rtol=1e-14)
    assert got.grad[0, 1] == got.grad[2, 2] == 0
    assert np.isnan(got.grad[1]).all()
    hidden = vastmax.cross_entropy_with_grad(x, [0, 0, 0], where=np.isfinite(x), reduction="none")
    np.testing.assert_array_equal(hidden.grad[1], 0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_certain_and_hopeless_rows(kind: Any) -> None:
    """keras#17634, tf-keras#242: no clipping of probabilities."""
    x = np.array([[14.4, 10.1, 3.5], [14.4, 50.1, 3.5]], kind)
    want = [float(exact_lse(row) - mpmath.mpf(float(row[0]))) for row in x]
    one_hot = np.eye(3, dtype=kind)[[0, 0]]
    for target in ([0, 0], one_hot):
        np.testing.assert_allclose(vastmax.cross_entropy(x, target, reduction="none"), want, rtol=4e-7)


@pytest.mark.parametrize("where", ["cpu", "cuda"])
def test_a_mean_over_weights_that_sum_to_0(where: str, isa: str) -> None:
    """The loss is NaN, and the gradient exactly 0, whichever weights they are and whatever the logits."""
    if where == "cuda" and not vastmax.cuda.is_available():
        pytest.skip(str(vastmax.cuda.reason()))
    x = np.array([[1.0, 0.0, nan], [2, 3, 4], [5, inf, 0]])
    for kind in (np.float16, np.float32, np.float64):
        for weights in (
            {"weight": [0.0, 0.0, 0.0]},
            {"sample_weight": [0.0, 0.0, 0.0]},
            {"weight": [0.0, 7.0, 0.0]},
            {"weight": [0.0, 0.0, 0.0], "label_smoothing": 0.2, "softcap": 3.0},
        ):
            with vastmax.config(device=where):
                result = vastmax.cross_entropy_with_grad(x.astype(kind), [0, 2, 0], **weights)  # type: ignore[arg-type]
            assert isnan(result.loss)
            np.testing.assert_array_equal(result.grad, np.zeros(x.shape), err_msg=str(weights))


# drawing


def test_only_what_has_a_probability_is_drawn() -> None:
    """litgpt#2323, pytorch#192812: 50,000 classes, all but a few at -inf."""
    for kind in (np.float16, np.float32):
        for alive in ([777], [3, 500, 31_000, 49_999]):
            z = np.full(50_000, -inf, kind)
            z[alive] = [0, 1, 2, 3][: len(alive)]
            assert set(vastmax.sample(z, 20_000, seed=1)) == set(alive)
            assert set(vastmax.sample(z, 2000, seed=1, top_k=1)) == {alive[-1]}


def test_min_p_of_the_tempered_law() -> None:
    """llama.cpp#7498, vllm-metal PR#728: first the temperature, then the cut."""
    p = np.array([0.48, 0.3, 0.097, 0.05, 0.02, 0.053])
    for temperature in (0.5, 1.0, 2.0):
        tempered = p ** (1 / temperature)
        kept = set(np.flatnonzero(tempered >= 0.2 * tempered.max()))
        drawn = vastmax.sample(np.log(p), 30_000, temperature=temperature, min_p=0.2, seed=3)
        assert set(drawn) == kept


def test_log_probabilities_of_draws_and_of_logits() -> None:
    """vllm#9453."""
    z = np.array([0.0, 1, 2, 3, 2.5, -1])
    drawn, log_p = vastmax.sample(z, 50, temperature=0.7, top_k=2, seed=1, return_log_prob=True)
    two = [float(v) for v in exact_softmax([3 / 0.7, 2.5 / 0.7])]
    assert set(drawn) == {3, 4}
    np.testing.assert_allclose(log_p, np.log([two[0] if i == 3 else two[1] for i in drawn]), rtol=1e-12)
    want = [float(z[i] - exact_lse(z)) for i in drawn]
    np.testing.assert_allclose(vastmax.selective_log_softmax(z[None], drawn[None])[0], want, rtol=1e-13)


def test_numbers_of_classes_to_keep() -> None:
    """llama-cpp-python#220, llama.cpp PR#5388: 0 and None keep all, as do numbers above the classes."""
    z = np.array([[1.0, 5, 3, 4, 2]] * 2)
    for k in (0, None, 10, 2**70):
        np.testing.assert_array_equal(vastmax.top_k_mask_logits(z, k), z)
    np.testing.assert_array_equal(vastmax.top_k_mask_logits(z, [0, 1])[1], [-inf, 5, -inf, -inf, -inf])
    for k in (-1, -(2**70)):
        with pytest.raises((ValueError, TypeError), match="top_k_mask_logits: k"):
            vastmax.top_k_mask_logits(z, k)


@pytest.mark.parametrize("shape", [(), (2,), (2, 1), (1, 1), (1,)])
def test_options_of_rows_may_keep_the_axis(shape: tuple[int, ...]) -> None:
    z = np.random.default_rng(5).normal(size=(2, 9))
    plain = vastmax.sample(z, 20, temperature=0.8, top_k=4, top_p=0.9, min_p=0.01, seed=1)
    full = {"temperature": np.full(shape, 0.8), "top_k": np.full(shape, 4), "top_p": np.full(shape, 0.9)}
    np.testing.assert_array_equal(vastmax.sample(z, 20, **full, min_p=np.full(shape, 0.01), seed=1), plain)  # type: ignore[arg-type]
    turned = {name: value.T for name, value in full.items()}
    np.testing.assert_array_equal(vastmax.sample(z.T, 20, axis=0, **turned, min_p=0.01, seed=1), plain)  # type: ignore[arg-type]
    for op, value in (("top_k", 3), ("top_p", 0.5), ("min_p", 0.3)):
        mask = getattr(vastmax, f"{op}_mask_logits")
        np.testing.assert_array_equal(mask(z, np.full(shape, value)), mask(z, value))
    with pytest.raises(ValueError, match=r"sample: top_k has shape \(3, 1\)"):
        vastmax.sample(z, top_k=np.ones((3, 1), int))


@pytest.mark.parametrize("temperature", [0, 1e-12, 1e-45, 3e-4])
def test_tiny_temperatures_are_argmax(temperature: float) -> None:
    """onnxruntime-genai PR#1211, bark#270, CTranslate2#1511."""
    z = np.array([-100, 3, 7, 6.9, -inf], np.float16)
    drawn, log_p = vastmax.sample(z, 100, temperature=temperature, seed=1, return_log_prob=True)
    np.testing.assert_array_equal(drawn, 2)
    np.testing.assert_array_equal(log_p, 0)
    if temperature == 0:
        with pytest.raises(ValueError, match="temperature"):
            vastmax.softmax(z, temperature=0)


def test_nan_comes_first_in_top_k() -> None:
    """pytorch#16762, #1810, #27542."""
    x = np.array([-1, nan, 2, 1, np.copysign(nan, -1), inf, -inf])
    for k in range(1, 8):
        np.testing.assert_array_equal(vastmax.top_k(x, k)[1], [1, 4, 5, 2, 3, 0, 6][:k])
        np.testing.assert_array_equal(vastmax.top_k(np.array([1.0, 2, 5, 4, 5] * 2), k)[1], [2, 4, 7, 9, 3, 8, 1][:k])


def test_without_replacement() -> None:
    """pytorch PR#2896, #12260, #25030."""
    drawn, valid = vastmax.sample([-inf, 0.0, -inf, -inf], 3, replace=False, seed=1, return_valid=True)
    np.testing.assert_array_equal(drawn, [1, -1, -1])
    np.testing.assert_array_equal(valid, [True, False, False])
    z = np.log(np.array([1.5e-17, *[1 / 9] * 9]))
    for seed in range(300):
        assert sorted(vastmax.sample(z, 10, replace=False, seed=seed)) == list(range(10))
    with pytest.raises(ValueError, match="size"):
        vastmax.sample(z, 11, replace=False)


def test_draws_are_of_the_softmax() -> None:
    """openai/baselines#1219."""
    counts = np.bincount(vastmax.sample([0.0, 1, 2, 3], 40_000, seed=1), minlength=4)
    p = np.array([float(v) for v in exact_softmax([0, 1, 2, 3])])
    assert (abs(counts - 40_000 * p) < 5 * np.sqrt(40_000 * p)).all()


def test_a_seed_and_a_row_make_a_draw() -> None:
    """vllm#51226, PR#2514; ComfyUI#538: whatever the batch, the layout and the neighbours."""
    z = np.random.default_rng(6).normal(size=(64, 200)).astype(np.float32)
    want = vastmax.sample(z, 5, seed=42)
    for row in (0, 1, 63):
        np.testing.assert_array_equal(vastmax.sample(z[row : row + 1], 5, seed=42, row_offset=row)[0], want[row])
    spoilt = np.asfortranarray(z)
    spoilt[1::2] = nan
    np.testing.assert_array_equal(vastmax.sample(spoilt, 5, seed=42)[::2], want[::2])


def test_the_same_bits_in_any_batch() -> None:
    """lm-evaluation-harness#704, transformers#26869: log-likelihoods of 16-bit logits."""
    rng = np.random.default_rng(7)
    for kind in (np.float16, ml_dtypes.bfloat16):
        z = rng.normal(size=(33, 50_257)).astype(kind)
        ids = rng.integers(50_257, size=(33, 1))
        want = vastmax.selective_log_softmax(z, ids)
        assert want.dtype == np.float32
        for n in (1, 4, 5):
            np.testing.assert_array_equal(vastmax.selective_log_softmax(z[:n], ids[:n]), want[:n])
        row = z[0].astype(float)
        exact = row[ids[0, 0]] - (row.max() + np.log(np.exp((row - row.max()).astype(np.longdouble)).sum()))
        np.testing.assert_allclose(want[0], float(exact), rtol=1e-6)


def test_expected_counts_of_log_uniform() -> None:
    """mxnet PR#9747, tensorflow#44814."""
    want = 4 * mpmath.log(1 + mpmath.mpf(1) / 4) / mpmath.log(6)
    for got in (
        vastmax.LogUniformSampler(5).expected_count([3], 4)[0],
        vastmax.tf.log_uniform_candidate_sampler([[3]], 1, 4, False, 5, seed=1).true_expected_count[0, 0],
    ):
        np.testing.assert_allclose(got, float(want), rtol=1e-6)


def test_powers_below_0() -> None:
    for counts, power in (
        ([1e-300, 1], -1),
        ([1e-300, 1], 0.999),
        ([1e-150, 1], -2),
        ([1e-5, 1], -60),
        ([3, 2, 1], -1),
    ):
        weights = [mpmath.mpf(c) ** mpmath.mpf(power) for c in counts]
        want = [float(mpmath.log(w / mpmath.fsum(weights))) for w in weights]
        got = vastmax.UnigramSampler(counts, power).log_prob(np.arange(len(counts)))
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


def test_samplers_that_take_all() -> None:
    sampler = vastmax.AllSampler(2**40)
    with pytest.raises(ValueError, match=r"AllSampler.sample: size is 5; accepted: 1099511627776, as every class"):
        sampler.sample(5, seed=1)
    with pytest.raises(ValueError, match=r"AllSampler.sample: size is 1099511627776; accepted: fewer than 2\*\*32"):
        sampler.sample(2**40, seed=1)


def test_gumbel_softmax_of_64_dimensions() -> None:
    z = np.random.default_rng(8).normal(size=(2, 3, 5)).reshape(2, *[1] * 61, 3, 5)
    for axis in (-1, 0, 62):
        got = vastmax.gumbel_softmax(z, hard=True, axis=axis, seed=1)
        np.testing.assert_array_equal(got.sum(axis=axis), 1)
        flat = vastmax.gumbel_softmax(z.reshape(2, 3, 5), hard=True, axis={-1: -1, 0: 0, 62: 1}[axis], seed=1)
        np.testing.assert_array_equal(got.reshape(2, 3, 5), flat)


# numbers, arrays of other libraries, messages


@pytest.mark.parametrize(
    ("call", "want"),
    [
        (lambda: vastmax.softmax([2**64, 0]), [1.0, 0.0]),
        (lambda: vastmax.softplus(2**64), 2.0**64),
        (lambda: vastmax.logsumexp([2**70]), 2.0**70),
        (lambda: vastmax.logsumexp([[-(2**63) - 1], [-(2**80)]]), -(2.0**63)),
        (lambda: vastmax.log_softmax([2**64, 0.5, True]), [0.0, 0.5 - 2.0**64, 1 - 2.0**64]),
        (lambda: vastmax.softmax([1.0, 1.0], temperature=2**64), [0.5, 0.5]),
        (lambda: vastmax.softmax([[0.0], [0.0]], temperature=[2**64, 1]), [[1.0], [1.0]]),
        (lambda: vastmax.softplus(0.0, 2**64), log(2) / 2.0**64),
        (lambda: vastmax.logsumexp([0.0], b=2**64), 64 * log(2)),
        (lambda: vastmax.cross_entropy([[0.0, 0.0]], [0], weight=[2**64, 1]), log(2)),
        (lambda: vastmax.cross_entropy([[0.0, 0.0]], [0], sample_weight=[2**64]), log(2)),
        (lambda: vastmax.sample([[0.0, -inf]], temperature=2**64, seed=1), [0]),
        (lambda: vastmax.softplus(10**400), inf),
        (lambda: vastmax.sigmoid(-(10**400)), 0.0),
        (lambda: np.exp(vastmax.UnigramSampler([2**64, 2**64], 1).log_prob([0])), [0.5]),
        (lambda: vastmax.LogSumExp(dtype=np.float64).update([2**64]).value, 2.0**64),
        (lambda: vastmax.special.softplus(2**65), 2.0**65),
    ],
)
def test_python_integers_of_any_size(call: Callable[[], Any], want: Any) -> None:
    """As the nearest float64."""
    got = call()
    assert np.asarray(got).dtype.kind in "fi"
    np.testing.assert_allclose(got, want, rtol=1e-15)


def test_objects_stay_refused() -> None:
    for value in ([2**64, "a"], [2**64, Fraction(1, 2)], np.array([2**64, 0]), [2**64, None]):
        with pytest.raises(TypeError, match="softmax: x has dtype object"):
            vastmax.softmax(value)


class _Exporter:
    """A library's array that has DLPack alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_arrays_that_have_dlpack_alone() -> None:
    x = np.random.default_rng(9).normal(size=(3, 5))
    np.testing.assert_array_equal(vastmax.softmax(_Exporter(x)), vastmax.softmax(x))  # type: ignore[arg-type]
    got = vastmax.cross_entropy(_Exporter(x), _Exporter(np.array([0, 1, 2])))  # type: ignore[arg-type]
    assert got == vastmax.cross_entropy(x, [0, 1, 2])
    stats = vastmax.selective_log_softmax(x, _Exporter(np.array([0, 1, 2])))  # type: ignore[arg-type]
    np.testing.assert_array_equal(stats, vastmax.selective_log_softmax(x, [0, 1, 2]))


class _Tensor(_Exporter):
    """A tensor of a library that refuses to be read."""

    def __init__(self, array: Any, error: Exception, **attributes: Any) -> None:
        super().__init__(array)
        self._error = error
        self.__dict__.update(attributes)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("tensor", "cure"),
    [
        (_Tensor(np.zeros(2), RuntimeError("Can't call numpy()"), requires_grad=True), r"x.detach\(\)"),
        (
            _Tensor(np.zeros(2), TypeError("unsupported ScalarType BFloat16"), dtype="torch.bfloat16"),
            "view.*ml_dtypes.bfloat16",
        ),
        (_Tensor(np.zeros(2), TypeError("can't convert sparse")), "NumPy can read"),
    ],
)
def test_tensors_that_numpy_cannot_read(tensor: Any, cure: str) -> None:
    with pytest.raises(TypeError, match=f"^softmax: x is a _Tensor that NumPy cannot read .*; accepted: .*{cure}"):
        vastmax.softmax(tensor)
    with pytest.raises(TypeError, match=f"^cross_entropy: weight is a _Tensor .*{cure}"):
        vastmax.cross_entropy(np.zeros((1, 2)), [0], tensor)


S = vastmax.special
MASKED = np.ma.array([1.0, 0.0], mask=[0, 1])
MESSAGES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # the function that was called
    (lambda: S.expit([1j]), TypeError, r"^special\.expit: x has dtype complex128"),
    (lambda: S.log_expit([1j]), TypeError, r"^special\.log_expit: x has dtype complex128"),
    (lambda: S.softplus([1j]), TypeError, r"^special\.softplus: x"),
    (lambda: S.logit([1j]), TypeError, r"^special\.logit: x"),
    (lambda: S.softmax([1j]), TypeError, r"^special\.softmax: x"),
    (lambda: S.log_softmax([1.0], axis=3), ValueError, r"^special\.log_softmax: axis is 3"),
    (lambda: S.logsumexp([1.0, 2], b=[1, 2, 3]), ValueError, r"^special\.logsumexp: b has shape"),
    (lambda: S.expit([1.0], np.zeros(2)), ValueError, r"^special\.expit: out has shape"),
    (lambda: S.expit([1.0], out=(1, 2)), ValueError, r"^special\.expit: out is a tuple of 2"),  # type: ignore[arg-type]
    (lambda: S.expit([1.0], where=["a"]), TypeError, r"^special\.expit: where has dtype"),
    (lambda: S.expit([1.0, 2], where=[True] * 3), ValueError, r"^special\.expit: where has shape"),
    (
        lambda: vastmax.tf.fixed_unigram_candidate_sampler([[0]], 1, 2, False, 2, unigrams=[-1.0, 1.0]),
        ValueError,
        r"^tf\.fixed_unigram_candidate_sampler: unigrams is -1.0 at class 0",
    ),
    (
        lambda: vastmax.tf.fixed_unigram_candidate_sampler([[0]], 1, 2, False, 2, unigrams=[0.0, 0.0]),
        ValueError,
        r"^tf\.fixed_unigram_candidate_sampler: unigrams is 0 for every class",
    ),
    (
        lambda: vastmax.tf.fixed_unigram_candidate_sampler(
            [[0]], 1, 2, False, 1, unigrams=[1.0, 0.0], num_shards=2, shard=1
        ),
        ValueError,
        r"^tf\.fixed_unigram_candidate_sampler: unigrams is 0 for every class",
    ),
    (
        lambda: vastmax.tf.all_candidate_sampler([[0]], 1, 2**40, True),
        ValueError,
        r"^tf\.all_candidate_sampler: num_sampled is",
    ),
    (
        lambda: vastmax.tf.uniform_candidate_sampler([[0], [11]], 1, 2, True, 11),
        IndexError,
        r"^tf\.uniform_candidate_sampler: true_classes is 11 at row 1;",
    ),
    (
        lambda: vastmax.tf.sampled_softmax_loss(np.zeros((11, 2)), np.zeros(11), [[11]], np.zeros((1, 2)), 3, 11),
        IndexError,
        r"^tf\.sampled_softmax_loss: labels is 11 at row 0;",
    ),
    (
        lambda: vastmax.tf.nce_loss(np.zeros((11, 2)), np.zeros(11), [[1, 12]], np.zeros((1, 2)), 3, 11, 2),
        IndexError,
        r"^tf\.nce_loss: labels is 12 at row 0;",
    ),
    (
        lambda: vastmax.tf.nce_loss(np.zeros((11, 2)), np.zeros(11), [[1]], np.zeros((1, 2)), 30, 11),
        ValueError,
        r"^tf\.nce_loss: num_sampled is 30",
    ),
    # axes: what the op takes
    *(
        (call, TypeError, r"axis is .*; accepted: one int, the axis of the classes")
        for axis in (1.5, "a", (0, 1), None, [0])
        for call in (
            lambda axis=axis: vastmax.cross_entropy(np.zeros((2, 3)), [0, 1], axis=axis),
            lambda axis=axis: vastmax.entropy(np.zeros((2, 3)), axis=axis),
            lambda axis=axis: vastmax.top_k(np.zeros((2, 3)), 1, axis=axis),
            lambda axis=axis: vastmax.softmax_stats(np.zeros((2, 3)), axis=axis),
            lambda axis=axis: vastmax.sample(np.zeros((2, 3)), axis=axis),
            lambda axis=axis: vastmax.gumbel_softmax(np.zeros((2, 3)), axis=axis),
            lambda axis=axis: vastmax.top_p_mask_logits(np.zeros((2, 3)), 0.5, axis=axis),
            lambda axis=axis: vastmax.kl_divergence(np.zeros((2, 3)), np.zeros((2, 3)), axis=axis),
            lambda axis=axis: vastmax.selective_log_softmax(np.zeros((2, 3)), [0, 1], axis=axis),
        )
    ),
    (lambda: vastmax.softmax([1.0], axis=1.5), TypeError, "accepted: an int, a tuple of ints, or None"),  # type: ignore[arg-type]
    # masked arrays: a hint that fits the argument
    (lambda: vastmax.softmax(MASKED), TypeError, "x is a masked array; accepted: a plain array, with where= for"),
    (lambda: vastmax.cross_entropy(MASKED, 0), TypeError, "logits is a masked array; .*, with where= for the mask"),
    (lambda: vastmax.entropy(MASKED), TypeError, r"logits is a masked array; .*filled\(\): there is no where="),
    (lambda: S.softmax(MASKED), TypeError, r"x is a masked array; .*there is no where="),
    (lambda: vastmax.cross_entropy([[0.0, 1]] * 2, MASKED), TypeError, r"target is a masked array; .*filled\(\)$"),
    (lambda: vastmax.cross_entropy([0.0, 1], 0, MASKED), TypeError, r"weight is a masked array; .*filled\(\)$"),
    (lambda: vastmax.softmax([[0.0, 1]] * 2, temperature=MASKED), TypeError, r"temperature is .*filled\(\)$"),
    (lambda: vastmax.softmax([0.0, 1], where=MASKED), TypeError, r"where is a masked array; .*filled\(\)$"),
    (lambda: vastmax.UnigramSampler(MASKED), TypeError, r"counts is a masked array; .*filled\(\)$"),
    (lambda: vastmax.sample([[0.0, 1]] * 2, top_p=MASKED), TypeError, r"top_p is a masked array; .*filled\(\)$"),
    # threads: the limit
    (lambda: vastmax.config(threads=2**31), ValueError, r"config: threads is 2147483648; accepted: .*2\*\*31 - 1"),
    (lambda: vastmax.config(threads=0), ValueError, r"config: threads is 0; accepted: an int from 1"),
    (lambda: vastmax.set_num_threads(2**31), ValueError, r"set_num_threads: n is 2147483648; .*2\*\*31 - 1"),
]


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case[2].split(":")[0].strip("^"))
def test_messages(case: tuple[Callable[[], Any], type[Exception], str]) -> None:
    call, error, pattern = case
    with pytest.raises(error, match=pattern):
        call()


# scipy.special


def test_ufunc_arguments() -> None:
    x = np.array([[-1.0, 0.0, 2.0], [3.0, -4.0, nan]])
    for op, formula in (("expit", lambda v: 1 / (1 + np.exp(-v))), ("softplus", np.log1p), ("log_expit", None)):
        fn = getattr(S, op)
        plain = fn(x)
        out = np.full_like(x, 7.0)
        assert fn(x, (out,)) is out
        np.testing.assert_array_equal(out, plain)
        assert fn(x, out=(None,)).tobytes() == plain.tobytes()
        for mask in (x > 0, [True, False, True], [[True], [False]], True, False, np.array([0, 1, 1])):
            full = np.broadcast_to(np.asarray(mask, bool), x.shape)
            out = np.full_like(x, 7.0)
            assert fn(x, out=(out,), where=mask) is out
            np.testing.assert_array_equal(out, np.where(full, plain, 7.0))
            np.testing.assert_array_equal(fn(x, where=mask), np.where(full, plain, 0.0))
        assert fn(1.0, where=[True, False]).shape == (2,)
        if op == "expit" and formula is not None:
            np.testing.assert_allclose(plain, formula(x), rtol=1e-15)
        same = x.copy()
        assert fn(same, same, where=[False, True, True]) is same
        np.testing.assert_array_equal(same, np.where([False, True, True], plain, x))
    assert S.expit([1, 2], dtype=np.float32, where=[True, False]).dtype == np.float32


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_16_bit_results(kind: Any) -> None:
    x = np.array([[1, 2, 3], [0, -1, 5]], kind)
    for op in ("softmax", "log_softmax", "expit", "log_expit", "softplus"):
        assert getattr(S, op)(x).dtype == kind
    for axis in (None, 0, 1):
        got = S.logsumexp(x, axis)
        assert got.dtype == kind
        wide = x.astype(float)
        want = np.log(np.exp(wide).sum(axis=axis)).astype(kind)
        np.testing.assert_allclose(np.asarray(got, float), np.asarray(want, float), rtol=1e-2)
    value, sign = S.logsumexp(x, 1, b=np.array([1, 1, -1], kind), return_sign=True, keepdims=True)
    assert value.dtype == sign.dtype == kind
    assert value.shape == sign.shape == (2, 1)
    np.testing.assert_array_equal(sign.astype(float), -1)
    assert S.logsumexp(x, b=2).dtype == kind
    assert S.logsumexp(x, b=np.ones(3, np.float32)).dtype == np.float32
    assert S.logsumexp(x, b=[1, 1, 1]).dtype == np.float64
    top = np.array([ml_dtypes.finfo(kind).max] * 2, kind)
    with np.errstate(all="raise"):
        assert S.logsumexp(top) in (top[0], kind(inf))


# floating-point errors that users have turned into exceptions


def test_no_floating_point_errors() -> None:
    """numpy.errstate(all="raise") is for the user's arithmetic, not for that in here."""
    parts = [vastmax.UniformSampler(5), vastmax.UnigramSampler([1e-300, 1, 2, 3, 1e300]), vastmax.LogUniformSampler(5)]
    x = np.array([[0.0, 1e-300, inf, -inf, nan], [1e308, -1e308, 5e-324, 0, 1]])
    w = np.full((5, 5), 1e-300)
    with np.errstate(all="raise"):
        mixture = vastmax.MixtureSampler(parts, [1e-300, 1e300, 1.0])
        for sampler in (*parts, mixture, vastmax.PresetSampler([0, 1], [-1000.0, -1e-300])):
            unique = not isinstance(sampler, vastmax.PresetSampler)
            sampler.expected_count([0, 1], 2, unique=unique)
            sampler.sample(2, seed=1, unique=unique)
            sampler.log_prob([0, 1])
        for counts in ([1e-60, 1, 1], [1e-300, 1e300, 1], [5e-324, 1, 1]):
            for unique in (False, True):
                vastmax.tf.fixed_unigram_candidate_sampler([[0]], 1, 1, unique, 3, unigrams=counts, seed=1)
        for share in ("batch", "row"):
            for correction in ("importance", "candidate", "refined", "none"):
                options: dict[str, Any] = {"sampler": parts[0], "num_sampled": 3, "share": share, "seed": 1}
                result = vastmax.sampled_softmax(x[1:], w, [1], correction=correction, **options)
                result.grad_weight.apply_sgd_(np.ones((5, 5), np.float32), 1e30)  # type: ignore[union-attr]
            vastmax.nce_loss(x[1:], w, [1], **options)
        for loss in (vastmax.tf.sampled_softmax_loss, vastmax.tf.nce_loss):
            loss(w, np.zeros(5), [[1], [2]], x, 3, 5, seed=1)
        vastmax.linear_cross_entropy_with_grad(x, w, [0, 1], linear_bias=np.array([-inf, 0, 1, 2, nan]))
        for op in ("softmax", "log_softmax", "entropy", "softmax_stats", "softplus", "sigmoid", "log_sigmoid"):
            for kind in FLOATS:
                getattr(vastmax, op)(vastmax._operands.arrays.cast(x, np.dtype(kind)))
    assert mixture.log_prob([4]) == 0


# explain, config, warnings, threads


def table_and_gradient() -> tuple[Any, Any]:
    return np.ones((4, 2)), vastmax.SparseRows(np.array([1]), np.ones((1, 2)), (4, 2))


def test_explain_calls_nothing_that_it_cannot_explain() -> None:
    table, gradient = table_and_gradient()
    state, other = (vastmax.LogSumExp().update(np.float32([v])) for v in (1, 2))
    threads, kept = vastmax.get_num_threads(), state.value
    called = []

    def mine(x: Any) -> Any:
        called.append(x)
        return vastmax.softmax(x)

    mine.__module__, mine.__qualname__ = "vastmax.softmax", "softmax"
    for fn, arguments in (
        (gradient.apply_sgd_, (table, 0.1)),
        (gradient.apply_adagrad_, (table, np.zeros(4), 0.1)),
        (vastmax.set_num_threads, (threads + 3,)),
        (state.merge, (other,)),
        (vastmax.LogSumExp, ()),
        (vastmax.config, ()),
        (vastmax.explain, (vastmax.softmax, [1.0])),
        (vastmax.UniformSampler(5).sample, (3,)),
        (vastmax.UnigramSampler, ([1.0],)),
        (vastmax.tf.uniform_candidate_sampler, ([[0]], 1, 2, True, 5)),
        (vastmax.tf.compute_accidental_hits, ([[0]], [0], 1)),
        (np.exp, (1.0,)),
        (mine, ([1.0],)),
        (lambda: None, ()),
        (None, ()),
        (3, ()),
    ):
        with pytest.raises(TypeError, match=r"^explain: fn is "):
            vastmax.explain(fn, *arguments)  # type: ignore[arg-type]
    assert (table == 1).all()
    assert vastmax.get_num_threads() == threads
    assert state.value == kept
    assert not called


def test_explain_leaves_generators_alone() -> None:
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    x, w, sampler = np.zeros((2, 3)), np.zeros((5, 3)), vastmax.UniformSampler(5)
    vastmax.explain(vastmax.sample, x, seed=rng)
    vastmax.explain(vastmax.gumbel_softmax, x, seed=rng)
    for share in ("batch", "row"):
        vastmax.explain(vastmax.sampled_softmax, x, w, [0, 1], sampler=sampler, num_sampled=3, share=share, seed=rng)
        vastmax.explain(vastmax.nce_loss, x, w, [0, 1], sampler=sampler, num_sampled=3, share=share, seed=rng)
    for loss in (vastmax.tf.nce_loss, vastmax.tf.sampled_softmax_loss):
        vastmax.explain(loss, w, np.zeros(5), [[0], [1]], x, 3, 5, seed=rng)
    assert rng.integers(1 << 62) == twin.integers(1 << 62)
    for fn in (vastmax.sample, vastmax.gumbel_softmax):
        with pytest.raises(TypeError, match="seed is 'a'"):
            vastmax.explain(fn, x, seed="a")


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", ["sampled_softmax_loss", "nce_loss"])
def test_explain_of_the_losses_of_tensorflow(name: str, given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("something was drawn")

    monkeypatch.setattr(vastmax.tf.negatives, "shared", never)
    monkeypatch.setattr(vastmax.tf._Rows, "take", never)
    values = ([1, 2, 3], np.ones((3, 1)), np.ones(3)) if given else None
    loss = getattr(vastmax.tf, name)
    arguments = (np.zeros((1000, 2)), np.zeros(1000), [[0], [1], [2]], np.zeros((3, 2)), 7, 1000, 1, values)
    plan = vastmax.explain(loss, *arguments)
    assert (plan.op, plan.backend, plan.rows, plan.classes) == (f"tf.{name}", "cpu", 3, 1000)
    assert plan.bytes == (3 + (3 if given else 7)) * 3 * 8
    with pytest.raises(IndexError, match=f"tf.{name}: labels is 1000"):
        vastmax.explain(loss, *arguments[:2], [[0], [1], [1000]], *arguments[3:])


def test_a_config_serves_many_blocks() -> None:
    before = vastmax.get_num_threads()
    two, scalar = vastmax.config(threads=2), vastmax.config(threads=5, isa="scalar")
    for _ in range(2):
        with two:
            assert vastmax.get_num_threads() == 2
            with two, scalar:
                assert (vastmax.get_num_threads(), vastmax.active_isa()) == (5, "scalar")
                with two:
                    assert (vastmax.get_num_threads(), vastmax.active_isa()) == (2, "scalar")
            assert vastmax.get_num_threads() == 2
        assert vastmax.get_num_threads() == before
    with pytest.raises(RuntimeError, match="mine"), two:
        raise RuntimeError("mine")
    assert vastmax.get_num_threads() == before

    @two
    def inside() -> int:
        return vastmax.get_num_threads()

    assert inside() == inside() == 2


def test_a_config_serves_many_threads() -> None:
    """Entered here, left there, in turns: each thread goes back to its own."""
    two, found, turn = vastmax.config(threads=2), [], threading.Barrier(2, timeout=20)

    def work(outer: int) -> None:
        with vastmax.config(threads=outer):
            turn.wait()
            with two:
                turn.wait()
                found.append(vastmax.get_num_threads())
                if outer == 7:
                    turn.wait()
            if outer == 8:
                turn.wait()
            found.append(vastmax.get_num_threads())

    workers = [threading.Thread(target=work, args=(outer,)) for outer in (7, 8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(found) == [2, 2, 7, 8]


def test_warnings_of_the_environment_point_to_the_user() -> None:
    script = """
        import os, warnings
        os.environ["VASTMAX_NUM_THREADS"] = "99999999999"
        os.environ["VASTMAX_ISA"] = "mmx"
        import vastmax
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            vastmax.softmax([1.0])
        assert len(caught) == 2, caught
        for w in caught:
            assert w.filename == "<string>", w.filename
        assert "VASTMAX_NUM_THREADS is 99999999999; accepted: an int from 1 to 2**31 - 1" in str(caught[0].message)
    """
    subprocesses.run(textwrap.dedent(script), python=(sys.executable,))


def test_memory_order_changes_no_bit_of_the_losses_of_tensorflow() -> None:
    rng = np.random.default_rng(10)
    x, w, b = rng.normal(size=(9, 37)), rng.normal(size=(50, 37)), rng.normal(size=50)
    labels = rng.integers(50, size=(9, 2))
    for loss in (vastmax.tf.sampled_softmax_loss, vastmax.tf.nce_loss):
        want = loss(w, b, labels, x, 20, 50, 2, seed=1)
        for other in layouts(x):
            for table in layouts(w):
                np.testing.assert_array_equal(loss(table, b[::-1][::-1], labels, other, 20, 50, 2, seed=1), want)


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vastmax.MixtureSampler([vastmax.UniformSampler(2), vastmax.UniformSampler(2)], [1e-300, 1e300])
        vastmax.softmax([[inf, nan, -inf]])
        S.logsumexp(np.array([65504, 65504], np.float16))
