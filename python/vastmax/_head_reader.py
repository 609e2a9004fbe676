# SPDX-License-Identifier: Apache-2.0
"""One pass over the logits of a head: what it finds of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import _policy, _progress
from ._head import longest
from ._row_loss import Seen
from .streaming import LogSumExp

if TYPE_CHECKING:
    from ._arrays import Array
    from ._head import Head
    from ._row_loss import RowLoss


def read_all(head: Head, rows: Array, loss: RowLoss | None, progress: bool) -> Seen:
    """Read the logits of some rows, in batches that need little room."""
    found = Seen(*np.empty((4, len(rows))))
    batches = head.batches(len(rows), _policy.TILE_ROWS)
    height = longest(batches)
    tiles = head.tiles(height)
    room = head.room(tiles, height)
    for batch in batches:
        x = head.inputs[rows[batch]]
        reader = Reader(len(x), None if loss is None else loss.of(batch))
        for tile in _progress.track(tiles, head.op, progress):
            reader.take(tile, head.logits(x, tile, room))
        for part, seen in zip(found, reader.seen(), strict=True):
            part[batch] = seen
    return found


class Reader:
    """Takes in the logits of a batch of rows, tile by tile."""

    def __init__(self, rows: int, loss: RowLoss | None) -> None:
        self.state = LogSumExp(rows, np.float64)
        self.targets = Targets(np.empty(0, np.int64) if loss is None else loss.target)
        self._loss = loss
        self._target, self._total = np.zeros(rows), np.zeros(rows)

    def take(self, tile: slice, logits: Array) -> None:
        """Take in the logits of a tile."""
        self.state.update(logits)
        rows, columns = self.targets.of(tile)
        self._target[rows] = logits[rows, columns]
        if self._loss is not None and self._loss.smooth:
            self._total += logits @ self._loss.shares(tile).astype(logits.dtype)

    def seen(self) -> Seen:
        """Return what there was."""
        return Seen(*self.state.parts(), self._target, self._total)


class Targets:
    """Where a tile holds the targets of rows."""

    def __init__(self, target: Array) -> None:
        self._order = np.argsort(target, kind="stable")
        self._sorted = target[self._order]

    def of(self, tile: slice) -> tuple[Array, Array]:
        """Return rows and the columns of their targets."""
        first, last = np.searchsorted(self._sorted, (tile.start, tile.stop))
        return self._order[first:last], self._sorted[first:last] - tile.start
