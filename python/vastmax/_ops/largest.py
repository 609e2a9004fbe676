# SPDX-License-Identifier: Apache-2.0
"""The k largest logits of rows whose classes come in parts: shards, or tiles of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays
from vastmax._operands.arrays import F32
from vastmax._runtime import config

if TYPE_CHECKING:
    from typing import Self

    from vastmax._operands.arrays import Array


class Largest:
    """At most k logits of each row and their classes: NaN first, then descending, ties by class."""

    def __init__(self, k: int, values: Array, classes: Array) -> None:
        self._k, self.values, self.classes = k, values, classes

    def merge(self, other: Largest) -> Self:
        """Take in those of another part."""
        values = np.concatenate([self.values, other.values], -1)
        classes = np.concatenate([self.classes, other.classes], -1)
        order = np.lexsort((classes, *_descending(values)), axis=-1)[..., : self._k]
        self.values, self.classes = np.take_along_axis(values, order, -1), np.take_along_axis(classes, order, -1)
        return self


def largest(part: Array, axis: int, k: int, start: int) -> Largest:
    """Return the k largest of one part, whose first class is `start`; all where it has fewer."""
    x = np.moveaxis(arrays.as_float_array("top_k", "x", part), axis, -1)
    shape = (*x.shape[:-1], min(k, x.shape[-1]))
    values, classes = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    if values.size:
        options = config.current()
        _core.top_k(x, shape[-1], values, classes, options.threads, options.isa)
    classes += start
    return Largest(k, values, classes)


def _descending(values: Array) -> tuple[Array, Array]:
    """Return keys for `np.lexsort`, the last of which comes first."""
    comparable = values.astype(F32) if values.itemsize == 2 else values  # NumPy cannot sort bfloat16
    return -comparable, ~np.isnan(comparable)
