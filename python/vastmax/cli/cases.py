# SPDX-License-Identifier: Apache-2.0
"""Cases of `bench`, and the bars that it holds vastmax to.

A bar is the largest ratio of our time to another's that passes. "float32", "last axis" and "avx512" stand for vastmax
itself in another setting, "logsumexp" for that op of it, "1 us" for that time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from . import sampled_calls

ONE_MICROSECOND = "1 us"
OTHER_SETTINGS = ("float32", "last axis", "avx512", "logsumexp")


class Bar(NamedTuple):
    """Our time may be `limit` times that of `against`."""

    against: str
    limit: float
    aim: bool = False  # wished for, not owed
    words: str = ""

    def __str__(self) -> str:
        text = self.words or f"within {self.limit:.3g} x"
        return f"aim {text}" if self.aim else text


def faster(against: str, times: float, *, aim: bool = False) -> Bar:
    """At least so many times as fast."""
    return Bar(against, 1 / times, aim, "not slower" if times == 1 else f"{times:.3g} x as fast")


def held(bar: Bar, ratio: float) -> dict[str, Any]:
    """Hold a ratio against a bar; a margin below 1 misses it."""
    return {
        "against": bar.against,
        "text": str(bar),
        "aim": bar.aim,
        "limit": bar.limit,
        "ratio": ratio,
        "margin": bar.limit / ratio if ratio else float("inf"),
        "passed": ratio <= bar.limit,
    }


def verdict(bar: dict[str, Any]) -> str:
    """Say whether a bar is reached, and by how much."""
    if bar["passed"]:
        return f"reached, {bar['margin']:.2f} x to spare"
    return f"missed by {1 / bar['margin']:.2f} x"


@dataclass(frozen=True)
class Case:
    """One op on one kind of array."""

    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    axis: int = -1
    isa: str | None = None
    warm: bool = False  # the same array at each call; else arrays are rotated beyond the caches
    into: bool = True  # with out=, where there is an array to write
    bars: tuple[Bar, ...] = ()
    quick: bool = False
    peers: bool = True
    share: str = ""  # the draws of sampled_softmax: of the "batch" or of each "row"

    def __str__(self) -> str:
        parts = [self.op, " x ".join(f"{n:,}" for n in self.shape), self.dtype]
        parts += [f"axis {self.axis}"] if self.axis != -1 else []
        if self.op in sampled_calls.OPS:
            return ", ".join([*parts[:2], *([f"draws of each {self.share}"] if self.share else [])])
        parts += [self.isa] if self.isa else []
        return ", ".join([*parts, "in cache" if self.warm else "beyond cache"])


_VOCABULARY = 128_256  # of Llama 3
_LSE_BARS = (faster("torch out=", 8), faster("scipy", 25), Bar("read roof", 1.3))
_SOFTMAX_BARS = (
    faster("onnxruntime", 1.2),
    faster("torch out=", 1.5),
    faster("torch", 3),
    Bar("streamed copy", 1.35, aim=True),
)
_MAP_BARS = (Bar("copy roof", 1.3), faster("torch out=", 4), faster("scipy", 20))


def _sixteen_bit(dtype: str) -> list[Case]:
    big, small = (64, _VOCABULARY), (1, _VOCABULARY)
    beyond, within = (Bar("float32", 0.75), Bar("float32", 0.55, aim=True)), (faster("float32", 1),)
    return [
        *(Case(op, big, dtype, bars=beyond, peers=False) for op in ("softmax", "logsumexp", "sigmoid")),
        *(Case(op, small, dtype, warm=True, bars=within, peers=False) for op in ("softmax", "logsumexp", "sigmoid")),
    ]


def _avx2() -> list[Case]:
    return [
        Case(op, shape, isa="avx2", warm=warm, bars=(Bar("avx512", limit),), peers=False)
        for op in ("softmax", "logsumexp", "sigmoid")
        for shape, warm, limit in (((1, _VOCABULARY), True, 1.7), ((64, _VOCABULARY), False, 1.1))
    ]


TABLE = (
    Case("logsumexp", (64, _VOCABULARY), bars=_LSE_BARS[:2], quick=True),
    Case("logsumexp", (512, _VOCABULARY), bars=_LSE_BARS),
    Case("softmax", (64, _VOCABULARY), bars=_SOFTMAX_BARS, quick=True),
    Case("softmax", (1, 10_000_000), bars=(faster("onnxruntime", 1.8), faster("torch out=", 2.5))),
    Case("softmax", (2048, 1000), bars=(faster("torch out=", 1.5), faster("onnxruntime", 1)), quick=True),
    Case(
        "softmax",
        (1, _VOCABULARY),
        warm=True,
        bars=tuple(
            faster(peer, times * more, aim=more > 1)
            for more in (1, 1.5)
            for peer, times in (("torch out=", 2.5), ("onnxruntime", 1.5), ("simd_ml_kernels", 2.5))
        ),
        quick=True,
    ),
    Case("log_softmax", (64, _VOCABULARY)),
    Case("softmax_backward", (64, _VOCABULARY)),
    Case("cross_entropy", (256, _VOCABULARY), bars=(Bar("read roof", 1.3), faster("torch", 4)), quick=True),
    Case("cross_entropy_with_grad", (256, _VOCABULARY), bars=(Bar("copy roof", 2.2), faster("torch", 5))),
    *(
        Case(op, (256, _VOCABULARY), "bfloat16", bars=(Bar("float32", 0.75),), peers=False)
        for op in ("cross_entropy", "cross_entropy_with_grad")
    ),
    Case("softmax_stats", (256, _VOCABULARY), bars=(Bar("logsumexp", 1.5),), peers=False),
    Case("selective_log_softmax", (256, _VOCABULARY), bars=(Bar("logsumexp", 1.1),), peers=False),
    Case("top_k", (64, _VOCABULARY), bars=(Bar("read roof", 1.5), faster("torch", 8), faster("numpy", 40)), quick=True),
    Case("top_k", (64, _VOCABULARY), "bfloat16", bars=(Bar("float32", 0.75),), peers=False),
    Case("top_k", (1, 10_000_000)),
    Case("sample", (64, _VOCABULARY), bars=(Bar("logsumexp", 1.3), faster("torch", 50)), quick=True),
    Case("sample", (64, _VOCABULARY), "bfloat16", bars=(Bar("float32", 0.75),), peers=False),
    Case("sample", (1, 10_000_000)),
    Case("sample_top_p", (64, _VOCABULARY), bars=(faster("numpy", 100), faster("torch", 100))),
    *(
        Case(op, (64, _VOCABULARY), peers=False)
        for op in ("top_k_mask_logits", "top_p_mask_logits", "min_p_mask_logits")
    ),
    Case("softmax", (_VOCABULARY, 64), axis=0, bars=(Bar("last axis", 1.5),)),
    Case("logsumexp", (_VOCABULARY, 64), axis=0, bars=(Bar("last axis", 1.5),)),
    *_sixteen_bit("float16"),
    *_sixteen_bit("bfloat16"),
    Case("softplus", (64, _VOCABULARY), bars=_MAP_BARS),
    Case("sigmoid", (64, _VOCABULARY), bars=(_MAP_BARS[0], _MAP_BARS[2])),
    *_avx2(),
    *(
        Case(op, (1 << 20,), bars=tuple(faster(peer, 1, aim=True) for peer in ("numpy", "torch")))
        for op in sampled_calls.SAMPLERS
    ),
    Case(
        "sampled_softmax",
        (4096, sampled_calls.SHARED),
        share="batch",
        bars=(Bar("three products", 1.15), faster("torch", 1.5), faster("numpy", 1.5)),
    ),
    Case("sampled_softmax", (4096, sampled_calls.OWN), share="row", bars=(Bar("gather", 1 / 0.6),)),
    *(
        Case(op, (16,), warm=True, into=False, bars=(faster(ONE_MICROSECOND, 1),), quick=True)
        for op in ("softmax", "logsumexp")
    ),
)

MEMORY = tuple(
    Case(op, shape, dtype, axis=axis, quick=quick)
    for dtype in ("float32", "float16")
    for op in ("logsumexp", "softmax")
    for shape, axis, quick in (
        ((64, _VOCABULARY), -1, dtype == "float32"),
        ((1, 10_000_000), -1, False),
        ((_VOCABULARY, 64), 0, False),
    )
)
