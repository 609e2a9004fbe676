# SPDX-License-Identifier: Apache-2.0
"""A log-bilinear model of the next word, and three ways to train it, each with row-wise Adagrad.

x = sum_k c_k R[k-th word back] + N[hash of the last two words], and the score of a next word is x W[word].
The first feature of x is 1, so the first column of W is a bias, which starts at the logarithm of the word's frequency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import vastmax

from .python_source import CONTEXT, PAIRS

if TYPE_CHECKING:
    from .exact import Array
    from .python_source import Batch, Corpus

FEATURES, BATCH, NEGATIVES, BEST = 64, 1024, 1000, 10
RATE, POWER = 0.1, 0.75
_EPS = 1e-10


class Table:
    """Rows of numbers with the state of their optimiser."""

    def __init__(self, values: Array) -> None:
        self.values = values
        self.state = np.zeros(len(values))

    def learn(self, ids: Array, gradient: Array) -> None:
        """Update some rows."""
        self.apply(vastmax.SparseRows(ids, gradient, self.values.shape))

    def apply(self, gradient: vastmax.SparseRows) -> None:
        """Update the rows of a gradient."""
        gradient.apply_adagrad_(self.values, self.state, RATE)


class Model:
    """The tables: R (the last row is that of rare words), N, c and W."""

    def __init__(self, corpus: Corpus, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        classes = len(corpus.words)

        def normal(rows: int, deviation: float) -> Array:
            return rng.standard_normal((rows, FEATURES), np.float32) * np.float32(deviation)

        self.words = Table(normal(classes + 1, FEATURES**-0.5))
        self.pairs = Table(normal(PAIRS, FEATURES**-0.5))
        self.distance = Table((1 / np.arange(1, CONTEXT + 1, dtype=np.float32))[:, None])
        self.next = Table(normal(classes, 0.01))
        self.next.values[:, 0] = log_frequencies(corpus)

    def features(self, batch: Batch) -> Array:
        """Return x of each row."""
        x: Array = self.distance.values[:, 0] @ self.words.values[batch.context] + self.pairs.values[batch.pair]
        x[:, 0] = 1
        return x

    def learn_features(self, batch: Batch, gradient: Array) -> None:
        """Update R, N and c, given the gradient of x."""
        gradient[:, 0] = 0  # the 1 before the bias stays
        of_distance = np.einsum("bkd,bd->k", self.words.values[batch.context], gradient)
        of_words = self.distance.values * gradient[:, None]
        self.words.learn(batch.context.ravel(), of_words.reshape(-1, FEATURES))
        self.pairs.learn(batch.pair, gradient)
        self.distance.learn(np.arange(CONTEXT), of_distance[:, None])


def log_frequencies(corpus: Corpus) -> Array:
    """Return the logarithm of each word's share of all."""
    found: Array = np.log(corpus.counts / corpus.counts.sum())
    return found


class Sampled:
    """Steps of sampled softmax: negatives in proportion to counts to a power, none twice."""

    def __init__(self, corpus: Corpus, correction: str, seed: int = 0) -> None:
        self._sampler = vastmax.UnigramSampler(corpus.counts, power=POWER)
        self._correction, self._seed = correction, seed

    def __call__(self, model: Model, batch: Batch, step: int) -> None:
        """Make one step."""
        result = vastmax.sampled_softmax(
            model.features(batch), model.next.values, batch.target, sampler=self._sampler, num_sampled=NEGATIVES,
            correction=self._correction, unique=True, seed=self._seed, step=step,
        )  # fmt: skip
        assert isinstance(result.grad_weight, vastmax.SparseRows)
        assert result.grad_input is not None
        model.next.apply(result.grad_weight)
        model.learn_features(batch, result.grad_input)


def full_step(model: Model, batch: Batch, step: int) -> None:
    """Make one step of the softmax over all words."""
    result = vastmax.linear_cross_entropy_with_grad(
        model.features(batch), model.next.values, batch.target, reduction="sum"
    )
    model.next.learn(np.arange(len(model.next.values)), result.grad_weight)
    model.learn_features(batch, result.grad_input)


def numpy_step(model: Model, batch: Batch, step: int) -> None:
    """Make the step of `full_step` in NumPy alone."""
    x, weight = model.features(batch), model.next.values
    p = x @ weight.T
    p -= p.max(1, keepdims=True)
    np.exp(p, out=p)
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(p)), batch.target] -= 1
    of_x, of_weight = p @ weight, p.T @ x
    of_x[:, 0] = 0
    of_distance = (model.words.values[batch.context] * of_x[:, None]).sum((0, 2))
    of_words = (model.distance.values * of_x[:, None]).reshape(-1, FEATURES)
    _numpy_adagrad(model.next, np.arange(len(weight)), of_weight)
    _numpy_adagrad(model.words, batch.context.ravel(), of_words)
    _numpy_adagrad(model.pairs, batch.pair, of_x)
    _numpy_adagrad(model.distance, np.arange(CONTEXT), of_distance[:, None])


def _numpy_adagrad(table: Table, ids: Array, rows: Array) -> None:
    distinct, where = np.unique(ids, return_inverse=True)
    sums = rows
    if len(distinct) < len(ids):
        sums = np.zeros((len(distinct), rows.shape[1]), np.float32)
        np.add.at(sums, where, rows)
    table.state[distinct] += (sums.astype(np.float64) ** 2).mean(1)
    table.values[distinct] -= sums * (RATE / (np.sqrt(table.state[distinct]) + _EPS)).astype(np.float32)[:, None]


class Score(NamedTuple):
    """How good predictions are, over all words exactly."""

    loss: float  # nats
    gains: Array  # of each row: 1 / log2(1 + rank of the target), 0 beyond rank BEST
    recall: float
    log_popularity: float  # mean logarithm of the frequencies of the BEST words recommended

    @property
    def ndcg(self) -> float:
        """Return the mean of the gains: with one target a row, that of the ideal ranking is 1."""
        return float(self.gains.mean())


def judge(x: Array, weight: Array, target: Array, log_popularity: Array) -> Score:
    """Rank all classes for each row, and take the exact loss."""
    loss = float(np.asarray(vastmax.linear_cross_entropy(x, weight, target)))
    _, best = vastmax.linear_top_k(x, weight, BEST)
    hit = best == target[:, None]
    gains = (hit / np.log2(np.arange(2, BEST + 2))).sum(1)
    return Score(loss, gains, float(hit.any(1).mean()), float(log_popularity[best].mean()))
