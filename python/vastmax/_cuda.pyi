# SPDX-License-Identifier: Apache-2.0
# The CUDA extension. Arrays are ndarrays that describe device memory, and results lie there; kernels are enqueued on a
# stream of the device (0: the legacy default). The operands of kernels are those of vastmax/_backends/kernels.py.
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_Array: TypeAlias = NDArray[Any]
_Temperature: TypeAlias = NDArray[np.float64] | None
_Mask: TypeAlias = NDArray[np.bool_] | None

simulated: bool  # whether the SIMT machine on the host stands for a GPU

def softmax(
    x: _Array, out: _Array, temperature: _Temperature, where: _Mask, device: int, stream: int, strategy: int
) -> None: ...
def log_softmax(
    x: _Array, out: _Array, temperature: _Temperature, where: _Mask, device: int, stream: int, strategy: int
) -> None: ...
def softmax_backward(
    g: _Array, y: _Array, out: _Array, temperature: _Temperature, device: int, stream: int, strategy: int
) -> None: ...
def log_softmax_backward(
    g: _Array, y: _Array, out: _Array, temperature: _Temperature, device: int, stream: int, strategy: int
) -> None: ...
def logsumexp(
    x: _Array, out: _Array, temperature: _Temperature, where: _Mask, device: int, stream: int, strategy: int
) -> None: ...
def logsumexp_weighted(
    a: _Array,
    b: _Array,
    out: _Array,
    sign: _Array | None,
    temperature: _Temperature,
    where: _Mask,
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def logsumexp_backward(
    grad: _Array,
    x: _Array,
    out: _Array,
    temperature: _Temperature,
    where: _Mask,
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def softplus(x: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int) -> None: ...
def sigmoid(x: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int) -> None: ...
def log_sigmoid(x: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int) -> None: ...
def logit(x: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int) -> None: ...
def softplus_backward(
    g: _Array, saved: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int
) -> None: ...
def sigmoid_backward(
    g: _Array, saved: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int
) -> None: ...
def log_sigmoid_backward(
    g: _Array, saved: _Array, out: _Array, beta: float, device: int, stream: int, strategy: int
) -> None: ...
def bce_with_logits(
    x: _Array,
    target: _Array,
    weight: _Array | None,
    pos_weight: _Array | None,
    loss: _Array | None,
    grad: _Array | None,
    grad_scale: float,
    parts: int,
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
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
    totals: _Array,
    device: int,
    stream: int,
    strategy: int,
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
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def selective_log_softmax(
    x: _Array, ids: _Array, width: int, out: _Array, temperature: _Temperature, device: int, stream: int, strategy: int
) -> None: ...
def kl_divergence(p: _Array, q: _Array, out: _Array, device: int, stream: int, strategy: int) -> None: ...
def sample(
    x: _Array,
    size: int,
    replace: bool,
    temperature: _Temperature,
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
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def gumbel_softmax(
    x: _Array,
    tau: float,
    hard: bool,
    seed: int,
    step: int,
    row: int,
    out: _Array,
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def top_k(x: _Array, k: int, values: _Array, indices: _Array, device: int, stream: int, strategy: int) -> None: ...
def mask_logits(
    x: _Array,
    top_k: _Array | None,
    top_p: _Array | None,
    min_p: _Array | None,
    out: _Array,
    device: int,
    stream: int,
    strategy: int,
) -> None: ...
def logsumexp_signs(value: _Array, sign: _Array | None, device: int, stream: int, strategy: int) -> None: ...

# One call for dense arrays whose library has DLPack's C exchange; None where the arguments need more.
def softmax_plain(x: object, out: object, /) -> object: ...
def log_softmax_plain(x: object, out: object, /) -> object: ...
def logsumexp_plain(x: object, out: object, /) -> object: ...
def softmax_backward_plain(g: object, y: object, out: object, /) -> object: ...
def log_softmax_backward_plain(g: object, y: object, out: object, /) -> object: ...
def softplus_plain(x: object, beta: float, out: object, /) -> object: ...
def sigmoid_plain(x: object, beta: float, out: object, /) -> object: ...
def log_sigmoid_plain(x: object, beta: float, out: object, /) -> object: ...
def logit_plain(x: object, beta: float, out: object, /) -> object: ...
def softplus_backward_plain(g: object, saved: object, beta: float, out: object, /) -> object: ...
def sigmoid_backward_plain(g: object, saved: object, beta: float, out: object, /) -> object: ...
def log_sigmoid_backward_plain(g: object, saved: object, beta: float, out: object, /) -> object: ...

# Sums of the losses of elements: parts of each tile, then their total.
def bce_total(tiles: int, parts: int, total: int, device: int, stream: int, strategy: int, /) -> None: ...
def loss_tile(like: _Array, /) -> int: ...

# Copies with a change of dtype or strides, and matrix products: to = a b, or `add`ed to it.
def convert(x: _Array, out: _Array, device: int, stream: int, strategy: int, /) -> None: ...
def product(a: _Array, b: _Array, to: _Array, add: bool, device: int, stream: int, strategy: int, /) -> None: ...

# Losses over sampled classes: samplers on a device, rows of tables, sums of gradients by class.
class Sampler:
    def __init__(self, native: object, device: int, /) -> None: ...

class SampledBatch:
    def __init__(self, *operands: object) -> None: ...
    def shared(self, *operands: object) -> None: ...
    def add_targets(self, *operands: object) -> None: ...
    def own(self, *operands: object) -> None: ...

def draw_rows(
    sampler: Sampler,
    seed: int,
    step: int,
    row: int,
    ids: _Array | None,
    log_q: _Array | None,
    device: int,
    stream: int,
    strategy: int,
    /,
) -> None: ...
def gather_rows(table: _Array, ids: _Array, out: _Array, device: int, stream: int, strategy: int, /) -> None: ...
def group_ids(
    ids: _Array,
    classes: int,
    order: _Array | None,
    starts: _Array | None,
    groups: _Array | None,
    device: int,
    stream: int,
    strategy: int,
    /,
) -> int: ...
def cut_pieces(starts: _Array, pieces: _Array | None, device: int, stream: int, strategy: int, /) -> int: ...
def most_of_a_piece() -> int: ...
def sum_groups(*operands: object) -> None: ...
def update_rows(
    table: _Array,
    ids: _Array,
    changes: _Array,
    rate: float,
    state: _Array | None,
    eps: float,
    device: int,
    stream: int,
    strategy: int,
    /,
) -> None: ...

# Devices, streams and memory. Addresses are ints.
def reason() -> str: ...
def has_image(architectures: str, capability: int, /) -> bool: ...
def device_count() -> int: ...
def device_info(device: int, /) -> dict[str, Any]: ...
def plan(rows: int, classes: int, like: _Array, reduces: bool, device: int, /) -> str: ...
def current_device() -> int: ...
def device_of(address: int, /) -> int: ...
def is_stream_of(device: int, stream: int, /) -> bool: ...
def is_capturing(device: int, stream: int, /) -> bool: ...
def new_stream(device: int, /) -> int: ...
def end_stream(device: int, stream: int, /) -> None: ...
def memory(device: int, /) -> tuple[int, int]: ...
def pinned(nbytes: int, /) -> NDArray[np.uint8]: ...
def allocate(nbytes: int, device: int, stream: int, what: str, /) -> int: ...
def free(address: int, device: int, stream: int, shared: bool, /) -> None: ...
def copy(to: int, source: int, nbytes: int, device: int, stream: int, /) -> None: ...
def synchronize(device: int, stream: int, /) -> None: ...
def wait(waiting: int, first: int, device: int, /) -> None: ...
def import_dlpack(capsule: object, /) -> tuple[Any, ...]: ...
def export_dlpack(
    owner: object,
    address: int,
    device: tuple[int, int],
    code: int,
    bits: int,
    shape: list[int],
    strides: list[int],
    versioned: bool,
    read_only: bool,
    /,
) -> object: ...
