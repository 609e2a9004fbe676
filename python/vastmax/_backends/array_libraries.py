# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries on a GPU: which device and stream they are on, and a new array of the same kind.

Nothing is imported: a library whose array we are given is loaded.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from vastmax._backends.device_array import DeviceArray
from vastmax._backends.load import cuda_module
from vastmax.errors import message

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    import numpy as np

    Foreign: TypeAlias = Any  # of a library that we do not import

_KINDS = {  # where its class of arrays is found
    "torch": ("torch", "Tensor"),
    "cupy": ("cupy", "ndarray"),
    "jax": ("jax", "Array"),
    "numba": ("numba.cuda.cudadrv.devicearray", "DeviceNDArray"),
}


def library_of(a: Foreign) -> str | None:
    """Return the library that an array comes from, if we know how to make one."""
    for name, (module, kind) in _KINDS.items():
        if (loaded := sys.modules.get(module)) is not None and isinstance(a, getattr(loaded, kind)):
            return name
    return None


def device_of(op: str, argument: str, a: Foreign) -> int:
    """Return the index of the device that holds an array."""
    if isinstance(a, DeviceArray):
        return a.device
    module = cuda_module()
    if hasattr(a, "__dlpack_device__"):
        device = int(a.__dlpack_device__()[1])
    elif pointer := a.__cuda_array_interface__["data"][0]:
        device = module.device_of(pointer)
        if device < 0:
            raise TypeError(message(op, argument, "is not in the memory of a GPU, whatever its library says", "cuda:N"))
    else:  # nothing in it
        device = module.current_device()
    if not 0 <= device < (count := module.device_count()):
        raise ValueError(message(op, argument, f"is on cuda:{device}", ", ".join(f"cuda:{i}" for i in range(count))))
    return device


def expect_plain(op: str, argument: str, a: Foreign) -> None:
    """Refuse a tensor that is more than its memory: it would lose its graph, or a sign that is still to be changed."""
    if library_of(a) != "torch":
        return
    if a.requires_grad and sys.modules["torch"].is_grad_enabled():
        accepted = f"{argument}.detach(), or a call under torch.no_grad()"
        raise ValueError(message(op, argument, "requires grad, which vastmax does not record", accepted))
    if a.is_neg():
        accepted = f"{argument}.resolve_neg()"
        raise ValueError(message(op, argument, "is a view with its negative bit set", accepted))


def exported(a: Foreign, device: int, stream: int) -> Foreign:
    """Return the DLPack capsule of an array, ordered before a stream. torch gives one on its current device only."""
    if library_of(a) == "torch":
        with sys.modules["torch"].cuda.device(device):
            return _capsule(a.detach() if a.requires_grad else a, stream)  # under no_grad it is one like any other
    return _capsule(a, stream)


def _capsule(a: Foreign, stream: int) -> Foreign:
    ours = stream or 1  # DLPack: 0 is not allowed, 1 is the legacy default stream
    try:
        return a.__dlpack__(stream=ours, max_version=(1, 0))
    except TypeError:  # before DLPack 1.0
        return a.__dlpack__(stream=ours)


def current_stream(a: Foreign, device: int) -> int:
    """Return the stream that the library of `a` works on now; 0 for those that have no such thing."""
    if isinstance(a, DeviceArray):
        return a.stream
    library = library_of(a)
    if library == "torch":
        return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
    if library == "cupy":
        with a.device:
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)
    return 0


def is_immutable(a: Foreign) -> bool:
    """Say whether a library promises that its arrays never change, whatever DLPack would allow."""
    return library_of(a) == "jax"


def product_of(guest: Foreign) -> Callable[[Foreign, Foreign, Foreign, bool], None] | None:
    """Return what makes out = a b, or adds that to it, by the library of the guest; None if we know of nothing."""
    make = _PRODUCTS.get(library_of(guest) or "")
    return None if make is None else partial(make, guest)


def empty_beside(
    guest: Foreign, op: str, shape: tuple[int, ...], dtype: np.dtype[Any], device: int, stream: int
) -> tuple[Foreign, Callable[[], Foreign]]:
    """Make an empty array like the guest, and what gives it to the user once the work on it is enqueued."""
    make = _MAKERS.get(library_of(guest) or "")
    if make is not None:
        try:
            made = make(guest, shape, dtype, device)
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # torch
                raise
            raise MemoryError(f"{op} on cuda:{device}: out of memory for {dtype} {shape}: {error}") from error
        return made, lambda: made
    own = DeviceArray(shape, dtype, device, stream, op)
    if library_of(guest) == "jax":
        return own, lambda: sys.modules["jax"].dlpack.from_dlpack(own)
    return own, lambda: own


def _torch(guest: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any], _: int) -> Foreign:
    torch = sys.modules["torch"]
    return torch.empty(shape, dtype=getattr(torch, dtype.type.__name__), device=guest.device)


def _cupy(guest: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any], _: int) -> Foreign:
    with guest.device:
        return sys.modules["cupy"].empty(shape, dtype)


def _numba(_: Foreign, shape: tuple[int, ...], dtype: np.dtype[Any], device: int) -> Foreign:
    cuda = sys.modules["numba"].cuda
    with cuda.gpus[device]:
        return cuda.device_array(shape, dtype)


_MAKERS: dict[str, Callable[..., Foreign]] = {"torch": _torch, "cupy": _cupy, "numba": _numba}


def _torch_product(_: Foreign, a: Foreign, b: Foreign, out: Foreign, add: bool) -> None:
    torch = sys.modules["torch"]
    if add:
        torch.addmm(out, a.detach(), b.detach(), out=out)
    else:
        torch.mm(a.detach(), b.detach(), out=out)


def _cupy_product(guest: Foreign, a: Foreign, b: Foreign, out: Foreign, add: bool) -> None:
    with guest.device:
        if add:
            out += a @ b
        else:
            sys.modules["cupy"].matmul(a, b, out=out)


_PRODUCTS: dict[str, Callable[[Foreign, Foreign, Foreign, Foreign, bool], None]] = {
    "torch": _torch_product,
    "cupy": _cupy_product,
}
