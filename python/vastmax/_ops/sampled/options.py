# SPDX-License-Identifier: Apache-2.0
"""Options of the losses over sampled classes, and the source of their draws."""

from __future__ import annotations

from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from vastmax._operands import seeds
from vastmax._ops.sampled import negatives
from vastmax._ops.sampled.proposal import Sampler
from vastmax.errors import message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vastmax._operands.class_table import ClassTable
    from vastmax._operands.seeds import Seed
    from vastmax._ops.sampled.negatives import Draws


class Kind(IntEnum):
    """Losses that the core knows."""

    SOFTMAX = 0
    REFINED = 1
    NCE = 2


class Options(NamedTuple):
    """Options that both losses have."""

    sampler: Sampler
    num_sampled: int | None
    share: str
    unique: bool
    exclude_targets: bool
    seed: Seed
    step: int
    row_offset: int
    need_grad: bool


def draws_of(op: str, table: ClassTable, options: Options) -> int:
    """Check the sampler against the table, and return how many classes it draws."""
    sampler = options.sampler
    if not isinstance(sampler, Sampler):
        accepted = "a sampler, as vastmax.LogUniformSampler"
        raise TypeError(message(op, "sampler", f"is a {type(sampler).__name__}", accepted))
    if sampler.classes is not None and sampler.classes > table.classes:
        accepted = f"at most {table.classes}, the classes of weight"
        raise ValueError(message(op, "sampler", f"draws from {sampler.classes} classes", accepted))
    size = sampler._only_size if options.num_sampled is None else options.num_sampled
    if size is None:
        raise TypeError(message(op, "num_sampled", "is missing", "how many classes to draw"))
    if (count := sampler._checked_size(op, size, options.unique, "num_sampled")) == 0:
        raise ValueError(message(op, "num_sampled", "is 0", "at least 1"))
    return count


class Source:
    """The sampler, and what tells one draw from another."""

    def __init__(self, op: str, options: Options, size: int, rows: int) -> None:
        self.options, self.size, self._op = options, size, op
        seeds.check(op, options.seed)
        self._step, self._first = seeds.step(op, options.step), seeds.row_offset(op, options.row_offset, rows)

    @cached_property
    def _key(self) -> int:
        """The 64 bits of the seed, which a Generator gives once the call is more than explained."""
        return seeds.key(self._op, self.options.seed)

    def shared(self) -> Draws:
        """Draw for the batch."""
        o = self.options
        return negatives.shared(self._op, o.sampler, self.size, self._key, self._step, o.unique)

    def own(self, first: int, count: int) -> Draws:
        """Draw for each of some rows."""
        o, row = self.options, self._first + first
        return negatives.own(self._op, o.sampler, count, self.size, self._key, self._step, row, o.unique)

    def ids(self, first: int, count: int) -> NDArray[np.int64]:
        """Draw the same again."""
        return self.own(first, count).ids
