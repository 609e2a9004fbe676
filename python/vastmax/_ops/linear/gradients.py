# SPDX-License-Identifier: Apache-2.0
"""Gradients of cross-entropy through a head: logits, and a product for either gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends import policy
from vastmax._ops.linear.layer import longest
from vastmax._ops.linear.reader import Reader
from vastmax._runtime.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from vastmax._operands.arrays import Array
    from vastmax._ops.linear.layer import Head
    from vastmax._ops.linear.row_loss import RowLoss

    F64 = NDArray[np.float64]
    Place = tuple[bool, slice] | None


class Gradients:
    """Gradients that grow batch by batch.

    What becomes the logits of a batch is kept from the pass that finds their normaliser to the one that needs their
    slopes. The first batch keeps it where the gradient of the weights will be: that is written in the second pass only,
    tile by tile, behind what is read. What does not fit there, and the other batches, have a budget; a tile beyond it
    is computed again.
    """

    def __init__(self, head: Head, rows: Array, loss: RowLoss, scale: F64) -> None:
        self._head, self._rows, self._loss, self._scale = head, rows, loss, scale
        self.batches = self._cut(len(rows))
        features = head.inputs.shape[1]
        self._tiles = [head.tiles(batch.stop - batch.start) for batch in self.batches]
        self._places = [self._place(batch, tiles) for batch, tiles in self._pairs()]
        kept = [place[1].stop for places in self._places for place in places if place and not place[0]]
        self._extra = np.empty(max(kept, default=0), head.kind)
        wide = [head.size(batch.stop - batch.start, longest(tiles)) for batch, tiles in self._pairs()]
        self._room = np.empty(max(wide, default=0), head.kind)
        self._part = np.empty((max(map(longest, self._tiles[1:]), default=0), features), head.kind)
        self._input = np.zeros(head.inputs.shape, head.kind)
        new = np.empty if self.batches else np.zeros  # np.empty asks for large pages, and the first batch fills them
        self._weight = new(head.weight.shape, head.kind)
        self._bias = None if head.bias is None else np.zeros(head.classes)

    def _pairs(self) -> Iterator[tuple[slice, list[slice]]]:
        return zip(self.batches, self._tiles, strict=True)

    def _cut(self, rows: int) -> list[slice]:
        """Cut the rows: the first batch may be larger than the others, which are equal."""
        a_row = max(1, self._head.classes * self._head.kind.itemsize)
        fitting = policy.GRADIENT_BYTES // a_row
        own = self._head.inputs.shape[1]
        first, later = (min(max(n, policy.LEAST_GRADIENT_ROWS), policy.TILE_ROWS) for n in (own + fitting, fitting))
        more = max(0, -(-(rows - first) // later))
        first = max(-(-rows // (more + 1)), rows - more * later)
        cuts = [slice(0, first)] if rows else []
        rest = self._head.batches(rows - first, later) if more else []
        return cuts + [slice(first + cut.start, first + cut.stop) for cut in rest]

    def _place(self, batch: slice, tiles: list[slice]) -> list[Place]:
        """Say where each tile is kept: in the gradient of the weights or in `extra`, and which part of it."""
        head, height = self._head, batch.stop - batch.start
        own = head.weight.size if batch.start == 0 else 0
        width = max(1, longest(tiles))
        apart = max(-(-head.size(height, width) // width), head.inputs.shape[1])  # elements a class
        budget, used = policy.GRADIENT_BYTES // head.kind.itemsize, 0
        places: list[Place] = []
        for tile in tiles:
            size, start = head.size(height, tile.stop - tile.start), tile.start * apart
            if start + size <= own:
                places.append((True, slice(start, start + size)))
            elif used + size <= budget:
                places.append((False, slice(used, used + size)))
                used += size
            else:
                places.append(None)
        return places

    def _kept(self, place: Place) -> Array | None:
        if place is None:
            return None
        own, part = place
        return (self._weight.reshape(-1) if own else self._extra)[part]

    def add(self, batch: slice, progress: bool) -> tuple[F64, F64]:
        """Add what a batch of the rows brings to the gradients; return the losses and logsumexp of its rows."""
        head, loss, index = self._head, self._loss.of(batch), self.batches.index(batch)
        x = head.inputs[self._rows[batch]]
        reader = Reader(head, len(x), loss)
        tiles = list(zip(self._tiles[index], map(self._kept, self._places[index]), strict=True))
        for tile, kept in track(tiles, f"{head.op}: logits", progress):
            reader.take(tile, head.product(x, tile, self._room if kept is None else kept))
        states, rows, isa = reader.found
        losses, lse, slopes = loss.with_slopes(states, rows, self._scale[batch], isa)
        grad, part = np.zeros_like(x), np.empty_like(x)
        for tile, kept in track(tiles, f"{head.op}: gradients", progress):
            z = head.shaped(self._room, x, tile)
            product = head.product(x, tile, self._room) if kept is None else head.shaped(kept, x, tile)
            reader.slopes(tile, product, slopes, z)
            grad += np.matmul(z, head.weights(tile), out=part)
            self._add_weight(z, tile, x, index == 0)
            if self._bias is not None:
                self._bias[tile] += np.ones(len(x), z.dtype) @ z
        self._input[self._rows[batch]] = grad
        return losses, lse

    def finished(self) -> tuple[Array, Array, Array | None]:
        """Return the gradients, in the dtypes of what they belong to."""
        head = self._head
        grad_input = self._input.reshape(*head.shape, head.weight.shape[1])
        weight = self._weight.astype(head.weight_dtype, copy=False)
        bias = None if self._bias is None or head.bias is None else self._bias.astype(head.bias.dtype)
        return grad_input.astype(head.input_dtype, copy=False), weight, bias

    def _add_weight(self, z: Array, tile: slice, x: Array, first: bool) -> None:
        target = self._weight[tile]
        if first:
            np.matmul(z.T, x, out=target)
        else:
            target += np.matmul(z.T, x, out=self._part[: len(target)])
