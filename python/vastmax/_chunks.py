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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arrays, _policy
from ._backends import cuda_module
from ._device import describe, expect_no_capture, wished_stream
from .cuda import DeviceArray
from .errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._arrays import Array

    Index = tuple[int | slice, ...]
    Arguments = tuple[Any, ...]  # of a kernel: arrays, None, numbers


class _Cut(NamedTuple):
    rows: bool  # the last axis of the largest array stays whole
    written: tuple[int, ...]  # places of the results among the arguments
    whole: tuple[int, ...] = ()  # of what every chunk needs all of; so it is with a number


# The shapes of op that `_call` has, with the arguments in its order.
_CUTS = {
    "norm_map": _Cut(True, (1,)),
    "norm_reduce": _Cut(True, (1,)),
    "norm_reduce_weighted": _Cut(True, (2, 3)),
    "norm_grad": _Cut(True, (2,)),
    "row_grad": _Cut(True, (2,)),
    "norm_loss": _Cut(True, (1, 12, 13, 18), whole=(7, 18)),
    "norm_pick": _Cut(True, (3,)),
    "row_stats": _Cut(True, tuple(range(3, 11))),
    "norm_divergence": _Cut(True, (2,)),
    "top_k": _Cut(True, (2, 3)),
    "masked": _Cut(True, (4,)),
    "sample": _Cut(True, (10, 11, 12)),
    "elementwise": _Cut(False, (1,)),
    "elementwise_grad": _Cut(False, (2,)),
    "elementwise_loss": _Cut(False, (4, 5)),
}
_ALIGNMENT = 256  # of arrays in a block, as of allocations


def run(shape: str, op: str, kernel: str, *arguments: Any) -> float | tuple[float, float] | None:  # noqa: ANN401
    """Run a kernel of the core on the GPU, with the core's arguments, and return what the core does.

    That is the sum of a loss without an array for it, and of a loss of rows with that of their weights.
    """
    module = cuda_module()
    launch, cut = getattr(module, kernel, None), _CUTS.get(shape)
    if launch is None or cut is None:
        raise BackendUnavailable(f"{op}: device='cuda' was asked for, but no GPU does it yet; accepted: None or 'cpu'")
    if shape == "elementwise_loss":
        if arguments[4] is None:
            return _summed(op, launch, arguments, cut)
        arguments = (*arguments, 0)  # no sum is wanted
    if shape == "norm_loss":
        return _reduced(op, launch, arguments, cut)
    (_drawn if shape == "sample" else _in_chunks)(op, launch, arguments, cut)
    return None


def _in_chunks(op: str, launch: Callable[..., None], arguments: Arguments, cut: _Cut) -> None:
    arrays = [a for i, a in enumerate(arguments) if isinstance(a, np.ndarray) and i not in cut.whole]
    besides = sum(arguments[i].nbytes for i in cut.whole if arguments[i] is not None)
    lead = max((a.shape for a in arrays), key=len)[: -1 if cut.rows else None]
    most = most_at_once(sum(a.nbytes for a in arrays), prod(lead), cuda_module().current_device(), besides)
    pieces = (_piece(arguments, index, cut.whole) for index in blocks(lead, most))
    _stream_through(op, launch, pieces, cut)


def _drawn(op: str, launch: Callable[..., None], arguments: Arguments, cut: _Cut) -> None:
    """Run draws, which go by the number of their row."""
    first, lead = arguments[9], arguments[0].shape[:-1]
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    most = most_at_once(sum(a.nbytes for a in arrays), prod(lead), cuda_module().current_device())

    def numbered(index: Index) -> Arguments:
        start = [i.start if isinstance(i, slice) else i for i in index] + [0] * (len(lead) - len(index))
        row = first + (int(np.ravel_multi_index(start, lead)) if lead else 0)
        piece = _piece(arguments, index)
        return (*piece[:9], row, *piece[10:])

    _stream_through(op, launch, (numbered(index) for index in blocks(lead, most)), cut)


def most_at_once(nbytes: int, count: int, device: int, besides: int = 0) -> int:
    """Return how many of `count` rows or elements, which hold `nbytes` in all, make a chunk: at least one.

    `besides` goes with every chunk.
    """
    free, _ = cuda_module().memory(device)
    budget = min(_policy.CHUNK_BYTES, int(free * _policy.SHARE_OF_FREE_MEMORY) // _policy.LANES) - besides
    return max(1, budget * count // max(nbytes, 1))


def blocks(shape: tuple[int, ...], most: int) -> Iterator[Index]:
    """Cut the indices of an array into even boxes of at most `most`, in C order; none is larger than the first."""
    if 0 in shape:
        return
    if not shape:
        yield ()
        return
    inner = prod(shape[1:])
    if inner <= most:
        step = _even(shape[0], most // inner)
        yield from ((slice(i, min(i + step, shape[0])),) for i in range(0, shape[0], step))
    else:
        yield from ((i, *rest) for i in range(shape[0]) for rest in blocks(shape[1:], most))


def _even(n: int, most: int) -> int:
    """Return the step that cuts n into as few parts as `most` does, but none much shorter than the others."""
    return -(-n // -(-n // most))


def _piece(arguments: Arguments, index: Index, whole: Sequence[int] = ()) -> Arguments:
    def cut(i: int, a: Any) -> Any:  # noqa: ANN401
        return a[(*index, ...)] if isinstance(a, np.ndarray) and a.ndim and i not in whole else a

    return tuple(cut(i, a) for i, a in enumerate(arguments))


def _stream_through(op: str, launch: Callable[..., None], pieces: Iterator[Arguments], cut: _Cut) -> None:
    first = next(pieces, None)
    if first is None:
        return
    device = cuda_module().current_device()
    _, _, nbytes = _places(first, cut.written)
    open_lane = partial(_lane, op, device, _stream(op, device), nbytes)
    with ExitStack() as stack:
        lanes: list[_Lane] = []
        for n, piece in enumerate(chain([first], pieces)):
            if n < _policy.LANES:
                lanes.append(stack.enter_context(open_lane()))
            lanes[n % _policy.LANES].send(launch, piece, cut.written)
        for lane in lanes:
            lane.land()


def _stream(op: str, device: int) -> int | None:
    """Return the stream of `config` that all chunks go through, if it names one."""
    stream = wished_stream(op, device)
    if stream is not None:
        expect_no_capture(op, device, stream)
    return stream


def _summed(op: str, launch: Callable[..., None], arguments: Arguments, cut: _Cut) -> float:
    """Run a loss for its sum, which the device forms of tiles in index order, wherever chunks end."""
    module = cuda_module()
    *arrays, scale = arguments
    flat: Arguments = tuple(None if a is None else a.reshape(-1) for a in arrays)
    logits, gradient = arrays[0], arrays[5]
    if not logits.size:
        return 0.0
    device = module.current_device()
    stream = _stream(op, device) or 0
    tile = module.loss_tile(logits)
    tiles = -(-logits.size // tile)
    parts = DeviceArray((tiles, 2), np.dtype(np.float64), device, stream, op)
    total = DeviceArray((1,), np.dtype(np.float64), device, stream, op)
    module.synchronize(device, stream)  # lanes have streams of their own
    most = most_at_once(sum(a.nbytes for a in flat if a is not None), logits.size, device)
    step = max(most // tile, 1) * tile
    pieces = (
        (*_piece(flat, (slice(i, i + step),)), scale, parts.pointer + 16 * (i // tile))
        for i in range(0, logits.size, step)
    )
    _stream_through(op, launch, pieces, cut)
    module.bce_total(tiles, parts.pointer, total.pointer, device, stream, 0)
    if gradient is not None and not np.may_share_memory(flat[5], gradient):
        gradient[...] = flat[5].reshape(gradient.shape)
    return float(total.copy_to_host()[0])


def _reduced(op: str, launch: Callable[..., None], arguments: Arguments, cut: _Cut) -> tuple[float, float]:
    """Run a loss of rows; return the sum of all, and of their weights, which a mean's gradient needs beforehand."""
    x, grad, ids, width, id_probabilities, probabilities, ignore, of_class, of_row, *numbers = arguments
    smoothing, z, cap, loss, lse, scale, mean, t, mask = numbers
    if probabilities is not None:
        probabilities = probabilities.astype(_arrays.reduction_dtype(x.dtype), copy=False)
    weights = np.ones(loss.shape) if of_row is None else of_row.copy()
    if ids is not None:
        kept = (ids != ignore).reshape(*loss.shape, width)
        if of_class is not None and id_probabilities is None:
            weights *= of_class[np.where(kept[..., 0], ids.reshape(loss.shape), 0)]
        weights = np.where(kept.any(-1) & (True if of_row is None else of_row != 0), weights, 0.0)
    divisor = _sum(weights)
    of_nothing = mean and divisor == 0  # NaN, and its gradient 0
    if mean and grad is not None and not of_nothing:
        with np.errstate(all="ignore"):
            scale = np.asarray((1.0 if scale is None else scale) * (1.0 / np.float64(divisor)))
    target = (ids, width, id_probabilities, probabilities, ignore)
    options = (of_class, of_row, smoothing, z, cap, loss, lse, scale, False, t, mask, np.empty(2))
    _in_chunks(op, launch, (x, grad, *target, *options), cut)
    if of_nothing and grad is not None:
        grad[...] = 0
    return _sum(loss), divisor


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
        self._pinned: Array = self._module.pinned(_policy.CHUNK_BYTES + len(_CUTS) * _ALIGNMENT)
        self._own = self._stream = self._module.new_stream(device)  # last: nothing else ends it
        self._memory = 0
        self._results: list[tuple[Array, Array]] = []

    def open(self, op: str, stream: int | None, nbytes: int) -> None:
        """Get memory for chunks of so many bytes; what is too long for pinned memory goes the slower way."""
        self._stream = self._own if stream is None else stream
        self._memory = self._module.allocate(nbytes, self._device, self._stream, op)
        self._host = self._pinned if nbytes <= self._pinned.size else np.empty(nbytes, np.uint8)

    def send(self, launch: Callable[..., None], arguments: Arguments, written: Sequence[int]) -> None:
        """Enqueue a chunk, once the one before is done."""
        self.land()
        places, results, end = _places(arguments, written)
        views = list(arguments)
        for i, at in places.items():
            a = arguments[i]
            staged = self._host[at : at + a.nbytes].view(a.dtype).reshape(a.shape)
            if i in written:
                self._results.append((a, staged))
            else:
                np.copyto(staged, a)
            views[i] = describe(self._memory + at, a.shape, None, a.dtype)
        host = self._host.ctypes.data
        self._module.copy(self._memory, host, results, self._device, self._stream)
        launch(*views, self._device, self._stream, 0)
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
        if len(idle) < _policy.LANES:
            idle.append(lane)
        else:
            lane.end()
