# SPDX-License-Identifier: Apache-2.0
"""Rows whose classes are spread over shards: what each shard tells of a row, and what follows from all of them.

Whatever carries it from shard to shard: `vastmax.dask`, `vastmax.mpi`.
"""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from ._operands import arrays
from ._operands.arrays import F64
from ._operands.rows import Rows
from .streaming import LogSumExp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import ArrayLike

    from ._operands.arrays import Array, Axis

    class Mergeable(Protocol):
        """The statistics of a shard, and their merge with those of another."""

        def merge(self, other: Self) -> Self: ...

    T = TypeVar("T", bound=Mergeable)

IGNORE_INDEX = -100
_BUFFER = 1 << 13  # elements


def engine(module: str, package: str, extra: str) -> Any:  # noqa: ANN401 - a module without types
    """Import what carries the shards, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'vastmax.{extra} needs {package}: pip install ".[{extra}]"') from error


def merged(parts: Sequence[T]) -> T:
    """Return what the shards, in this order, tell together; each stays as it is."""
    whole = deepcopy(parts[0])
    for part in parts[1:]:
        whole.merge(part)
    return whole


def state_of(shard: ArrayLike, axis: Axis, dtype: np.dtype[Any]) -> LogSumExp:
    """Return the normaliser of one shard."""
    return LogSumExp(Rows("logsumexp", np.shape(shard), axis).reduced_shape, dtype).update(shard, axis)


class Seen(NamedTuple):
    """The statistics of a shard of rows with targets."""

    ids: Array  # int64, the target of each row, or IGNORE_INDEX
    state: LogSumExp
    target: Array  # float64, the target's logit on the shard that owns it, 0 elsewhere

    def merge(self, other: Seen) -> Seen:
        """Take in another shard's."""
        self.state.merge(other.state)
        self.target[...] += other.target
        return self

    def losses(self) -> Array:
        """Return logsumexp minus the target's logit in float64, 0 where the row is ignored."""
        largest, log = self.state.parts()  # apart: near certainty their sum would round log away
        with np.errstate(all="ignore"):
            loss = (largest - self.target) + log
        return np.where(self.ids == IGNORE_INDEX, 0.0, loss)


def seen(shard: Array, axis: int, ids: Array, start: int, dtype: np.dtype[Any]) -> Seen:
    """Return what a shard whose first class is `start` tells."""
    rows = np.moveaxis(shard, axis, -1)
    at = ids - start
    mine = (at >= 0) & (at < rows.shape[-1])
    target = np.zeros(ids.shape)
    if mine.any():
        logits = np.take_along_axis(rows, np.where(mine, at, 0)[..., None], -1)[..., 0]
        target[mine] = arrays.dense(logits[mine], F64)
    return Seen(ids, state_of(shard, axis, dtype), target)


def log_probabilities(shard: ArrayLike, state: LogSumExp, axis: Axis) -> Array:
    """Return a shard's part of the log_softmax of all shards, whose normaliser is `state`."""
    x = arrays.as_float_array("log_softmax", "x", shard)
    keepdims_shape = Rows("log_softmax", x.shape, axis).keepdims_shape
    largest, log = (part.reshape(keepdims_shape) for part in state.parts())
    y = arrays.empty_like(x)
    with (
        np.errstate(all="ignore"),
        np.nditer(
            [x, largest, 0.0 - log, y],  # so that no result is -0
            ["external_loop", "buffered", "zerosize_ok"],
            [["readonly"], ["readonly"], ["readonly"], ["writeonly"]],
            op_dtypes=[F64] * 4,
            casting="unsafe",  # to 16 bits
            buffersize=_BUFFER,
        ) as blocks,
    ):
        for logits, most, rest, out in blocks:
            np.subtract(logits, most, out=out)
            out += rest
    return y
