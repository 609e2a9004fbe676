# SPDX-License-Identifier: Apache-2.0
"""Arrays of numbers in .npy files, and in words why a file holds none."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

_MAPPED = 1 << 20  # bytes; smaller files are read whole, empty arrays among them, which cannot be mapped
_DAMAGE = (ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError)
_MAGIC = b"\x93NUMPY"


class UnusableFileError(Exception):
    """A file does not hold what the command needs."""


def read_numbers(path: Path) -> Array:
    """Return the array of a .npy file, mapped if it is large. `np.save` stores bfloat16 as records of two bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start != _MAGIC:
            raise UnusableFileError(f"{path} {_what_starts(start)}; accepted: a .npy file of numbers")
        array: Array = np.load(path, mmap_mode="r" if path.stat().st_size > _MAPPED else None, allow_pickle=False)
    except OSError as error:
        raise UnusableFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except _DAMAGE:
        wrong = "is damaged or cut short, or holds Python objects"
        raise UnusableFileError(f"{path} {wrong}; accepted: a .npy file of numbers") from None
    if array.dtype.kind == "V" and array.dtype.names is None and array.dtype.itemsize == 2:
        return array.view(_bfloat16(path))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        accepted = "float16, bfloat16, float32, float64, integers or bool"
        raise UnusableFileError(f"{path} holds {array.dtype}; accepted: {accepted}")
    return array


def forget_pages(array: Array) -> None:
    """Give back the pages of a mapped file that were read: they would count as memory of this process."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _what_starts(start: bytes) -> str:
    if not start:
        return "is empty"
    return "is an archive of arrays" if start.startswith(b"PK") else "is no .npy file"


def _bfloat16(path: Path) -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        needs = 'bfloat16 needs ml_dtypes: pip install ".[bf16]"'
        raise UnusableFileError(f"{path} holds records of 2 bytes, as np.save stores bfloat16; {needs}") from None
    return np.dtype(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
