# SPDX-License-Identifier: Apache-2.0
"""Twelve defects of sampled losses in the field, each with a test that we pass; a formula of theirs fails it.

1   TensorFlow: of equal draws that hit a label, only the last is masked   test_tf, test_sampled_softmax
2   TensorFlow: totals of counts in float32, remainders of random bits     test_samplers
3   Transformers4Rec: the largest ids are cut off                          test_samplers; its counts, here
4   Merlin, Transformers4Rec: probabilities of differences in float32      test_samplers
5   Merlin: inclusion by the number of samples, not of tries               test_samplers
6   PyTorch_GBW_LM: draws one law, corrects with another                   test_samplers
7   TensorFlow Recommenders: probabilities clipped at 1e-6, a wrong sign   here
8   generative-recommenders (HSTU): ids in float32; hits at -5e4           here; test_sampled_softmax
9   MemoryEfficientSRS (CCE-): rejected draws stay as a zero row           here
10  torch.multinomial: at most 2^24 classes                                test_samplers
11  fastText: a table of 10 million slots, a loss that ends at 8           here
12  mos: log(p + 1e-8)                                                     here
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vastmax
from support import TESTS


def test_each_has_a_test() -> None:
    names = " ".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert {int(n) for n in re.findall(r"def test_defect_(\d+)_", names)} == set(range(1, 13))


@pytest.mark.conformance
def test_defect_3_counts_with_the_wrong_sign() -> None:
    """Transformers4Rec: -expm1(-n log1p(+q)) in place of log1p(-q). Draws over counts must be 1 on average."""
    classes, size, steps = 10, 3, 4000
    sampler = vastmax.LogUniformSampler(classes)
    q = np.exp(sampler.log_prob(0))
    ours, theirs = np.zeros(steps), np.zeros(steps)
    for step in range(steps):
        ids, _, counts = vastmax.tf.log_uniform_candidate_sampler([[0]], 1, size, True, classes, seed=step)
        stream = sampler.sample(200, seed=step)  # whose distinct ones they are
        new = np.sort(np.unique(stream, return_index=True)[1])
        assert_array_equal(stream[new[:size]], ids)
        if 0 in ids:
            ours[step] = 1 / counts[ids == 0][0]
            theirs[step] = 1 / -np.expm1(-(new[size - 1] + 1) * np.log1p(q))
    assert abs(ours.mean() - 1) < 5 * ours.std() / np.sqrt(steps)
    assert abs(theirs.mean() - 1) > 10 * theirs.std() / np.sqrt(steps)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_defect_7_clipped_probabilities(share: str) -> None:
    """TensorFlow Recommenders: q below 1e-6 counts as 1e-6, a no-op for most of a large catalogue."""
    w, x = np.zeros((3, 2)), np.ones((1, 2))
    losses = []
    for rare in (1e-7, 1e-9):
        sampler = vastmax.PresetSampler([1], np.log([rare]), target_log_q=np.log([1e-7]))
        loss = vastmax.sampled_softmax(x, w, [0], sampler=sampler, correction="candidate", share=share).loss[0]
        assert_allclose(loss, np.log1p(1e-7 / rare), rtol=1e-12)
        losses.append(loss)
    # Earlier releases added log q: a draw of a rare class then weighs less, not more.
    assert losses[1] > 4 > losses[0]


@pytest.mark.parametrize("share", ["batch", "row"])
def test_defect_8_ids_in_float32(share: str) -> None:
    """generative-recommenders: 2^24 + 1 becomes 2^24."""
    target, classes = 2**24 + 1, 2**24 + 4
    assert int(np.float32(target)) != target
    w = np.zeros((classes, 1), np.float16)
    w[target], w[target - 1] = 3, -5
    sampler = vastmax.PresetSampler([target - 1, target], np.log([0.5, 0.5]), target_log_q=np.log([0.25]))
    result = vastmax.sampled_softmax(np.ones((1, 1), np.float32), w, [target], sampler=sampler, share=share)
    assert_array_equal(result.num_hits, [1])
    assert_allclose(result.loss, [np.log1p(np.exp(-8) * 0.75 / 0.5)], rtol=1e-5)
    assert_array_equal(result.grad_weight.coalesce().ids, [target - 1, target])  # type: ignore[union-attr]


@pytest.mark.parametrize("share", ["batch", "row"])
def test_defect_9_rejected_draws_as_a_zero_row(share: str) -> None:
    """MemoryEfficientSRS: a hit keeps logit 0 + log((V - 1) / S), and S counts the target."""
    classes, w = 20, np.full((20, 1), -100.0)
    w[7] = -101
    log_q = np.log(np.full(3, 1 / classes))
    sampler = vastmax.PresetSampler([4, 7, 4], log_q, target_log_q=log_q[:1])
    result = vastmax.sampled_softmax(np.ones((1, 1)), w, [4], sampler=sampler, share=share)
    assert_allclose(result.loss, [np.log1p((classes - 1) * np.exp(-1))], rtol=1e-12)
    weight = (classes - 1) / 4
    theirs = np.logaddexp.reduce([-100, -101 + np.log(weight), np.log(weight), np.log(weight)]) + 100
    assert abs(theirs - result.loss[0]) > 90


def test_defect_9_other_bits_each_time() -> None:
    """MemoryEfficientSRS: additions in float16, in whatever order threads come."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    options: dict[str, Any] = {"sampler": vastmax.LogUniformSampler(50), "num_sampled": 200, "share": "row", "seed": 1}
    rows = []
    for threads in (1, 2, 5):
        with vastmax.config(threads=threads):
            gradient = vastmax.sampled_softmax(x, w, np.arange(64) % 50, **options).grad_weight
            rows.append(gradient.coalesce().rows)  # type: ignore[union-attr]
    assert_array_equal(rows[0], rows[1])
    assert_array_equal(rows[0], rows[2])


@pytest.mark.conformance
def test_defect_11_a_table_of_slots() -> None:
    """fastText: each class has a slot at least, so that all are alike once they are more than the slots."""
    classes, slots = 12_000_000, 10_000_000
    counts = np.ones(classes, np.float32)
    counts[:1_000_000] = 100
    root = np.sqrt(counts, dtype=np.float64)
    want = root / root.sum()
    some = np.array([0, 999_999, 1_000_000, classes - 1])
    sampler = vastmax.UnigramSampler(counts, power=0.5)
    assert_allclose(np.exp(sampler.log_prob(some)), want[some], rtol=1e-12)
    head = int((sampler.sample(1_000_000, seed=1) < 1_000_000).sum())
    share = want[:1_000_000].sum()
    assert abs(head - 1e6 * share) < 5 * np.sqrt(1e6 * share * (1 - share))
    theirs = np.ceil(root * slots / root.sum())
    assert abs(theirs[:1_000_000].sum() / theirs.sum() - share) > 0.1


@pytest.mark.parametrize("logit", [-1000.0, -20.0, -9.0, 9.0, 20.0])
def test_defect_11_a_loss_that_ends(logit: float) -> None:
    """fastText: sigmoid and logarithm from tables, clamped at 8 and at 1e-5."""
    sampler = vastmax.PresetSampler([1], [0.0], target_log_q=[0.0])
    w = np.array([[logit], [-np.inf]])
    with np.errstate(invalid="ignore"):
        result = vastmax.nce_loss(np.ones((1, 1)), w, [0], sampler=sampler)
    assert_allclose(result.loss, [np.logaddexp(0, -logit)], rtol=1e-12)
    theirs = 0.0 if logit > 8 else -np.log(1e-5)
    assert abs(theirs / result.loss[0] - 1) > 0.1


def test_defect_12_mixtures_of_softmaxes() -> None:
    """zihangdai/mos: log(p + 1e-8) of a mixture ends at -18.4; a sum of logarithms does not."""
    z = np.zeros((2, 1, 100_000), np.float32)  # two softmaxes of one row
    z[0, 0, 0], z[1, 0, 0] = 40, 30
    log_mixture = np.log([[0.25], [0.75]])
    parts = vastmax.selective_log_softmax(z, np.array([[7], [7]])).astype(np.float64)
    got = vastmax.logsumexp(log_mixture + parts, axis=0)
    exact = np.log(0.25 / (np.exp(40) + 99_999) + 0.75 / (np.exp(30) + 99_999))
    assert_allclose(got, [exact], rtol=1e-6)
    assert np.log(np.exp(exact) + 1e-8) > -18.5 > exact + 10
