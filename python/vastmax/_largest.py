# SPDX-License-Identifier: Apache-2.0
"""The k largest logits of rows whose classes are spread over shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _arrays
from ._arrays import F32

if TYPE_CHECKING:
    from typing import Self

    from ._arrays import Array


class Largest:
    """At most k logits of each row and their classes: NaN first, then descending, ties by class."""

    def __init__(self, k: int, values: Array, classes: Array) -> None:
        self._k, self.values, self.classes = k, values, classes

    def merge(self, other: Largest) -> Self:
        """Take in another shard's."""
        values = np.concatenate([self.values, other.values], -1)
        classes = np.concatenate([self.classes, other.classes], -1)
        order = np.lexsort((classes, *_descending(values)), axis=-1)[..., : self._k]
        self.values, self.classes = np.take_along_axis(values, order, -1), np.take_along_axis(classes, order, -1)
        return self


def largest(shard: Array, axis: int, k: int, start: int) -> Largest:
    """Return the k largest of one shard, whose first class is `start`; all where it has fewer."""
    x = np.moveaxis(_arrays.floats("top_k", "x", shard), axis, -1)
    shape, classes = x.shape[:-1], x.shape[-1]
    x = x.reshape(int(np.prod(shape)), classes)
    k_here = min(k, classes)
    row, label = np.nonzero(_candidates(x, k_here))
    value = x[row, label]
    order = np.lexsort((*_descending(value), row))  # stable: ties stay in the order of their classes
    best = order[np.searchsorted(row, np.arange(len(x)))[:, None] + np.arange(k_here)]
    return Largest(k, value[best].reshape(*shape, k_here), start + label[best].reshape(*shape, k_here))


def _candidates(x: Array, k: int) -> Array:
    """Mark at least the k largest of each row, and no more than their ties."""
    if k in (0, x.shape[1]):
        return np.full(x.shape, k > 0)
    comparable = _comparable(x)
    least = np.partition(comparable, x.shape[1] - k, axis=1)[:, [-k]]  # NaN sorts last
    return np.where(np.isnan(least), np.isnan(comparable), ~(comparable < least))


def _descending(values: Array) -> tuple[Array, Array]:
    """Return keys for `np.lexsort`, the last of which comes first."""
    comparable = _comparable(values)
    return -comparable, ~np.isnan(comparable)


def _comparable(values: Array) -> Array:
    """Widen 16 bits: NumPy cannot sort bfloat16."""
    return values.astype(F32) if values.itemsize == 2 else values
