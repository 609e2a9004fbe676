# SPDX-License-Identifier: Apache-2.0
"""A table of classes, the rows that meet it, and their targets: checked once, then found by number.

The table is never copied, converted or read as a whole: it may have 100,000,000 rows in a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from vastmax._operands import arrays
from vastmax._operands.targets import class_ids
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from vastmax._operands.arrays import Array
    from vastmax._operands.targets import TargetLike

_ROWS = "rows of float16, bfloat16, float32 or float64 in native byte order"


class ClassTable:
    """Weights [V, D] and perhaps biases [V]; `kind` is the dtype that they are computed in."""

    def __init__(self, op: str, weight: ArrayLike, bias: ArrayLike | None) -> None:
        table = arrays.as_given(op, "weight", weight)
        if not arrays.is_float(table.dtype) or not table.dtype.isnative:
            raise TypeError(message(op, "weight", f"has dtype {table.dtype}", _ROWS))
        if table.ndim != 2 or table.shape[1] == 0:
            raise ValueError(message(op, "weight", f"has shape {table.shape}", "(classes, features)"))
        if table.shape[1] > 1 and table.strides[1] != table.itemsize:
            accepted = "rows whose features follow each other, as np.ascontiguousarray(weight) has them"
            raise ValueError(message(op, "weight", f"has strides {table.strides}", accepted))
        self.op, self.weight = op, table
        self.classes, self.features = table.shape
        self.row_bytes = self.features * table.itemsize
        self.kind = arrays.F64 if table.dtype == arrays.F64 else arrays.F32
        self.bias = None if bias is None else arrays.as_given(op, "bias", bias)
        if self.bias is not None:
            if not arrays.is_float(self.bias.dtype) or not self.bias.dtype.isnative:
                raise TypeError(message(op, "bias", f"has dtype {self.bias.dtype}", _ROWS.replace("rows", "an array")))
            if self.bias.shape != (self.classes,):
                raise ValueError(message(op, "bias", f"has shape {self.bias.shape}", f"({self.classes},)"))

    def features_of(self, value: ArrayLike) -> tuple[Array, np.dtype[Any]]:
        """Return `input` as dense rows of `kind`, and the dtype of its gradient."""
        given = arrays.as_given(self.op, "input", value)
        wanted = self.gradient_dtype(given)
        return arrays.dense(given, self.kind), wanted

    def gradient_dtype(self, given: Array) -> np.dtype[Any]:
        """Check the shape and the dtype of `input`, and return the dtype of its gradient."""
        op = self.op
        kind = arrays.computed_dtype(op, "input", given.dtype)
        if given.ndim != 2 or given.shape[1] != self.features:
            accepted = f"(rows, {self.features}), with the features of weight"
            raise ValueError(message(op, "input", f"has shape {given.shape}", accepted))
        if given.dtype == arrays.F64 and self.kind != arrays.F64:
            accepted = (
                f"float32 or 16-bit features beside a {self.weight.dtype} weight: float64 is not narrowed unasked"
            )
            raise TypeError(message(op, "input", "has dtype float64", accepted))
        return kind if arrays.is_float(given.dtype) else self.kind

    def biases(self, ids: Array) -> Array | None:
        """Return the biases of some classes in float64."""
        return None if self.bias is None else self.bias[ids].astype(np.float64)


class Targets(NamedTuple):
    """The distinct targets of each row, ascending, in CSR form."""

    offsets: NDArray[np.int64]
    ids: NDArray[np.int64]
    share: NDArray[np.float64]  # of the row's target that each is; they sum to 1
    shape: tuple[int, ...]  # of the ids that were given
    at: NDArray[np.int64]  # where each came first among those

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return the row of each."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def of(self, first: int, count: int) -> Targets:
        """Return those of some rows."""
        begin, end = self.offsets[first], self.offsets[first + count]
        mine = slice(begin, end)
        offsets = self.offsets[first : first + count + 1] - begin
        return Targets(offsets, self.ids[mine], self.share[mine], self.shape, self.at[mine])

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum over each row of one value a target."""
        return np.bincount(self.rows, values, len(self.offsets) - 1).astype(np.float64, copy=False)


def targets(op: str, given: TargetLike, rows: int, classes: int) -> Targets:
    """Check targets: [rows], [rows, T], or a pair (ids, offsets) where row i has ids[offsets[i]:offsets[i + 1]]."""
    if isinstance(given, tuple) and len(given) == 2 and all(np.ndim(part) == 1 for part in given):
        return _ragged(op, *given, rows, classes)
    given = cast("ArrayLike", given)
    shape: tuple[int, ...] = np.shape(given)
    if shape[:1] != (rows,) or len(shape) > 2:
        accepted = f"({rows},), ({rows}, T), or a pair (ids, offsets)"
        raise ValueError(message(op, "target", f"has shape {shape}", accepted))
    ids = class_ids(op, "target", given, shape, classes)
    if ids.ndim == 1:
        return Targets(np.arange(rows + 1), ids, np.ones(rows), shape, np.arange(rows))
    return _distinct(ids, np.arange(rows + 1) * shape[1])


def _ragged(op: str, ids: ArrayLike, offsets: ArrayLike, rows: int, classes: int) -> Targets:
    at = class_ids(op, "offsets", offsets, (rows + 1,), np.size(ids) + 1)
    if at[0] != 0 or at[-1] != np.size(ids) or (np.diff(at) < 0).any():
        accepted = f"{rows + 1} numbers that ascend from 0 to the {np.size(ids)} ids of target"
        raise ValueError(message(op, "offsets", "does not cut target into rows", accepted))
    return _distinct(class_ids(op, "target", ids, np.shape(ids), classes), at)


def _distinct(given: Array, offsets: Array) -> Targets:
    """Count an id that comes twice in a row once, with twice the share."""
    lengths = np.diff(offsets)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    ids = given.reshape(-1)
    order = np.lexsort((ids, rows))
    ids, rows = ids[order], rows[order]
    first = np.ones(len(ids), bool)
    first[1:] = (ids[1:] != ids[:-1]) | (rows[1:] != rows[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=len(ids))
    kept = rows[starts]
    cuts = np.searchsorted(kept, np.arange(len(lengths) + 1))
    return Targets(cuts, ids[starts], counts / lengths[kept], given.shape, order[starts])
