# SPDX-License-Identifier: Apache-2.0
"""The proposal of a sampled loss: what every sampler can do, and what those have that draw in the core.

The losses ask a sampler for:

- `classes`, None where a sampler does not know; `_native`, a `_core.Sampler`, None where it does not draw;
- `_checked_size(op, size, unique, argument)`; `_draw(op, size, seed, step, unique)` -> `Drawn`;
- `_log_q(ids)` of ids that are in range; `_target_log_q(op, targets)`, None where it cannot tell.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays, seeds
from vastmax._operands.targets import class_ids
from vastmax._runtime import config
from vastmax.errors import message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from vastmax._operands.arrays import Array, Reduced
    from vastmax._operands.class_table import Targets
    from vastmax._operands.seeds import Seed

silent = np.errstate(all="ignore")  # of functions: numbers below the smallest double, logarithms of 0
ANY = (1 << 63) - 1  # more classes than there can be
PIECE = 1 << 16  # levels or classes at a time, in sums over all of them


class Drawn(NamedTuple):
    """A sample: `ids`; `log_expected`, the logarithms of what estimates divide by.

    `replaced`: draws are independent of each other, `log_expected` is log q of one draw, and leaving one out makes one
    draw less. Otherwise `log_expected` is that of being in the sample, and every class is there at most once.
    `arrival`: such a class is in the sample with probability `exp(log_inclusion(log_q, arrival))`; None if `replaced`.
    """

    ids: NDArray[np.int64]
    log_expected: NDArray[np.float64]
    replaced: bool
    arrival: float | None


@silent
def log_inclusion(log_q: Array, arrival: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 - e^(-q arrival)), for the chance of having come up when the first class outside a sample does."""
    log_mean = np.where(np.isneginf(log_q), -inf, log_q + np.log(arrival))  # of how often; q itself may underflow
    found: NDArray[np.float64] = np.where(log_mean < -37, log_mean, np.log(-np.expm1(-np.exp(log_mean))))
    return found


class Sampler:
    """The public methods."""

    classes: int | None
    _native: _core.Sampler | None
    _only_size: int | None = None  # the only size of a sample, where there is one

    def sample(self, size: int, *, seed: Seed, step: int = 0, unique: bool = False) -> NDArray[np.int64]:
        """Draw classes.

        Parameters
        ----------
        size : int
            How many, below 2**32.
        seed : int, numpy.random.Generator, numpy.random.SeedSequence or None
            An int is 64 bits; a generator gives its next 64; None takes fresh entropy.

            .. warning:: The same int with the same `step` makes the same draws at every call, so a loop repeats itself.
               Pass one ``numpy.random.Generator``, which moves on, or the number of the iteration as `step`.
        step : int, default 0
            Below 2**32. Steps of one seed are independent of each other.
        unique : bool, default False
            No class twice: the classes in the order in which they first come up in draws with replacement.

        Returns
        -------
        ndarray of int64
            The same for the same seed and step, whatever the machine, the instruction set and the number of threads;
            a larger `size` goes on where a smaller one ends.

        Raises
        ------
        ValueError
            If `unique` asks for more classes than can be drawn.
        """
        return self._draw(f"{type(self).__name__}.sample", size, seed, step, unique).ids

    def log_prob(self, ids: ArrayLike) -> Reduced:
        """Return log q of one draw of each class, in float64; -inf for a class that is never drawn.

        Parameters
        ----------
        ids : array_like of int
            Classes, any shape.

        Returns
        -------
        ndarray of float64
            The shape of `ids`; a scalar for a scalar.

        Raises
        ------
        IndexError
            If a class is out of range.
        """
        return arrays.scalar_or_array(self._checked_log_q("log_prob", ids), None)

    @silent
    def expected_count(self, ids: ArrayLike, size: int, unique: bool = False) -> Reduced:
        r"""Return how often each class is expected in a sample of `size` draws.

        .. math:: \text{size} \cdot q_j, \quad \text{or with } \texttt{unique} \quad 1 - e^{-q_j t},
            \quad \sum_j 1 - e^{-q_j t} = \text{size}

        Parameters
        ----------
        ids : array_like of int
            Classes, any shape.
        size : int
            Draws.
        unique : bool, default False
            For samples without a class twice. The formula is that of classes that come up independently of each other
            and gives the probability of being in the sample to a part in the order of 1 / size.

        Returns
        -------
        ndarray of float64
            The shape of `ids`; a scalar for a scalar.

        Raises
        ------
        IndexError
            If a class is out of range.
        ValueError
            If `unique` asks for more classes than can be drawn.
        """
        op = f"{type(self).__name__}.expected_count"
        n = self._checked_size(op, size, unique)
        log_q = self._checked_log_q("expected_count", ids)
        return arrays.scalar_or_array(
            np.exp(log_inclusion(log_q, self._time(n))) if unique else n * np.exp(log_q), None
        )

    def _checked_log_q(self, method: str, ids: ArrayLike) -> Array:
        op = f"{type(self).__name__}.{method}"
        given = arrays.as_given(op, "ids", ids)
        return self._log_q(class_ids(op, "ids", ids, given.shape, self.classes or ANY))

    def _checked_size(self, op: str, size: int, unique: bool, argument: str = "size") -> int:
        raise NotImplementedError

    def _draw(self, op: str, size: int, seed: Seed, step: int, unique: bool) -> Drawn:
        raise NotImplementedError

    def _log_q(self, ids: Array) -> NDArray[np.float64]:
        raise NotImplementedError

    def _target_log_q(self, op: str, targets: Targets) -> NDArray[np.float64] | None:
        log_q = np.full(targets.ids.shape, -inf)  # a class that it does not know is never drawn
        known = targets.ids < (self.classes or 0)
        log_q[known] = self._log_q(targets.ids[known])
        return log_q

    def _time(self, size: int) -> float:
        """Return the time at which `size` different classes are expected, if draws come at rate 1."""
        return inf


class Law(Sampler):
    """Draws classes, in the core."""

    classes: int
    _native: _core.Sampler

    def __init__(self, classes: int, native: _core.Sampler) -> None:
        self.classes, self._native = classes, native
        self._known: dict[object, float] = {}  # what takes a sum over all classes

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.classes,)

    def _checked_size(self, op: str, size: int, unique: bool, argument: str = "size") -> int:
        n = seeds.draws(op, argument, size)
        if unique and n > self._drawable():
            accepted = f"0 to {self._drawable()}, the classes that can be drawn, without replacement"
            raise ValueError(message(op, argument, f"is {n}", accepted))
        return n

    def _draw(self, op: str, size: int, seed: Seed, step: int, unique: bool) -> Drawn:
        n = self._checked_size(op, size, unique)
        at, key, options = seeds.step(op, step), seeds.key(op, seed), config.current()
        if not unique:
            ids = _core.draw_rows(self._native, key, at, 0, 1, n, options.threads, options.isa)[0]
            return Drawn(ids, self._log_q(ids), True, None)
        ids, arrival = _core.draw_unique(self._native, key, at, 0, n, self._by_clocks(n), options.threads, options.isa)
        return Drawn(ids, log_inclusion(self._log_q(ids), arrival), False, arrival)

    def _log_q(self, ids: Array) -> NDArray[np.float64]:
        options = config.current()
        log_q = np.empty(ids.shape, np.float64)
        _core.log_prob(self._native, ids, log_q, options.threads, options.isa)
        return log_q

    def _drawable(self) -> int:
        return self._native.drawable

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        """Yield q of classes, and how many there are of each, in pieces."""
        for first in range(0, self.classes, PIECE):
            ids = np.arange(first, min(first + PIECE, self.classes))
            yield np.exp(self._log_q(ids)), np.ones(len(ids))

    def _distinct(self, time: float) -> float:
        """Return how many different classes are expected by `time`, if draws come at rate 1."""
        return float(sum(np.dot(count, -np.expm1(-q * time)) for q, count in self._levels()))

    def _by_clocks(self, size: int) -> bool:
        """Whether as many draws as there are classes would not do to find `size` different ones and the next."""
        if size == self._drawable():
            return True
        return self._reach(1) < size + 1

    @silent
    def _reach(self, share: float) -> float:
        """Return how many different classes this share of as many draws as there are classes finds."""
        if ("reach", share) not in self._known:
            self._known["reach", share] = self._distinct(share * self.classes)
        return self._known["reach", share]

    @silent
    def _time(self, size: int) -> float:
        if size == self._drawable():
            return inf
        if size not in self._known:
            self._known[size] = self._solve(size)
        return self._known[size]

    def _solve(self, size: int) -> float:
        """Newton's method. The count is concave in time and at most that, so the steps only grow it."""
        time = float(size)
        while True:
            found = slope = 0.0
            for q, count in self._levels():
                found += float(np.dot(count, -np.expm1(-q * time)))
                slope += float(np.dot(count, q * np.exp(-q * time)))
            later = time + (size - found) / slope
            if later <= time * (1 + 1e-15):
                return time
            time = later
