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
