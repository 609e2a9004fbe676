# SPDX-License-Identifier: Apache-2.0
"""A library of GPU arrays with the C exchange of DLPack, played by NumPy arrays on the host.

The structures and signatures are those of the DLPack 1.3 specification.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, ClassVar

import numpy as np


class Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class Managed(ctypes.Structure):
    pass


Deleter = CFUNCTYPE(None, POINTER(Managed))
Managed._fields_ = [
    ("major", c_uint32),
    ("minor", c_uint32),
    ("context", c_void_p),
    ("deleter", Deleter),
    ("flags", c_uint64),
    ("tensor", Tensor),
]
SetError = CFUNCTYPE(None, c_void_p, c_char_p, c_char_p)
Allocate = CFUNCTYPE(c_int, POINTER(Tensor), POINTER(POINTER(Managed)), c_void_p, SetError)
FromObject = CFUNCTYPE(c_int, ctypes.py_object, POINTER(POINTER(Managed)))
ToObject = CFUNCTYPE(c_int, POINTER(Managed), POINTER(c_void_p))
Borrow = CFUNCTYPE(c_int, ctypes.py_object, POINTER(Tensor))
CurrentStream = CFUNCTYPE(c_int, c_int, c_int32, POINTER(c_void_p))


class Exchange(ctypes.Structure):
    _fields_: ClassVar = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("older", c_void_p),
        ("allocate", Allocate),
        ("managed", FromObject),
        ("give", ToObject),
        ("borrow", Borrow),
        ("current_stream", CurrentStream),
    ]


KINDS = {"f": 2, "V": 4, "i": 0}
living: dict[int, list[Any]] = {}  # what managed tensors point into, until they are deleted
streams: list[tuple[int, int]] = []  # (device type, device) of each question for the current stream


def describe(array: Any) -> tuple[Tensor, list[Any]]:
    shape = (c_int64 * array.ndim)(*array.shape)
    strides = (c_int64 * array.ndim)(*[step // array.itemsize for step in array.strides])
    kind = KINDS[array.dtype.kind]
    tensor = Tensor(array.ctypes.data, 2, 0, array.ndim, kind, 8 * array.itemsize, 1, shape, strides, 0)
    return tensor, [array, shape, strides]


def manage(array: Any, flags: int) -> Any:
    tensor, kept = describe(array)
    managed = Managed(1, 3, None, delete, flags, tensor)
    living[ctypes.addressof(managed)] = [managed, *kept]
    return ctypes.pointer(managed)


@Deleter
def delete(managed: Any) -> None:
    del living[ctypes.addressof(managed.contents)]


@Allocate
def allocate(like: Any, out: Any, _context: Any, _set_error: Any) -> int:
    t = like.contents
    dtype = OnGpu.sixteen if t.code == 4 else np.dtype(f"f{t.bits // 8}")
    out[0] = manage(np.full([t.shape[i] for i in range(t.ndim)], np.nan, dtype), 0)
    return 0


@FromObject
def managed_of(x: Any, out: Any) -> int:
    out[0] = manage(x.array, x.flags)
    if x.is_fake:
        out[0].contents.tensor.data = None
    return 0


@ToObject
def give(managed: Any, out: Any) -> int:
    made = OnGpu(living[ctypes.addressof(managed.contents)][1])
    delete(managed)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    out[0] = id(made)
    return 0


@Borrow
def borrow(x: Any, out: Any) -> int:
    if x.array is None:
        return -1
    out[0], x.kept = describe(x.array)
    if x.is_fake:
        out[0].data = None
    return 0


@CurrentStream
def current_stream(device_type: int, device: int, out: Any) -> int:
    streams.append((device_type, device))
    out[0] = None
    return 0


newest = Exchange(2, 0, None, allocate, managed_of, give, borrow, current_stream)  # of a future that we do not know
table = Exchange(1, 3, None, allocate, managed_of, give, borrow, current_stream)
newest.older = ctypes.cast(ctypes.pointer(table), c_void_p)
_name = b"dlpack_exchange_api"
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]


class OnGpu:
    """An array of that library."""

    __dlpack_c_exchange_api__ = _new_capsule(ctypes.addressof(newest), _name, None)
    sixteen: ClassVar[Any] = None  # the dtype of bfloat16

    requires_grad = negative = is_fake = False

    def __init__(self, array: Any, flags: int = 0) -> None:
        self.array, self.flags = array, flags

    def is_neg(self) -> bool:
        return self.negative

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0
