# SPDX-License-Identifier: Apache-2.0
"""Calls of samplers and of sampled softmax, by vastmax and by its rivals, and the work that they cannot avoid.

Shared draws: loss and both gradients against the three matrix products over the distinct classes that were drawn.
Draws of each row's own: against a bare gather of the same rows of the table.
"""

from __future__ import annotations

import importlib.util
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax
from vastmax import _core

if TYPE_CHECKING:
    from vastmax._ops.sampled.proposal import Law

    from .exact import Array
    from .timing import Call

SAMPLERS = ("UniformSampler", "LogUniformSampler", "UnigramSampler")
OPS = (*SAMPLERS, "sampled_softmax")
FLOORS = ("three products", "gather")
SHARED, OWN = 1024, 256  # draws
CLASSES, FEATURES = 1_000_000, 256


class Problem:
    """A table, a batch and its targets."""

    def __init__(self, classes: int, features: int, rows: int) -> None:
        rng = np.random.default_rng(0)
        self.table = rng.standard_normal((classes, features), np.float32)
        self.table *= 0.05
        self.x = rng.standard_normal((rows, features), np.float32)
        self.frequent, self.uniform = vastmax.LogUniformSampler(classes), vastmax.UniformSampler(classes)
        self.target = self.frequent.sample(rows, seed=9)
        self.ids = np.unique(self.frequent.sample(SHARED, seed=1))

    def shared(self) -> object:
        """Loss and both gradients, from draws that the batch shares."""
        return vastmax.sampled_softmax(
            self.x, self.table, self.target, sampler=self.frequent, num_sampled=SHARED, seed=1
        )

    def own(self) -> object:
        """Loss and both gradients, from draws of each row's own."""
        return vastmax.sampled_softmax(
            self.x, self.table, self.target, sampler=self.uniform, num_sampled=OWN, share="row", seed=1
        )

    def products(self) -> Call:
        """Return the matrix products of the distinct classes, into memory that is there."""
        panel = self.table[self.ids]
        z = np.empty((len(self.x), len(panel)), np.float32)
        grad, grad_panel = np.empty_like(self.x), np.empty_like(panel)

        def run() -> None:
            np.matmul(self.x, panel.T, out=z)
            np.matmul(z, panel, out=grad)
            np.matmul(z.T, self.x, out=grad_panel)

        return run

    def gather(self) -> Call:
        """Return a walk over the rows that `own` meets, into a tile that stays in cache."""
        ids = _core.draw_rows(self.uniform._native, 1, 0, 0, len(self.x), OWN, 0, -1).reshape(-1)
        tile = np.empty((2048, self.table.shape[1]), np.float32)

        def run() -> None:
            for at in range(0, len(ids), len(tile)):
                _core.gather_rows(self.table, ids[at : at + len(tile)], tile, 0, -1)

        return run

    def numpy(self) -> Call:
        """Return the step in NumPy: the same draws, the loss and both gradients, summed over equal classes."""

        def run() -> object:
            ids = self.frequent.sample(SHARED, seed=1)
            rows, own = self.table[ids], self.table[self.target]
            z = self.x @ rows.T - np.asarray(self.frequent.log_prob(ids) + np.log(SHARED), np.float32)
            z[self.target[:, None] == ids] = -np.inf
            both = np.concatenate([(self.x * own).sum(1, keepdims=True), z], 1)
            p = np.exp(both - both.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            loss = -np.log(p[:, 0])
            p[:, 0] -= 1
            grad = p[:, :1] * own + p[:, 1:] @ rows
            classes, place = np.unique(np.concatenate([self.target, ids]), return_inverse=True)
            grad_rows = np.zeros((len(classes), self.x.shape[1]), np.float32)
            np.add.at(grad_rows, place, np.concatenate([p[:, :1] * self.x, p[:, 1:].T @ self.x]))
            return loss, grad, classes, grad_rows

        return run

    def torch(self) -> Call:
        """Return the step in torch, eagerly: gather, cross_entropy, backward with a sparse gradient."""
        import torch

        torch.set_num_threads(vastmax.get_num_threads())
        table = torch.from_numpy(self.table).requires_grad_()
        target = torch.from_numpy(self.target)
        none = torch.zeros(len(self.x), dtype=torch.long)

        def run() -> None:
            ids = torch.from_numpy(self.frequent.sample(SHARED, seed=1))
            shift = torch.from_numpy(np.asarray(self.frequent.log_prob(ids.numpy()) + np.log(SHARED), np.float32))
            x = torch.from_numpy(self.x).requires_grad_()
            rows = torch.nn.functional.embedding(torch.cat([target, ids]), table, sparse=True)
            own, others = rows[: len(self.x)], rows[len(self.x) :]
            logits = x @ others.T - shift
            logits = logits.masked_fill(target[:, None] == ids, -torch.inf)
            both = torch.cat([(x * own).sum(1, keepdim=True), logits], 1)
            loss: Any = torch.nn.functional.cross_entropy(both, none, reduction="sum")
            loss.backward()
            table.grad = None

        return run


@cache
def _problem(rows: int) -> Problem:
    return Problem(CLASSES, FEATURES, rows)


def calls(op: str, shape: tuple[int, ...], share: str, wanted: tuple[str, ...]) -> dict[str, list[Call]]:
    """Return each contender's call, ours as "vastmax"."""
    torch = "torch" in wanted and importlib.util.find_spec("torch") is not None
    if op in SAMPLERS:
        made = _draws(op, shape[0], torch=torch)
    elif share == "row":
        made = {"vastmax": _problem(shape[0]).own, "gather": _problem(shape[0]).gather()}
    else:
        problem = _problem(shape[0])
        made = {"vastmax": problem.shared, "three products": problem.products(), "numpy": problem.numpy()}
        made |= {"torch": problem.torch()} if torch else {}
    return {name: [call] for name, call in made.items()}


def _draws(op: str, size: int, *, torch: bool) -> dict[str, Call]:
    """Return draws with replacement; the law's table is made beforehand where there is one."""
    rng = np.random.default_rng(0)
    counts = np.floor(1e9 / np.arange(1, CLASSES + 1) ** 1.1)
    if op == "UnigramSampler":
        sampler: Law = vastmax.UnigramSampler(counts)
        below: Array = np.cumsum(counts**0.75)
        made: dict[str, Call] = {"numpy": lambda: np.searchsorted(below, rng.random(size) * below[-1], side="right")}
    elif op == "LogUniformSampler":
        sampler = vastmax.LogUniformSampler(CLASSES)
        made = {"numpy": lambda: np.exp(rng.random(size) * np.log1p(CLASSES)).astype(np.int64) - 1}
    else:
        sampler = vastmax.UniformSampler(CLASSES)
        made = {"numpy": partial(rng.integers, CLASSES, size=size)}
    ours: dict[str, Call] = {"vastmax": partial(sampler.sample, size, seed=1)}
    return ours | made | ({"torch": _torch_draws(op, size, counts)} if torch else {})


def _torch_draws(op: str, size: int, counts: Array) -> Call:
    import torch

    torch.set_num_threads(vastmax.get_num_threads())
    if op == "UniformSampler":
        return partial(torch.randint, CLASSES, (size,))
    if op == "UnigramSampler":
        return partial(torch.multinomial, torch.from_numpy(counts**0.75), size, replacement=True)
    top: Any = np.log1p(CLASSES)
    return lambda: (torch.rand(size, dtype=torch.float64) * top).exp_().long().sub_(1)
