# SPDX-License-Identifier: Apache-2.0
"""The normaliser of logits that come in chunks."""

from __future__ import annotations

from math import prod
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax._core as _core

from ._backends import policy
from ._backends.row_state import NUMBERS, empty_states, parts_of
from ._backends.start import start_host_call
from ._operands import arrays
from ._operands.rows import Rows
from ._runtime import config
from ._runtime.progress import track
from .errors import message

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, DTypeLike

    from ._operands.arrays import Array, Axis, Reduced

    Piece = tuple[slice, slice]  # of the first axis, of the classes

_EVERYTHING = slice(None)
_REFERENCE, _MOST = 6, 1 << 20  # its exponent `ref`, and far more than any is


class LogSumExp:
    r"""The logarithm of a sum of exponentials, of logits that come in chunks along the classes.

    .. math:: \log \sum_c \sum_j e^{a_{cj}}

    A state holds eight float64 numbers for each row. Chunks may differ in length and dtype; states may be pickled, and
    merged in any order.

    Parameters
    ----------
    shape : int or tuple of int, default ()
        The rows: the shape of the logits without their classes.
    dtype : dtype, default float32
        That of `value`: float32 or float64. The state is float64 either way.

    Attributes
    ----------
    value : scalar or ndarray
        logsumexp of what was seen so far; -inf before anything was.
    shape : tuple of int
    dtype : dtype

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a chunk's rows are not those of the state. The state is as before then, and after any other error.

    Notes
    -----
    Accuracy: that of `logsumexp`. Where every chunk but the last holds a multiple of 4096 classes (2048 suffice in
    float64), the bits of `logsumexp` over all of them; `merge` rounds once more, in float64.

    Special values: those of `logsumexp`. An empty chunk changes nothing.

    Logits larger than memory may be a `numpy.memmap`: a chunk is read piece by piece.

    Threads: one state is for one thread at a time; chunks that two threads add at once may be lost. Give each thread a
    state of its own, and merge them.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> state = vastmax.LogSumExp(dtype=np.float64)
    >>> state.update([1000.0, 999.0]).update([1000.0]).value
    np.float64(1000.8619948040582)
    >>> state.normalize([1000.0, 999.0])
    array([0.4223188, 0.1553624])
    """

    def __init__(self, shape: int | tuple[int, ...] = (), dtype: DTypeLike = np.float32) -> None:
        self._shape = _shape(shape)
        self._dtype = _dtype(dtype)
        self._states = empty_states(*self._shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of `value`."""
        return self._dtype

    @property
    def states(self) -> Array:
        """A copy of the state for whoever carries it elsewhere: float64, of shape ``(*shape, 8)``."""
        return self._states.copy()

    @classmethod
    def from_states(cls, states: ArrayLike, dtype: DTypeLike = np.float32) -> Self:
        """Return the state that `states` is a copy of.

        Parameters
        ----------
        states : array_like
            What `LogSumExp.states` gave, here or in another process. Other numbers have no meaning.
        dtype : dtype, default float32
            That of `value`.

        Returns
        -------
        LogSumExp
            A state of its own.
        """
        op = "LogSumExp.from_states"
        numbers = arrays.as_given(op, "states", states)
        if numbers.dtype != arrays.F64 or numbers.shape[-1:] != (NUMBERS,):
            given = f"has dtype {numbers.dtype} and shape {numbers.shape}"
            raise ValueError(message(op, "states", given, f"float64 of shape (..., {NUMBERS})"))
        if not (np.abs(numbers[..., _REFERENCE]) <= _MOST).all():  # C++ makes an int of it
            raise ValueError(message(op, "states", "hold other numbers", "what LogSumExp.states gave"))
        self = cls(numbers.shape[:-1], dtype)
        self._states[...] = numbers
        return self

    @property
    def value(self) -> Reduced:
        """Logsumexp of what was seen so far."""
        largest, log = self.parts()
        with np.errstate(all="ignore"):  # NaN; a float64 sum that float32 cannot hold
            return arrays.scalar_or_array(np.asarray(largest + log).astype(self._dtype), None)

    def update(self, chunk: ArrayLike, axis: Axis = -1, *, progress: bool = False) -> Self:
        """Take in more logits of every row.

        Parameters
        ----------
        chunk : array_like
            Logits whose shape without `axis` is `shape`. Dtypes as in `logsumexp`.
        axis : int, tuple of int, or None, default -1
            Axes that hold classes.
        progress : bool, default False
            Show a bar on standard error.

        Returns
        -------
        LogSumExp
            This state. If the call is interrupted, it is as before.
        """
        op = "LogSumExp.update"
        rows, logits, rest = self._open(op, "logsumexp", chunk, axis)
        states = self._states.copy()
        for some, classes in track(_pieces(logits), "logsumexp", progress):
            piece = arrays.as_float_array(op, "chunk", _part(logits, some, classes))
            _core.logsumexp_update(piece, states[some] if rows.reduced_shape else states, *rest)
        self._states = states
        return self

    def merge(self, other: LogSumExp) -> Self:
        """Take in what another state has seen of the same rows.

        Parameters
        ----------
        other : LogSumExp
            Of the same shape. Stays as it is.

        Returns
        -------
        LogSumExp
            This state.
        """
        if not isinstance(other, LogSumExp):
            raise TypeError(message("LogSumExp.merge", "other", f"is a {type(other).__name__}", "a LogSumExp"))
        if other._shape != self._shape:
            raise ValueError(message("LogSumExp.merge", "other", f"has shape {other._shape}", str(self._shape)))
        states = self._states.copy()
        _core.logsumexp_merge(states, other._states, config.current().isa)
        self._states = states
        return self

    def normalize(
        self, chunk: ArrayLike, out: Array | None = None, *, axis: Axis = -1, progress: bool = False
    ) -> Array:
        """Return the probabilities of logits that the state has seen: their part of a softmax over all.

        Parameters
        ----------
        chunk : array_like
            Logits as given to `update`, none larger than the largest seen.
        out : ndarray, optional
            Where to write: the shape and dtype of the result. May be `chunk`.
        axis : int, tuple of int, or None, default -1
            Axes that hold classes.
        progress : bool, default False
            Show a bar on standard error.

        Returns
        -------
        ndarray
            The shape and dtype of `chunk`; `out` if given.
        """
        op = "LogSumExp.normalize"
        rows, logits, rest = self._open(op, "softmax", chunk, axis)
        kind = arrays.computed_dtype(op, "chunk", logits.dtype)
        y = arrays.check_out(op, out, rows.shape, kind)
        if y is None:
            y = np.empty(rows.shape, kind)
        else:
            logits = arrays.without_overlap(logits, rows.view_of(y))  # each piece is read before it is written
        target = rows.view_of(y)
        for some, classes in track(_pieces(logits), "softmax", progress):
            piece = arrays.as_float_array(op, "chunk", _part(logits, some, classes))
            states = self._states[some] if rows.reduced_shape else self._states
            _core.normalize(piece, states, None, _part(target, some, classes), *rest)
        if rows.spans_axes and not np.may_share_memory(target, y):
            rows.copy_back(target, y)
        return arrays.scalar_or_array(y, out)

    def parts(self) -> tuple[Array, Array]:
        """Return the largest logit and the logarithm that is added to it, in float64: their sum is the value."""
        return parts_of(self._states)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._states = self._states.copy()  # from a message it may be unaligned

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self._states.nbytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self._shape}, dtype={self._dtype})"

    def _open(self, op: str, like: str, chunk: ArrayLike, axis: Axis) -> tuple[Rows, Array, tuple[int, int]]:
        """Check a chunk in full, and return its rows with the classes last."""
        call = start_host_call(op, chunk)
        logits = arrays.as_given(op, "chunk", chunk)
        kind = arrays.computed_dtype(op, "chunk", logits.dtype)
        rows = Rows(op, logits.shape, axis)
        if rows.reduced_shape != self._shape:
            accepted = f"{self._shape} and an axis of classes"
            raise ValueError(message(op, "chunk", f"has rows of shape {rows.reduced_shape}", accepted))
        return rows, rows.view_of(logits), call.plan_on_cpu(like, rows.count, rows.classes, kind)


def _part(rows: Array, some: slice, classes: slice) -> Array:
    return rows[some, ..., classes] if rows.ndim > 1 else rows[classes]


def _pieces(rows: Array) -> list[Piece]:
    """Cut rows into pieces of bounded size, in the order of memory, at multiples of every block."""
    shape, most = rows.shape, policy.PIECE
    if not (arrays.is_float(rows.dtype) and rows.dtype.isnative):
        most = min(most, policy.CONVERTED_BYTES // arrays.F64.itemsize)
    if rows.size <= most:
        return [(_EVERYTHING, _EVERYTHING)] if rows.size else []
    by_row = rows.ndim > 1 and abs(rows.strides[0]) >= abs(rows.strides[-1])
    each = prod(shape[1:]) if by_row else rows.size
    if each <= most:
        return [(some, _EVERYTHING) for some in _cut(shape[0], most // each)]
    width = max(1, most // (each // shape[-1]) // policy.BLOCK) * policy.BLOCK
    leading = _cut(shape[0], 1) if by_row else [_EVERYTHING]
    return [(some, classes) for some in leading for classes in _cut(shape[-1], width)]


def _cut(length: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    accepted = "an int >= 0 or a tuple of them"
    try:
        extents = tuple(index(n) for n in (shape if isinstance(shape, tuple | list) else (shape,)))
    except TypeError:
        raise TypeError(message("LogSumExp", "shape", f"is {shape!r}", accepted)) from None
    if any(n < 0 for n in extents):
        raise ValueError(message("LogSumExp", "shape", f"is {shape!r}", accepted))
    return extents


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    accepted = "float32, float64"
    try:
        kind = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise TypeError(message("LogSumExp", "dtype", f"is {dtype!r}", accepted)) from None
    if kind not in (arrays.F32, arrays.F64):
        raise TypeError(message("LogSumExp", "dtype", f"is {kind}", accepted))
    return kind
