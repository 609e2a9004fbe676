# SPDX-License-Identifier: Apache-2.0
"""What ops return that have several results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._arrays import Array, Reduced
    from .sparse_rows import FactoredGrad, SparseRows


class CrossEntropyResult(NamedTuple):
    """What `cross_entropy_with_grad` returns."""

    loss: Reduced
    grad: Any  # an array
    lse: Reduced


class SoftmaxStats(NamedTuple):
    """What `softmax_stats` returns."""

    lse: Reduced
    max: Reduced
    argmax: Reduced
    entropy: Reduced
    target_log_prob: Reduced | None
    target_rank: Reduced | None
    top_log_probs: Array | None
    top_indices: Array | None


class SampledSoftmaxResult(NamedTuple):
    """What `sampled_softmax` returns."""

    loss: Array
    lse: Array
    grad_input: Array | None
    grad_weight: SparseRows | FactoredGrad | None
    num_hits: NDArray[np.int64]
    effective_sample_size: Array
