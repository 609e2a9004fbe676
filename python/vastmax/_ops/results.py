# SPDX-License-Identifier: Apache-2.0
"""Results of ops that return several arrays.

A field that is None without an option has `Any` in its type in place of None, as in typeshed: type checkers cannot see
the option, and would ask for a test before each use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vastmax._operands.arrays import Array, Reduced
    from vastmax._ops.sampled.gradients import FactoredGrad, SparseRows


class CrossEntropyResult(NamedTuple):
    """The result of `cross_entropy_with_grad`."""

    loss: Reduced
    grad: Any  # an array
    lse: Reduced


class SoftmaxStats(NamedTuple):
    """The result of `softmax_stats`."""

    lse: Reduced
    max: Reduced
    argmax: Reduced
    entropy: Reduced
    target_log_prob: Reduced  # None without target
    target_rank: Reduced  # None without target
    top_log_probs: Array | Any  # None without top_n
    top_indices: Array | Any  # None without top_n


class SampledSoftmaxResult(NamedTuple):
    """The result of `sampled_softmax` and `nce_loss`."""

    loss: Array
    lse: Array
    grad_input: Array | Any  # None without need_grad
    grad_weight: SparseRows | FactoredGrad | Any  # None without need_grad
    num_hits: NDArray[np.int64]
    effective_sample_size: Array
