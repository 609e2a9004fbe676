# SPDX-License-Identifier: Apache-2.0
"""Two passes over the logits of a head: what the first finds of each row, and the slopes that the second makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import vastmax._core as _core
from vastmax._backends import policy
from vastmax._backends.row_state import empty_states, parts_of
from vastmax._ops.linear.layer import longest
from vastmax._runtime.progress import track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vastmax._operands.arrays import Array
    from vastmax._ops.linear.layer import Head
    from vastmax._ops.linear.row_loss import RowLoss, Slopes

    F64 = NDArray[np.float64]
    Tile = tuple[Array | None, float, Array | None, Array, int]

_NUMBERS = 3  # of a row beside its state, in float64: HeadRow in cpp/include/vastmax/vastmax.hpp


def read_all(head: Head, rows: Array, loss: RowLoss | None, progress: bool) -> tuple[F64, F64]:
    """Return the losses of some rows, 0 without `loss`, and their logsumexp; read in batches that need little room."""
    losses, lse = np.zeros((2, len(rows)))
    batches = head.batches(len(rows), policy.TILE_ROWS)
    height = longest(batches)
    tiles = head.tiles(height)
    room = head.room(tiles, height)
    for batch in batches:
        x = head.inputs[rows[batch]]
        reader = Reader(head, len(x), None if loss is None else loss.of(batch))
        for tile in track(tiles, head.op, progress):
            reader.take(tile, head.product(x, tile, room))
        if loss is None:
            lse[batch] = sum(parts_of(reader.states))
        else:
            losses[batch], lse[batch] = loss.of(batch).losses(*reader.found)
    return losses, lse


class Reader:
    """Takes in the logits of a batch of rows, tile by tile, each as a product without bias and cap."""

    def __init__(self, head: Head, rows: int, loss: RowLoss | None) -> None:
        self._head, self._loss = head, loss
        self.states = empty_states(rows)
        self._rows = np.zeros((rows, _NUMBERS))
        self._target = np.full(rows, -1) if loss is None else loss.target
        self._earlier = 0.0  # what the shares of the tiles so far add up to
        self._options = head.call.plan_on_cpu(head.op, rows, head.classes, head.kind)

    def take(self, tile: slice, product: Array) -> None:
        """Take in a tile, after those of the classes before it."""
        bias, cap, shares, target, first = self._tile(tile)
        of_rows = self._earlier, self.states, self._rows
        _core.head_update(product, bias, cap, shares, target, first, *of_rows, *self._options)
        if shares is not None:
            self._earlier += float(shares.sum(dtype=np.float64))

    @property
    def found(self) -> tuple[Array, Array, int]:
        """The states of the rows after all tiles, and the instruction set."""
        return self.states, self._rows, self._options[1]

    def slopes(self, tile: slice, product: Array, slopes: Slopes, out: Array) -> Array:
        """Write the slopes of a tile, once all have been taken in; `out` may be the product."""
        _core.head_slopes(product, *self._tile(tile), self.states, *slopes, out, *self._options)
        return out

    def _tile(self, tile: slice) -> Tile:
        head, loss = self._head, self._loss
        shares = loss.shares(tile).astype(head.kind) if loss is not None and loss.smooth else None
        return head.bias_of(tile), head.cap, shares, self._target, tile.start
