# SPDX-License-Identifier: Apache-2.0
"""One call of an op, by vastmax and by its peers, on the same arrays; and the roofs that memory sets.

Each function gives a call without arguments, or None where the peer has no such op, dtype or axis.
"""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import vastmax
from vastmax import _core

from .onnx_model import one_node

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnxruntime
    import torch

    from .exact import Array
    from .timing import Call

PEERS = ("scipy", "torch", "onnxruntime", "simd_ml_kernels", "numpy")
ROOFS = ("read roof", "copy roof", "streamed copy")
SAMPLES: dict[str, dict[str, Any]] = {"sample": {}, "sample_top_p": {"top_p": 0.9}}
REDUCTIONS = ("logsumexp", "cross_entropy", "softmax_stats", "selective_log_softmax", "top_k", *SAMPLES)
MASKS = {"top_k_mask_logits": 50, "top_p_mask_logits": 0.9, "min_p_mask_logits": 0.05}
GRADIENTS = ("softmax_backward",)
WITH_TARGET = ("cross_entropy", "cross_entropy_with_grad", "softmax_stats", "selective_log_softmax")
OPS = (
    "softmax",
    "log_softmax",
    *REDUCTIONS,
    "cross_entropy_with_grad",
    *MASKS,
    "softplus",
    "sigmoid",
    "log_sigmoid",
    *GRADIENTS,
)
TOP_N = 20  # of softmax_stats
TOP_K = 50


class Arrays(NamedTuple):
    """Arrays that a call reads and may write."""

    x: Array
    y: Array  # the output of the forward op, for gradients
    out: Array


def installed(names: tuple[str, ...]) -> dict[str, str | None]:
    """Return the versions of packages, None where one is missing."""
    return {name: version(name) if importlib.util.find_spec(name) else None for name in names}


def ours(op: str, arrays: Arrays, axis: int, *, into: bool) -> Call:
    """Return a call of vastmax, into `out` if asked."""
    if op in SAMPLES:
        return partial(vastmax.sample, arrays.x, axis=axis, seed=0, **SAMPLES[op])
    function = getattr(vastmax, op)
    if op == "top_k":
        return partial(function, arrays.x, _some(arrays.x, axis), axis)
    if op in MASKS:
        return partial(function, arrays.x, MASKS[op], axis=axis)
    options: dict[str, Any] = {"out": arrays.out} if into else {}
    if op in WITH_TARGET:
        more = {"top_n": TOP_N} if op == "softmax_stats" else {}
        return partial(function, arrays.x, _target(arrays.x, axis), axis=axis, **more, **options)
    if op in GRADIENTS:
        return partial(function, arrays.x, arrays.y, axis, **options)
    if op in _ELEMENT_WISE:
        return partial(function, arrays.x, **options)
    if arrays.x.ndim == 1 and not into:
        return partial(function, arrays.x)
    return partial(function, arrays.x, axis, **options)


def _some(x: Array, axis: int) -> int:
    """Return how many of the largest are wanted."""
    return min(TOP_K, int(x.shape[axis]))


def _target(x: Array, axis: int) -> Array:
    """Return a class for each row, all over the classes."""
    shape = np.delete(x.shape, axis)
    ids: Array = np.arange(np.prod(shape)).reshape(shape) * 7919 % x.shape[axis]
    return ids


_ELEMENT_WISE = ("softplus", "sigmoid", "log_sigmoid")


def peers(op: str, arrays: Arrays, axis: int, wanted: tuple[str, ...]) -> dict[str, Call]:
    """Return the calls of the peers that are wanted, installed and able."""
    made = {}
    for name, (package, make) in _PEERS.items():
        if package in wanted and importlib.util.find_spec(package) is not None:
            call = make(op, arrays, axis)
            if call is not None:
                made[name] = call
    return made


def _scipy(op: str, arrays: Arrays, axis: int) -> Call | None:
    from scipy import special

    if arrays.x.dtype.name == "bfloat16":
        return None
    name = {"sigmoid": "expit", "log_sigmoid": "log_expit"}.get(op, op)
    function = getattr(special, name, None)
    if function is None:
        return None
    return partial(function, arrays.x) if op in _ELEMENT_WISE else partial(function, arrays.x, axis=axis)


def _tensor(x: Array) -> torch.Tensor:
    import torch

    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _torch_into(op: str, arrays: Arrays, axis: int) -> Call | None:
    import torch

    torch.set_num_threads(vastmax.get_num_threads())
    x, y, out = map(_tensor, arrays)
    if op == "softmax_backward":
        return partial(torch.ops.aten._softmax_backward_data.out, x, y, axis, x.dtype, grad_input=out)
    if op in WITH_TARGET or op in MASKS or op in SAMPLES or op == "top_k":
        return None
    if op in REDUCTIONS:
        result = torch.empty([n for i, n in enumerate(x.shape) if i != axis % x.ndim], dtype=x.dtype)
        return partial(torch.logsumexp, x, (axis,), out=result)
    if op in ("softmax", "log_softmax"):
        return partial(getattr(torch, op), x, axis, out=out)
    element_wise: dict[str, Callable[..., Any]] = {
        "softplus": torch._C._nn.softplus,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": torch._C._nn.log_sigmoid,
    }
    return partial(element_wise[op], x, out=out)


def _torch(op: str, arrays: Arrays, axis: int) -> Call | None:
    import torch

    torch.set_num_threads(vastmax.get_num_threads())
    if op in ("cross_entropy", "cross_entropy_with_grad") and axis in (-1, 1) and arrays.x.ndim == 2:
        return _torch_loss(op, arrays, axis)
    if op == "top_k":
        return partial(torch.topk, _tensor(arrays.x), _some(arrays.x, axis), axis)
    if op in SAMPLES and axis in (-1, arrays.x.ndim - 1):
        return partial(_torch_draw, _tensor(arrays.x), **SAMPLES[op])
    if op not in ("softmax", "log_softmax"):
        return None  # others are timed with out= alone
    return partial(getattr(torch, op), _tensor(arrays.x), axis)


def _torch_draw(x: torch.Tensor, top_p: float = 1) -> torch.Tensor:
    import torch

    if top_p == 1:
        return torch.multinomial(torch.softmax(x, -1), 1)
    z, order = torch.sort(x, -1)
    mass = torch.softmax(z, -1)
    kept = mass.masked_fill_(mass.cumsum(-1) <= 1 - top_p, 0)
    return order.gather(-1, torch.multinomial(kept, 1))


def _torch_loss(op: str, arrays: Arrays, axis: int) -> Call:
    import torch

    target = torch.from_numpy(_target(arrays.x, axis))
    if op == "cross_entropy":
        return partial(torch.nn.functional.cross_entropy, _tensor(arrays.x), target)
    logits = _tensor(arrays.x).requires_grad_()

    def forward_and_backward() -> object:
        logits.grad = None
        loss: Any = torch.nn.functional.cross_entropy(logits, target)
        loss.backward()
        return logits.grad

    return forward_and_backward


_ONNX = {
    "softmax": ("Softmax", "axis"),
    "log_softmax": ("LogSoftmax", "axis"),
    "logsumexp": ("ReduceLogSumExp", "axes"),
    "softplus": ("Softplus", ""),
    "sigmoid": ("Sigmoid", ""),
}


@cache
def _onnx_session(op: str, dtype: str, axis: int, threads: int) -> onnxruntime.InferenceSession | None:
    import onnxruntime

    node, attribute = _ONNX[op]
    attributes: dict[str, int | list[int]] = {}
    if attribute == "axis":
        attributes = {"axis": axis}
    elif attribute == "axes":
        attributes = {"axes": [axis], "keepdims": 0}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    model = one_node(node, dtype, attributes)
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # its own kinds of error, for a type that it has no kernel for
        return None


def _onnxruntime(op: str, arrays: Arrays, axis: int) -> Call | None:
    dtype = arrays.x.dtype.name
    if op not in _ONNX or dtype == "bfloat16":
        return None
    session = _onnx_session(op, dtype, axis, vastmax.get_num_threads())
    if session is None:
        return None
    out = np.empty(np.delete(arrays.x.shape, axis), arrays.x.dtype) if op in REDUCTIONS else arrays.out
    binding = session.io_binding()
    for bind, name, array in ((binding.bind_input, "x", arrays.x), (binding.bind_output, "y", out)):
        bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    keep = [out]  # the binding holds a bare address

    def call() -> object:
        session.run_with_iobinding(binding)
        return keep

    return call


def _simd_ml_kernels(op: str, arrays: Arrays, axis: int) -> Call | None:
    import simd_ml_kernels

    if op != "softmax" or arrays.x.dtype != np.float32 or axis not in (-1, arrays.x.ndim - 1):
        return None
    return partial(simd_ml_kernels.softmax, arrays.x)


def _numpy(op: str, arrays: Arrays, axis: int) -> Call | None:
    if arrays.x.dtype.name == "bfloat16":
        return None
    if op == "sample_top_p":
        return partial(_sort_and_draw, arrays.x, axis, SAMPLES[op]["top_p"], np.random.default_rng(0))
    return partial(np.argpartition, arrays.x, -_some(arrays.x, axis), axis) if op == "top_k" else None


def _sort_and_draw(x: Array, axis: int, p: float, rng: np.random.Generator) -> Array:
    """Draw from the nucleus as it is usually done, least likely classes first."""
    order = np.argsort(x, axis)
    z = np.take_along_axis(x, order, axis)
    mass = np.exp(z - np.take(z, [-1], axis))
    through = np.cumsum(mass, axis)
    total = np.take(through, [-1], axis)
    kept = through > (1 - p) * total
    left = np.sum(mass, axis, where=kept, keepdims=True)
    u = rng.random(left.shape, np.float32)
    place = np.sum(through <= total - u * left, axis, keepdims=True)
    ids: Array = np.take_along_axis(order, np.minimum(place, x.shape[axis] - 1), axis)
    return ids


_PEERS: dict[str, tuple[str, Callable[[str, Arrays, int], Call | None]]] = {
    "scipy": ("scipy", _scipy),
    "torch out=": ("torch", _torch_into),
    "torch": ("torch", _torch),
    "onnxruntime": ("onnxruntime", _onnxruntime),
    "simd_ml_kernels": ("simd_ml_kernels", _simd_ml_kernels),
    "numpy": ("numpy", _numpy),
}


def roof(name: str, arrays: Arrays) -> Call:
    """Return a threaded read or copy of the bytes of `x`, as `name` says: torch's, else NumPy's in threads.

    "streamed copy" writes past the caches, which neither of them does: it is our own, with nothing to compute.
    """
    whole = arrays.x.nbytes // 4 * 4 // arrays.x.itemsize  # an odd 16-bit element is left out
    x, out = (array.reshape(-1)[:whole].view(np.float32) for array in (arrays.x, arrays.out))
    if name == "streamed copy":
        return partial(_core.stream_copy, x, out, vastmax.get_num_threads(), -1)
    if importlib.util.find_spec("torch") is not None:
        source, target = _tensor(x), _tensor(out)
        return partial(source.sum) if name == "read roof" else partial(target.copy_, source)
    parts = list(zip(*(np.array_split(array, vastmax.get_num_threads()) for array in (x, out)), strict=True))
    read = name == "read roof"
    work = [partial(np.max, part) if read else partial(np.copyto, to, part) for part, to in parts]
    return lambda: list(_pool(len(work)).map(lambda call: call(), work))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
