# SPDX-License-Identifier: Apache-2.0
"""The largest logits of a head: what beats the least of them so far, tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends import policy
from vastmax._ops.largest import Largest, largest
from vastmax._runtime.progress import track

if TYPE_CHECKING:
    from vastmax._operands.arrays import Array
    from vastmax._ops.linear.layer import Head


_ROWS_AT_ONCE = 64  # of a tile: they stay in second-level cache


def top_k(head: Head, k: int, progress: bool) -> tuple[Array, Array]:
    """Return the k largest logits of each row and their classes, in descending order, ties by class, NaN first."""
    values = np.empty((len(head.inputs), k), head.kind)
    classes = np.empty(values.shape, np.int64)
    most = max(1, min(policy.TILE_ROWS, policy.TILE_BYTES // (k * values.itemsize)))
    for batch in head.batches(len(values), most):
        x = head.inputs[batch]
        tiles = head.tiles(len(x), max(k, head.width(len(x))))
        room = head.room(tiles, len(x))
        for tile in track(tiles, head.op, progress):
            with np.errstate(all="ignore"):
                logits, bias = head.product(x, tile, room), head.bias_of(tile)
                for i in range(0, len(x), _ROWS_AT_ONCE):
                    some = slice(i, i + _ROWS_AT_ONCE)
                    if bias is not None:
                        logits[some] += bias
                    _merge(logits[some], tile.start, values[batch][some], classes[batch][some])
    return values, classes


def _merge(logits: Array, start: int, values: Array, classes: Array) -> None:
    """Let the logits of a few rows, of classes from `start` on, into the best so far; of the first tile they are."""
    k = values.shape[1]
    found = largest(logits, -1, k, start)
    if start == 0:
        values[:], classes[:] = found.values, found.classes
        return
    worst = values[:, -1]
    entered = np.flatnonzero(~(found.values[:, 0] <= worst) & ~np.isnan(worst))
    if entered.size:
        best = Largest(k, values[entered], classes[entered])
        best.merge(Largest(k, found.values[entered], found.classes[entered]))
        values[entered], classes[entered] = best.values, best.classes
