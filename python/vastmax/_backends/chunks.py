# SPDX-License-Identifier: Apache-2.0
"""The arguments of a kernel in chunks: some rows each, or some elements where an op knows no rows.

Where a chunk ends never shows in a result.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .kernels import Kernel

    Index = tuple[int | slice, ...]
    Arguments = tuple[Any, ...]  # of a kernel: arrays, None, numbers


def leading_shape(kernel: Kernel, arguments: Arguments) -> tuple[int, ...]:
    """Return the shape that chunks divide: that of the rows, or of all elements."""
    shape: tuple[int, ...] = max((a.shape for a in cut_arrays(kernel, arguments)), key=len)
    return shape[:-1] if kernel.by_rows else shape


def cut_arrays(kernel: Kernel, arguments: Arguments) -> list[np.ndarray[Any, Any]]:
    """Return the arrays of which every chunk has a part of its own."""
    return [a for i, a in enumerate(arguments) if isinstance(a, np.ndarray) and i not in kernel.whole]


def pieces(kernel: Kernel, arguments: Arguments, lead: tuple[int, ...], most: int) -> Iterator[Arguments]:
    """Cut the arguments into chunks of at most `most` rows or elements; draws go on by the number of their row."""
    for index in blocks(lead, most):
        piece = piece_of(arguments, index, kernel.whole)
        if (at := kernel.row_number) is not None:
            piece = (*piece[:at], arguments[at] + _first_row(index, lead), *piece[at + 1 :])
        yield piece


def _first_row(index: Index, lead: tuple[int, ...]) -> int:
    start = [i.start if isinstance(i, slice) else i for i in index] + [0] * (len(lead) - len(index))
    return int(np.ravel_multi_index(start, lead)) if lead else 0


def piece_of(arguments: Arguments, index: Index, whole: Sequence[int] = ()) -> Arguments:
    """Return one chunk of each array, and what every chunk needs all of."""

    def cut(i: int, a: Any) -> Any:  # noqa: ANN401
        return a[(*index, ...)] if isinstance(a, np.ndarray) and a.ndim and i not in whole else a

    return tuple(cut(i, a) for i, a in enumerate(arguments))


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
