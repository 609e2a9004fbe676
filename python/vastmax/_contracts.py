# SPDX-License-Identifier: Apache-2.0
"""The accuracy contract: the one home of error bounds.

The self-test and the tests hold results to these bounds. A test compares the README and the docstrings with them.
"""

from __future__ import annotations

_DTYPES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64"}

# Largest error in ULP, by the dtype of the output. Never loosened in the commit that needs it.
MAX_ULP: dict[str, dict[str, float]] = {
    "softmax": {"f16": 1, "bf16": 1, "f32": 2, "f64": 4},
    "log_softmax": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    "logsumexp": {"f32": 1, "f64": 2},
    "logsumexp where the largest logit is 0": {"f32": 4, "f64": 4},
    # Not in the written contract: a sum of terms of either sign, measured against what cancels.
    "logsumexp_weighted": {"f32": 4, "f64": 4},
    "softmax_backward": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    "log_softmax_backward": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    # One more rounding than softmax.
    "logsumexp_backward": {"f16": 1, "bf16": 1, "f32": 3, "f64": 5},
    "softplus": {"f16": 1, "bf16": 1, "f32": 1, "f64": 2},
    "sigmoid": {"f16": 1, "bf16": 1, "f32": 1, "f64": 2},
    "log_sigmoid": {"f16": 1, "bf16": 1, "f32": 1, "f64": 2},
    "logit": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    # Products of a gradient and a contract above.
    "softplus_backward": {"f16": 1, "bf16": 1, "f32": 2, "f64": 3},
    "sigmoid_backward": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    "log_sigmoid_backward": {"f16": 1, "bf16": 1, "f32": 2, "f64": 3},
    "binary_cross_entropy": {"f32": 8, "f64": 8},
    "selective_log_softmax": {"f32": 4, "f64": 4},
    "entropy": {"f32": 8, "f64": 8},
    "kl_divergence": {"f32": 8, "f64": 8},
    "cross_entropy": {"f32": 4, "f64": 4},
    "cross_entropy_with_grad": {"f16": 1, "bf16": 1, "f32": 4, "f64": 4},
    "binary_cross_entropy gradient": {"f16": 1, "bf16": 1, "f32": 8, "f64": 8},
    # On products that are exact: the rounding of a matrix product comes on top.
    "linear_cross_entropy": {"f32": 4, "f64": 4},
    "linear_logsumexp": {"f32": 1, "f64": 2},
    "sampled_softmax on exact products": {"f32": 8, "f64": 8},
}


def bounds(op: str) -> dict[str, float]:
    """Return the bounds of an op by the name of the dtype."""
    return {_DTYPES[dtype]: ulp for dtype, ulp in MAX_ULP[op].items()}
