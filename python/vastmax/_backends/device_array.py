# SPDX-License-Identifier: Apache-2.0
"""The array that holds results on a GPU where no other library does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vastmax._backends.load import cuda_module
from vastmax._operands import arrays

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CODES = {"f": 2, "V": 4, "i": 0, "u": 1, "b": 6}  # of DLPack, by kind; ml_dtypes' bfloat16 has kind V


class DeviceArray:
    """An array in the memory of a GPU, for other libraries to take over by DLPack or `__cuda_array_interface__`.

    Made by vastmax where neither `out=` nor the library of the input says what a result should be.
    """

    __module__ = "vastmax.cuda"  # the public name

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, stream: int, what: str = "an array"
    ) -> None:
        self.shape, self.dtype, self.device, self.stream = shape, dtype, device, stream
        self._module = cuda_module()
        self._shared = False
        self.size = int(np.prod(shape, dtype=np.int64))
        self.nbytes = self.size * dtype.itemsize
        self.pointer = self._module.allocate(self.nbytes, device, stream, what)

    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._module.free(self.pointer, self.device, self.stream, self._shared)

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype}, device='cuda:{self.device}')"

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one element to the next along each axis: C order."""
        steps = [self.dtype.itemsize]
        for extent in self.shape[:0:-1]:
            steps.append(steps[-1] * extent)
        return tuple(reversed(steps[: len(self.shape)]))

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype.type.__name__ == "bfloat16":
            raise AttributeError("__cuda_array_interface__ has no bfloat16; use DLPack")
        self._shared = True
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer if self.size else 0, False),
            "strides": None,
            "stream": self.stream or 1,  # 0 is not allowed; 1 is the legacy default stream
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        if dl_device not in (None, self.__dlpack_device__()) or copy:
            raise BufferError(f"DeviceArray: dl_device is {dl_device!r}, copy is {copy!r}; accepted: no copies")
        if stream is not None and (stream == 0 or stream < -1):
            accepted = "None, -1 (no order), 1 (legacy default), 2 (default of the thread), or the address of a stream"
            raise BufferError(f"DeviceArray: stream is {stream}; accepted: {accepted}")
        if stream != -1:
            consumer = 0 if stream in (None, 1) else stream
            if consumer != self.stream:
                self._module.wait(consumer, self.stream, self.device)
        self._shared = True
        steps = [step // self.dtype.itemsize for step in self.strides]
        versioned = max_version is not None and max_version[0] >= 1
        return self._module.export_dlpack(
            self,
            self.pointer,
            self.__dlpack_device__(),
            _CODES[self.dtype.kind],
            8 * self.dtype.itemsize,
            list(self.shape),
            steps,
            versioned,
            False,
        )

    def copy_to_host(self, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the contents as a NumPy array, once the stream has made them."""
        host = np.empty(self.shape, self.dtype)
        if out is not None:
            arrays.check_out("copy_to_host", out, self.shape, self.dtype)
            host = out if out.flags.c_contiguous else host
        if self.size:
            self._module.copy(host.ctypes.data, self.pointer, self.nbytes, self.device, self.stream)
        self._module.synchronize(self.device, self.stream)
        if out is None:
            return host
        if host is not out:
            out[...] = host
        return out

    def __array__(self, *_: object, **__: object) -> NDArray[Any]:
        raise TypeError("DeviceArray: NumPy cannot read the memory of a GPU; accepted: copy_to_host()")
