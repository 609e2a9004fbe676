# SPDX-License-Identifier: Apache-2.0
"""The layer that makes logits of features, tile by tile: some rows by some classes, never all of them.

The matrix products are NumPy's, on the threads of its BLAS; the kernels run between them, so the two never compete.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends import policy
from vastmax._backends.start import start_host_call
from vastmax._operands import arrays
from vastmax._operands.numbers import SMALLEST_SCALE, check_float
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array


class Head:
    """Weights [V, D], bias [V] or None, and a soft cap c: logits c tanh((x W' + b) / c), computed in `kind`."""

    def __init__(
        self, op: str, inputs: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, softcap: float | None = None
    ) -> None:
        self.call = start_host_call(op, inputs, weight, bias)
        self.op = op
        self.weight = self._matrix(op, weight)
        self.weight_dtype = arrays.computed_dtype(op, "linear_weight", self.weight.dtype)
        self.classes, features = self.weight.shape
        x = arrays.as_float_array(op, "input", inputs)
        if x.ndim == 0 or x.shape[-1] != features:
            accepted = f"(..., {features}), with the features of linear_weight"
            raise ValueError(message(op, "input", f"has shape {x.shape}", accepted))
        self.bias = None if bias is None else arrays.as_float_array(op, "linear_bias", bias)
        if self.bias is not None and self.bias.shape != (self.classes,):
            accepted = f"one number a class, ({self.classes},)"
            raise ValueError(message(op, "linear_bias", f"has shape {self.bias.shape}", accepted))
        self.cap = 0.0 if softcap is None else check_float(op, "softcap", softcap, SMALLEST_SCALE)
        given = {self.weight_dtype, x.dtype, *([] if self.bias is None else [self.bias.dtype])}
        self.kind = arrays.F64 if arrays.F64 in given else arrays.F32
        self.input_dtype, self.shape = x.dtype, x.shape[:-1]
        self.inputs = arrays.dense(x.reshape(prod(self.shape), features), self.kind)
        self._converted: Array | None = None

    @staticmethod
    def _matrix(op: str, weight: ArrayLike) -> Array:
        given = arrays.as_given(op, "linear_weight", weight)
        arrays.computed_dtype(op, "linear_weight", given.dtype)
        if given.ndim != 2:
            raise ValueError(message(op, "linear_weight", f"has shape {given.shape}", "(classes, features)"))
        return given

    def ready(self) -> None:
        """Stop here if the call is only to be explained."""
        rows, weight = len(self.inputs), self.weight
        how = "logits a tile at a time, from matrix products on the threads of NumPy's BLAS"
        nbytes = weight.nbytes * -(-rows // policy.TILE_ROWS)
        self.call.plan_on_cpu(self.op, rows, self.classes, weight.dtype, (nbytes, how))

    def batches(self, rows: int, most: int) -> list[slice]:
        """Cut `rows` into batches of equal size, of at most `most` rows."""
        count = -(-rows // most)
        return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]

    def width(self, rows: int) -> int:
        """Return the classes of a tile of so many rows: the tile, and its weights, stay in cache."""
        side = max(rows, self.weight.shape[1], 1)
        fitting: int = policy.TILE_BYTES // (side * self.kind.itemsize)
        return min(max(fitting, 64), policy.TILE_WIDTH)

    def tiles(self, rows: int, width: int = 0) -> list[slice]:
        """Cut the classes."""
        width = width or self.width(rows)
        return [slice(i, min(i + width, self.classes)) for i in range(0, self.classes, width)]

    def weights(self, tile: slice) -> Array:
        """Return the weights of a tile in the type computed in: a view, or valid until the next call."""
        part = self.weight[tile]
        if part.dtype == self.kind and _for_blas(part):
            return part
        if self._converted is None or self._converted.size < part.size:
            self._converted = np.empty(part.shape, self.kind)
        room = self._converted.reshape(-1)[: part.size].reshape(part.shape)
        np.copyto(room, part, casting="unsafe")
        return room

    def room(self, tiles: list[slice], rows: int) -> Array:
        """Allocate what `product` writes any one of the tiles into."""
        return np.empty(self.size(rows, longest(tiles)), self.kind)

    def size(self, rows: int, classes: int) -> int:
        """Return the elements that a room needs: rows end in a gap."""
        return rows * (classes + policy.TILE_GAP // self.kind.itemsize)

    def shaped(self, room: Array, x: Array, tile: slice) -> Array:
        """Return the part of a room that is for rows x and a tile."""
        n = tile.stop - tile.start
        return room[: self.size(len(x), n)].reshape(len(x), -1)[:, :n]

    def product(self, x: Array, tile: slice, room: Array) -> Array:
        """Return what becomes the logits of rows x and the classes of a tile: `bias_of` it and the cap are missing."""
        return np.matmul(x, self.weights(tile).T, out=self.shaped(room, x, tile))

    def bias_of(self, tile: slice) -> Array | None:
        """Return the bias of a tile in the type computed in."""
        return None if self.bias is None else arrays.dense(self.bias[tile], self.kind)


def longest(cuts: list[slice]) -> int:
    """Return the length of the longest of some slices."""
    return max([cut.stop - cut.start for cut in cuts], default=0)


def _for_blas(a: Array) -> bool:
    """Whether a matrix product takes `a` as it is; anything else NumPy would copy, or multiply without BLAS."""
    (rows, columns), (down, across), item = a.shape, a.strides, a.itemsize
    by_row = across == item and down >= columns * item and down % item == 0
    by_column = down == item and across >= rows * item and across % item == 0
    return bool(a.flags.aligned and (by_row or by_column))
