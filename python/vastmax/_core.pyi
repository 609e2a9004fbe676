# SPDX-License-Identifier: Apache-2.0
# The C++ extension. The operands of kernels are those of vastmax/_backends/kernels.py. Rows lie along the last axis of
# every array.
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[Any]
_Temperature: TypeAlias = NDArray[np.float64] | None
_Mask: TypeAlias = NDArray[np.bool_] | None

def softmax(x: _Array, out: _Array, temperature: _Temperature, where: _Mask, threads: int, isa: int, /) -> None: ...
def log_softmax(x: _Array, out: _Array, temperature: _Temperature, where: _Mask, threads: int, isa: int, /) -> None: ...
def logsumexp(x: _Array, out: _Array, temperature: _Temperature, where: _Mask, threads: int, isa: int, /) -> None: ...
def logsumexp_backward(
    grad: _Array, x: _Array, out: _Array, temperature: _Temperature, where: _Mask, threads: int, isa: int, /
) -> None: ...
def logsumexp_weighted(
    a: _Array,
    b: _Array,
    out: _Array,
    sign: _Array | None,
    temperature: _Temperature,
    where: _Mask,
    threads: int,
    isa: int,
    /,
) -> None: ...
def softmax_backward(
    g: _Array, y: _Array, out: _Array, temperature: _Temperature, threads: int, isa: int, /
) -> None: ...
def log_softmax_backward(
    g: _Array, y: _Array, out: _Array, temperature: _Temperature, threads: int, isa: int, /
) -> None: ...
def softplus(x: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def sigmoid(x: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def log_sigmoid(x: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def logit(x: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def softplus_backward(g: _Array, saved: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def sigmoid_backward(g: _Array, saved: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def log_sigmoid_backward(g: _Array, saved: _Array, out: _Array, beta: float, threads: int, isa: int, /) -> None: ...
def bce_with_logits(
    x: _Array,
    target: _Array,
    weight: _Array | None,
    pos_weight: _Array | None,
    loss: _Array | None,
    grad: _Array | None,
    grad_scale: float,
    threads: int,
    isa: int,
    /,
) -> float: ...
def cross_entropy(
    x: _Array,
    grad: _Array | None,
    ids: _Array | None,
    width: int,
    id_probabilities: _Array | None,
    probabilities: _Array | None,
    ignore_index: int,
    weight: _Array | None,
    sample_weight: _Array | None,
    label_smoothing: float,
    z_loss: float,
    softcap: float,
    loss: _Array,
    lse: _Array | None,
    grad_output: _Array | None,
    mean: bool,
    temperature: _Temperature,
    where: _Mask,
    threads: int,
    isa: int,
    /,
) -> tuple[float, float]: ...
def reduce_losses(losses: _Array, weight: float, mean: bool, /) -> tuple[float, float]: ...
def selective_log_softmax(
    x: _Array, ids: _Array, width: int, out: _Array, temperature: _Temperature, threads: int, isa: int, /
) -> None: ...
def softmax_stats(
    x: _Array,
    target: _Array | None,
    top_n: int,
    lse: _Array | None,
    largest: _Array | None,
    argmax: _Array | None,
    entropy: _Array | None,
    target_log_prob: _Array | None,
    target_rank: _Array | None,
    top_log_probs: _Array | None,
    top_indices: _Array | None,
    temperature: _Temperature,
    threads: int,
    isa: int,
    /,
) -> None: ...
def head_update(
    x: _Array,
    bias: _Array | None,
    softcap: float,
    shares: _Array | None,
    target: _Array,
    first: int,
    earlier: float,
    states: _Array,
    rows: _Array,
    threads: int,
    isa: int,
    /,
) -> None: ...
def head_losses(
    states: _Array,
    rows: _Array,
    own: _Array,
    share: _Array,
    even: float,
    mass: float,
    z_loss: float,
    factor: _Array | None,
    loss: _Array,
    lse: _Array,
    every: _Array | None,
    at_target: _Array | None,
    isa: int,
    /,
) -> None: ...
def head_slopes(
    x: _Array,
    bias: _Array | None,
    softcap: float,
    shares: _Array | None,
    target: _Array,
    first: int,
    states: _Array,
    every: _Array,
    even: _Array,
    at_target: _Array,
    out: _Array,
    threads: int,
    isa: int,
    /,
) -> None: ...
def kl_divergence(p: _Array, q: _Array, out: _Array, threads: int, isa: int, /) -> None: ...

# `values` and `indices` are dense, k for each row; filters dense int64 and float64, one for each row.
def top_k(x: _Array, k: int, values: _Array, indices: _Array, threads: int, isa: int, /) -> None: ...
def mask_logits(
    x: _Array,
    top_k: _Array | None,
    top_p: _Array | None,
    min_p: _Array | None,
    out: _Array,
    threads: int,
    isa: int,
    /,
) -> None: ...

# Row states are dense float64 of shape (rows..., 8); `largest` and `log` have one number for each.
def logsumexp_update(x: _Array, states: _Array, threads: int, isa: int, /) -> None: ...
def logsumexp_merge(states: _Array, others: _Array, isa: int, /) -> None: ...
def logsumexp_value(states: _Array, largest: _Array, log: _Array, isa: int, /) -> None: ...
def normalize(x: _Array, states: _Array, grad: _Array | None, out: _Array, threads: int, isa: int, /) -> None: ...

# The distribution of a sampler. Counts and weights are dense float64.
class Sampler:
    @staticmethod
    def uniform(classes: int, /) -> Sampler: ...
    @staticmethod
    def log_uniform(classes: int, /) -> Sampler: ...
    @staticmethod
    def unigram(counts: _Array, power: float, /) -> Sampler: ...
    @staticmethod
    def mixture(parts: list[Sampler], weights: list[float], /) -> Sampler: ...
    @property
    def drawable(self) -> int: ...  # classes with q > 0
    # of a unigram law: log q of a class of each level, and sizes
    def counts(self) -> NDArray[np.float64]: ...
    def levels(self, first: int, most: int, /) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...

# int64 [rows, n]: the first n draws of rows `row`, `row` + 1, ...
def draw_rows(
    sampler: Sampler, seed: int, step: int, row: int, rows: int, n: int, threads: int, isa: int, /
) -> NDArray[np.int64]: ...

# The first n distinct classes, and when the next one comes if draws come at rate 1 (inf: never).
def draw_unique(
    sampler: Sampler, seed: int, step: int, row: int, n: int, clocks: bool, threads: int, isa: int, /
) -> tuple[NDArray[np.int64], float]: ...
def log_prob(sampler: Sampler, ids: _Array, out: _Array, threads: int, isa: int, /) -> None: ...

# ids, and where wanted log-probabilities and whether they are valid: [rows, size]; one temperature for each row
def sample(
    x: _Array,
    size: int,
    replace: bool,
    temperature: _Array,
    top_k: _Array | None,
    top_p: _Array | None,
    min_p: _Array | None,
    seed: int,
    step: int,
    row: int,
    ids: _Array,
    log_prob: _Array | None,
    valid: _Array | None,
    where: _Mask,
    threads: int,
    isa: int,
    /,
) -> None: ...

# x + noise, in the compute type
def add_gumbel(x: _Array, out: _Array, seed: int, step: int, row: int, threads: int, isa: int, /) -> None: ...

# A batch that meets sampled classes: arrays are dense, one number a row or a target in float64 and int64, the rest of
# the compute type of the table.
class SampledBatch:
    def __init__(
        self,
        table: _Array,
        bias: _Array | None,
        features: _Array,
        offsets: _Array,
        ids: _Array,
        share: _Array,
        target_shift: _Array,
        kind: int,
        drop_hits: bool,
        average: bool,
        draws: int,
        shift: _Array,
        inverse_temperature: float,
        grad_output: _Array | None,
        loss: _Array,
        lse: _Array,
        effective: _Array,
        hits: _Array,
        target_slope: _Array,
        /,
    ) -> None: ...
    def shared(
        self,
        ids: _Array,
        counts: _Array,
        staged_counts: _Array,
        shares: _Array,
        adjust: _Array,
        first: int,
        logits: _Array,
        threads: int,
        isa: int,
        /,
    ) -> None: ...
    def add_targets(self, first: int, grad: _Array, threads: int, isa: int, /) -> None: ...
    def own(
        self,
        ids: _Array,
        adjust: _Array,
        first: int,
        slopes: _Array,
        grad: _Array | None,
        threads: int,
        isa: int,
        /,
    ) -> None: ...

def gather_rows(table: _Array, ids: _Array, out: _Array, threads: int, isa: int, /) -> None: ...
def sort_ids(ids: _Array, classes: int, order: _Array, /) -> None: ...
def sum_groups(
    rows: _Array,
    coefficients: _Array | None,
    width: int,
    other_rows: _Array,
    other_coefficients: _Array,
    other_numbers: _Array,
    order: _Array,
    starts: _Array,
    sums: _Array,
    threads: int,
    isa: int,
    /,
) -> None: ...
def update_rows(
    table: _Array,
    ids: _Array,
    changes: _Array,
    rate: float,
    state: _Array | None,
    eps: float,
    threads: int,
    isa: int,
    /,
) -> None: ...

# float32, for `python -m vastmax bench`
def stream_copy(x: _Array, out: _Array, threads: int, isa: int, /) -> None: ...

# Whether an op may read `a` while it writes `out`; False where only an exact test of overlap could tell.
def apart_or_same(a: _Array, out: _Array, /) -> bool: ...

# One call for plain, contiguous arrays; None where the arguments need more.
def softmax_plain(x: object, out: object, /) -> _Array | None: ...
def log_softmax_plain(x: object, out: object, /) -> _Array | None: ...
def logsumexp_plain(x: object, every_axis: bool, /) -> _Array | np.floating[Any] | None: ...
def softplus_plain(x: object, out: object, /) -> _Array | None: ...
def sigmoid_plain(x: object, out: object, /) -> _Array | None: ...
def log_sigmoid_plain(x: object, out: object, /) -> _Array | None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int, /) -> None: ...
def threads_source() -> str: ...
def isas() -> list[str]: ...
def isa_runnable(isa: int, /) -> bool: ...
def get_isa() -> int: ...
def set_isa(isa: int, /) -> None: ...
def plan(rows: int, classes: int, itemsize: int, threads: int, /) -> tuple[str, int, int]: ...
def block_length(itemsize: int, /) -> int: ...
def build_config() -> dict[str, str]: ...
def caches() -> dict[str, int]: ...
