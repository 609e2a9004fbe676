# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries on the SIMT machine, and small stand-ins for libraries that keep to their documentation."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vastmax
from vastmax._backends import device as _device

CODES = {"f": 2, "V": 4, "b": 6, "i": 0, "u": 1, "c": 5}  # of DLPack, by kind of dtype; ml_dtypes' bfloat16 has kind V


def cuda() -> Any:
    return pytest.importorskip("vastmax._cuda")


class OnGpu:
    """An array as another library would hold it: memory of the host, which the machine takes for that of device 0."""

    def __init__(self, array: Any, device: int = 0, *, read_only: bool = False) -> None:
        self.array, self.index, self.read_only = array, device, read_only
        self.asked: list[Any] = []
        self.pointer = array.__array_interface__["data"][0]

    @property
    def shape(self) -> Any:
        return self.array.shape

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.index

    def capsule(self, *, versioned: bool) -> Any:
        a = self.array
        steps = [s // a.itemsize for s in a.strides]
        return cuda().export_dlpack(
            self,
            self.pointer,
            self.__dlpack_device__(),
            CODES[a.dtype.kind],
            8 * a.itemsize,
            list(a.shape),
            steps,
            versioned,
            self.read_only,
        )


class ByDlpack(OnGpu):
    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        self.asked.append((stream, max_version))
        return self.capsule(versioned=max_version is not None)


class BeforeDlpack1(OnGpu):
    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.asked.append(stream)
        return self.capsule(versioned=False)


class ByInterface:
    def __init__(self, array: Any, *, read_only: bool = False, **more: Any) -> None:
        self.array, self.read_only, self.more = array, read_only, more

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        a = self.array
        return {
            "shape": a.shape,
            "typestr": a.dtype.str,
            "data": (a.__array_interface__["data"][0] if a.size else 0, self.read_only),
            "strides": a.strides,
            "version": 3,
            **self.more,
        }


class Factor:
    """What libraries have in common that multiply matrices: `host` is the memory, which the machine has on the host."""

    host: Any

    def detach(self) -> Factor:
        return self

    @property
    def T(self) -> Factor:  # noqa: N802
        return Part(self.host.T)

    def __getitem__(self, rows: slice) -> Factor:
        return Part(self.host[rows])

    def __matmul__(self, other: Factor) -> Factor:
        return Part(self.host @ other.host)

    def __iadd__(self, other: Factor) -> Factor:
        self.host[...] += other.host
        return self


class Part(Factor):
    def __init__(self, host: Any) -> None:
        self.host = host


def product(a: Factor, b: Factor, *, out: Factor) -> None:
    np.matmul(a.host, b.host, out=out.host)


class Held(Factor):
    """An array of a library: memory that the machine gave out on a device of its own."""

    def __init__(self, memory: vastmax.cuda.DeviceArray) -> None:
        self.memory, self.asked = memory, list[Any]()
        self.shape, self.dtype = memory.shape, memory.dtype

    @property
    def host(self) -> Any:  # type: ignore[override]
        return _device.describe(self.memory.pointer, self.shape, None, self.dtype)

    def get(self) -> Any:
        return self.memory.copy_to_host()


def room(shape: Any, dtype: Any, device: int) -> vastmax.cuda.DeviceArray:
    return vastmax.cuda.DeviceArray(tuple(shape), np.dtype(dtype), device, 0)


def filled(array: Any, device: int) -> vastmax.cuda.DeviceArray:
    made = room(array.shape, array.dtype, device)
    cuda().copy(made.pointer, np.ascontiguousarray(array).ctypes.data, made.nbytes, device, 0)
    return made


class WithDlpack(Held):
    def __dlpack_device__(self) -> tuple[int, int]:
        return self.memory.__dlpack_device__()

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, **_: Any) -> Any:
        self.asked.append(stream)
        return self.memory.__dlpack__(stream=-1, max_version=max_version)


class WithInterface(Held):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**self.memory.__cuda_array_interface__, "stream": None}


def torch() -> dict[str, Any]:
    """torch.empty(size, dtype=, device=), torch.mm, torch.addmm, torch.cuda.current_stream(device).cuda_stream.

    Tensors that require grad, or are not on torch.cuda.device, have no DLPack; a negative bit is lost there.
    """
    now, recording = [0], [True]

    @contextmanager
    def put(cell: list[Any], value: Any) -> Any:
        before, cell[0] = cell[0], value
        yield
        cell[0] = before

    class Tensor(WithDlpack):
        requires_grad = negative = False

        def detach(self) -> Tensor:
            plain = Tensor(self.memory)
            plain.asked, plain.negative = self.asked, self.negative
            return plain

        def is_neg(self) -> bool:
            return self.negative

        def __dlpack__(self, **options: Any) -> Any:
            if self.requires_grad:
                raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
            if self.memory.device != now[0]:
                raise BufferError("Can't export tensors on a different CUDA device index")
            return super().__dlpack__(**options)

        @property
        def device(self) -> Any:
            return SimpleNamespace(type="cuda", index=self.memory.device)

    class OutOfMemoryError(RuntimeError):
        pass

    module = ModuleType("torch")
    kinds = {
        name: SimpleNamespace(name=name) for name in ("float16", "bfloat16", "float32", "float64", "int64", "bool")
    }

    def empty(shape: Any, *, dtype: Any, device: Any) -> Any:
        assert dtype in kinds.values(), "a dtype of torch"
        if np.prod(shape) > 1 << 28:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate more.")
        kind = getattr(np, dtype.name, None) or pytest.importorskip("ml_dtypes").bfloat16
        return Tensor(room(shape, kind, device.index))

    def addmm(more: Any, a: Any, b: Any, *, out: Any) -> None:
        out.host[...] = more.host + a.host @ b.host

    streams: dict[int, int] = {}
    fields = {"Tensor": Tensor, "empty": empty, "streams": streams, "OutOfMemoryError": OutOfMemoryError, **kinds}
    fields |= {"mm": product, "addmm": addmm}
    fields["cuda"] = SimpleNamespace(
        current_stream=lambda d: SimpleNamespace(cuda_stream=streams.get(d, 0)), device=partial(put, now)
    )
    fields |= {"no_grad": partial(put, recording, False), "is_grad_enabled": lambda: recording[0]}
    vars(module).update(fields)
    return {"torch": module}


def cupy() -> dict[str, Any]:
    """cupy.empty and cupy.cuda.get_current_stream() are those of the current device; ndarray.device is a context."""
    now = [0]
    streams: dict[int, int] = {}

    class Device:
        def __init__(self, index: int) -> None:
            self.id, self.before = index, []

        def __enter__(self) -> None:
            self.before.append(now[0])
            now[0] = self.id

        def __exit__(self, *_: object) -> None:
            now[0] = self.before.pop()

    class ndarray(WithDlpack, WithInterface):  # noqa: N801
        @property
        def device(self) -> Any:
            return Device(self.memory.device)

    module = ModuleType("cupy")
    vars(module).update(
        ndarray=ndarray,
        streams=streams,
        empty=lambda shape, dtype: ndarray(room(shape, dtype, now[0])),
        matmul=product,
        cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=streams.get(now[0], 0))),
    )
    return {"cupy": module}


def numba() -> dict[str, Any]:
    """numba.cuda.device_array(shape, dtype) on the device of the context numba.cuda.gpus[i]; no DLPack."""
    now = [0]

    class DeviceNDArray(WithInterface):
        pass

    @contextmanager
    def gpu(index: int) -> Any:
        before, now[0] = now[0], index
        yield
        now[0] = before

    class Gpus:
        def __getitem__(self, index: int) -> Any:
            return gpu(index)

    module, where = ModuleType("numba"), ModuleType("numba.cuda.cudadrv.devicearray")
    where.DeviceNDArray = DeviceNDArray  # type: ignore[attr-defined]
    module.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        gpus=Gpus(), device_array=lambda shape, dtype: DeviceNDArray(room(shape, dtype, now[0]))
    )
    return {"numba": module, "numba.cuda.cudadrv.devicearray": where}


def jax() -> dict[str, Any]:
    """jax.Array cannot be written; jax.dlpack.from_dlpack(array) takes over what it holds then."""

    class Array(WithDlpack):
        pass

    def from_dlpack(external: Any) -> Any:
        capsule = external.__dlpack__(stream=1)
        pointer, (_, device), (_, bits, _), shape, _, _, owner = cuda().import_dlpack(capsule)
        assert owner is not None
        made = room(shape, external.dtype, device)
        assert bits == 8 * made.dtype.itemsize
        cuda().copy(made.pointer, pointer, made.nbytes, device, 0)  # later changes would go unseen
        return Array(made)

    module = ModuleType("jax")
    vars(module).update(Array=Array, dlpack=SimpleNamespace(from_dlpack=from_dlpack))
    return {"jax": module}


LIBRARIES = {
    "torch": (torch, "Tensor"),
    "cupy": (cupy, "ndarray"),
    "numba": (numba, "DeviceNDArray"),
    "jax": (jax, "Array"),
}


class Library:
    """One of these libraries, in the place of the real one."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        make, kind = LIBRARIES[name]
        modules = make()
        for path, module in modules.items():
            monkeypatch.setitem(sys.modules, path, module)
        self.name, self.module = name, modules[name]
        self.kind = getattr(list(modules.values())[-1], kind)

    def array(self, host: Any, device: int = 0) -> Any:
        return self.kind(filled(host, device))
