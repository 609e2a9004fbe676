# SPDX-License-Identifier: Apache-2.0
"""Softmax, logsumexp, softplus and their gradients over very large vocabularies, for NumPy.

Results are accurate to a few units in the last place and have the same bits for any number of threads, batch, memory
layout and instruction set. `vastmax.special` stands in for `scipy.special`, `vastmax.tf` for the sampled losses of
TensorFlow.
"""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

from vastmax._runtime.config import active_isa, available_isas, config, get_num_threads, set_num_threads
from vastmax._version import __version__
from vastmax.binary_cross_entropy import binary_cross_entropy_with_logits
from vastmax.cross_entropy import CrossEntropyResult, cross_entropy, cross_entropy_with_grad
from vastmax.errors import BackendUnavailable
from vastmax.info import explain, info
from vastmax.linear import (
    LinearCrossEntropyResult,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    linear_logsumexp,
    linear_top_k,
)
from vastmax.logsumexp import logsumexp, logsumexp_backward
from vastmax.row_statistics import SoftmaxStats, entropy, kl_divergence, selective_log_softmax, softmax_stats
from vastmax.sampled import SampledSoftmaxResult, nce_loss, sampled_softmax
from vastmax.samplers import (
    AllSampler,
    LogUniformSampler,
    MixtureSampler,
    PresetSampler,
    UniformSampler,
    UnigramSampler,
)
from vastmax.sampling import (
    gumbel_softmax,
    min_p_mask_logits,
    sample,
    top_k,
    top_k_mask_logits,
    top_p_mask_logits,
)
from vastmax.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from vastmax.softplus import (
    log_sigmoid,
    log_sigmoid_backward,
    sigmoid,
    sigmoid_backward,
    softplus,
    softplus_backward,
)
from vastmax.sparse_rows import FactoredGrad, SparseRows
from vastmax.streaming import LogSumExp

__all__ = [
    "AllSampler",
    "BackendUnavailable",
    "CrossEntropyResult",
    "FactoredGrad",
    "LinearCrossEntropyResult",
    "LogSumExp",
    "LogUniformSampler",
    "MixtureSampler",
    "PresetSampler",
    "SampledSoftmaxResult",
    "SoftmaxStats",
    "SparseRows",
    "UniformSampler",
    "UnigramSampler",
    "__version__",
    "active_isa",
    "available_isas",
    "binary_cross_entropy_with_logits",
    "config",
    "cross_entropy",
    "cross_entropy_with_grad",
    "entropy",
    "explain",
    "get_num_threads",
    "gumbel_softmax",
    "info",
    "kl_divergence",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "linear_logsumexp",
    "linear_top_k",
    "log_sigmoid",
    "log_sigmoid_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "logsumexp_backward",
    "min_p_mask_logits",
    "nce_loss",
    "sample",
    "sampled_softmax",
    "selective_log_softmax",
    "set_num_threads",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_stats",
    "softplus",
    "softplus_backward",
    "top_k",
    "top_k_mask_logits",
    "top_p_mask_logits",
]

_ON_DEMAND = ("cuda", "dask", "mpi", "special", "tf")  # modules that load when first touched


if _TYPE_CHECKING:  # type checkers do not see what loads on demand
    from vastmax import cuda, dask, mpi, special, tf  # noqa: F401


def __getattr__(name: str) -> _ModuleType:
    if name in _ON_DEMAND:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ON_DEMAND])
