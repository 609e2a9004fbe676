# SPDX-License-Identifier: Apache-2.0
"""Classes drawn at random, as the negatives of a sampled softmax are, and how likely each is.

What `sampled_softmax` asks of a sampler, beside its public methods:

- `classes`, None where a sampler does not know; `_native`, a `_core.Sampler`, None where it does not draw;
- `_checked_size(op, size, unique, argument)`; `_draw(op, size, seed, step, unique)` -> `Drawn`;
- `_log_q(ids)` of ids that are in range; `_target_log_q(op, targets)`, None where it cannot tell.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._operands import arrays, seeds, targets
from ._operands.numbers import real, whole
from ._runtime import config
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from ._operands.arrays import Array, Reduced
    from ._operands.class_table import Targets
    from ._operands.seeds import Seed

__all__ = ["AllSampler", "LogUniformSampler", "MixtureSampler", "PresetSampler", "UniformSampler", "UnigramSampler"]

_silent = np.errstate(all="ignore")  # of functions: numbers below the smallest double, logarithms of 0
_ANY = (1 << 63) - 1  # more classes than there can be
_PIECE = 1 << 16  # levels or classes at a time, in sums over all of them


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


@_silent
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
        return arrays.unwrap(self._checked_log_q("log_prob", ids), None)

    @_silent
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
        return arrays.unwrap(np.exp(log_inclusion(log_q, self._time(n))) if unique else n * np.exp(log_q), None)

    def _checked_log_q(self, method: str, ids: ArrayLike) -> Array:
        op = f"{type(self).__name__}.{method}"
        given = arrays.as_given(op, "ids", ids)
        return self._log_q(targets.class_ids(op, "ids", ids, given.shape, self.classes or _ANY))

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
        for first in range(0, self.classes, _PIECE):
            ids = np.arange(first, min(first + _PIECE, self.classes))
            yield np.exp(self._log_q(ids)), np.ones(len(ids))

    def _distinct(self, time: float) -> float:
        """Return how many different classes are expected by `time`, if draws come at rate 1."""
        return float(sum(np.dot(count, -np.expm1(-q * time)) for q, count in self._levels()))

    def _by_clocks(self, size: int) -> bool:
        """Whether as many draws as there are classes would not do to find `size` different ones and the next."""
        if size == self._drawable():
            return True
        return self._reach(1) < size + 1

    @_silent
    def _reach(self, share: float) -> float:
        """Return how many different classes this share of as many draws as there are classes finds."""
        if ("reach", share) not in self._known:
            self._known["reach", share] = self._distinct(share * self.classes)
        return self._known["reach", share]

    @_silent
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


def checked_counts(op: str, argument: str, value: ArrayLike) -> Array:
    """Check how often classes were counted."""
    counts = arrays.floats(op, argument, value)
    if counts.ndim != 1 or not 0 < counts.size < 1 << 32:
        raise ValueError(message(op, argument, f"has shape {counts.shape}", "(V,) with 1 <= V < 2**32"))
    for first in range(0, counts.size, _PIECE):
        piece = counts[first : first + _PIECE]
        bad = ~((piece >= 0) & (piece < inf))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(message(op, argument, f"is {piece[at]} at class {first + at}", "finite numbers >= 0"))
    if not counts.any():
        raise ValueError(message(op, argument, "is 0 for every class", "at least one number > 0"))
    return counts


def _class_count(op: str, value: object) -> int:
    return whole(op, "num_classes", value, 1, 1 << 40, "an int from 1 to 2**40")


class UniformSampler(Law):
    """Draws every class alike: q = 1 / V.

    Parameters
    ----------
    num_classes : int
        V, from 1 to 2**40.

    Notes
    -----
    A class is floor(V b / 2**64) of 64 random bits b, which makes its probability exact to V / 2**64 of it.

    Examples
    --------
    >>> import vastmax
    >>> sampler = vastmax.UniformSampler(100_000_000)
    >>> sampler.sample(3, seed=0)
    array([88052019, 60548185, 36209111])
    >>> sampler.expected_count([5, 6], size=1000)
    array([1.e-05, 1.e-05])
    """

    def __init__(self, num_classes: int) -> None:
        classes = _class_count("UniformSampler", num_classes)
        super().__init__(classes, _core.Sampler.uniform(classes))

    def __repr__(self) -> str:
        return f"UniformSampler({self.classes})"

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        yield np.array([1 / self.classes]), np.array([float(self.classes)])


class LogUniformSampler(Law):
    r"""Draws classes that are numbered from frequent to rare, as words by rank in Zipf's law. Needs no table.

    .. math:: q_k = \frac{\log(1 + 1 / (k + 1))}{\log(1 + V)}, \quad k = \lfloor (1 + V)^u \rfloor - 1

    Parameters
    ----------
    num_classes : int
        V, from 1 to 2**40.

    Notes
    -----
    u has 53 bits, so every class of 100 million comes up as often as it should, the last ones too. `log_prob` is within
    a few ULP.

    The law is that of TensorFlow's `log_uniform_candidate_sampler`.

    Examples
    --------
    >>> import vastmax
    >>> sampler = vastmax.LogUniformSampler(100_000_000)
    >>> sampler.sample(5, seed=0, step=1)
    array([      3,  119965,     339,   66772, 6936493])
    >>> sampler.log_prob([0, 99_999_999])
    array([ -3.27998691, -21.33415474])
    """

    def __init__(self, num_classes: int) -> None:
        classes = _class_count("LogUniformSampler", num_classes)
        super().__init__(classes, _core.Sampler.log_uniform(classes))

    def __repr__(self) -> str:
        return f"LogUniformSampler({self.classes})"

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        """Yield the first classes one by one, then nodes of Gauss and Legendre for the sum over each octave."""
        scale = np.log1p(float(self.classes))
        end = min(self.classes, 1 << 15)
        yield np.log1p(1 / np.arange(1.0, end + 1)) / scale, np.ones(end)
        nodes, weights = np.polynomial.legendre.leggauss(16)
        while end < self.classes:
            first, end = end, min(self.classes, 2 * end)
            half = (end - first) / 2
            k = first - 0.5 + half * (nodes + 1)
            yield np.log1p(1 / (k + 1)) / scale, half * weights


class UnigramSampler(Law):
    r"""Draws classes as often as they were counted, or as a power of that.

    .. math:: q_j = c_j^{\alpha} \Big/ \sum_k c_k^{\alpha}

    Parameters
    ----------
    counts : array_like
        :math:`c`: a non-negative finite number for each of V classes, fewer than 2**32, of any real dtype. A class with
        count 0 is never drawn.
    power : float, default 0.75
        :math:`\alpha`, finite. 0 draws every class with a count alike.

    Notes
    -----
    Classes of equal count are one level, and an alias table (Walker 1977, Vose 1991) has a bucket for each level, not
    for each class. Beside it there are 8 bytes for each class, none if the counts are sorted, either way; the counts
    themselves are not kept, but a pickle has them again.

    A draw takes 128 random bits. A level's probability is exact to about 2**-50, a class's inside it to 2**-32.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> sampler = vastmax.UnigramSampler([70, 20, 0, 10], power=1)
    >>> sampler.sample(8, seed=0)
    array([0, 1, 1, 1, 0, 0, 0, 0])
    >>> np.exp(sampler.log_prob([0, 2, 3]))
    array([0.7, 0. , 0.1])
    """

    def __init__(self, counts: ArrayLike, power: float = 0.75) -> None:
        op = "UnigramSampler"
        given = checked_counts(op, "counts", counts)
        self.power = real(op, "power", power)
        super().__init__(given.size, _core.Sampler.unigram(np.ascontiguousarray(given, np.float64), self.power))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._native.counts(), self.power)

    def __repr__(self) -> str:
        return f"UnigramSampler({self.classes} counts, power={self.power:g})"

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        first = 0
        while (piece := self._native.levels(first, _PIECE))[0].size:
            yield np.exp(piece[0]), piece[1].astype(np.float64)
            first += _PIECE


class MixtureSampler(Law):
    r"""Draws from one of several samplers, chosen anew for each draw.

    .. math:: q_j = \sum_k w_k \, q_{k, j} \Big/ \sum_k w_k

    Parameters
    ----------
    samplers : sequence
        Samplers of the same classes: uniform, log-uniform, unigram, mixtures of them.
    weights : array_like
        :math:`w`: a finite number > 0 for each.

    Notes
    -----
    Every part draws, so a draw costs what all parts cost. `expected_count` with ``unique=True`` looks at every class.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> counts = vastmax.UnigramSampler([8, 2, 0, 0], power=1)
    >>> sampler = vastmax.MixtureSampler([counts, vastmax.UniformSampler(4)], [3, 1])
    >>> np.exp(sampler.log_prob(np.arange(4)))
    array([0.6625, 0.2125, 0.0625, 0.0625])
    """

    @_silent
    def __init__(self, samplers: Sequence[Law], weights: ArrayLike) -> None:
        op = "MixtureSampler"
        parts = tuple(samplers)
        for part in parts:
            if not isinstance(part, Law):
                accepted = "UniformSampler, LogUniformSampler, UnigramSampler, MixtureSampler"
                raise TypeError(message(op, "samplers", f"has a {type(part).__name__}", accepted))
        if not parts or len({part.classes for part in parts}) > 1:
            given = f"has samplers of {[part.classes for part in parts]} classes"
            raise ValueError(message(op, "samplers", given, "one sampler or more, all of the same number of classes"))
        share = arrays.floats(op, "weights", weights).astype(np.float64)
        if share.shape != (len(parts),):
            raise ValueError(message(op, "weights", f"has shape {share.shape}", f"a number a sampler, {(len(parts),)}"))
        if not ((share > 0) & (share < inf)).all():
            raise ValueError(message(op, "weights", f"is {share.tolist()}", "finite numbers > 0"))
        self._given = parts, share.copy()
        self._parts: list[tuple[Law, float]] = []  # none is a mixture, weights sum to 1, those that underflow left out
        share /= share.max()  # or their sum may overflow
        for part, w in zip(parts, share / share.sum(), strict=True):
            inner = part._parts if isinstance(part, MixtureSampler) else [(part, 1.0)]
            self._parts += [(p, float(w) * v) for p, v in inner if float(w) * v > 0]
        native = _core.Sampler.mixture([p._native for p, _ in self._parts], [w for _, w in self._parts])
        super().__init__(parts[0].classes, native)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._given

    def __repr__(self) -> str:
        return f"MixtureSampler({[p for p, _ in self._parts]}, {[w for _, w in self._parts]})"

    def _by_clocks(self, size: int) -> bool:
        """Whether none of the parts alone, as often as it draws here, would find enough."""
        if size == self._drawable():
            return True
        return max(part._reach(w) for part, w in self._parts) < size + 1


class AllSampler(Sampler):
    """Takes every class once: the sampled softmax is then the full one, for tests and small vocabularies.

    Parameters
    ----------
    num_classes : int
        V, from 1 to 2**40.

    Notes
    -----
    A sample is all V classes in order, so `size` can only be V. `log_prob` is -log V and `expected_count` 1.

    Examples
    --------
    >>> import vastmax
    >>> sampler = vastmax.AllSampler(4)
    >>> sampler.sample(4, seed=None), sampler.expected_count([2], size=4)
    (array([0, 1, 2, 3]), array([1.]))
    """

    classes: int
    _native = None

    def __init__(self, num_classes: int) -> None:
        self.classes = self._only_size = _class_count("AllSampler", num_classes)

    def __repr__(self) -> str:
        return f"AllSampler({self.classes})"

    def _checked_size(self, op: str, size: int, unique: bool, argument: str = "size") -> int:
        accepted = f"{self.classes}, as every class is taken once"
        n = whole(op, argument, size, self.classes, self.classes, accepted)
        if n >= 1 << 32:
            raise ValueError(message(op, argument, f"is {n}", "fewer than 2**32 draws: draw from fewer classes"))
        return n

    def _draw(self, op: str, size: int, seed: Seed, step: int, unique: bool) -> Drawn:
        n = self._checked_size(op, size, unique)
        return Drawn(np.arange(n, dtype=np.int64), np.zeros(n), False, inf)

    def _log_q(self, ids: Array) -> NDArray[np.float64]:
        return np.full(ids.shape, -np.log(self.classes))


class PresetSampler(Sampler):
    """Stands for classes that were drawn elsewhere.

    Parameters
    ----------
    ids : array_like of int
        The classes, one axis. A class may be there several times.
    log_q : array_like
        log q of one draw of each: finite, <= 0.
    target_log_q : array_like, optional
        log q of one draw of each target of the loss, in the shape of `target`, of its ids if that is a pair; -inf for
        one that is never drawn.

    Notes
    -----
    A sample is `ids`, so `size` can only be their number. `log_prob` knows the classes in `ids` alone.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> sampler = vastmax.PresetSampler([7, 3, 7], np.log([0.5, 0.25, 0.5]))
    >>> sampler.sample(3, seed=None), np.exp(sampler.log_prob([3]))
    (array([7, 3, 7]), array([0.25]))
    """

    classes, _native = None, None

    def __init__(self, ids: ArrayLike, log_q: ArrayLike, target_log_q: ArrayLike | None = None) -> None:
        op = "PresetSampler"
        given = arrays.as_given(op, "ids", ids)
        if given.ndim != 1:
            raise ValueError(message(op, "ids", f"has shape {given.shape}", "one axis"))
        self._ids = targets.class_ids(op, "ids", ids, given.shape, _ANY).copy()
        self._log = self._logs(op, "log_q", log_q)
        if self._log.shape != self._ids.shape:
            raise ValueError(message(op, "log_q", f"has shape {self._log.shape}", f"that of ids, {self._ids.shape}"))
        if np.isneginf(self._log).any():
            raise ValueError(message(op, "log_q", "is -inf for a class that was drawn", "finite numbers <= 0"))
        order = np.argsort(self._ids, kind="stable")
        self._sorted, self._log_of = self._ids[order], self._log[order]
        differ = (np.diff(self._sorted) == 0) & (np.diff(self._log_of) != 0)
        if differ.any():
            at = int(self._sorted[differ.argmax()])
            raise ValueError(message(op, "log_q", f"has different numbers for class {at}", "one a class"))
        self._only_size = len(self._ids)
        self._of_targets = None if target_log_q is None else self._logs(op, "target_log_q", target_log_q)

    @staticmethod
    def _logs(op: str, argument: str, value: ArrayLike) -> NDArray[np.float64]:
        logs = arrays.floats(op, argument, value).astype(np.float64)
        if not (logs <= 0).all():
            raise ValueError(message(op, argument, f"is {logs[~(logs <= 0)].flat[0]}", "logarithms of probabilities"))
        return logs

    def __repr__(self) -> str:
        return f"PresetSampler({len(self._ids)} ids)"

    def _checked_size(self, op: str, size: int, unique: bool, argument: str = "size") -> int:
        n = seeds.draws(op, argument, size)
        if n != len(self._ids):
            raise ValueError(message(op, argument, f"is {n}", f"{len(self._ids)}, the number of ids"))
        if unique:
            raise ValueError(message(op, "unique", "is True", "False, as the classes are drawn already"))
        return n

    def _draw(self, op: str, size: int, seed: Seed, step: int, unique: bool) -> Drawn:
        self._checked_size(op, size, unique)
        return Drawn(self._ids.copy(), self._log.copy(), True, None)

    def _checked_log_q(self, method: str, ids: ArrayLike) -> Array:
        op = f"PresetSampler.{method}"
        given = arrays.as_given(op, "ids", ids)
        wanted = targets.class_ids(op, "ids", ids, given.shape, _ANY)
        unknown = wanted[~np.isin(wanted, self._ids)]
        if unknown.size:
            raise IndexError(message(op, "ids", f"has {unknown.flat[0]}", "classes among the preset ones"))
        return self._log_q(wanted)

    def _log_q(self, ids: Array) -> NDArray[np.float64]:
        """Look up classes that are among the preset ones."""
        found: NDArray[np.float64] = self._log_of[np.searchsorted(self._sorted, ids)]
        return found

    def _target_log_q(self, op: str, targets: Targets) -> NDArray[np.float64] | None:
        if self._of_targets is None:
            return None
        if self._of_targets.shape != targets.shape:
            given, accepted = f"has target_log_q of shape {self._of_targets.shape}", f"that of target, {targets.shape}"
            raise ValueError(message(op, "sampler", given, accepted))
        found: NDArray[np.float64] = self._of_targets.reshape(-1)[targets.at]
        return found
