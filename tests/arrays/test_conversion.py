# SPDX-License-Identifier: Apache-2.0
"""Logits that the core does not read as they are: the bits of a converted copy, in a small part of its memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax

pytestmark = pytest.mark.any_isa
KINDS = (">f2", ">f4", ">f8", "i1", "u2", ">i4", "i8", "?")


def reductions(classes: int, ids: Any) -> dict[str, Callable[[Any], Any]]:
    rng = np.random.default_rng(1)
    w, s = rng.random(classes), rng.random(ids.shape)
    pair = np.stack([ids, (ids + 1) % classes], axis=-1), rng.random((*ids.shape, 2))
    weighted: dict[str, Any] = {"weight": w, "sample_weight": s, "label_smoothing": 0.1, "z_loss": 0.01}
    some = np.where(np.arange(ids.size).reshape(ids.shape) % 3 == 0, -100, ids)
    return {
        "logsumexp": lambda x: vastmax.logsumexp(x, axis=-1),
        "logsumexp of all": lambda x: vastmax.special.logsumexp(x),
        "logsumexp, temperature": lambda x: vastmax.logsumexp(x, axis=0, temperature=0.7, return_sign=True),
        "cross_entropy": lambda x: vastmax.cross_entropy(x, ids),
        "cross_entropy, weights": lambda x: vastmax.cross_entropy(x, some, **weighted, return_lse=True),
        "cross_entropy, sum": lambda x: vastmax.cross_entropy(x, some, **weighted, reduction="sum"),
        "cross_entropy, none": lambda x: vastmax.cross_entropy(x, some, **weighted, reduction="none"),
        "cross_entropy, pairs": lambda x: vastmax.cross_entropy(x, pair, **weighted),
        "softmax_stats": lambda x: vastmax.softmax_stats(x, ids, top_n=2),
        "entropy": vastmax.entropy,
        "selective_log_softmax": lambda x: vastmax.selective_log_softmax(x, pair[0]),
        "kl_divergence": lambda x: vastmax.kl_divergence(x, x[::-1]),
        "LogSumExp": lambda x: vastmax.LogSumExp(ids.shape, np.float64).update(x).value,
    }


def maps(shape: tuple[int, ...], ids: Any) -> dict[str, Callable[[Any], Any]]:
    """Functions whose results have the size of the logits, or which draw: some of them along another axis."""
    rng = np.random.default_rng(4)
    g, mask, t = rng.normal(size=shape), rng.random(shape) < 0.9, rng.uniform(0.5, 2, ids.shape)
    ce = vastmax.cross_entropy_with_grad
    bce = vastmax.binary_cross_entropy_with_logits
    return {
        "softmax": vastmax.softmax,
        "softmax along the first axis": lambda x: vastmax.softmax(x, axis=0),
        "softmax along two axes": lambda x: vastmax.softmax(x, axis=(0, -1)),
        "softmax of columns": lambda x: vastmax.softmax(np.asfortranarray(x)),
        "log_softmax": lambda x: vastmax.log_softmax(x, temperature=t.reshape(-1), where=mask),
        "dtype=": lambda x: vastmax.softmax(x, dtype=np.float32),
        "logsumexp_backward": lambda x: vastmax.logsumexp_backward(t, x, axis=-1),
        "softmax_backward": lambda x: vastmax.softmax_backward(g, x),
        "gradient": lambda x: vastmax.log_softmax_backward(x, g),
        "softplus": lambda x: vastmax.softplus(x, 2.0),
        "sigmoid of columns": lambda x: vastmax.sigmoid(np.asfortranarray(x)),
        "sigmoid_backward": lambda x: vastmax.sigmoid_backward(x, g),
        "binary cross-entropy": lambda x: bce(x, mask, pos_weight=x, reduction="none", return_grad=True),
        "binary cross-entropy, mean": lambda x: bce(x, mask, return_grad=True),
        "logsumexp, weights": lambda x: vastmax.logsumexp(x, axis=-1, b=g),
        "logsumexp, weights of that kind": lambda x: vastmax.logsumexp(g, axis=-1, b=x, return_sign=True),
        "cross_entropy_with_grad": lambda x: ce(x, ids, label_smoothing=0.1),
        "cross_entropy_with_grad, none": lambda x: ce(x, ids, softcap=5.0, reduction="none"),
        "sample": lambda x: vastmax.sample(x, 3, top_k=5, seed=1, row_offset=7, return_log_prob=True),
        "gumbel_softmax": lambda x: vastmax.gumbel_softmax(x, 0.5, seed=1),
        "one-hot": lambda x: vastmax.gumbel_softmax(x, hard=True, seed=1),
        "top_k": lambda x: vastmax.top_k(x, 3),
        "top_k along the first axis": lambda x: vastmax.top_k(x, 1, axis=0),
        "top_p_mask_logits": lambda x: vastmax.top_p_mask_logits(x, 0.7),
    }


def parts(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple) else (value,)


def logits(shape: tuple[int, ...], kind: str) -> tuple[Any, Any]:
    """Logits, and a converted copy of them."""
    with np.errstate(invalid="ignore"):
        x = (np.random.default_rng(2).normal(size=shape) * 3 + 4).astype(kind)
    return x, x.astype(x.dtype.newbyteorder("=") if x.dtype.kind == "f" else np.float64)


@pytest.mark.parametrize("shape", [(700, 300), (3, 5, 20_000), (2, 300_000), (40_000, 7)])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_a_converted_copy(kind: str, shape: tuple[int, ...]) -> None:
    x, converted = logits(shape, kind)
    ids = np.random.default_rng(3).integers(shape[-1], size=shape[:-1])
    for name, reduce in reductions(shape[-1], ids).items():
        for got, want in zip(parts(reduce(x)), parts(reduce(converted)), strict=True):
            assert np.asarray(got).dtype == np.asarray(want).dtype
            np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("shape", [(700, 300), (3, 5, 20_000), (2, 300_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_a_map_of_a_converted_copy(kind: str, shape: tuple[int, ...]) -> None:
    x, converted = logits(shape, kind)
    ids = np.random.default_rng(3).integers(shape[-1], size=shape[:-1])
    for name, function in maps(shape, ids).items():
        for got, want in zip(parts(function(x)), parts(function(converted)), strict=True):
            assert np.asarray(got).dtype == np.asarray(want).dtype
            np.testing.assert_array_equal(got, want, err_msg=name)


@pytest.mark.parametrize("op", ["softmax", "softplus"])
def test_out_that_shares_memory_with_what_is_converted(op: str) -> None:
    memory = np.zeros(400_001)
    x, out = memory[1:].view(np.int64), memory[:-1]
    x[:] = np.arange(400_000) % 50
    want = getattr(vastmax, op)(x.astype(np.float64))
    np.testing.assert_array_equal(getattr(vastmax, op)(x, out=out), want)


@pytest.mark.parametrize("kind", [">f4", "i1", "?"])
def test_no_copy_of_the_whole(kind: str) -> None:
    x, _ = logits((2048, 4096), kind)
    for name, reduce in reductions(4096, np.arange(2048)).items():
        tracemalloc.start()
        try:
            reduce(x)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < x.nbytes / 2, f"{name}: {peak} bytes for {x.nbytes}"


@pytest.mark.parametrize("kind", [">f4", "i1", "?"])
def test_maps_hold_their_result_and_no_copy(kind: str) -> None:
    x, converted = logits((2048, 4096), kind)
    out = np.empty_like(converted)
    ids = np.arange(2048)
    for name, function in {
        "softmax": lambda: vastmax.softmax(x, out=out),
        "log_softmax": lambda: vastmax.log_softmax(x, temperature=0.5, out=out),
        "softplus": lambda: vastmax.softplus(x, out=out),
        "cross_entropy_with_grad": lambda: vastmax.cross_entropy_with_grad(x, ids, reduction="sum", out=out),
        "sample": lambda: vastmax.sample(x, seed=1),
        "top_k": lambda: vastmax.top_k(x, 2),
        "float64 to float32": lambda: vastmax.logsumexp(np.broadcast_to(1.5, x.shape), axis=-1, dtype=np.float32),
    }.items():
        tracemalloc.start()
        try:
            function()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < max(x.nbytes / 2, 4 << 20), f"{name}: {peak} bytes for {x.nbytes}"
