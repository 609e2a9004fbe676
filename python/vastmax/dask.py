# SPDX-License-Identifier: Apache-2.0
"""Softmax, logsumexp, cross-entropy and top-k of Dask arrays whose classes lie in many chunks.

Nothing is computed before `compute`. A chunk tells a few numbers of each of its rows, and only they travel, along a
tree. Dask is imported at the first call: ``pip install ".[dask]"``.
"""

from __future__ import annotations

from functools import partial
from math import isnan
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import _shards
from ._operands import arrays, targets
from ._operands.arrays import F64
from ._operands.numbers import check_int
from ._operands.reduction import check_reduction, quotient
from ._operands.rows import Rows
from ._ops.largest import largest
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Axis
    from ._ops.largest import Largest
    from ._shards import Seen
    from .streaming import LogSumExp

    DaskArray: TypeAlias = Any

__all__ = ["cross_entropy", "log_softmax", "logsumexp", "softmax", "top_k"]

_INT64 = np.dtype(np.int64)


def logsumexp(x: DaskArray, axis: Axis = -1) -> DaskArray:
    r"""Return the logarithm of the sum of exponentials of a Dask array.

    .. math:: \log \sum_j e^{x_j}

    Parameters
    ----------
    x : dask.array.Array
        Logits, cut along any axes; dtypes as in `vastmax.softmax`.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.

    Returns
    -------
    dask.array.Array
        The shape of `x` without `axis`. float64 for float64, integers and bool, else float32.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above.

    Notes
    -----
    Accuracy: that of `vastmax.logsumexp`.
    The bits do not depend on scheduler or workers. Where every chunk but the last holds a multiple of 4096
    classes, chunks show in the last bits of float64 alone, where merging rounds.

    Special values: those of `vastmax.logsumexp`.

    Examples
    --------
    >>> import dask.array as da
    >>> import vastmax
    >>> x = da.zeros((2, 1_000_000), dtype="float32", chunks=(2, 4096 * 64))
    >>> vastmax.dask.logsumexp(x).compute()
    array([13.815511, 13.815511], dtype=float32)
    """
    logits = _Logits("dask.logsumexp", x, axis)
    return logits.reduced(logits.states(), _value, logits.reduction_dtype)


def softmax(x: DaskArray, axis: Axis = -1) -> DaskArray:
    r"""Return the probabilities that belong to the logits of a Dask array.

    .. math:: y_i = e^{x_i} / \sum_j e^{x_j}

    Parameters
    ----------
    x : dask.array.Array
        Logits, cut along any axes; dtypes as in `vastmax.softmax`.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.

    Returns
    -------
    dask.array.Array
        The shape, chunks and dtype of `x`; float64 for integers and bool.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above.

    Notes
    -----
    Accuracy: that of `vastmax.softmax`.
    The bits do not depend on scheduler or workers. Where every chunk but the last holds a multiple of 4096
    classes, chunks show in the last bits of float64 alone, where merging rounds.

    Special values: those of `vastmax.softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> import vastmax
    >>> vastmax.dask.softmax(da.zeros(4, chunks=2)).compute()
    array([0.25, 0.25, 0.25, 0.25])
    """
    return _Logits("dask.softmax", x, axis).mapped(_normalized)


def log_softmax(x: DaskArray, axis: Axis = -1) -> DaskArray:
    r"""Return the logarithms of the probabilities that belong to the logits of a Dask array.

    .. math:: y_i = x_i - \log \sum_j e^{x_j}

    Parameters
    ----------
    x : dask.array.Array
        Logits, cut along any axes; dtypes as in `vastmax.softmax`.
    axis : int, tuple of int, or None
        Axes that one row of probabilities spans; None means all.

    Returns
    -------
    dask.array.Array
        The shape, chunks and dtype of `x`; float64 for integers and bool.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above.

    Notes
    -----
    Accuracy: that of `vastmax.log_softmax`, also near certainty. The bits may be others: it is computed in float64.

    Special values: those of `vastmax.log_softmax`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import vastmax
    >>> vastmax.dask.log_softmax(da.from_array(np.array([40.0, 0.0]), chunks=1)).compute()
    array([-4.24835426e-18, -4.00000000e+01])
    """
    return _Logits("dask.log_softmax", x, axis).mapped(_shards.log_probabilities)


def cross_entropy(x: DaskArray, target: DaskArray | ArrayLike, *, axis: int = -1, reduction: str = "mean") -> DaskArray:
    r"""Return the cross-entropy between classes and the softmax of a Dask array, in one read of the logits.

    .. math:: \ell = \log \sum_j e^{x_j} - x_t

    Parameters
    ----------
    x : dask.array.Array
        Logits, cut along any axes; dtypes as in `vastmax.softmax`.
    target : dask.array.Array or array_like of int
        The class :math:`t` of each row: the shape of `x` without `axis`. Rows with -100 do not count.
    axis : int, default -1
        Axis that holds the classes.
    reduction : {"mean", "sum", "none"}
        Over the rows that count; "none" keeps one loss for each row, 0 where it does not count.

    Returns
    -------
    dask.array.Array
        float64 for float64, integers and bool, else float32.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above.
    IndexError
        If a target is neither a class nor -100: now for arrays in memory, by `compute` for Dask arrays.

    Notes
    -----
    Accuracy: at most 4 ULP for each row, also near certainty, where the loss is close to 0. Losses are added in
    float64.

    Special values: a target with logit -inf gives +inf; a row with NaN, or of -inf alone, NaN. The mean over no rows
    is NaN.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import vastmax
    >>> x = da.from_array(np.array([[40.0, 0.0], [0.0, 0.0]]), chunks=(2, 1))
    >>> vastmax.dask.cross_entropy(x, [0, 1], reduction="none").compute()
    array([4.24835426e-18, 6.93147181e-01])
    """
    op = "dask.cross_entropy"
    check_reduction(op, reduction)
    logits = _along_one(op, x, axis)
    ids = logits.ids(target)
    losses = logits.reduced(logits.seen(ids), _losses, F64)
    if reduction != "none":
        losses = losses.sum()
    divisors = [(ids != _shards.IGNORE_INDEX).sum()] if reduction == "mean" else []
    return logits.each(partial(_quotient, logits.reduction_dtype), logits.reduction_dtype, losses, *divisors)


def top_k(x: DaskArray, k: int, axis: int = -1) -> tuple[DaskArray, DaskArray]:
    r"""Return the k largest logits of each row of a Dask array, and their classes.

    .. math:: x_{c_1} \ge x_{c_2} \ge \dots \ge x_{c_k}

    Parameters
    ----------
    x : dask.array.Array
        Logits, cut along any axes; dtypes as in `vastmax.softmax`.
    k : int
        From 1 to the number of classes.
    axis : int, default -1
        Axis that holds the classes.

    Returns
    -------
    values : dask.array.Array
        The shape of `x` with `axis` of length `k`, and its dtype; float64 for integers and bool. Descending.
    indices : dask.array.Array
        Their classes, in int64. Equal logits are in the order of their classes.

    Raises
    ------
    ImportError
        If Dask is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above.

    Notes
    -----
    Accuracy: exact.

    Special values: NaN ranks highest.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import vastmax
    >>> values, indices = vastmax.dask.top_k(da.from_array(np.array([1.0, 3.0, 2.0, 3.0]), chunks=2), 3)
    >>> values.compute(), indices.compute()
    (array([3., 3., 2.]), array([1, 3, 2]))
    """
    op = "dask.top_k"
    logits = _along_one(op, x, axis)
    count = check_int(op, "k", k, 1, logits.classes, f"an int from 1 to {logits.classes}, the number of classes")
    best = logits.merged(logits.largest(count), count)
    return (
        logits.each(partial(_values, logits.axis), logits.dtype, best),
        logits.each(partial(_classes, logits.axis), _INT64, best),
    )


class _Logits:
    """A Dask array of logits, and the graphs over its chunks.

    Blocks of what is between the logits and a result are no arrays but what `_shards.merged` takes.
    """

    def __init__(self, op: str, x: DaskArray, axis: Axis) -> None:
        self._da = da = _shards.engine("dask.array", "Dask", "dask")
        self._op, self._x = op, x
        if not isinstance(x, da.Array):
            accepted = "a Dask array, which dask.array.from_array makes"
            raise TypeError(message(op, "x", f"is a {type(x).__name__}", accepted))
        self.dtype = arrays.computed_dtype(op, "x", x.dtype)
        self.reduction_dtype = arrays.reduction_dtype(self.dtype)
        rows = Rows(op, x.shape, axis)
        self.axes, self._row_shape = rows.axes, rows.reduced_shape
        self._every = tuple(range(x.ndim))
        self._row_axes = tuple(i for i in self._every if i not in self.axes)

    @property
    def axis(self) -> int:
        """The one axis of classes."""
        return self.axes[0]

    @property
    def classes(self) -> int:
        """How many classes there are along `axis`."""
        if any(isnan(n) for n in self._x.shape):
            accepted = "known sizes, which x.compute_chunk_sizes() finds"
            raise ValueError(message(self._op, "x", "has chunks of unknown size", accepted))
        return int(self._x.shape[self.axis])

    def ids(self, target: DaskArray | ArrayLike) -> DaskArray:
        """Check targets, those of a Dask array when they are computed, and cut them like the rows."""
        op, classes, chunks = self._op, self.classes, tuple(self._x.chunks[i] for i in self._row_axes)
        if not isinstance(target, self._da.Array):
            ids = targets.class_ids(op, "target", target, self._row_shape, classes, _shards.IGNORE_INDEX)
            return self._da.from_array(ids, chunks=chunks)
        targets.check_kind(op, "target", target.dtype, target.shape, self._row_shape)
        meta = np.empty((0,) * target.ndim, _INT64)
        return target.rechunk(chunks).map_blocks(partial(_checked, op, classes), dtype=_INT64, meta=meta)

    def states(self) -> DaskArray:
        """Return the normaliser of each chunk."""
        return self._blocks(partial(_shards.state_of, axis=self.axes, dtype=self.reduction_dtype))

    def seen(self, ids: DaskArray) -> DaskArray:
        """Return what each chunk tells of rows with targets."""
        of_chunk = partial(_seen, self.axis, self.reduction_dtype)
        return self._blocks(of_chunk, self._starts(), [self.axis], ids, self._row_axes)

    def largest(self, k: int) -> DaskArray:
        """Return the k largest of each chunk."""
        return self._blocks(partial(_largest, self.axis, k), self._starts(), [self.axis])

    def merged(self, parts: DaskArray, length: int = 1) -> DaskArray:
        """Return what chunks tell together, in the place of `length` classes."""
        return self._tree(parts, _merged, F64, keepdims=True, output_size=length)

    def reduced(self, parts: DaskArray, finish: Callable[[Any], Array], dtype: np.dtype[Any]) -> DaskArray:
        """Return what follows from all chunks of a row."""
        return self._tree(parts, partial(_finished, finish), dtype, keepdims=False)

    def mapped(self, finish: Callable[..., Array]) -> DaskArray:
        """Return what follows for each logit from itself and the normaliser of its row."""
        return self._blocks(partial(finish, axis=self.axes), self.merged(self.states()), self._every, dtype=self.dtype)

    def each(self, function: Callable[..., Array], dtype: np.dtype[Any], *arrays: DaskArray) -> DaskArray:
        """Map blocks of arrays of one shape."""
        axes = tuple(range(arrays[0].ndim))
        return self._blockwise(function, axes, dtype, *(part for array in arrays for part in (array, axes)))

    def _starts(self) -> DaskArray:
        """Return the first class of each chunk."""
        return self._da.from_array(np.cumsum((0, *self._x.chunks[self.axis]))[:-1], chunks=1)

    def _blocks(self, function: Callable[..., Any], *others: Any, dtype: np.dtype[Any] = F64) -> DaskArray:  # noqa: ANN401
        return self._blockwise(function, self._every, dtype, self._x, self._every, *others)

    def _blockwise(self, function: Callable[..., Any], axes: Any, dtype: np.dtype[Any], *arrays: Any) -> DaskArray:  # noqa: ANN401
        meta = np.empty((0,) * len(axes), dtype)
        return self._da.blockwise(function, axes, *arrays, dtype=dtype, meta=meta, align_arrays=False)

    def _tree(
        self,
        parts: DaskArray,
        aggregate: Callable[..., Any],
        dtype: np.dtype[Any],
        *,
        keepdims: bool,
        output_size: int = 1,
    ) -> DaskArray:
        return self._da.reduction(
            parts,
            _as_it_is,
            aggregate,
            axis=self.axes,
            keepdims=keepdims,
            dtype=dtype,
            combine=_merged,
            concatenate=False,
            output_size=output_size,
            meta=np.empty((0,) * len(self._every if keepdims else self._row_axes), dtype),
        )


def _along_one(op: str, x: DaskArray, axis: int) -> _Logits:
    if not hasattr(axis, "__index__"):
        raise TypeError(message(op, "axis", f"is {axis!r}", "one int, the axis of the classes"))
    logits = _Logits(op, x, axis)
    if not logits.axes:
        raise ValueError(message(op, "x", "is a scalar", "an array with an axis of classes"))
    return logits


# Functions that tasks call, by name on other machines too. `dask.array.reduction` passes `axis` and `keepdims`.


def _as_it_is(part: Any, axis: Any, keepdims: bool) -> Any:  # noqa: ANN401
    return part


def _merged(parts: Any, axis: Any, keepdims: bool) -> Any:  # noqa: ANN401
    return _shards.merged(_flat(parts))


def _finished(finish: Callable[[Any], Array], parts: Any, axis: Any, keepdims: bool) -> Array:  # noqa: ANN401
    return finish(_shards.merged(_flat(parts)))


def _flat(parts: Any) -> list[Any]:  # noqa: ANN401
    return [one for part in parts for one in _flat(part)] if isinstance(parts, list) else [parts]


def _value(state: LogSumExp) -> Array:
    return np.asarray(state.value)


def _losses(told: Seen) -> Array:
    return told.losses()


def _normalized(chunk: Array, state: LogSumExp, axis: Axis) -> Array:
    return np.asarray(state.normalize(chunk, axis=axis))


def _seen(axis: int, dtype: np.dtype[Any], chunk: Array, start: Array, ids: Array) -> Seen:
    return _shards.seen(chunk, axis, ids, int(start[0]), dtype)


def _largest(axis: int, k: int, chunk: Array, start: Array) -> Largest:
    return largest(chunk, axis, k, int(start[0]))


def _values(axis: int, best: Largest) -> Array:
    return np.moveaxis(best.values, -1, axis)


def _classes(axis: int, best: Largest) -> Array:
    return np.moveaxis(best.classes, -1, axis)


def _checked(op: str, classes: int, ids: Array, block_info: Any = None) -> Array:  # noqa: ANN401
    first = tuple(start for start, _ in block_info[0]["array-location"])
    return targets.in_range(op, "target", ids, classes, _shards.IGNORE_INDEX, first=first)


def _quotient(dtype: np.dtype[Any], losses: Array, count: Array | int = 1) -> Array:
    return np.asarray(quotient(losses, count, dtype))
