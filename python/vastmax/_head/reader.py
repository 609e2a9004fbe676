# SPDX-License-Identifier: Apache-2.0
"""Two passes over the logits of a head: what the first finds of each row, and the slopes that the second makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax import _call, _core, _policy, _progress
from vastmax._row_loss import Seen
from vastmax.streaming import empty_states, parts_of

from .layer import longest

if TYPE_CHECKING:
    from vastmax._arrays import Array
    from vastmax._row_loss import RowLoss, Slopes

    from .layer import Head

    Tile = tuple[Array | None, float, Array | None, Array, int]


def read_all(head: Head, rows: Array, loss: RowLoss | None, progress: bool) -> Seen:
    """Read the logits of some rows, in batches that need little room."""
    found = Seen(*np.empty((4, len(rows))))
    batches = head.batches(len(rows), _policy.TILE_ROWS)
    height = longest(batches)
    tiles = head.tiles(height)
    room = head.room(tiles, height)
    for batch in batches:
        x = head.inputs[rows[batch]]
        reader = Reader(head, len(x), None if loss is None else loss.of(batch))
        for tile in _progress.track(tiles, head.op, progress):
            reader.take(tile, head.product(x, tile, room))
        for part, seen in zip(found, reader.seen(), strict=True):
            part[batch] = seen
    return found


class Reader:
    """Takes in the logits of a batch of rows, tile by tile, each as a product without bias and cap."""

    def __init__(self, head: Head, rows: int, loss: RowLoss | None) -> None:
        self._head, self._loss = head, loss
        self._states = empty_states(rows)
        self._target = np.full(rows, -1) if loss is None else loss.target
        self._logit, self._total = np.zeros(rows), np.zeros(rows)
        self._options = _call.on_cpu(head.op)(head.op, rows, head.classes, head.kind)

    def take(self, tile: slice, product: Array) -> None:
        """Take in a tile."""
        _core.head_update(product, *self._tile(tile), self._states, self._logit, self._total, *self._options)

    def seen(self) -> Seen:
        """Return what there was."""
        return Seen(*parts_of(self._states), self._logit, self._total)

    def slopes(self, tile: slice, product: Array, slopes: Slopes, out: Array) -> Array:
        """Write the slopes of a tile, once all have been taken in; `out` may be the product."""
        _core.head_slopes(product, *self._tile(tile), self._states, *slopes, out, *self._options)
        return out

    def _tile(self, tile: slice) -> Tile:
        head, loss = self._head, self._loss
        shares = loss.shares(tile).astype(head.kind) if loss is not None and loss.smooth else None
        return head.bias_of(tile), head.cap, shares, self._target, tile.start
