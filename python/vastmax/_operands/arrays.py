# SPDX-License-Identifier: Apache-2.0
"""From what users pass to what the core takes: dtypes, shapes, destinations, overlap."""

from __future__ import annotations

import sys
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import vastmax._core as _core
from vastmax._operands.numbers import nearest
from vastmax.errors import called, message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    Array: TypeAlias = NDArray[Any]
    Axis: TypeAlias = int | Sequence[int] | None
    Reduced: TypeAlias = Any  # a NumPy scalar when every axis is reduced, else an array

F32 = np.dtype(np.float32)
F64 = np.dtype(np.float64)
_NORMAL = {kind: (float(np.finfo(kind).tiny), float(np.finfo(kind).max)) for kind in (F32, F64)}
# Work allowed to the exact test for overlapping memory. An undecided pair is copied, which costs time only.
_OVERLAP_WORK = 1000
_FLOATS = frozenset(np.dtype(t).num for t in (np.float16, np.float32, np.float64))
_ON_GPU = (2, 13)  # device types of DLPack: CUDA memory, managed memory
_ON_HOST = (1, 3, 11)  # memory of the CPU, pinned or not
_NAMES = {4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI"}
_WITH_WHERE = (  # ops that take where=
    *("softmax", "log_softmax", "logsumexp", "logsumexp_backward"),
    *("cross_entropy", "cross_entropy_with_grad", "sample"),
)
_ACCEPTED = "float16, bfloat16 (ml_dtypes), float32, float64; integers, bool and Python numbers become float64"


def device_kind(x: object) -> str:
    """Return the kind of device that `x` lives on: "cpu" or "cuda"."""
    if isinstance(x, np.ndarray | np.generic | int | float | list | tuple):
        return "cpu"
    if hasattr(x, "__dlpack_device__"):
        return "cuda" if _device_type(x) in _ON_GPU else "cpu"
    return "cuda" if hasattr(x, "__cuda_array_interface__") else "cpu"


def _device_type(x: object) -> int | None:
    """Return DLPack's number for the kind of device, if the library knows one."""
    try:
        return int(x.__dlpack_device__()[0])  # type: ignore[attr-defined]
    except Exception:  # whatever a library raises for what it cannot share
        return None


def as_float_array(op: str, argument: str, value: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Return `value` as a plain native ndarray of a dtype that the core computes in."""
    array = as_given(op, argument, value)
    kind = computed_dtype(op, argument, array.dtype)
    if dtype is not None:
        kind = check_dtype(op, dtype)
    return cast(array, kind)  # a narrower dtype= overflows to inf, as in PyTorch


def computed_dtype(op: str, argument: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Check the dtype of an argument, and return the native one that the core computes in."""
    if is_float(dtype):
        return dtype if dtype.isnative else dtype.newbyteorder("=")
    if dtype.kind not in "iub":
        raise TypeError(message(op, argument, f"has dtype {dtype}", _hint(dtype)))
    return F64


def reduction_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a reduction over arrays of `dtype`."""
    return F64 if dtype == F64 else F32


def joint_dtype(*kinds: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that holds arrays of all these: never narrower, and float32 where 16-bit kinds mix."""
    return kinds[0] if len(set(kinds)) == 1 else F64 if F64 in kinds else F32


def as_operand(op: str, argument: str, value: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Return `value`, given beside logits of `dtype`. Integers and bare numbers take that dtype, floats keep theirs."""
    bare = type(value) in (bool, int, float) or as_given(op, argument, value).dtype.kind in "iub"
    return as_float_array(op, argument, value, dtype if bare else None)


def check_beta(op: str, beta: object, dtype: np.dtype[Any]) -> float:
    """Check `beta=`: a normal number of the type that arrays of `dtype` are computed in, so that its inverse is one."""
    least, most = _NORMAL[reduction_dtype(dtype)]
    accepted = f"a number > 0, from {least:.3g} to {most:.3g} for {dtype}"
    if not isinstance(beta, Real):  # NumPy's real scalars are
        raise TypeError(message(op, "beta", f"is {beta!r}", accepted))
    value = nearest(beta)
    if not least <= value <= most:
        raise ValueError(message(op, "beta", f"is {beta!r}", accepted))
    return value


def check_out(op: str, out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Check `out=` in full, before anything is written, and return it as a plain ndarray."""
    if out is None:
        return None
    if type(out) is not np.ndarray and (not isinstance(out, np.ndarray) or _is_masked(out)):
        raise TypeError(message(op, "out", f"is a {type(out).__name__}", f"a NumPy array of dtype {dtype}"))
    if out.dtype != dtype:
        raise ValueError(message(op, "out", f"has dtype {out.dtype}", f"native {dtype}"))
    if out.shape != shape:
        raise ValueError(message(op, "out", f"has shape {out.shape}", str(shape)))
    if not out.flags.writeable:
        raise ValueError(message(op, "out", "is read-only", "a writable array"))
    expect_own_memory(op, "out", out)
    return np.asarray(out)


def expect_own_memory(op: str, argument: str, a: Array) -> None:
    """Check that no two elements of an array that is to be written share memory."""
    if not a.flags.forc and _overlaps_itself(a):
        accepted = "an array in which each element has its own memory"
        raise ValueError(message(op, argument, f"overlaps itself: shape {a.shape}, strides {a.strides}", accepted))


def expect_apart(op: str, argument: str, a: Array, other: str, b: Array) -> None:
    """Check that two arrays that are both to be written share no memory."""
    if share(a, b):
        raise ValueError(message(op, argument, f"shares memory with {other}", "an array of its own"))


def _overlaps_itself(a: Array) -> bool:
    axes = sorted((abs(step), n) for step, n in zip(a.strides, a.shape, strict=True) if n > 1)
    end = a.itemsize  # of what the axes so far span
    for step, n in axes:
        if step < end:
            break  # usual views nest; some others have memory of their own too, which is slower to tell
        end += step * (n - 1)
    else:
        return False
    # Two elements differ in their index along some axis, and may be moved along it until one of them is the first.
    views = (np.moveaxis(a, axis, 0) for axis in range(a.ndim))
    return a.size > 0 and any(share(view[:1], view[1:]) for view in views)


def cast(a: Array, dtype: np.dtype[Any]) -> Array:
    """Return `a` in a dtype: itself, if it has that."""
    if a.dtype == dtype:
        return a
    with np.errstate(all="ignore"):  # a signalling NaN; what a narrower type cannot hold
        return a.astype(dtype)


def dense(a: Array, dtype: np.dtype[Any]) -> Array:
    """Return `a` in a dtype and in C order: itself, if it is so."""
    return np.ascontiguousarray(cast(a, dtype))


def empty_like(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """Allocate an array in the memory order of `x`."""
    # NumPy would put a broadcast axis innermost, which tears rows apart.
    return np.empty_like(x, dtype, order="C" if 0 in x.strides else "K")


def in_memory_order(*arrays: Array | None, summed: bool = False) -> tuple[Any, ...]:
    """Return views of arrays of one shape for the core to walk element by element: memory order, at least one axis.

    What is `summed` on the way keeps index order, so that memory order changes no bit.
    """
    present = [a for a in arrays if a is not None]
    ndim = present[0].ndim
    if ndim == 0:
        return tuple(None if a is None else a.reshape(1) for a in arrays)
    if ndim > 1 and not summed and all(a.flags.f_contiguous for a in present):
        return tuple(None if a is None else a.T for a in arrays)
    return arrays


def without_overlap(a: Array, out: Array) -> Array:
    """Copy `a` if it shares a part of its memory with `out`. An exact alias of its dtype stays, to work in place."""
    return a.copy() if (overlap if a.dtype == out.dtype else share)(a, out) else a


def scalar_or_array(y: Array, out: object) -> Array:
    """Return what the user sees: their own `out`, a scalar for no dimensions, else the array."""
    if out is not None:
        return out  # type: ignore[return-value]
    return y if y.ndim else y[()]


def joint_shape(op: str, argument: str, a: Array, other: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return what `a` and `shape` broadcast to together."""
    try:
        return np.broadcast_shapes(shape, a.shape)
    except ValueError:
        accepted = f"shapes that broadcast with {other}, of shape {shape}"
        raise ValueError(message(op, argument, f"has shape {a.shape}", accepted)) from None


def expect_shape_of(op: str, argument: str, a: Array, other: str, shape: tuple[int, ...]) -> None:
    """Check that `a` has the shape of another argument."""
    if a.shape != shape:
        raise ValueError(message(op, argument, f"has shape {a.shape}", f"the shape of {other}, {shape}"))


def broadcast(op: str, argument: str, a: Array, shape: tuple[int, ...], or_else: str = "") -> Array:
    """Broadcast `a` to `shape`, as a read-only view."""
    if a.shape == shape:
        return a
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        accepted = f"shapes that broadcast to {shape}{or_else}"
        raise ValueError(message(op, argument, f"has shape {a.shape}", accepted)) from None


def as_given(op: str, argument: str, value: ArrayLike) -> Array:
    """Return `value` as a plain ndarray of its own dtype."""
    if type(value) is np.ndarray:
        return value
    if _is_masked(value):
        raise TypeError(message(op, argument, "is a masked array", f"a plain array{_for_masks(op, argument)}"))
    if hasattr(type(value), "__dask_graph__"):  # np.asarray would compute all of it
        accepted = "arrays in memory; vastmax.dask takes Dask arrays and stays lazy, x.compute() makes one in memory"
        raise TypeError(message(op, argument, "is a Dask collection", accepted))
    if hasattr(value, "__dlpack_device__") and not isinstance(value, np.generic):
        _expect_on_host(op, argument, value)
    try:
        array = np.asarray(value) if _speaks_numpy(value) else np.from_dlpack(value)  # type: ignore[arg-type]
    except ValueError as error:  # ragged lists
        raise ValueError(message(op, argument, f"makes no array ({error})", "arrays and nested lists")) from None
    except (BufferError, RuntimeError, TypeError) as error:  # of the library that the array comes from
        given = f"is a {type(value).__name__} that NumPy cannot read ({error})"
        raise TypeError(message(op, argument, given, _readable(value))) from None
    return array if array.dtype != object or isinstance(value, np.ndarray) else _without_objects(array)


def _speaks_numpy(value: object) -> bool:
    return hasattr(value, "__array__") or not hasattr(value, "__dlpack__")


def _readable(value: object) -> str:
    """Say what NumPy would read in place of an array of another library."""
    if getattr(value, "requires_grad", False):
        return "arrays without a gradient, as x.detach()"
    if "bfloat16" in str(getattr(value, "dtype", "")):
        return "x.view(torch.int16).numpy().view(ml_dtypes.bfloat16)"
    return "arrays that NumPy can read"


def _without_objects(array: Array) -> Array:
    """Return Python numbers in float64, if they are objects to NumPy because an int among them exceeds 64 bits."""
    numbers = array.reshape(-1).tolist()
    if not all(isinstance(n, int | float | np.integer | np.floating) for n in numbers):
        return array
    return np.array([nearest(n) for n in numbers], F64).reshape(array.shape)


def _for_masks(op: str, argument: str) -> str:
    if argument not in ("x", "a", "logits", "input"):
        return ", as from filled()"
    return ", with where= for the mask" if called(op) in _WITH_WHERE else ", as from filled(): there is no where="


def _expect_on_host(op: str, argument: str, value: object) -> None:
    kind = _device_type(value)
    if kind in _ON_HOST:
        return
    if kind in _ON_GPU:
        raise ValueError(message(op, argument, "is on a GPU beside NumPy arrays", "arrays of one device"))
    given = "is on a device that its library does not share" if kind is None else f"is on {_NAMES.get(kind, kind)}"
    raise TypeError(message(op, argument, given, "arrays on the CPU, or on a GPU with CUDA"))


def _is_masked(value: object) -> bool:
    ma = sys.modules.get("numpy.ma")  # NumPy loads it on demand, and so it stays
    return ma is not None and isinstance(value, ma.MaskedArray)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether the core computes in `dtype`."""
    return dtype.num in _FLOATS or dtype.type.__name__ == "bfloat16"


def _hint(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "V" and dtype.itemsize == 2:
        return f"{_ACCEPTED}. If these bytes are bfloat16, use x.view(ml_dtypes.bfloat16)"
    if dtype.kind == "O":  # nullable columns, categories, decimals
        return f"{_ACCEPTED}. If these objects are numbers, use x.to_numpy(float) or np.asarray(x, float)"
    return _ACCEPTED


def check_dtype(op: str, dtype: DTypeLike | None) -> np.dtype[Any]:
    """Check `dtype=`."""
    accepted = "float16, bfloat16 (ml_dtypes), float32, float64"
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise TypeError(message(op, "dtype", f"is {dtype!r}", accepted)) from None
    if not is_float(kind):
        raise TypeError(message(op, "dtype", f"is {kind}", accepted))
    return kind.newbyteorder("=")


def overlap(a: Array, out: Array) -> bool:
    """Whether `a` and `out` share memory without being the same array."""
    return not _core.apart_or_same(a, out) and share(a, out)


def share(a: Array, b: Array) -> bool:
    """Whether two arrays share memory; True where that is too hard to tell."""
    try:
        return np.shares_memory(a, b, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
