# SPDX-License-Identifier: Apache-2.0
"""Arrays on a GPU, in and out, from any library.

A GPU array is described by an ndarray over its device address. NumPy then does the arithmetic of shapes and strides;
nothing may read or write its elements on the host, so conversions and copies go through `DeviceCall.cast`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vastmax._backends import array_libraries
from vastmax._backends.choose import Planned, choose
from vastmax._backends.device_array import DeviceArray
from vastmax._backends.load import cuda_module
from vastmax._operands import arrays
from vastmax._runtime import config
from vastmax.errors import message, serving

from .base import Output, clear_of_output
from .kernels import Loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, DTypeLike

    from vastmax._backends.array_libraries import Foreign
    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows

    from .kernels import Kernel

    DType = np.dtype[Any]

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


class DeviceCall:
    """One call on a GPU: its device and stream, what it must keep alive, and how its results go back."""

    def __init__(self, op: str, *operands: object) -> None:
        self.op, self._owners = op, list[object]()
        self.module = cuda_module()
        self.guest = next(a for a in operands if a is not None and arrays.device_kind(a) == "cuda")
        self.device = array_libraries.device_of(op, "an array", self.guest)
        wish = wished_stream(op, self.device)
        self.stream = array_libraries.current_stream(self.guest, self.device) if wish is None else wish

    @property
    def rest(self) -> tuple[int, int, int]:
        """The trailing arguments of the extension."""
        return self.device, self.stream, 0

    def plan(self, kernel: Kernel, rows: int, classes: int, dtype: DType) -> None:
        """End the call here if `explain` asks."""
        self.plan_table(kernel.name, rows, classes, dtype, None)

    def plan_table(self, op: str, rows: int, classes: int, dtype: DType, table: tuple[int, str] | None) -> None:
        """End the call here if `explain` asks; `table` is that of `Planned`."""
        options = config.current()
        if options.explaining:
            named = serving(op, self.op)
            choice = choose(named, "cuda", options.device, rows, classes, dtype, absent=dict, measured=lambda: None)
            raise Planned(named, "cuda", choice, rows, classes, dtype, table)

    def as_logits(
        self, argument: str, value: ArrayLike, dtype: DTypeLike | None = None, beside: DType | None = None
    ) -> tuple[Array, DType]:
        """Check an array of the full shape; return it on the device, and the dtype to compute in."""
        view = self.as_float_array(argument, value) if beside is None else self.as_operand(argument, value, beside)
        return view, view.dtype if dtype is None else arrays.check_dtype(self.op, dtype)

    def output(self, out: object, shape: tuple[int, ...], dtype: DType, *, like: Array | None = None) -> Output:
        """Check `out=` in full. New arrays are in C order, whatever the order of `like`."""
        output = Output(shape, dtype)
        if out is not None:
            output.given = out
            output.array, output.give = self._out(out, shape, dtype)
        return output

    def run(
        self,
        kernel: Kernel,
        rows: Rows | None,
        dtype: DType,
        /,
        **operands: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Allocate the outputs, copy what would be overwritten, and run the kernel. Return the sum of a loss."""
        for name in kernel.outputs:
            if operands[name] is not None and operands[name].given is not None:
                clear_of_output(kernel, operands, name, self.copied)
        for i in kernel.converted:
            if (a := operands[kernel.names[i]]) is not None:
                operands[kernel.names[i]] = self.cast(a, dtype)
        for name in kernel.outputs:
            if operands[name] is not None:
                operands[name] = self._room(operands[name])
        late = [] if rows is None else self._as_rows(kernel, rows, operands)
        sums = self._launched(kernel, operands)
        for found, wanted in late:
            self.module.convert(found, wanted, *self.rest)
        return sums

    def sums(self, found: Array) -> Any:  # noqa: ANN401
        """Return on the host what `run` returned."""
        host = self.fetch(found)
        return host[0] if host.size == 1 else tuple(host)

    def finish(self, output: Output) -> Array:
        """Return an array of the library that the call's arrays come from."""
        if output.give is not None:
            return output.give()
        shape, axis = list(output.shape), output.axis
        if axis != -1:
            shape.insert(axis, shape.pop())
        made, give = self.result(tuple(shape), output.returned)
        self.module.convert(output.made, made if axis == -1 else np.moveaxis(made, axis, -1), *self.rest)
        return give()

    def _room(self, output: Output) -> Array:
        """Return where a kernel writes an output: the user's own array, a new one, or one to be converted."""
        if output.array is None:
            if output.returned == output.dtype and output.axis == -1:
                output.array, output.give = self.result(output.shape, output.dtype)
            else:
                output.array = self.fresh(output.shape, output.dtype)
        return output.made.reshape(output.shape if output.kernel_shape is None else output.kernel_shape)

    def _as_rows(self, kernel: Kernel, rows: Rows, operands: dict[str, Any]) -> list[tuple[Array, Array]]:
        """Put rows along the last axis. Return what was written elsewhere, and where it belongs."""
        late = []
        for name in kernel.rows:
            a = operands[name]
            if a is None:
                continue
            if name not in kernel.outputs:
                operands[name] = self.rows(rows, a)
            elif (found := _rows(rows, a)) is not None:
                operands[name] = found
            else:
                moved = rows.moved(a)
                made = self.fresh(moved.shape, a.dtype)
                operands[name] = made.reshape(*rows.reduced_shape, rows.classes)
                late.append((made, moved))
        return late

    def _launched(self, kernel: Kernel, operands: dict[str, Any]) -> Array | None:
        if kernel.loss is Loss.OF_ROWS:
            return self._loss_of_rows(kernel, operands)
        if kernel.loss is Loss.OF_ELEMENTS:
            return self._loss_of_elements(kernel, operands)
        self._enqueue(kernel, operands)
        return None

    def _loss_of_rows(self, kernel: Kernel, operands: dict[str, Any]) -> Array:
        if (p := operands["probabilities"]) is not None:
            operands["probabilities"] = self.cast(p, arrays.reduction_dtype(operands["x"].dtype))
        operands["totals"] = self.workspace(2)
        self._enqueue(kernel.on_device, operands)
        return operands["totals"]  # type: ignore[no-any-return]

    def _loss_of_elements(self, kernel: Kernel, operands: dict[str, Any]) -> Array:
        x, total = operands["x"], self.workspace(1)
        tiles = -(-x.size // self.module.loss_tile(x)) if operands["loss"] is None else 0
        parts = self.workspace(2 * tiles)
        operands["parts"] = parts.ctypes.data if tiles else 0
        self._enqueue(kernel.on_device, operands)
        if operands["loss"] is None:
            self.module.bce_total(tiles, operands["parts"], total.ctypes.data, *self.rest)
        return total

    def _enqueue(self, kernel: Kernel, operands: dict[str, Any]) -> None:
        getattr(self.module, kernel.function)(*kernel.arguments(operands), *self.rest)

    def as_float_array(self, argument: str, value: ArrayLike) -> Array:
        """Return logits or gradients on the device."""
        if arrays.device_kind(value) == "cpu":
            return self.upload(arrays.as_float_array(self.op, argument, value))
        view, _ = self._take(argument, value)
        if not arrays.is_float(view.dtype):
            raise TypeError(message(self.op, argument, f"has dtype {view.dtype}", f"{_ACCEPTED} on a GPU"))
        return view

    def as_operand(self, argument: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
        """Return what is given beside logits of `dtype`, as `arrays.as_operand` does."""
        if arrays.device_kind(value) == "cpu":
            return self.upload(arrays.as_operand(self.op, argument, value, dtype))
        return self.as_float_array(argument, value)

    def cast(self, a: Array, dtype: DType) -> Array:
        """Return `a` in a dtype: itself, if it has that."""
        return a if a.dtype == dtype else self.copied(a, dtype)

    def copied(self, view: Array, dtype: np.dtype[Any] | None = None) -> Array:
        """Copy an array into device memory of its own, in C order."""
        made = self.fresh(view.shape, view.dtype if dtype is None else dtype)
        self.module.convert(view, made, *self.rest)
        return made

    def row_options(
        self, rows: Rows, temperature: ArrayLike | None, where: ArrayLike | None
    ) -> tuple[Array | None, Array | None]:
        """Check `temperature=` and `where=`: one float64 for each row, and a mask of the full shape."""
        return self._temperature(rows, temperature), self._mask(rows, where)

    def _temperature(self, rows: Rows, value: ArrayLike | None) -> Array | None:
        """Check one on the host, where it must be looked at anyway, and bring it to the device."""
        if value is not None and arrays.device_kind(value) == "cuda":
            value = self.fetch(*self._take("temperature", value))
        t = rows.temperature(value)
        return None if t is None else self.upload(t)

    def _mask(self, rows: Rows, value: ArrayLike | None) -> Array | None:
        """Check `where=` and return it on the device, with the full shape."""
        if value is None:
            return None
        if arrays.device_kind(value) == "cuda":
            mask, _ = self._take("where", value)
        else:
            mask = self.upload(np.asarray(value))
        return rows.mask(mask)

    def per_row(self, *checked: Array | None) -> tuple[Array | None, ...]:
        """Bring what was checked on the host to the device."""
        return tuple(None if a is None else self.upload(a) for a in checked)

    def rows(self, rows: Rows, view: Array) -> Array:
        """Rows along the last axis: a view if strides allow one, else a copy."""
        found = _rows(rows, view)
        return self.copied(rows.moved(view)).reshape(*rows.reduced_shape, rows.classes) if found is None else found

    def result(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Callable[[], Array]]:
        """Return a new array on the device, and what hands it to the user once the work is enqueued.

        What the user gets is an array of the guest's library, whatever the annotation says.
        """
        found, given = array_libraries.empty_beside(self.guest, self.op, shape, dtype, self.device, self.stream)
        view, _ = self._take("out", found)
        return view, given

    def given(self, values: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Hand numbers of a workspace to the user, in this shape and dtype."""
        made, give = self.result(shape, dtype)
        self.module.convert(values.reshape(shape), made, *self.rest)
        return give()

    def _out(self, out: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Callable[[], Array]]:
        if arrays.device_kind(out) != "cuda":
            raise TypeError(message(self.op, "out", f"is a {type(out).__name__}", f"an array on cuda:{self.device}"))
        if array_libraries.is_immutable(out):
            raise ValueError(message(self.op, "out", f"is a {type(out).__name__}, which is immutable", "no out="))
        view, read_only = self._take("out", out)
        if read_only:
            raise ValueError(message(self.op, "out", "is read-only", "a writable array"))
        checked = arrays.check_out(self.op, view, shape, dtype)
        assert checked is not None
        return checked, lambda: out

    def described(self, argument: str, value: ArrayLike) -> Array:
        """Return an array of any dtype, for its shape and dtype alone."""
        return self._take(argument, value)[0] if arrays.device_kind(value) == "cuda" else np.asarray(value)

    def writable(self, argument: str, value: Foreign) -> Array:
        """Describe an array on the device that is to be changed in place."""
        view, read_only = self._take(argument, value)
        if read_only:
            raise ValueError(message(self.op, argument, "is read-only", "a writable array"))
        return view

    def on_host(self, argument: str, value: ArrayLike) -> ArrayLike:
        """Return what must be checked on the host: class ids, parameters of rows."""
        return self.fetch(*self._take(argument, value)) if arrays.device_kind(value) == "cuda" else value

    def doubles(self, argument: str, value: ArrayLike, *shapes: tuple[int, ...]) -> Array:
        """Return numbers of one of these shapes, or of any if none is named, as dense float64 on the device."""
        view = self.cast(self.as_float_array(argument, value), arrays.F64)
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
        return self.fresh((count,), arrays.F64)

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
        self._owners.append(made)
        return self._described(made)

    def _described(self, array: DeviceArray) -> Array:
        return describe(array.pointer, array.shape, None, array.dtype)

    def _take(self, argument: str, value: Foreign) -> tuple[Array, bool]:
        """Describe another library's array, ordered before our stream; and say whether it is read-only."""
        if (device := array_libraries.device_of(self.op, argument, value)) != self.device:
            raise ValueError(
                message(self.op, argument, f"is on cuda:{device}", f"cuda:{self.device}, as the others are")
            )
        array_libraries.expect_plain(self.op, argument, value)
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
        capsule = array_libraries.exported(value, self.device, self.stream)
        pointer, _, kind, shape, steps, read_only, owner = self.module.import_dlpack(capsule)
        self._owners.append(owner)
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
    if not rows.spans_axes:
        return rows.view_of(view)
    moved, first = rows.moved(view), len(rows.reduced_shape)
    shape, strides = moved.shape, moved.strides
    if any(shape[d] != 1 and shape[d + 1] * strides[d + 1] != strides[d] for d in range(first, moved.ndim - 1)):
        return None
    return np.lib.stride_tricks.as_strided(moved, (*rows.reduced_shape, rows.classes), (*strides[:first], strides[-1]))


def _handle(stream: int) -> int:
    return 0 if stream == 1 else stream


def expect_no_capture(op: str, device: int, stream: int) -> None:
    """Refuse host memory while a graph is captured: its replays would read or write there again."""
    if cuda_module().is_capturing(device, stream):
        given = "is captured into a graph, and these arguments take a copy between host and device"
        raise ValueError(message(op, "stream", given, "arrays on the GPU as logits, gradients, weights and masks only"))


def wished_stream(op: str, device: int) -> int | None:
    """Return the stream of `config`, if it names one."""
    wish = config.current().stream
    if wish is None:
        return None
    if not cuda_module().is_stream_of(device, _handle(wish)):
        raise ValueError(
            message(op, "stream", f"is {wish:#x}", f"streams of cuda:{device} that still exist, or 0, 1, 2")
        )
    return _handle(wish)
