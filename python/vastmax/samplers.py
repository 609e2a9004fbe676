# SPDX-License-Identifier: Apache-2.0
"""Classes drawn at random, as the negatives of a sampled softmax are, and how likely each is."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax._core as _core

from ._operands import arrays, seeds
from ._operands.numbers import check_float, check_int
from ._operands.targets import class_ids
from ._ops.sampled.proposal import ANY, PIECE, Drawn, Law, Sampler, silent
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from ._operands.arrays import Array
    from ._operands.class_table import Targets
    from ._operands.seeds import Seed

__all__ = ["AllSampler", "LogUniformSampler", "MixtureSampler", "PresetSampler", "UniformSampler", "UnigramSampler"]


def checked_counts(op: str, argument: str, value: ArrayLike) -> Array:
    """Check how often classes were counted."""
    counts = arrays.as_float_array(op, argument, value)
    if counts.ndim != 1 or not 0 < counts.size < 1 << 32:
        raise ValueError(message(op, argument, f"has shape {counts.shape}", "(V,) with 1 <= V < 2**32"))
    for first in range(0, counts.size, PIECE):
        piece = counts[first : first + PIECE]
        bad = ~((piece >= 0) & (piece < inf))
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(message(op, argument, f"is {piece[at]} at class {first + at}", "finite numbers >= 0"))
    if not counts.any():
        raise ValueError(message(op, argument, "is 0 for every class", "at least one number > 0"))
    return counts


def _class_count(op: str, value: object) -> int:
    return check_int(op, "num_classes", value, 1, 1 << 40, "an int from 1 to 2**40")


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
        self.power = check_float(op, "power", power)
        super().__init__(given.size, _core.Sampler.unigram(np.ascontiguousarray(given, np.float64), self.power))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._native.counts(), self.power)

    def __repr__(self) -> str:
        return f"UnigramSampler({self.classes} counts, power={self.power:g})"

    def _levels(self) -> Iterator[tuple[Array, Array]]:
        first = 0
        while (piece := self._native.levels(first, PIECE))[0].size:
            yield np.exp(piece[0]), piece[1].astype(np.float64)
            first += PIECE


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

    @silent
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
        share = arrays.as_float_array(op, "weights", weights).astype(np.float64)
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
        n = check_int(op, argument, size, self.classes, self.classes, accepted)
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
        self._ids = class_ids(op, "ids", ids, given.shape, ANY).copy()
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
        logs = arrays.as_float_array(op, argument, value).astype(np.float64)
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
        wanted = class_ids(op, "ids", ids, given.shape, ANY)
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
