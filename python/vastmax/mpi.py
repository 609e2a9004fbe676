# SPDX-License-Identifier: Apache-2.0
"""Softmax, logsumexp and cross-entropy of logits whose classes lie on the ranks of an MPI communicator.

Each rank holds the logits of all rows for its own classes, along the last axis. Each call is an `Allgather` of seven
numbers, by which the ranks agree, and one of a few numbers for each row. mpi4py is imported at the first call:
``pip install ".[mpi]"``, beside an MPI library (``pip install mpich`` is one). A rank uses the cores that it is
bound to: `vastmax.config(threads=...)` changes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np

from . import _shards
from ._operands import arrays, targets
from ._operands.arrays import F64
from ._operands.numbers import check_int
from ._shards import Seen
from .errors import message
from .streaming import LogSumExp

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Reduced

    Communicator: TypeAlias = Any

__all__ = ["cross_entropy", "logsumexp", "softmax"]


def logsumexp(shard: ArrayLike, comm: Communicator) -> Reduced:
    r"""Return the logarithm of the sum of exponentials over the classes of all ranks.

    .. math:: \log \sum_j e^{x_j}

    Parameters
    ----------
    shard : array_like
        The logits of this rank's classes, along the last axis; dtypes as in `vastmax.softmax`. Rows and dtype are
        the same on every rank, the number of classes need not be.
    comm : mpi4py.MPI.Intracomm
        The ranks that hold the classes. All of them call.

    Returns
    -------
    scalar or ndarray
        The shape of `shard` without its last axis; the same bits on every rank. float64 for float64, integers and
        bool, else float32.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above, or does not fit that of another rank.
    RuntimeError
        If another rank had one of these errors.

    Notes
    -----
    Accuracy: that of `vastmax.logsumexp`.
    Where every rank but the last holds a multiple of 4096 classes, the number of
    ranks shows in the last bits of float64 alone, where merging rounds.

    Special values: those of `vastmax.logsumexp`. A rank may have no classes.

    Examples
    --------
    >>> import vastmax
    >>> from mpi4py import MPI
    >>> vastmax.mpi.logsumexp([1000.0, 1000.0], MPI.COMM_SELF)
    np.float64(1000.6931471805599)
    """
    return _Exchange("mpi.logsumexp", shard, comm).seen.state.value


def softmax(shard: ArrayLike, comm: Communicator) -> Array:
    r"""Return this rank's part of the probabilities over the classes of all ranks.

    .. math:: y_i = e^{x_i} / \sum_j e^{x_j}

    Parameters
    ----------
    shard : array_like
        The logits of this rank's classes, along the last axis; dtypes as in `vastmax.softmax`. Rows and dtype are
        the same on every rank, the number of classes need not be.
    comm : mpi4py.MPI.Intracomm
        The ranks that hold the classes. All of them call.

    Returns
    -------
    ndarray
        The shape and dtype of `shard`; float64 for integers and bool.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above, or does not fit that of another rank.
    RuntimeError
        If another rank had one of these errors.

    Notes
    -----
    Accuracy: that of `vastmax.softmax`.
    Where every rank but the last holds a multiple of 4096 classes, the number of
    ranks shows in the last bits of float64 alone, where merging rounds.

    Special values: those of `vastmax.softmax`. A rank may have no classes.

    Examples
    --------
    >>> import vastmax
    >>> from mpi4py import MPI
    >>> vastmax.mpi.softmax([0.0, 0.0], MPI.COMM_SELF)
    array([0.5, 0.5])
    """
    exchange = _Exchange("mpi.softmax", shard, comm)
    return exchange.seen.state.normalize(exchange.shard)


def cross_entropy(shard: ArrayLike, target: ArrayLike, comm: Communicator, *, vocab_start: int) -> Reduced:
    r"""Return the cross-entropy between classes and the softmax over the classes of all ranks.

    .. math:: \ell = \log \sum_j e^{x_j} - x_t

    The contract of vocabulary-parallel cross-entropy in Megatron-LM: the target is the same on every rank, and so is
    the loss, one for each row. Its gradient with respect to the shard is the rank's part of `softmax`, minus 1 at the
    target where this rank owns it.

    Parameters
    ----------
    shard : array_like
        The logits of this rank's classes, along the last axis; dtypes as in `vastmax.softmax`. Rows and dtype are
        the same on every rank, the number of classes need not be.
    comm : mpi4py.MPI.Intracomm
        The ranks that hold the classes. All of them call.
    target : array_like of int
        The class :math:`t` of each row, counted over all ranks, the same on each: the shape of `shard` without its last
        axis. Rows with -100 do not count.
    vocab_start : int
        The first class of this rank. The classes of all ranks follow each other without gaps from 0 on, in any order of
        the ranks.

    Returns
    -------
    scalar or ndarray
        The loss of each row, 0 where it does not count; the same bits on every rank. float64 for float64, integers and
        bool, else float32.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the shape or value of an argument is not as above, or does not fit that of another rank.
    RuntimeError
        If another rank had one of these errors.
    IndexError
        If a target is neither a class of any rank nor -100.

    Notes
    -----
    Accuracy: at most 4 ULP, also near certainty, where the loss is close to 0.
    Where every rank but the last holds a multiple of 4096 classes, the number of
    ranks shows in the last bits of float64 alone, where merging rounds.

    Special values: a target with logit -inf gives +inf; a row with NaN, or of -inf alone, NaN.

    Examples
    --------
    >>> import vastmax
    >>> from mpi4py import MPI
    >>> vastmax.mpi.cross_entropy([40.0, 0.0], 0, MPI.COMM_SELF, vocab_start=0)
    np.float64(4.248354255291589e-18)
    """
    exchange = _Exchange("mpi.cross_entropy", shard, comm, target, vocab_start)
    return arrays.scalar_or_array(arrays.cast(exchange.seen.losses(), exchange.seen.state.dtype), None)


class _Header(NamedTuple):
    """The message of a rank before its rows. Checksums stand for the arguments that all ranks must share."""

    fine: float
    call: float
    dtype: float
    rows: float
    target: float
    start: float
    classes: float


_FAILED = _Header(*[0] * len(_Header._fields))
_AGREED = {"call": "functions called", "dtype": "dtypes", "rows": "shapes of the rows", "target": "targets"}


class _Exchange:
    """The exchange between ranks: headers, and rows only once the headers agree.

    A rank on which something is wrong sends a header nevertheless, so that all of them raise and none waits.
    """

    def __init__(
        self, op: str, shard: ArrayLike, comm: Communicator, target: ArrayLike | None = None, start: int = 0
    ) -> None:
        mpi = _shards.engine("mpi4py.MPI", "mpi4py", "mpi")
        if not isinstance(comm, mpi.Intracomm):
            raise TypeError(message(op, "comm", f"is a {type(comm).__name__}", "an intracommunicator of mpi4py"))
        self._op = op
        header = _FAILED
        try:
            self.shard = arrays.as_given(op, "shard", shard)
            header, mine = self._tell(target, start)
        finally:  # whatever is raised, an interrupt too
            headers = [_Header(*numbers) for numbers in _gathered(comm, np.array(header, F64))]
        self._agree(headers)
        if target is not None:
            targets.in_range(op, "target", self._target, self._all_classes(headers), _shards.IGNORE_INDEX)
        self.seen = _shards.merged(_seen_by_all(comm, mine))

    def _tell(self, target: ArrayLike | None, start: int) -> tuple[_Header, Seen]:
        op, shard = self._op, self.shard
        if shard.ndim == 0:
            raise ValueError(message(op, "shard", "is a scalar", "an array with the classes along its last axis"))
        dtype = arrays.computed_dtype(op, "shard", shard.dtype)
        rows = shard.shape[:-1]
        if target is None:
            self._target = np.full(rows, _shards.IGNORE_INDEX)
        else:
            self._target = targets.integers(op, "target", target, rows)
            start = _first_class(op, start)
        ids = self._target.astype(np.int64)
        same_ids = crc32(self._target.astype(F64).tobytes(), crc32(ids.tobytes()))  # of 64 bits, with and without sign
        told = _shards.seen(shard, -1, ids, start, arrays.reduction_dtype(dtype))
        sums = (crc32(op.encode()), crc32(dtype.name.encode()), crc32(repr(rows).encode()), same_ids)
        return _Header(1, *sums, start, shard.shape[-1]), told

    def _agree(self, headers: list[_Header]) -> None:
        failed = [rank for rank, header in enumerate(headers) if not header.fine]
        if failed:
            raise RuntimeError(f"{self._op}: rank {failed[0]} raised an error, which says what was wrong")
        for name, what in _AGREED.items():
            told = [getattr(header, name) for header in headers]
            other = next((rank for rank, value in enumerate(told) if value != told[0]), None)
            if other is not None:
                given = f"of rank {other} does not fit that of rank 0"
                raise ValueError(message(self._op, "shard" if name != "target" else "target", given, f"equal {what}"))

    def _all_classes(self, headers: list[_Header]) -> int:
        following = 0
        for header in sorted(headers, key=lambda h: (h.start, h.classes)):
            if header.classes and header.start != following:
                ranges = ", ".join(f"{h.start:.0f} to {h.start + h.classes - 1:.0f}" for h in headers)
                accepted = "classes that follow each other without gaps from 0 on"
                raise ValueError(message(self._op, "vocab_start", f"makes the ranks hold {ranges}", accepted))
            following += int(header.classes)
        return following


def _first_class(op: str, start: int) -> int:
    accepted = "an int >= 0, the first class of this rank"
    return check_int(op, "vocab_start", start, 0, (1 << 53) - 1, accepted)


def _gathered(comm: Communicator, own: Array) -> Array:
    """Return the numbers of every rank, in their order. Each has as many."""
    told = np.empty((comm.Get_size(), own.size))
    comm.Allgather(own, told)
    return told


def _seen_by_all(comm: Communicator, mine: Seen) -> list[Seen]:
    """Return what every rank tells of the rows, which have the same shape and dtype on each."""
    states = mine.state.states
    parts = []
    for rank in _gathered(comm, np.concatenate([states.reshape(-1), mine.target.reshape(-1)])):
        state = LogSumExp.from_states(rank[: states.size].reshape(states.shape), mine.state.dtype)
        parts.append(Seen(mine.ids, state, rank[states.size :].reshape(mine.target.shape)))
    return parts
