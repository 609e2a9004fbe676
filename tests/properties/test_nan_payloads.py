# SPDX-License-Identifier: Apache-2.0
"""NaN is NaN whatever its sign, payload and quiet bit: every op gives what it gives for np.nan, whose payload is 0.

What np.nan itself gives is tested in test_special_values and beside each op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts

pytestmark = pytest.mark.usefixtures("isa")

# Payloads of the 52, 23, 10 or 7 bits of a mantissa, and whether the NaN is quiet. All ones is what NVIDIA GPUs make
# in float32, 0x7a2 is R's NA in float64; a signalling NaN needs a payload.
PAYLOADS = {"one": 1, "R": 0x7A2, "ff": 0xFF, "1ff": 0x1FF, "ones": (1 << 52) - 1}
BITS = {"f16": (10, np.uint16), "bf16": (7, np.uint16), "f32": (23, np.uint32), "f64": (52, np.uint64)}
ROWS, LENGTHS = 3, (5, 130, 5000)


def nans(name: str) -> Any:
    """Each payload with either sign, quiet and signalling, in the format's own width."""
    width, kind = BITS[name]
    sign, quiet = 1 << (8 * np.dtype(kind).itemsize - 1), 1 << (width - 1)
    exponent = sign - (1 << width)
    payloads = {p & (quiet - 1) or 1 for p in PAYLOADS.values()}
    bits = [s | exponent | q | p for s in (0, sign) for q in (0, quiet) for p in sorted(payloads)]
    return np.array(bits, kind).view(contracts.FORMATS[name].dtype)


def rows(name: str, n: int) -> Any:
    return np.random.default_rng(n).standard_normal((ROWS, n)).astype(contracts.FORMATS[name].dtype)


IDS = np.array([0, 1, 2])


def _state(x: Any) -> Any:
    state = vastmax.LogSumExp((ROWS,), _ones(x).dtype).update(x[:, :2]).update(x[:, 2:])
    return state.value, state.normalize(x)


def _with_infinity(x: Any) -> Any:
    x = x.copy()
    x[:, -1] = np.inf
    return x


def _far_away(x: Any) -> Any:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return x + x.dtype.type(6000)


def _weighted(x: Any) -> Any:
    return np.linspace(0.5, 2, x.shape[1]).astype(x.dtype)


def _ones(x: Any) -> Any:
    return np.ones(ROWS, vastmax.logsumexp(x[:, :1], axis=-1).dtype)


CALLS: dict[str, Callable[[Any], Any]] = {
    "softmax": vastmax.softmax,
    "softmax first axis": lambda x: vastmax.softmax(np.ascontiguousarray(x.T), axis=0).T,
    "softmax all axes": lambda x: vastmax.softmax(x, axis=None),
    "softmax strided": lambda x: vastmax.softmax(np.repeat(x, 2, axis=1)[:, ::2]),
    "softmax temperature": lambda x: vastmax.softmax(x, temperature=[0.7, 1.3, 2]),
    "softmax where": lambda x: vastmax.softmax(x, where=np.arange(x.shape[1]) != 2),
    "log_softmax": vastmax.log_softmax,
    "logsumexp": lambda x: vastmax.logsumexp(x, axis=-1),
    "logsumexp first axis": lambda x: vastmax.logsumexp(np.ascontiguousarray(x.T), axis=0),
    "logsumexp one row": lambda x: vastmax.logsumexp(x),
    "logsumexp temperature": lambda x: vastmax.logsumexp(x, axis=-1, temperature=0.7),
    "logsumexp beside infinity": lambda x: vastmax.logsumexp(_with_infinity(x), axis=-1),
    "logsumexp far from 0": lambda x: vastmax.logsumexp(_far_away(x), axis=-1),
    "logsumexp weights": lambda x: vastmax.logsumexp(x, axis=-1, b=_weighted(x), return_sign=True),
    "logsumexp of weights": lambda x: vastmax.logsumexp(np.zeros_like(x), axis=-1, b=x, return_sign=True),
    "softmax_backward": lambda x: (
        vastmax.softmax_backward(x, np.full_like(x, 0.25)),
        vastmax.softmax_backward(np.full_like(x, 0.25), x),
    ),
    "log_softmax_backward": lambda x: (
        vastmax.log_softmax_backward(x, np.full_like(x, -2)),
        vastmax.log_softmax_backward(np.full_like(x, 0.25), x),
    ),
    "logsumexp_backward": lambda x: (
        vastmax.logsumexp_backward(_ones(x), x, axis=-1),
        vastmax.logsumexp_backward(x[:, x.shape[1] // 3].astype(_ones(x).dtype), np.zeros_like(x), axis=-1),
    ),
    "softplus": lambda x: vastmax.softplus(x, 1.5),
    "softplus_backward": lambda x: (vastmax.softplus_backward(x, -x), vastmax.softplus_backward(x, x)),
    "sigmoid": vastmax.sigmoid,
    "sigmoid_backward": lambda x: vastmax.sigmoid_backward(x, x),
    "log_sigmoid": vastmax.log_sigmoid,
    "log_sigmoid_backward": lambda x: vastmax.log_sigmoid_backward(np.ones_like(x), x),
    "logit": vastmax.special.logit,
    "binary_cross_entropy_with_logits": lambda x: (
        *vastmax.binary_cross_entropy_with_logits(x, np.ones_like(x), reduction="none", return_grad=True),
        *vastmax.binary_cross_entropy_with_logits(np.ones_like(x), x, pos_weight=x, return_grad=True),
        vastmax.binary_cross_entropy_with_logits(x, np.ones_like(x), weight=x, reduction="sum"),
    ),
    "cross_entropy": lambda x: vastmax.cross_entropy(x, IDS, reduction="none", return_lse=True),
    "cross_entropy mean": lambda x: vastmax.cross_entropy(x, IDS),
    "cross_entropy options": lambda x: vastmax.cross_entropy(
        x, IDS, softcap=5.0, z_loss=0.1, label_smoothing=0.1, reduction="none"
    ),
    "cross_entropy probabilities": lambda x: vastmax.cross_entropy(x, np.full_like(x, 0.25), reduction="none"),
    "cross_entropy of probabilities": lambda x: vastmax.cross_entropy(np.zeros_like(x), x, reduction="none"),
    "cross_entropy weights": lambda x: vastmax.cross_entropy(
        np.zeros_like(x), IDS, sample_weight=x[:, x.shape[1] // 3], reduction="none"
    ),
    "cross_entropy_with_grad": lambda x: vastmax.cross_entropy_with_grad(x, IDS, reduction="none")[:2],
    "cross_entropy_with_grad options": lambda x: vastmax.cross_entropy_with_grad(
        x, IDS, softcap=5.0, z_loss=0.1, label_smoothing=0.1, reduction="sum"
    )[:2],
    "softmax_stats": lambda x: vastmax.softmax_stats(x, IDS, top_n=3),
    "softmax_stats temperature": lambda x: vastmax.softmax_stats(x, temperature=0.7)[:4],
    "entropy": vastmax.entropy,
    "kl_divergence": lambda x: (
        vastmax.kl_divergence(x, np.zeros_like(x)),
        vastmax.kl_divergence(np.zeros_like(x), x),
    ),
    "selective_log_softmax": lambda x: vastmax.selective_log_softmax(x, np.tile([1, 0], (ROWS, 1))),
    "LogSumExp": _state,
    "sample": lambda x: vastmax.sample(x, 3, seed=1, return_log_prob=True, return_valid=True),
    "sample one": lambda x: vastmax.sample(x, seed=1, temperature=0.7),
    "sample greedy": lambda x: vastmax.sample(x, seed=1, temperature=0),
    "sample top_k": lambda x: vastmax.sample(x, seed=1, top_k=3, return_log_prob=True),
    "sample top_p": lambda x: vastmax.sample(x, seed=1, top_p=[0.3, 0.9, 0.6], return_log_prob=True),
    "sample min_p": lambda x: vastmax.sample(x, seed=1, min_p=0.1, return_valid=True),
    "sample without replacement": lambda x: vastmax.sample(x, 3, seed=1, replace=False),
    "top_k": lambda x: vastmax.top_k(x, 3),
    "top_k_mask_logits": lambda x: vastmax.top_k_mask_logits(x, 3),
    "top_p_mask_logits": lambda x: vastmax.top_p_mask_logits(x, 0.7),
    "min_p_mask_logits": lambda x: vastmax.min_p_mask_logits(x, 0.1),
    "gumbel_softmax": lambda x: vastmax.gumbel_softmax(x, 0.7, seed=1),
    "gumbel_softmax hard": lambda x: vastmax.gumbel_softmax(x, seed=1, hard=True),
    "special.softmax": lambda x: vastmax.special.softmax(x, axis=-1),
    "special.logsumexp": lambda x: vastmax.special.logsumexp(x, axis=-1),
}


def parts(results: Any) -> list[Any]:
    return list(results) if isinstance(results, tuple) else [results]


def comparable(result: Any) -> Any:
    """Bits, with one NaN for all."""
    a = np.ascontiguousarray(result).reshape(-1)
    if a.dtype.kind not in "fV":
        return a
    with np.errstate(invalid="ignore"):
        wide = a.astype(np.float64)
    return np.where(np.isnan(wide), np.nan, wide).view(np.uint64)


@pytest.mark.parametrize("call", CALLS)
def test_any_nan_is_as_good_as_the_plain_one(call: str) -> None:
    for name in contracts.DTYPES:
        for n in LENGTHS:
            x = rows(name, n)
            x[1, n // 3] = np.nan
            want = [comparable(part) for part in parts(CALLS[call](x))]
            assert any((w < 0 if w.dtype.kind == "i" else w == comparable(np.nan)).any() for w in want)
            for nan in nans(name):
                x[1, n // 3] = nan
                for part, (got, right) in enumerate(zip(parts(CALLS[call](x)), want, strict=True)):
                    np.testing.assert_array_equal(
                        comparable(got),
                        right,
                        err_msg=f"{call}, {name}, {n} classes, part {part}, NaN {nan.tobytes().hex()}",
                    )
