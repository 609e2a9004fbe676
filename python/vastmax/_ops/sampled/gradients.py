# SPDX-License-Identifier: Apache-2.0
"""Gradients of a table of classes that are zero in all rows but a few."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays
from vastmax._operands.targets import class_ids
from vastmax._runtime import config
from vastmax.errors import message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from scipy.sparse import coo_array

    from vastmax._operands.arrays import Array
    from vastmax._operands.class_table import Targets

# Summed rows that a factored gradient holds at once while it is applied: they stay in second-level cache.
_SUMS_BYTES = 1 << 20


class _Applied:
    """Updates of a table with the rows of a gradient."""

    shape: tuple[int, int]

    def _parts(self) -> Iterator[tuple[Array, Array]]:
        raise NotImplementedError

    def _sources(self) -> tuple[Array, ...]:
        """Return the arrays that `_parts` reads."""
        raise NotImplementedError

    def apply_sgd_(self, weight: Array, lr: float) -> None:
        """Subtract `lr` times the gradient from `weight`, in place.

        Parameters
        ----------
        weight : ndarray
            The table, or one of its shape: float16, bfloat16, float32 or float64; may be a writable `numpy.memmap`.
        lr : float
            Learning rate.

        Raises
        ------
        TypeError, ValueError
            If `weight` is not such an array. Nothing has been written then.
        """
        self._apply("apply_sgd_", weight, float(lr), None, 0.0)

    def apply_adagrad_(self, weight: Array, state: Array, lr: float, eps: float = 1e-10) -> None:
        r"""Update `weight` by row-wise Adagrad, in place.

        .. math:: s_j \leftarrow s_j + \tfrac1D \|g_j\|^2, \quad w_j \leftarrow w_j - \frac{lr}{\sqrt{s_j} + eps} \, g_j

        Parameters
        ----------
        weight : ndarray
            As for `apply_sgd_`.
        state : ndarray of float64
            :math:`s`, one number a class, updated too; zeros at first.
        lr, eps : float
            Learning rate, and what keeps the divisor above 0.

        Raises
        ------
        TypeError, ValueError
            If `weight` or `state` is not such an array. Nothing has been written then.

        Notes
        -----
        One number a row in place of one a weight, as in FBGEMM.
        """
        op = "apply_adagrad_"
        if getattr(state, "dtype", None) != np.float64:
            raise TypeError(message(op, "state", f"is {_kind(state)}", "an ndarray of float64, one for each class"))
        if state.shape != self.shape[:1] or not state.flags.c_contiguous or not state.flags.writeable:
            accepted = f"dense, writable, of shape {self.shape[:1]}"
            raise ValueError(message(op, "state", f"has shape {state.shape}", accepted))
        self._apply(op, weight, float(lr), state, float(eps))

    def _apply(self, op: str, weight: Array, lr: float, state: Array | None, eps: float) -> None:
        if not _is_table(weight):
            raise TypeError(message(op, "weight", f"is {_kind(weight)}", "an ndarray of floats in native byte order"))
        if weight.shape != self.shape or not weight.flags.writeable or not _features_adjacent(weight):
            given = f"has shape {weight.shape}" + ("" if weight.flags.writeable else " and is read-only")
            accepted = f"writable, of shape {self.shape}, rows whose features follow each other"
            raise ValueError(message(op, "weight", given, accepted))
        arrays.expect_own_memory(op, "weight", weight)
        if state is not None:
            arrays.expect_apart(op, "state", state, "weight", weight)
        kind = arrays.F64 if weight.dtype == arrays.F64 else arrays.F32
        options = config.current()
        parts: Iterable[tuple[Array, Array]] = self._parts()
        if any(arrays.share(a, to) for a in self._sources() for to in (weight, state) if to is not None):
            parts = [(ids, rows.copy()) for ids, rows in parts]  # all of them, before any is written over
        for ids, rows in parts:
            changes = arrays.dense(rows, kind)
            _core.update_rows(weight, ids, changes, lr, state, eps, options.threads, options.isa)


def _is_table(value: object) -> bool:
    return isinstance(value, np.ndarray) and arrays.is_float(value.dtype) and value.dtype.isnative


def _features_adjacent(table: Array) -> bool:
    return table.shape[1] == 1 or table.strides[1] == table.itemsize


def _kind(value: object) -> str:
    return f"of dtype {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


@dataclass(frozen=True, eq=False)
class SparseRows(_Applied):
    """A matrix of which some rows are given and all others are zero.

    Attributes
    ----------
    ids : ndarray of int64
        The rows that are given; one that is given several times counts as their sum.
    rows : ndarray
        Their values, shape (len(ids), D).
    shape : tuple of int
        (V, D).

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> weight = np.ones((5, 2), np.float32)
    >>> vastmax.SparseRows(np.array([1, 3]), np.full((2, 2), 10, np.float32), (5, 2)).apply_sgd_(weight, 0.05)
    >>> weight[:, 0]
    array([1. , 0.5, 1. , 0.5, 1. ], dtype=float32)
    """

    ids: NDArray[np.int64]
    rows: Array
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        """Check what is given."""
        op = "SparseRows"
        if getattr(self.rows, "dtype", None) not in (arrays.F32, arrays.F64):
            raise TypeError(message(op, "rows", f"is {_kind(self.rows)}", "an ndarray of float32 or float64"))
        if self.rows.ndim != 2 or self.rows.shape[1] != self.shape[1]:
            raise ValueError(message(op, "rows", f"has shape {self.rows.shape}", f"(n, {self.shape[1]})"))
        ids = class_ids(op, "ids", self.ids, self.rows.shape[:1], self.shape[0])
        object.__setattr__(self, "ids", ids.copy())  # theirs may be part of a table that is updated

    def coalesce(self) -> SparseRows:
        """Return the gradient with ascending, distinct ids: itself, if it is so."""
        if (np.diff(self.ids) > 0).all():
            return self
        groups = group(self.ids, self.shape[0])
        rows = np.ascontiguousarray(self.rows)
        return SparseRows(groups.ids, groups.sums(rows, None, 1, _no_rows(rows), 0, len(groups.ids)), self.shape)

    def to_scipy(self) -> coo_array:
        """Return a `scipy.sparse.coo_array` of shape (V, D)."""
        from scipy.sparse import coo_array

        features = self.shape[1]
        where = (np.repeat(self.ids, features), np.tile(np.arange(features), len(self.ids)))
        return coo_array((self.rows.reshape(-1), where), shape=self.shape)

    def _parts(self) -> Iterator[tuple[Array, Array]]:
        whole = self.coalesce()
        yield whole.ids, whole.rows

    def _sources(self) -> tuple[Array, ...]:
        return (self.rows,)


def _no_rows(like: Array) -> tuple[Array, Array, Array]:
    return np.empty((0, like.shape[1]), like.dtype), np.empty(0, like.dtype), np.empty(0, np.int64)


class _Redraw(Protocol):
    def __call__(self, first: int, count: int) -> NDArray[np.int64]: ...


@dataclass(frozen=True, eq=False)
class FactoredGrad(_Applied):
    """The gradient of a table whose rows of input each met draws of their own, as coefficients of those rows.

    Row j of the gradient is the sum of ``coefficients[b, s] * input[b]`` over all draws (b, s) of class j, and of the
    targets' part. The ids of the draws are drawn again when they are needed, and rows are summed only then.

    Attributes
    ----------
    input : ndarray
        Shape (B, D).
    coefficients : ndarray
        Shape (B, S): of each draw.
    shape : tuple of int
        (V, D).
    """

    input: Array
    coefficients: Array
    shape: tuple[int, int]
    targets: Targets = field(repr=False)
    target_coefficients: Array = field(repr=False)
    redraw: _Redraw = field(repr=False)

    def ids(self) -> NDArray[np.int64]:
        """Return the classes that were drawn, of the shape of `coefficients`."""
        return self.redraw(0, len(self.input))

    def coalesce(self) -> SparseRows:
        """Return the gradient with ascending, distinct ids, summed in the order of rows and draws."""
        groups, sums = self._groups()
        return SparseRows(groups.ids, sums(0, len(groups.ids)), self.shape)

    def to_scipy(self) -> coo_array:
        """Return a `scipy.sparse.coo_array` of shape (V, D)."""
        return self.coalesce().to_scipy()

    def _groups(self) -> tuple[Groups, Callable[[int, int], Array]]:
        groups = group(np.concatenate([self.ids().reshape(-1), self.targets.ids]), self.shape[0])
        width = max(1, self.coefficients.shape[1])
        coefficients = self.coefficients.reshape(-1)
        other = (self.input, self.target_coefficients, self.targets.rows)
        return groups, lambda first, last: groups.sums(self.input, coefficients, width, other, first, last)

    def _parts(self) -> Iterator[tuple[Array, Array]]:
        groups, sums = self._groups()
        step = max(1, _SUMS_BYTES // (self.shape[1] * self.input.itemsize))
        for first in range(0, len(groups.ids), step):
            last = min(first + step, len(groups.ids))
            yield groups.ids[first:last], sums(first, last)

    def _sources(self) -> tuple[Array, ...]:
        return self.input, self.coefficients, self.target_coefficients


class Groups:
    """Entries by class: their stable order, and where each class starts in it."""

    def __init__(self, order: NDArray[np.int64], starts: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        self.order, self.starts, self.ids = order, starts, ids

    def sums(
        self,
        rows: Array,
        coefficients: Array | None,
        width: int,
        other: tuple[Array, Array, Array],
        first: int,
        last: int,
    ) -> Array:
        """Sum the entries of the classes first to last.

        Entry e is row ``e // width`` of `rows` times its coefficient; those past the end are of `other`: rows,
        coefficients, and the number of the row of each.
        """
        options = config.current()
        sums = np.empty((last - first, rows.shape[1]), rows.dtype)
        starts = self.starts[first : last + 1]
        order = self.order[starts[0] : starts[-1]]
        _core.sum_groups(
            rows, coefficients, width, *other, order, starts - starts[0], sums, options.threads, options.isa
        )
        return sums


def group(ids: NDArray[np.int64], classes: int) -> Groups:
    """Group entries by their class."""
    order = np.empty(len(ids), np.int64)
    _core.sort_ids(ids, classes, order)
    ordered = ids[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return Groups(order, np.append(starts, len(ids)), ordered[starts])


SparseRows.__module__ = FactoredGrad.__module__ = "vastmax.sparse_rows"  # the public name
