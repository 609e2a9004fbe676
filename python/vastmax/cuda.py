# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs: what is there, and the array that holds results where no other library does.

Functions of vastmax run on the GPU when their arrays live there. This module loads the CUDA extension when it is first
asked something, never at import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays
from ._backends import cuda_module, cuda_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DeviceArray", "device_info", "is_available", "reason"]

_CODES = {"f": 2, "V": 4, "i": 0, "u": 1, "b": 6}  # of DLPack, by kind; ml_dtypes' bfloat16 has kind V


def is_available() -> bool:
    """Say whether calls can run on a GPU here.

    Returns
    -------
    bool
        False without the CUDA extension, without a driver, or without a device; `reason` says which.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.cuda.is_available() == (vastmax.cuda.reason() is None)
    True
    """
    return cuda_reason() is None


def reason() -> str | None:
    """Say why no GPU can be used.

    Returns
    -------
    str or None
        None where one can.

    Examples
    --------
    >>> import vastmax
    >>> isinstance(vastmax.cuda.reason(), str | None)
    True
    """
    return cuda_reason()


def device_info() -> list[dict[str, Any]]:
    """Describe the devices.

    Returns
    -------
    list of dict
        For each device its `name`, `capability`, `memory` in bytes, `processors`, and the CUDA versions of `driver` and
        `runtime`. Empty without a GPU.

    Examples
    --------
    >>> import vastmax
    >>> isinstance(vastmax.cuda.device_info(), list)
    True
    """
    if not is_available():
        return []
    module = cuda_module()
    return [module.device_info(i) for i in range(module.device_count())]


class DeviceArray:
    """An array in the memory of a GPU, for other libraries to take over by DLPack or `__cuda_array_interface__`.

    Made by vastmax where neither `out=` nor the library of the input says what a result should be.
    """

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
            _arrays.destination("copy_to_host", out, self.shape, self.dtype)
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
