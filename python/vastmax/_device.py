# SPDX-License-Identifier: Apache-2.0
"""Arrays on a GPU, in and out, from any library.

A GPU array is described by an ndarray over its device address. NumPy then does the arithmetic of shapes and strides;
nothing may read or write its elements on the host, so conversions and copies go through `Site.converted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import _arrays, _config, _guests
from ._backends import cuda_module
from ._choose import Planned, choose
from .cuda import DeviceArray
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from ._arrays import Array
    from ._guests import Foreign
    from ._rows import Rows

_CUDA, _MANAGED = 2, 13  # device types of DLPack
_KINDS = {(code, 8 * n): f"{kind}{n}" for code, kind in ((0, "i"), (1, "u"), (2, "f")) for n in (1, 2, 4, 8)}
_KINDS |= {(6, 8): "?", (5, 64): "c8", (5, 128): "c16"}
del _KINDS[2, 8]
_ACCEPTED = "float16, bfloat16, float32, float64"


class _Described:
    def __init__(self, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, kind: str) -> None:
        self.__array_interface__ = {
            "data": (pointer, False),
            "shape": shape,
            "strides": strides,
            "typestr": kind,
            "version": 3,
        }


def describe(pointer: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: np.dtype[Any]) -> Array:
    """Return an ndarray that describes device memory."""
    if 0 in shape:
        return np.empty(shape, dtype)
    bare = np.dtype(np.uint16) if dtype.type.__name__ == "bfloat16" else dtype
    return np.asarray(_Described(pointer, shape, strides, bare.str)).view(dtype)


class Site:
    """One call on a GPU: its device and stream, what it must keep alive, and how its result goes back."""

    def __init__(self, op: str, *arrays: object) -> None:
        self.op, self._kept = op, list[object]()
        self.module = cuda_module()
        self.guest = next(a for a in arrays if a is not None and _arrays.home(a) == "cuda")
        self.device = _guests.device_of(op, "an array", self.guest)
        wish = wished_stream(op, self.device)
        self.stream = _guests.current_stream(self.guest, self.device) if wish is None else wish

    def chosen(
        self,
        rows: int,
        classes: int,
        dtype: np.dtype[Any],
        table: tuple[int, str] | None = None,
        *,
        out: tuple[Foreign, tuple[int, ...], np.dtype[Any]] | None = None,
    ) -> None:
        """End the call here if `explain` asks; nothing has been written yet. `table` is that of `Planned`.

        `out` is a destination that the call has still to check, and what its shape and dtype must be.
        """
        options = _config.current()
        if options.explaining:
            if out is not None and out[0] is not None:
                self._out(*out)
            choice = choose(self.op, "cuda", options.device, rows, classes, dtype, absent=dict, measured=lambda: None)
            raise Planned(self.op, "cuda", choice, rows, classes, dtype, table)

    @property
    def rest(self) -> tuple[int, int, int]:
        """The trailing arguments of the extension."""
        return self.device, self.stream, 0

    def floats(self, argument: str, value: ArrayLike, dtype: DTypeLike | None = None) -> Array:
        """Return logits or gradients on the device."""
        if _arrays.home(value) == "cpu":
            return self.upload(_arrays.floats(self.op, argument, value, dtype))
        view, _ = self._take(argument, value)
        if not _arrays.is_float(view.dtype):
            raise TypeError(message(self.op, argument, f"has dtype {view.dtype}", f"{_ACCEPTED} on a GPU"))
        return view if dtype is None else self.converted(view, _arrays.wanted(self.op, dtype))

    def joining(self, argument: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
        """Return what is given beside logits of `dtype`, as `_arrays.joining` does."""
        if _arrays.home(value) == "cpu":
            return self.upload(_arrays.joining(self.op, argument, value, dtype))
        return self.floats(argument, value)

    def alike(self, *views: Array) -> tuple[Array, ...]:
        """Bring arrays to one dtype that holds them all."""
        kind = _arrays.common(*views)
        return tuple(self.converted(view, kind) for view in views)

    def converted(self, view: Array, dtype: np.dtype[Any]) -> Array:
        """Return `view` in another dtype."""
        return view if view.dtype == dtype else self.copied(view, dtype)

    def copied(self, view: Array, dtype: np.dtype[Any] | None = None) -> Array:
        """Copy an array into device memory of its own, in C order."""
        made = self.fresh(view.shape, view.dtype if dtype is None else dtype)
        self.module.convert(view, made, *self.rest)
        return made

    @overload
    def apart(self, view: Array, out: Array) -> Array: ...
    @overload
    def apart(self, view: Array | None, out: Array) -> Array | None: ...
    def apart(self, view: Array | None, out: Array) -> Array | None:
        """Copy `view` if it shares a part of its memory with `out`. An exact alias stays: kernels work in place."""
        return self.copied(view) if view is not None and _arrays.overlap(view, out) else view

    def clear_of(self, out: Array, *views: Array | None) -> tuple[Any, ...]:
        """Copy what shares memory with `out`: kernels may read these again after they have written there."""
        return tuple(self.copied(view) if view is not None and _arrays.share(view, out) else view for view in views)

    def temperature(self, rows: Rows, value: ArrayLike | None) -> Array | None:
        """Check one on the host, where it must be looked at anyway, and bring it to the device."""
        if value is not None and _arrays.home(value) == "cuda":
            value = self.fetch(*self._take("temperature", value))
        t = rows.temperature(value)
        return None if t is None else self.upload(t)

    def mask(self, rows: Rows, value: ArrayLike | None) -> Array | None:
        """Return a mask on the device, with the full shape, rows last."""
        if value is None:
            return None
        if _arrays.home(value) == "cuda":
            mask, _ = self._take("where", value)
        else:
            mask = self.upload(np.asarray(value))
        spread = rows.mask(mask)
        assert spread is not None
        return self.rows(rows, spread)

    def rows(self, rows: Rows, view: Array) -> Array:
        """Rows along the last axis: a view if strides allow one, else a copy."""
        found = _rows(rows, view)
        return self.copied(rows.moved(view)).reshape(*rows.result, rows.classes) if found is None else found

    def fill_rows(self, op: str, rows: Rows, inputs: tuple[Array, ...], y: Array, *arguments: object) -> None:
        """Run a kernel that writes `y`, by way of a temporary where its rows cannot be a view."""
        found, moved = _rows(rows, y), rows.moved(y)
        target = self.fresh(moved.shape, y.dtype).reshape(*rows.result, rows.classes) if found is None else found
        getattr(self.module, op)(*inputs, target, *arguments, *self.rest)
        if found is None:
            self.module.convert(target.reshape(moved.shape), moved, *self.rest)

    def result(self, out: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Callable[[], Array]]:
        """Return the destination on the device, and what hands it to the user once the work is enqueued.

        What the user gets is an array of the guest's library, whatever the annotation says.
        """
        if out is not None:
            return self._out(out, shape, dtype)
        found, given = _guests.empty_beside(self.guest, self.op, shape, dtype, self.device, self.stream)
        view, _ = self._take("out", found)
        return view, given

    def narrowed(
        self, shape: tuple[int, ...], kind: np.dtype[Any], dtype: np.dtype[Any]
    ) -> tuple[Array, Callable[[], Array]]:
        """Return room for results of a wider kind, and what hands them to the user in `dtype`."""
        made = self.fresh(shape, kind)
        return made, lambda: self.given(made, shape, dtype)

    def given(self, values: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Hand numbers of a workspace to the user, in this shape and dtype."""
        made, give = self.result(None, shape, dtype)
        self.module.convert(values.reshape(shape), made, *self.rest)
        return give()

    def _out(self, out: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Callable[[], Array]]:
        if _arrays.home(out) != "cuda":
            raise TypeError(message(self.op, "out", f"is a {type(out).__name__}", f"an array on cuda:{self.device}"))
        if _guests.is_immutable(out):
            raise ValueError(message(self.op, "out", f"is a {type(out).__name__}, which is immutable", "no out="))
        view, read_only = self._take("out", out)
        if read_only:
            raise ValueError(message(self.op, "out", "is read-only", "a writable array"))
        checked = _arrays.destination(self.op, view, shape, dtype)
        assert checked is not None
        return checked, lambda: out

    def looked_at(self, argument: str, value: ArrayLike) -> Array:
        """Describe an array of any kind, for its shape and dtype."""
        return self._take(argument, value)[0] if _arrays.home(value) == "cuda" else np.asarray(value)

    def described(self, argument: str, value: ArrayLike) -> Array:
        """Describe an array on the device, of any dtype."""
        return self._take(argument, value)[0]

    def writable(self, argument: str, value: Foreign) -> Array:
        """Describe an array on the device that is to be changed in place."""
        view, read_only = self._take(argument, value)
        if read_only:
            raise ValueError(message(self.op, argument, "is read-only", "a writable array"))
        return view

    def integers(self, argument: str, value: ArrayLike) -> ArrayLike:
        """Return class numbers on the host, where they must be looked at anyway."""
        return self.fetch(*self._take(argument, value)) if _arrays.home(value) == "cuda" else value

    def doubles(self, argument: str, value: ArrayLike, *shapes: tuple[int, ...]) -> Array:
        """Return numbers of one of these shapes, or of any if none is named, as dense float64 on the device."""
        view = self.converted(self.floats(argument, value), _arrays.F64)
        if shapes and view.shape not in shapes:
            raise ValueError(message(self.op, argument, f"has shape {view.shape}", " or ".join(map(str, shapes))))
        return view if view.flags.c_contiguous else self.copied(view)

    def upload(self, host: Array) -> Array:
        """Copy a NumPy array to the device."""
        made = self.fresh(host.shape, host.dtype)
        dense = np.ascontiguousarray(host)
        if made.size:
            expect_no_capture(self.op, self.device, self.stream)
            self.module.copy(made.ctypes.data, dense.ctypes.data, made.nbytes, self.device, self.stream)
        return made

    def workspace(self, count: int) -> Array:
        """Return float64 numbers on the device that last as long as the call."""
        return self.fresh((count,), _arrays.F64)

    def fetch(self, view: Array, _read_only: bool = False) -> Array:
        """Copy a small device array to the host."""
        dense = view if view.flags.c_contiguous else self.copied(view)
        host = np.empty(view.shape, view.dtype)
        expect_no_capture(self.op, self.device, self.stream)
        self.module.copy(host.ctypes.data, dense.ctypes.data, view.nbytes, self.device, self.stream)
        self.module.synchronize(self.device, self.stream)
        return host

    def fresh(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Make an array that lives as long as this call."""
        made = DeviceArray(shape, dtype, self.device, self.stream, self.op)
        self._kept.append(made)
        return self._described(made)

    def _described(self, array: DeviceArray) -> Array:
        return describe(array.pointer, array.shape, None, array.dtype)

    def _take(self, argument: str, value: Foreign) -> tuple[Array, bool]:
        """Describe another library's array, ordered before our stream; and say whether it is read-only."""
        if (device := _guests.device_of(self.op, argument, value)) != self.device:
            raise ValueError(
                message(self.op, argument, f"is on cuda:{device}", f"cuda:{self.device}, as the others are")
            )
        _guests.expect_plain(self.op, argument, value)
        if isinstance(value, DeviceArray):
            if value.stream != self.stream:
                self.module.wait(self.stream, value.stream, self.device)
            return self._described(value), False
        if hasattr(value, "__dlpack__"):
            return self._take_dlpack(argument, value)
        interface = value.__cuda_array_interface__
        if interface.get("mask") is not None:
            raise TypeError(message(self.op, argument, "is a masked array", "a plain array, with where= for the mask"))
        if (theirs := interface.get("stream")) is not None:
            if theirs == 0 or not self.module.is_stream_of(self.device, _handle(theirs)):
                accepted = f"None, 1, 2, or a stream of cuda:{self.device} that still exists"
                raise ValueError(message(self.op, argument, f"names the stream {theirs:#x}", accepted))
            self.module.wait(self.stream, _handle(theirs), self.device)
        pointer, read_only = interface["data"]
        dtype = np.dtype(interface["typestr"])
        return self._in_memory(argument, pointer, tuple(interface["shape"]), interface.get("strides"), dtype), read_only

    def _take_dlpack(self, argument: str, value: Foreign) -> tuple[Array, bool]:
        capsule = _guests.exported(value, self.device, self.stream)
        pointer, _, kind, shape, steps, read_only, owner = self.module.import_dlpack(capsule)
        self._kept.append(owner)
        code, bits, lanes = kind
        dtype = _bfloat16() if (code, bits) == (4, 16) else np.dtype(_KINDS.get((code, bits), "V1"))
        if lanes != 1 or (dtype.kind == "V" and dtype.itemsize == 1):
            given = f"has DLPack type code {code} of {bits} bits"
            raise TypeError(message(self.op, argument, given, f"{_ACCEPTED} on a GPU"))
        strides = None if steps is None else tuple(step * dtype.itemsize for step in steps)
        return self._in_memory(argument, pointer, tuple(shape), strides, dtype), read_only

    def _in_memory(
        self, argument: str, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: np.dtype[Any]
    ) -> Array:
        if pointer == 0 and 0 not in shape:
            raise ValueError(message(self.op, argument, "has no memory, as fake tensors have none", "arrays on a GPU"))
        return describe(pointer, shape, strides, dtype)


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("bfloat16 arrays on a GPU need the package ml_dtypes: pip install '.[bf16]'") from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _rows(rows: Rows, view: Array) -> Array | None:
    """Rows along the last axis, if that can be a view."""
    if not rows.merging:
        return rows.of(view)
    moved, first = rows.moved(view), len(rows.result)
    shape, strides = moved.shape, moved.strides
    if any(shape[d] != 1 and shape[d + 1] * strides[d + 1] != strides[d] for d in range(first, moved.ndim - 1)):
        return None
    return np.lib.stride_tricks.as_strided(moved, (*rows.result, rows.classes), (*strides[:first], strides[-1]))


def _handle(stream: int) -> int:
    return 0 if stream == 1 else stream


def expect_no_capture(op: str, device: int, stream: int) -> None:
    """Refuse host memory while a graph is captured: its replays would read or write there again."""
    if cuda_module().is_capturing(device, stream):
        given = "is captured into a graph, and these arguments take a copy between host and device"
        raise ValueError(message(op, "stream", given, "arrays on the GPU as logits, gradients, weights and masks only"))


def wished_stream(op: str, device: int) -> int | None:
    """Return the stream of `config`, if it names one."""
    wish = _config.current().stream
    if wish is None:
        return None
    if not cuda_module().is_stream_of(device, _handle(wish)):
        raise ValueError(
            message(op, "stream", f"is {wish:#x}", f"streams of cuda:{device} that still exist, or 0, 1, 2")
        )
    return _handle(wish)
