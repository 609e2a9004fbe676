# SPDX-License-Identifier: Apache-2.0
"""NumPy data on a GPU, cut into chunks that go there and back, so that device memory stays bounded.

A chunk is some rows, or some elements where an op knows no rows; where it is cut never shows in a result. Two lanes
take turns: while the device works for one, the host fills or empties the pinned memory of the other.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from math import fsum, isfinite, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from vastmax._backends import policy
from vastmax._backends.chunks import cut_arrays, leading_shape, piece_of, pieces
from vastmax._backends.conversion import weights_of_rows
from vastmax._backends.device import describe, expect_no_capture, wished_stream
from vastmax._backends.device_array import DeviceArray
from vastmax._backends.kernels import KERNELS, Loss
from vastmax._backends.load import cuda_module
from vastmax._operands import arrays
from vastmax.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vastmax._backends.chunks import Arguments
    from vastmax._backends.kernels import Kernel
    from vastmax._operands.arrays import Array


_ALIGNMENT = 256  # of arrays in a block, as of allocations
_MOST_OPERANDS = max(len(kernel.on_device.operands) for kernel in KERNELS.values())
_NO_PARTS = 0  # the address of the parts of a sum that nobody wants
_PART_BYTES = 16  # of a sum, with its compensation


def run(op: str, kernel: Kernel, arguments: Arguments) -> Any:  # noqa: ANN401
    """Run a kernel on the GPU, with the core's arguments, and return what the core does.

    That is the sum of a loss without an array for it, and of a loss of rows with that of their weights.
    """
    if not hasattr(cuda_module(), kernel.function):
        raise BackendUnavailable(f"{op}: device='cuda' was asked for, but no GPU does it yet; accepted: None or 'cpu'")
    of = dict(zip(kernel.names, arguments, strict=True))
    if kernel.loss is Loss.OF_ROWS:
        return _reduced(op, kernel.on_device, of)
    if kernel.loss is Loss.OF_ELEMENTS:
        if of["loss"] is None:
            return _summed(op, kernel.on_device, of)
        arguments = (*arguments, _NO_PARTS)
    _in_chunks(op, kernel.on_device, arguments)
    return None


def _in_chunks(op: str, kernel: Kernel, arguments: Arguments) -> None:
    besides = sum(arguments[i].nbytes for i in kernel.whole if arguments[i] is not None)
    lead = leading_shape(kernel, arguments)
    nbytes = sum(a.nbytes for a in cut_arrays(kernel, arguments))
    most = most_at_once(nbytes, prod(lead), cuda_module().current_device(), besides)
    _stream_through(op, kernel, pieces(kernel, arguments, lead, most))


def most_at_once(nbytes: int, count: int, device: int, besides: int = 0) -> int:
    """Return how many of `count` rows or elements, which hold `nbytes` in all, make a chunk: at least one.

    `besides` goes with every chunk.
    """
    free, _ = cuda_module().memory(device)
    budget = min(policy.CHUNK_BYTES, int(free * policy.SHARE_OF_FREE_MEMORY) // policy.LANES) - besides
    return max(1, budget * count // max(nbytes, 1))


def _stream_through(op: str, kernel: Kernel, chunks: Iterator[Arguments]) -> None:
    first = next(chunks, None)
    if first is None:
        return
    device = cuda_module().current_device()
    _, _, nbytes = _places(first, kernel.written)
    open_lane = partial(_lane, op, device, _stream(op, device), nbytes)
    with ExitStack() as stack:
        lanes: list[_Lane] = []
        for n, chunk in enumerate(chain([first], chunks)):
            if n < policy.LANES:
                lanes.append(stack.enter_context(open_lane()))
            lanes[n % policy.LANES].send(kernel, chunk)
        for lane in lanes:
            lane.land()


def _stream(op: str, device: int) -> int | None:
    """Return the stream of `config` that all chunks go through, if it names one."""
    stream = wished_stream(op, device)
    if stream is not None:
        expect_no_capture(op, device, stream)
    return stream


def _summed(op: str, kernel: Kernel, of: dict[str, Any]) -> float:
    """Run a loss for its sum, which the device forms of tiles in index order, wherever chunks end."""
    module = cuda_module()
    flat = {name: a.reshape(-1) if isinstance(a, np.ndarray) else a for name, a in of.items()}
    logits, gradient = of["x"], of["grad"]
    if not logits.size:
        return 0.0
    device = module.current_device()
    stream = _stream(op, device) or 0
    tile = module.loss_tile(logits)
    tiles = -(-logits.size // tile)
    parts = DeviceArray((tiles, 2), np.dtype(np.float64), device, stream, op)
    total = DeviceArray((1,), np.dtype(np.float64), device, stream, op)
    module.synchronize(device, stream)  # lanes have streams of their own
    nbytes = sum(a.nbytes for a in flat.values() if isinstance(a, np.ndarray))
    step = max(most_at_once(nbytes, logits.size, device) // tile, 1) * tile
    chunks = (
        (*piece_of(tuple(flat.values()), (slice(i, i + step),)), parts.pointer + _PART_BYTES * (i // tile))
        for i in range(0, logits.size, step)
    )
    _stream_through(op, kernel, chunks)
    module.bce_total(tiles, parts.pointer, total.pointer, device, stream, 0)
    if gradient is not None and not np.may_share_memory(flat["grad"], gradient):
        gradient[...] = flat["grad"].reshape(gradient.shape)
    return float(total.copy_to_host()[0])


def _reduced(op: str, kernel: Kernel, of: dict[str, Any]) -> tuple[float, float]:
    """Run a loss of rows; return the sum of all, and of their weights, which a mean's gradient needs beforehand."""
    if of["probabilities"] is not None:
        of["probabilities"] = arrays.cast(of["probabilities"], arrays.reduction_dtype(of["x"].dtype))
    divisor = _sum(weights_of_rows(of))
    grad, scale = of["grad"], of["grad_output"]
    of_nothing = of["mean"] and divisor == 0  # NaN, and its gradient 0
    if of["mean"] and grad is not None and not of_nothing:
        with np.errstate(all="ignore"):
            of["grad_output"] = np.asarray((1.0 if scale is None else scale) * (1.0 / np.float64(divisor)))
    of["mean"], of["totals"] = False, np.empty(2)
    _in_chunks(op, kernel, kernel.arguments(of))
    if of_nothing and grad is not None:
        grad[...] = 0
    return _sum(of["loss"]), divisor


def _sum(values: Array) -> float:
    """Return the sum, rounded once: wherever chunks end it is the same."""
    with np.errstate(all="ignore"):
        total = float(values.sum())
    return fsum(values.ravel()) if isfinite(total) else total


def _places(arguments: Arguments, written: Sequence[int]) -> tuple[dict[int, int], int, int]:
    """Return where each array lies in a block, where the results begin there, and where the block ends."""
    places: dict[int, int] = {}
    end = results = 0
    for writes in (False, True):
        results = end
        for i, a in enumerate(arguments):
            if isinstance(a, np.ndarray) and (i in written) == writes:
                places[i] = end
                end += -(-a.nbytes // _ALIGNMENT) * _ALIGNMENT
    return places, results, end


class _Lane:
    """A stream, and for the call in progress a block of device memory and one of the host with the same layout."""

    def __init__(self, device: int) -> None:
        self._module, self._device = cuda_module(), device
        self._pinned: Array = self._module.pinned(policy.CHUNK_BYTES + _MOST_OPERANDS * _ALIGNMENT)
        self._own = self._stream = self._module.new_stream(device)  # last: nothing else ends it
        self._memory = 0
        self._results: list[tuple[Array, Array]] = []

    def open(self, op: str, stream: int | None, nbytes: int) -> None:
        """Get memory for chunks of so many bytes; what is too long for pinned memory goes the slower way."""
        self._stream = self._own if stream is None else stream
        self._memory = self._module.allocate(nbytes, self._device, self._stream, op)
        self._host = self._pinned if nbytes <= self._pinned.size else np.empty(nbytes, np.uint8)

    def send(self, kernel: Kernel, arguments: Arguments) -> None:
        """Enqueue a chunk, once the one before is done."""
        self.land()
        places, results, end = _places(arguments, kernel.written)
        views = list(arguments)
        for i, at in places.items():
            a = arguments[i]
            staged = self._host[at : at + a.nbytes].view(a.dtype).reshape(a.shape)
            if i in kernel.written:
                self._results.append((a, staged))
            else:
                np.copyto(staged, a)
            views[i] = describe(self._memory + at, a.shape, None, a.dtype)
        host = self._host.ctypes.data
        self._module.copy(self._memory, host, results, self._device, self._stream)
        getattr(self._module, kernel.function)(*views, self._device, self._stream, 0)
        self._module.copy(host + results, self._memory + results, end - results, self._device, self._stream)

    def land(self) -> None:
        """Wait for the chunk in flight, and hand over its results."""
        self._module.synchronize(self._device, self._stream)
        for a, staged in self._results:
            a[...] = staged
        self._results.clear()

    def close(self) -> None:
        """End the call, finished or not."""
        self._results.clear()
        self._module.synchronize(self._device, self._stream)
        if self._memory:
            self._module.free(self._memory, self._device, self._stream, False)
            self._memory = 0

    def end(self) -> None:
        self._module.end_stream(self._device, self._own)


_idle: dict[int, list[_Lane]] = {}  # by device; pinned memory is dear to make


@contextmanager
def _lane(op: str, device: int, stream: int | None, nbytes: int) -> Iterator[_Lane]:
    idle = _idle.setdefault(device, [])
    try:
        lane = idle.pop()
    except IndexError:
        lane = _Lane(device)
    try:
        lane.open(op, stream, nbytes)
        yield lane
    finally:
        lane.close()
        if len(idle) < policy.LANES:
            idle.append(lane)
        else:
            lane.end()
