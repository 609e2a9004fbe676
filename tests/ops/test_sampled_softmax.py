# SPDX-License-Identifier: Apache-2.0
"""sampled_softmax and nce_loss against the same written down in NumPy, row by row, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import vastmax

V, D, B, S = 300, 20, 17, 40
TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 3e-6}  # of the largest number there


def problem(dtype=np.float64, targets=None, seed=0, classes=V, rows=B):
    """Input, table, bias, targets."""
    rng = np.random.default_rng(seed)
    x, w, b = rng.normal(size=(rows, D)), rng.normal(size=(classes, D)), rng.normal(size=classes)
    t = rng.integers(0, 30, (rows,) if targets is None else (rows, targets))
    return x.astype(dtype), w.astype(dtype), b.astype(dtype), t


def reference(x, w, b, targets, ids, correction, q, expected, *, drop=True, temperature=1.0, outer=None):
    """Loss, lse, gradients of `sum(outer * loss)`, hits, effective size; for ids [B, S], q(ids), expected(row, ids)."""
    x, w, b = (np.asarray(a, np.float64) for a in (x, w, b))
    outer = np.ones(len(x)) if outer is None else np.broadcast_to(outer, len(x))
    loss, lse, hits, effective = (np.zeros(len(x)) for _ in range(4))
    grad_x, grad_w = np.zeros_like(x), np.zeros_like(w)
    for i, row in enumerate(x):
        mine = np.atleast_1d(targets[i])
        t = np.unique(mine)
        y = np.array([np.mean(mine == k) for k in t])
        o_t, hit = (w[t] @ row + b[t]) / temperature, np.isin(ids[i], t)
        hits[i] = hit.sum()
        kept = ids[i][~hit] if drop else ids[i]
        o_s = (w[kept] @ row + b[kept]) / temperature
        if correction in ("importance", "refined"):
            if q is None:  # without replacement: divide by the probability to be drawn
                o_s = o_s - np.log(expected(i, kept))
            elif drop:
                o_s = o_s - np.log(len(kept) * q(kept) / (1 - q(t).sum()))
            else:
                o_s = o_s - np.log(len(kept) * q(kept))
        elif correction in ("candidate", "nce"):
            o_s, o_t = o_s - np.log(expected(i, kept)), o_t - np.log(expected(i, t))
        if correction == "nce":

            def sigma(o):
                return 1 / (1 + np.exp(-o))

            loss[i] = np.sum(np.logaddexp(0, o_t) - y * o_t) + np.sum(np.logaddexp(0, o_s))
            slopes = np.concatenate([sigma(o_t) - y, sigma(o_s)])
            lse[i] = effective[i] = np.nan
        else:
            both = np.concatenate([o_t, o_s])
            lse[i] = np.logaddexp.reduce(both)
            p = np.exp(both - lse[i])
            loss[i] = lse[i] - y @ o_t
            if correction == "refined":
                loss[i] = p[len(t) :].sum() * (np.logaddexp.reduce(o_s) - y @ o_t)
            slopes = p - np.concatenate([y, np.zeros(len(kept))])
            share = np.exp(o_s - o_s.max())
            effective[i] = share.sum() ** 2 / (share**2).sum()
        slopes *= outer[i] / temperature
        classes = np.concatenate([t, kept])
        grad_x[i] = slopes @ w[classes]
        np.add.at(grad_w, classes, slopes[:, None] * row)
    return loss, lse, grad_x, grad_w, hits, effective


def dense(gradient):
    out = np.zeros(gradient.shape)
    sparse = gradient.coalesce()
    assert (np.diff(sparse.ids) > 0).all()
    out[sparse.ids] = sparse.rows
    return out


def check(result, want, dtype):
    loss, lse, grad_x, grad_w, hits, effective = want

    def near(got, true):
        return assert_allclose(got, true, rtol=0, atol=TOLERANCE[np.dtype(dtype)] * np.nanmax(abs(true)))

    near(result.loss, loss)
    if not np.isnan(lse).all():
        near(result.lse, lse)
        assert_allclose(result.effective_sample_size, effective, rtol=1e-4 if dtype == np.float32 else 1e-11)
    near(result.grad_input, grad_x)
    near(dense(result.grad_weight), grad_w)
    assert_array_equal(result.num_hits, hits)


def draws(sampler, share, size=S, seed=7, step=3, rows=B):
    """The ids of each row, as the public sampler gives them."""
    if share == "batch":
        return np.tile(sampler.sample(size, seed=seed, step=step), (rows, 1))
    x, w, _b, t = problem(classes=sampler.classes, rows=rows)
    return vastmax.sampled_softmax(
        x, w, t, sampler=sampler, num_sampled=size, share="row", seed=seed, step=step
    ).grad_weight.ids()


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate", "refined", "none"])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_formula(isa, share, correction, targets, dtype):
    x, w, b, t = problem(dtype, targets)
    sampler = vastmax.LogUniformSampler(V)
    outer = np.linspace(-1, 2, B)
    result = vastmax.sampled_softmax(
        x, w, t, bias=b, sampler=sampler, num_sampled=S, correction=correction, share=share, temperature=1.5,
        grad_output=outer, seed=7, step=3,
    )  # fmt: skip

    def q(ids):
        return np.exp(sampler.log_prob(ids))

    want = reference(
        x, w, b, t, draws(sampler, share), correction, q, lambda _, ids: S * q(ids), temperature=1.5, outer=outer
    )
    assert result.grad_input.dtype == dtype
    assert result.loss.dtype == result.lse.dtype == dtype
    check(result, want, dtype)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nce(isa, share, drop, dtype):
    x, w, b, t = problem(dtype, 2)
    x /= 4  # sigmoids that are neither 0 nor 1
    sampler = vastmax.LogUniformSampler(V)
    result = vastmax.nce_loss(
        x, w, t, bias=b, sampler=sampler, num_sampled=S, share=share, exclude_targets=drop, seed=7, step=3
    )

    def q(ids):
        return np.exp(sampler.log_prob(ids))

    want = reference(x, w, b, t, draws(sampler, share), "nce", q, lambda _, ids: S * q(ids), drop=drop)
    check(result, want, dtype)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate", "refined", "none"])
@pytest.mark.parametrize("targets", [None, 3])
def test_all_classes_are_the_full_softmax(share, correction, targets):
    """Whatever the correction, a sample of all classes once estimates nothing."""
    x, w, b, t = problem(targets=targets)
    result = vastmax.sampled_softmax(
        x, w, t, bias=b, sampler=vastmax.AllSampler(V), correction=correction, share=share, seed=1
    )
    z = x @ w.T + b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    y = np.zeros((B, V))
    for row, mine in zip(y, t.reshape(B, -1), strict=True):
        np.add.at(row, mine, 1 / len(mine))
    loss = -(y * np.log(p)).sum(1)
    if correction == "refined":
        others = p * (y == 0)
        loss = others.sum(1) * (np.log(others.sum(1)) - (y * np.log(p)).sum(1))
    assert_allclose(result.loss, loss, rtol=1e-12)
    assert_allclose(result.grad_input, (p - y) @ w, rtol=0, atol=1e-12)
    assert_allclose(dense(result.grad_weight), (p - y).T @ x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_refined_is_importance_with_another_value(share):
    x, w, b, t = problem(np.float32)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    a = vastmax.sampled_softmax(x, w, t, **options)
    r = vastmax.sampled_softmax(x, w, t, correction="refined", **options)
    assert_array_equal(a.grad_input, r.grad_input)
    assert_array_equal(dense(a.grad_weight), dense(r.grad_weight))
    assert (a.loss != r.loss).all()


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate"])
@pytest.mark.parametrize("size", [S, 250])
def test_unique(share, correction, size):
    """Draws without replacement divide by the probability to be there, conditioned on when the next one would come."""
    x, w, b, t = problem(targets=2)
    sampler = vastmax.LogUniformSampler(V)
    result = vastmax.sampled_softmax(
        x, w, t, bias=b, sampler=sampler, num_sampled=size, correction=correction, share=share, unique=True, seed=7
    )
    if share == "batch":
        ids = np.tile(sampler.sample(size, seed=7, unique=True), (B, 1))
        arrival = np.full(B, sampler._draw("", size, 7, 0, True).arrival)
    else:
        ids = result.grad_weight.ids()
        from vastmax import _core

        native = [_core.draw_unique(sampler._native, 7, 0, i, size, sampler._by_clocks(size), 0, -1) for i in range(B)]
        assert_array_equal(ids, [each[0] for each in native])
        arrival = np.array([each[1] for each in native])
    assert all(len(np.unique(row)) == size for row in ids)

    def q(c):
        return np.exp(sampler.log_prob(c))

    want = reference(x, w, b, t, ids, correction, None, lambda i, c: -np.expm1(-q(c) * arrival[i]))
    check(result, want, np.float64)


def test_finite_differences():
    """With the draws frozen by the seed, the gradients are those of the loss."""
    x, w, b, t = problem(rows=3)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "seed": 7, "temperature": 1.5}
    for share in ("batch", "row"):
        for correction in ("importance", "none"):

            def run(x=x, w=w, s=share, c=correction):
                return vastmax.sampled_softmax(x, w, t, share=s, correction=c, **options)

            result = run()
            gradient = dense(result.grad_weight)
            step = 1e-5
            for i, j in [(0, 0), (2, 7)]:
                moved = x.copy()
                moved[i, j] += step
                back = x.copy()
                back[i, j] -= step
                slope = (run(x=moved).loss.sum() - run(x=back).loss.sum()) / (2 * step)
                assert_allclose(result.grad_input[i, j], slope, rtol=1e-7)
            for i in (t[0], t[1], result.grad_weight.coalesce().ids[0]):
                moved = w.copy()
                moved[i, 5] += step
                back = w.copy()
                back[i, 5] -= step
                slope = (run(w=moved).loss.sum() - run(w=back).loss.sum()) / (2 * step)
                assert_allclose(gradient[i, 5], slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_ragged_targets(share):
    x, w, b, _ = problem(rows=4)
    rows = [[5], [3, 3, 9], [], [0, 1, 2, 299]]
    ids, offsets = np.concatenate(rows).astype(np.int64), np.cumsum([0, *map(len, rows)])
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    result = vastmax.sampled_softmax(x, w, (ids, offsets), **options)
    for i, mine in enumerate(rows):
        if not mine:
            assert result.loss[i] == 0
            assert_array_equal(result.grad_input[i], 0)
            continue
        one = vastmax.sampled_softmax(x[i : i + 1], w, np.array([mine]), row_offset=i, **options)
        assert_allclose(result.loss[i], one.loss[0], rtol=1e-14)
        assert_allclose(result.grad_input[i], one.grad_input[0], rtol=1e-12)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_without_a_target_spoils_nothing(share, bad):
    x, w, b, _ = problem(rows=4)
    ids, offsets = np.array([5, 3, 9, 0]), np.array([0, 1, 1, 3, 4])
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    good = vastmax.sampled_softmax(x, w, (ids, offsets), **options)
    x[1] = bad
    given = x.copy()
    got = vastmax.sampled_softmax(x, w, (ids, offsets), **options)
    assert_array_equal(x, given)
    assert_array_equal(got.loss, good.loss)
    assert_array_equal(got.grad_input, good.grad_input)
    assert_array_equal(dense(got.grad_weight), dense(good.grad_weight))
    assert np.isnan(got.lse[1])
    assert np.isfinite(got.lse[[0, 2, 3]]).all()


@pytest.mark.parametrize("share", ["batch", "row"])
def test_a_gradient_is_of_the_arrays_that_were_given(share):
    x, w, _, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    result = vastmax.sampled_softmax(x, w, t, **options)
    want = dense(result.grad_weight)
    x[:], t[:] = 0, 1
    assert_array_equal(dense(result.grad_weight), want)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_preset_targets_stay_with_their_targets(share):
    """log q of targets is given as the targets are: unordered, repeated, ragged."""
    x, w, b, t = problem(targets=3)
    t[0] = [9, 2, 9]
    q = np.linspace(0.05, 0.001, V)
    drawn = np.array([100, 9, 100, 31, 250, 2])
    offsets = np.arange(0, 3 * B + 1, 3)
    for correction in ("importance", "candidate"):
        for target, log_q in ((t, np.log(q[t])), ((t.ravel(), offsets), np.log(q[t.ravel()]))):
            sampler = vastmax.PresetSampler(drawn, np.log(q[drawn]), target_log_q=log_q)
            got = vastmax.sampled_softmax(x, w, target, bias=b, sampler=sampler, correction=correction, share=share)
            ids = np.tile(drawn, (B, 1))
            want = reference(x, w, b, t, ids, correction, lambda i: q[i], lambda _, i: len(drawn) * q[i])
            check(got, want, np.float64)
    with pytest.raises(ValueError, match=r"target_log_q of shape \(51,\); accepted: that of target, \(17, 3\)"):
        vastmax.sampled_softmax(x, w, t, sampler=sampler, share=share)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_targets_beyond_what_is_drawn(share):
    """A law of fewer classes than the table: the others are never negatives, and may be targets."""
    x, w, b, t = problem()
    t[::2] += 200
    sampler = vastmax.LogUniformSampler(100)

    def q(ids):
        return np.where(ids < 100, np.exp(sampler.log_prob(np.minimum(ids, 99))), 0)

    options = {"bias": b, "sampler": sampler, "num_sampled": S, "share": share, "seed": 7}
    ids = np.tile(sampler.sample(S, seed=7), (B, 1))
    got = vastmax.sampled_softmax(x, w, t, **options)
    if share == "row":
        ids = got.grad_weight.ids()
    check(got, reference(x, w, b, t, ids, "importance", q, None), np.float64)
    for loss in (vastmax.nce_loss, vastmax.sampled_softmax):
        candidate = {"correction": "candidate"} if loss is vastmax.sampled_softmax else {}
        with pytest.raises(ValueError, match=rf"sampler never draws class {t[0]}, a target"):
            loss(x, w, t, **options, **candidate)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate", "refined"])
def test_hits_may_stay(share, correction):
    x, w, b, t = problem()
    sampler = vastmax.LogUniformSampler(V)
    got = vastmax.sampled_softmax(
        x, w, t, bias=b, sampler=sampler, num_sampled=S, correction=correction, share=share, exclude_targets=False,
        seed=7, step=3,
    )  # fmt: skip

    def q(ids):
        return np.exp(sampler.log_prob(ids))

    ids = draws(sampler, share)
    check(got, reference(x, w, b, t, ids, correction, q, lambda _, i: S * q(i), drop=False), np.float64)
    assert got.num_hits.sum() > 0


@pytest.mark.parametrize("share", ["batch", "row"])
def test_logits_that_overflow(share):
    w = np.array([[0.0], [1.0], [-1e30]])
    sampler = vastmax.PresetSampler([1, 1], np.log([0.5, 0.5]))
    low = vastmax.sampled_softmax(np.ones((1, 1)), w, [2], sampler=sampler, share=share)
    assert_allclose(low.lse, [1 + np.log(2)], rtol=1e-15)  # not what the target's -1e30 rounds it to
    above = vastmax.sampled_softmax(np.ones((1, 1)), w, [0], bias=[0, np.inf, 0], sampler=sampler, share=share)
    assert_array_equal([above.lse[0], above.loss[0]], np.inf)
    hit = vastmax.sampled_softmax(np.ones((1, 1)), w, [1], bias=[0, np.inf, 0], sampler=sampler, share=share)
    assert_array_equal([hit.loss[0], hit.num_hits[0]], [np.nan, 2])  # as cross_entropy of +inf for its own class


@pytest.mark.parametrize("share", ["batch", "row"])
def test_a_size_may_be_a_numpy_scalar(share):
    x, w, _, t = problem()
    options = {"sampler": vastmax.LogUniformSampler(V), "share": share, "seed": 7}
    want = vastmax.sampled_softmax(x, w, t, num_sampled=200, **options)
    got = vastmax.sampled_softmax(x, w, t, num_sampled=np.uint8(200), **options)
    assert_array_equal(got.loss, want.loss)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_a_row_whose_draws_are_all_hits(share):
    x, w, _b, _ = problem(rows=2)
    sampler = vastmax.PresetSampler([4, 4, 4], np.log([0.5, 0.5, 0.5]))
    result = vastmax.sampled_softmax(x, w, [4, 5], sampler=sampler, share=share)
    assert result.loss[0] == 0 < result.loss[1]
    assert_array_equal(result.grad_input[0], 0)
    assert_array_equal(result.num_hits, [3, 0])
    assert_array_equal(result.effective_sample_size, [0, 3])
    sampler = vastmax.UnigramSampler([0, 0, 7, 0], power=1)  # draws nothing else
    result = vastmax.sampled_softmax(x, w[:4], [2, 2], sampler=sampler, num_sampled=5, share=share, seed=0)
    assert_array_equal(result.loss, 0)
    assert_array_equal(dense(result.grad_weight), 0)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_all_positions_of_a_hit_go(share):
    """Defect 1 of the field: TensorFlow masks only the last of several equal draws."""
    x, w, b, _ = problem(rows=2)
    log_q = np.log([0.3, 0.2, 0.3, 0.1])
    sampler = vastmax.PresetSampler([4, 9, 4, 7], log_q, target_log_q=np.log([0.3, 0.2]))
    result = vastmax.sampled_softmax(x, w, [4, 9], bias=b, sampler=sampler, share=share)
    z = x @ w.T + b
    for i, (t, kept, q, own) in enumerate([(4, [9, 7], [0.2, 0.1], 0.3), (9, [4, 4, 7], [0.3, 0.3, 0.1], 0.2)]):
        others = z[i, kept] - np.log(np.array(q) / (1 - own) * len(kept))
        want = np.logaddexp.reduce([z[i, t], *others]) - z[i, t]
        assert_allclose(result.loss[i], want, rtol=1e-12)


def test_a_mask_is_no_large_number():
    """Defects 3 and 8: hits set to -655 or -5e4 still count where all logits are that small."""
    w = np.full((4, 1), -1e6)
    w[3] = -1e6 + 3
    sampler = vastmax.PresetSampler([0, 3], np.log([0.25, 0.25]), target_log_q=np.log([0.25]))
    result = vastmax.sampled_softmax(np.ones((1, 1)), w, [0], sampler=sampler)
    assert_allclose(result.loss, [np.log1p(np.exp(3) * 3)], rtol=1e-9)


def test_the_temperature_does_not_scale_the_correction():
    """Section 6 of the survey: Transformers4Rec divides the corrected logits."""
    x, w, _b, t = problem(rows=1)
    sampler = vastmax.PresetSampler([40, 41], np.log([0.1, 0.001]))
    hot = vastmax.sampled_softmax(x, w, t, sampler=sampler, temperature=1e9)
    assert_allclose(hot.loss, [np.log1p((1 / 0.1 + 1 / 0.001) / 2)], rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("share", ["row", "batch"])
def test_threads_and_parts_change_no_bit(isa, threads, share):
    x, w, b, t = problem(np.float32, rows=64)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": 1000, "share": share, "seed": 7}
    with vastmax.config(threads=1, isa="scalar"):
        want = vastmax.sampled_softmax(x, w, t, **options)
    with vastmax.config(threads=threads):
        got = vastmax.sampled_softmax(x, w, t, **options)
    for a, b_ in zip(want, got, strict=True):
        if isinstance(a, np.ndarray):
            assert_array_equal(a, b_)
    assert_array_equal(dense(want.grad_weight), dense(got.grad_weight))
    if share == "row":
        for part in (slice(0, 5), slice(5, 64)):
            some = vastmax.sampled_softmax(x[part], w, t[part], row_offset=part.start, **options)
            assert_array_equal(some.loss, want.loss[part])
            assert_array_equal(some.grad_input, want.grad_input[part])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("share", ["batch", "row"])
def test_16_bit_tables(isa, dtype, share):
    kind = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else np.float16)
    x, w, b, t = problem(np.float32)
    narrow = [a.astype(kind) for a in (x, w, b)]
    wide = [a.astype(np.float32) for a in narrow]
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    got = vastmax.sampled_softmax(narrow[0], narrow[1], t, bias=narrow[2], **options)
    want = vastmax.sampled_softmax(wide[0], wide[1], t, bias=wide[2], **options)
    assert got.loss.dtype == np.float32
    assert_array_equal(got.loss, want.loss)
    assert got.grad_input.dtype == kind
    assert_array_equal(got.grad_input, want.grad_input.astype(kind))
    assert_array_equal(dense(got.grad_weight), dense(want.grad_weight))


@pytest.mark.parametrize("share", ["batch", "row"])
def test_strides_and_offsets(isa, share):
    """A table with a pitch, reversed, unaligned, read-only: the same bits."""
    x, w, b, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    want = vastmax.sampled_softmax(x, w, t, bias=b, **options)
    padded = np.zeros((V, D + 3), np.float32)
    padded[:, 1 : D + 1] = w
    unaligned = np.zeros(w.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(w.shape)
    unaligned[:] = w
    unaligned.flags.writeable = False
    wide_bias = np.repeat(b, 2)[::2]
    for table in (padded[:, 1 : D + 1], w[::-1].copy()[::-1], unaligned):
        got = vastmax.sampled_softmax(x[:, ::1], table, t, bias=wide_bias, **options)
        assert_array_equal(got.loss, want.loss)
        assert_array_equal(got.grad_input, want.grad_input)


def test_a_sparse_file_of_seventy_million_classes(tmp_path):
    """64-bit offsets: ids near 2**24, 2**31 bytes and the last class; nothing of size V is made."""
    classes, features = 70_000_000, 16  # 4.48 GB in a file without blocks
    table = np.lib.format.open_memmap(tmp_path / "w.npy", "w+", np.float32, (classes, features))
    far = np.array([0, 2**24 + 1, 2**31 // (features * 4) + 3, classes - 1])
    table[far] = np.arange(1, 5)[:, None]
    x = np.full((4, features), 0.01, np.float32)
    sampler = vastmax.PresetSampler(far, np.log(np.full(4, 0.25)), target_log_q=np.log(np.full(4, 0.25)))
    for share in ("batch", "row"):
        result = vastmax.sampled_softmax(x, table, far, sampler=sampler, share=share)
        z = 0.16 * table[far, 0].astype(np.float64)
        want = [np.logaddexp.reduce(z - (np.arange(4) != i) * np.log(0.25 / 0.75 * 3)) - z[i] for i in range(4)]
        assert_allclose(result.loss, want, rtol=1e-5)
        before = np.array(table[far])
        result.grad_weight.apply_sgd_(table, 0.5)
        assert_allclose(table[far], before - 0.5 * result.grad_weight.coalesce().rows, rtol=1e-6)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_stays_in_its_row(share, bad):
    x, w, b, t = problem(np.float32)
    x[3, 5] = bad
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 7}
    result = vastmax.sampled_softmax(x, w, t, **options)
    assert np.isnan(result.loss[3]) or (bad == np.inf and result.loss[3] == np.inf)
    others = np.arange(B) != 3
    x[3, 5] = 0
    good = vastmax.sampled_softmax(x, w, t, **options)
    assert_array_equal(result.loss[others], good.loss[others])
    assert np.isfinite(good.loss).all()


@pytest.mark.parametrize("correction", ["importance", "none"])
def test_repeated_draws_are_multiplicity(correction):
    """The batch gathers a class once, however often it was drawn; each row of its own meets it each time."""
    x, w, b, t = problem()
    ids = np.array([5, 200, 5, 5, 31, 200])
    log_q = np.log(np.array([0.2, 0.05, 0.2, 0.2, 0.1, 0.05]))
    sampler = vastmax.PresetSampler(ids, log_q, target_log_q=np.full(B, np.log(0.1)))
    results = [
        vastmax.sampled_softmax(x, w, t, bias=b, sampler=sampler, share=share, correction=correction)
        for share in ("batch", "row")
    ]
    for a, c in zip(*((*r[:2], r.num_hits, r.effective_sample_size) for r in results), strict=True):
        assert_allclose(a, c, rtol=1e-12)
    assert_allclose(dense(results[0].grad_weight), dense(results[1].grad_weight), rtol=0, atol=1e-12)


def test_the_loss_has_the_bias_of_theory():
    """E[log Z estimate] - log Z by the delta method (survey, section 2), and half of it for twice the draws."""
    rng = np.random.default_rng(1)
    classes, features = 2000, 4
    w, x = rng.normal(size=(classes, features)), rng.normal(size=(1, features)) * 0.3
    t = np.array([3])
    sampler = vastmax.UniformSampler(classes)
    z = (x @ w.T)[0]
    f, q = np.exp(z), 1 / classes
    others = np.arange(classes) != 3
    q = q / (1 - q)
    full = np.log(f.sum()) - z[3]
    for size in (100, 200):
        rows = np.repeat(x, 40_000, axis=0)
        result = vastmax.sampled_softmax(
            rows, w, np.repeat(t, 40_000), sampler=sampler, num_sampled=size, share="row", seed=5, need_grad=False
        )
        assert result.grad_input is result.grad_weight is None
        variance = (f[others] ** 2 / q).sum() - f[others].sum() ** 2
        want = -variance / (2 * size * f.sum() ** 2)
        error = result.loss.std() / np.sqrt(40_000)
        assert abs(result.loss.mean() - full - want) < 5 * error
        assert abs(want) > 5 * error  # or the test could not see the bias


def test_the_estimate_of_z_has_no_bias():
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(V, 4)), rng.normal(size=(1, 4)) * 0.5
    z = (x @ w.T)[0]
    for sampler in (vastmax.LogUniformSampler(V), vastmax.UnigramSampler(rng.integers(1, 50, V))):
        for unique in (False, True):
            n = 3000
            result = vastmax.sampled_softmax(
                np.repeat(x, n, axis=0), w, np.full(n, 11), sampler=sampler, num_sampled=60, share="row", seed=9,
                unique=unique, need_grad=False,
            )  # fmt: skip
            estimate = np.exp(result.lse) / np.exp(z).sum()
            assert abs(estimate.mean() - 1) < 5 * estimate.std() / np.sqrt(n)


def test_more_draws_bring_the_gradient_nearer():
    x, w, b, t = problem()
    full = dense(vastmax.sampled_softmax(x, w, t, bias=b, sampler=vastmax.AllSampler(V)).grad_weight)
    distance = []
    for size in (20, 200, 2000):
        sampler = vastmax.UniformSampler(V)
        mean = np.mean(
            [
                dense(
                    vastmax.sampled_softmax(
                        x, w, t, bias=b, sampler=sampler, num_sampled=size, seed=1, step=i
                    ).grad_weight
                )
                for i in range(40)
            ],
            axis=0,
        )
        distance.append(abs(mean - full).sum() / abs(full).sum())
    assert distance[0] > 2 * distance[1] > 4 * distance[2]


class TestErrors:
    """What was given and what is accepted, before anything is written."""

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            ({"target": np.full(B, V)}, IndexError, r"target is 300 at row 0"),
            ({"target": np.full(B, -1)}, IndexError, r"target is -1 at row 0"),
            ({"target": np.zeros(B)}, TypeError, "target has dtype float64"),
            ({"target": np.zeros(3, int)}, ValueError, r"target has shape \(3,\)"),
            ({"target": (np.zeros(3, int), np.zeros(B, int))}, ValueError, r"offsets has shape \(17,\)"),
            ({"weight": np.zeros((D, V)).T}, ValueError, "weight has strides"),
            ({"weight": np.zeros((V, D), int)}, TypeError, "weight has dtype int64"),
            ({"weight": np.zeros((V, D), ">f4")}, TypeError, "weight has dtype >f4"),
            ({"weight": np.zeros(V)}, ValueError, "weight has shape"),
            ({"weight": np.zeros((V, D), np.float32)}, TypeError, "input has dtype float64"),
            ({"input": np.zeros((B, D + 1))}, ValueError, "input has shape"),
            ({"bias": np.zeros(V + 1)}, ValueError, "bias has shape"),
            ({"sampler": vastmax.LogUniformSampler(V + 1)}, ValueError, "sampler draws from 301 classes"),
            ({"sampler": vastmax.PresetSampler([V], [0.0]), "num_sampled": None}, IndexError, "sampler is 300"),
            ({"sampler": None}, TypeError, "sampler is a NoneType"),
            ({"num_sampled": 0}, ValueError, "num_sampled is 0"),
            ({"num_sampled": None}, TypeError, "num_sampled is missing"),
            ({"num_sampled": V + 1, "unique": True}, ValueError, "301"),
            ({"correction": "half"}, ValueError, "correction is 'half'"),
            ({"share": "group"}, ValueError, "share is 'group'"),
            ({"temperature": 0.0}, ValueError, "temperature is 0"),
            ({"grad_output": np.zeros(3)}, ValueError, "grad_output has shape"),
            ({"seed": -1}, ValueError, "seed is -1"),
            ({"step": 2**32}, ValueError, "step is"),
            ({"row_offset": -1}, ValueError, "row_offset is -1"),
        ],
    )
    def test_message(self, change, error, match):
        x, w, b, t = problem()
        given = {"input": x, "weight": w, "target": t, "bias": b, "sampler": vastmax.LogUniformSampler(V), **change}
        given = {"num_sampled": S, "seed": 0, **given}
        with pytest.raises(error, match=match):
            vastmax.sampled_softmax(given.pop("input"), given.pop("weight"), given.pop("target"), **given)

    def test_candidate_needs_the_targets_q(self):
        x, w, _b, t = problem()
        sampler = vastmax.PresetSampler([1, 2], np.log([0.1, 0.1]))
        with pytest.raises(ValueError, match="log q of the targets"):
            vastmax.sampled_softmax(x, w, t, sampler=sampler, correction="candidate")


@pytest.mark.parametrize(("share", "met"), [("batch", B + S), ("row", B + B * S)])
def test_explain_counts_the_rows_of_the_table(share, met):
    x, w, _, t = problem(np.float32)
    sampler = vastmax.LogUniformSampler(V)
    plan = vastmax.explain(vastmax.sampled_softmax, x, w, t, sampler=sampler, num_sampled=S, share=share)
    assert (plan.backend, plan.rows, plan.classes, plan.bytes) == ("cpu", B, V, met * D * 4)
    assert f"{S} draws" in plan.reason
