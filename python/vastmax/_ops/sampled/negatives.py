# SPDX-License-Identifier: Apache-2.0
"""Negatives: draws of a sampler for some rows, with their expected counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import vastmax._core as _core
from vastmax._ops.sampled.proposal import Law, log_inclusion
from vastmax._runtime import config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vastmax._ops.sampled.proposal import Sampler

    Ids = NDArray[np.int64]
    F64 = NDArray[np.float64]


class Draws(NamedTuple):
    """Draws of some rows, [rows, size]; of one row if all share them."""

    ids: Ids
    log_expected: F64  # log q of one draw if `replaced`, else log of the probability to be among them
    replaced: bool
    arrival: F64  # [rows], or [1] for all: when the first class came that is not among them, if draws come at rate 1

    def expected(self, log_q: F64, rows: Ids) -> F64:
        """Return for classes with this log q what `log_expected` is, by the draws of these rows."""
        return log_q if self.replaced else log_inclusion(log_q, self.arrival[rows % len(self.arrival)])


def shared(op: str, sampler: Sampler, size: int, key: int, step: int, unique: bool) -> Draws:
    """Draw for a batch."""
    drawn = sampler._draw(op, size, key, step, unique)
    arrival = np.array([np.inf if drawn.arrival is None else drawn.arrival])
    return Draws(drawn.ids[None], drawn.log_expected[None], drawn.replaced, arrival)


def own(op: str, sampler: Sampler, rows: int, size: int, key: int, step: int, first: int, unique: bool) -> Draws:
    """Draw for each of some rows."""
    if not isinstance(sampler, Law):  # always the same
        one, shape = shared(op, sampler, size, key, step, unique), (rows, size)
        ids: Ids = np.repeat(one.ids, rows, axis=0).reshape(shape)
        expected: F64 = np.repeat(one.log_expected, rows, axis=0).reshape(shape)
        return Draws(ids, expected, one.replaced, one.arrival)
    options = config.current()
    rest = options.threads, options.isa
    if not unique:
        ids = _core.draw_rows(sampler._native, key, step, first, rows, size, *rest)
        return Draws(ids, sampler._log_q(ids), True, np.full(1, np.inf))
    ids, arrival = np.empty((rows, size), np.int64), np.empty(rows)
    clocks = sampler._by_clocks(size)
    for i in range(rows):
        ids[i], arrival[i] = _core.draw_unique(sampler._native, key, step, first + i, size, clocks, *rest)
    return Draws(ids, log_inclusion(sampler._log_q(ids), arrival[:, None]), False, arrival)
