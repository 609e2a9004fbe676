# SPDX-License-Identifier: Apache-2.0
"""Bits change only on purpose: SHA-256 of results against golden.json.

Inputs come from Philox bits by integer arithmetic, so they are the same everywhere. After a change that is meant to
change bits (a major release), say so in the changelog, and write the file anew:
`PYTHONPATH=tests python tests/properties/test_golden.py --write`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import vastmax
from support import contracts, logit_rows

GOLDEN = Path(__file__).with_name("golden.json")
SHAPES = ((1, 1), (7, 3), (5, 16), (3, 67), (4, 130), (2, 1000), (3, 4099), (1, 100_003))


def _grad(seed: int, shape: tuple[int, ...], dtype: Any) -> Any:
    return (logit_rows.integer_logits(seed, shape) / 8.0).astype(dtype)


def results() -> Iterator[tuple[str, Any]]:
    for name in sorted(contracts.DTYPES):
        dtype = contracts.FORMATS[name].dtype
        wide = contracts.FORMATS[contracts.reduced(name)].dtype
        for seed, shape in enumerate(SHAPES):
            key = f"{name}/{shape[0]}x{shape[1]}"
            x = logit_rows.integer_logits(100 + seed, shape, spread=20).astype(dtype)
            y = (logit_rows.integer_logits(200 + seed, shape, spread=1) / 64.0 + 0.03125).astype(dtype)
            g = _grad(300 + seed, shape, dtype)
            t = 0.5 + np.arange(shape[0]) * 0.25
            keep = logit_rows.integer_logits(400 + seed, shape) > -3.0
            yield f"softmax/{key}", vastmax.softmax(x)
            yield f"softmax first axis/{key}", vastmax.softmax(x, axis=0)
            yield f"softmax temperature where/{key}", vastmax.softmax(x, temperature=t, where=keep)
            yield f"log_softmax/{key}", vastmax.log_softmax(x)
            yield f"logsumexp/{key}", vastmax.logsumexp(x, axis=1)
            yield f"logsumexp weights/{key}", vastmax.logsumexp(x, axis=1, b=np.abs(g))
            yield f"softmax_backward/{key}", vastmax.softmax_backward(g, y)
            yield f"log_softmax_backward/{key}", vastmax.log_softmax_backward(g, -np.abs(x))
            yield f"logsumexp_backward/{key}", vastmax.logsumexp_backward(g[:, 0].astype(wide), x, axis=1)
            yield f"softplus/{key}", vastmax.softplus(x)
            yield f"softplus beta/{key}", vastmax.softplus(x, 1.5)
            yield f"softplus_backward/{key}", vastmax.softplus_backward(g, x)
            yield f"sigmoid/{key}", vastmax.sigmoid(x)
            yield f"sigmoid_backward/{key}", vastmax.sigmoid_backward(g, y)
            yield f"log_sigmoid/{key}", vastmax.log_sigmoid(x)
            yield f"log_sigmoid_backward/{key}", vastmax.log_sigmoid_backward(g, x)
            yield f"logit/{key}", vastmax.special.logit(np.abs(y))
            loss, grad = vastmax.binary_cross_entropy_with_logits(x, np.abs(y), return_grad=True)
            yield f"binary_cross_entropy/{key}", loss
            yield f"binary_cross_entropy gradient/{key}", grad
            target = np.arange(shape[0]) * 7919 % shape[1]
            stats = vastmax.softmax_stats(x, target, top_n=1, temperature=t)
            for field in ("entropy", "target_log_prob", "target_rank", "top_log_probs", "top_indices"):
                yield f"softmax_stats {field}/{key}", getattr(stats, field)
            yield f"selective_log_softmax/{key}", vastmax.selective_log_softmax(x, target)
            yield f"kl_divergence/{key}", vastmax.kl_divergence(x, g)
            for way, goal, options in (
                ("classes", target, {}),
                ("every option", target, {"label_smoothing": 0.125, "z_loss": 0.01, "softcap": 8.0, "where": keep}),
                ("probabilities", np.abs(y), {"weight": 0.5 + np.arange(shape[1]) % 3}),
                ("pairs", (np.stack([target, target // 2], -1), np.full((shape[0], 2), 0.5)), {"temperature": t}),
            ):
                loss, grad, _ = vastmax.cross_entropy_with_grad(x, goal, reduction="sum", **options)
                yield f"cross_entropy of {way}/{key}", loss
                yield f"cross_entropy of {way}, gradient/{key}", grad


def logits_cut_and_drawn() -> Iterator[tuple[str, Any]]:
    """Ties in each row; filters alone, one for each row, and together."""
    for name in sorted(contracts.DTYPES):
        dtype = contracts.FORMATS[name].dtype
        for seed, (rows, n) in enumerate(SHAPES):
            key = f"{name}/{rows}x{n}"
            x = logit_rows.integer_logits(600 + seed, (rows, n), spread=20).astype(dtype)
            keep = logit_rows.integer_logits(700 + seed, (rows, n)) > -3.0
            p = 0.3 + np.arange(rows) * 0.1
            for k in sorted({1, min(20, n), n // 3 + 1}):
                values, indices = vastmax.top_k(x, k)
                yield f"top_k {k}, values/{key}", values
                yield f"top_k {k}, indices/{key}", indices
            yield f"top_k_mask_logits/{key}", vastmax.top_k_mask_logits(x, n // 3 + 1)
            yield f"top_k_mask_logits first axis/{key}", vastmax.top_k_mask_logits(x, 2, axis=0)
            yield f"top_p_mask_logits/{key}", vastmax.top_p_mask_logits(x, p)
            yield f"top_p_mask_logits of nearly all/{key}", vastmax.top_p_mask_logits(x, 0.999)
            yield f"min_p_mask_logits/{key}", vastmax.min_p_mask_logits(x, p / 16)
            for way, size, options in (
                ("", None, {}),
                ("many", 100, {"step": 2**32 - 1, "row_offset": 2**40}),
                ("temperatures, where", 20, {"temperature": p, "where": keep}),
                ("top_p", 20, {"top_p": p}),
                ("every filter", 20, {"temperature": 1.25, "top_k": n // 2 + 1, "top_p": 0.9, "min_p": 0.01}),
                ("unique", min(30, n), {"replace": False}),
                ("unique, every filter", n // 3 + 1, {"replace": False, "temperature": p, "top_k": n // 2, "top_p": p}),
            ):
                ids, log_prob, valid = vastmax.sample(
                    x, size, seed=2**63 + 1, return_log_prob=True, return_valid=True, **options
                )
                for part, value in (("ids", ids), ("log_prob", log_prob), ("valid", valid)):
                    yield f"sample {way}, {part}/{key}".replace(" ,", ","), value
            yield f"gumbel_softmax/{key}", vastmax.gumbel_softmax(x, 0.75, seed=3)
            yield f"gumbel_softmax hard, first axis/{key}", vastmax.gumbel_softmax(x, hard=True, axis=0, seed=3)


def samples() -> Iterator[tuple[str, Any]]:
    counts = np.arange(2000) * 7919 % 97
    uniform, unigram = vastmax.UniformSampler(2000), vastmax.UnigramSampler(counts)
    for name, sampler in (
        ("uniform", uniform),
        ("log-uniform", vastmax.LogUniformSampler(100_000_000)),
        ("unigram", unigram),
        ("sorted unigram", vastmax.UnigramSampler(np.sort(counts), power=1)),
        ("mixture", vastmax.MixtureSampler([uniform, unigram], [1, 3])),
    ):
        ids = sampler.sample(5000, seed=2**63 + 1, step=2**31)
        yield f"sample/{name}", ids
        yield f"log_prob/{name}", sampler.log_prob(ids)
        yield f"sample unique/{name}", sampler.sample(700, seed=2, step=3, unique=True)
    yield "sample unique/nearly all", unigram.sample(1950, seed=2, unique=True)


def sampled_losses() -> Iterator[tuple[str, Any]]:
    """Of each row's own draws: those that the batch shares go through a BLAS."""
    for name in sorted(contracts.DTYPES):
        dtype = contracts.FORMATS[name].dtype
        x, w, b = (
            (logit_rows.integer_logits(seed, shape) / 8.0).astype(dtype)
            for seed, shape in ((500, (9, 20)), (501, (2000, 20)), (502, (1, 2000)))
        )
        targets = np.arange(18).reshape(9, 2) * 7919 % 2000
        for way, op, options in (
            ("importance", vastmax.sampled_softmax, {}),
            ("refined, unique", vastmax.sampled_softmax, {"correction": "refined", "unique": True}),
            ("candidate, temperature", vastmax.sampled_softmax, {"correction": "candidate", "temperature": 1.5}),
            ("nce", vastmax.nce_loss, {}),
        ):
            got = op(
                x, w, targets, bias=b[0], sampler=vastmax.LogUniformSampler(2000), num_sampled=100, share="row",
                seed=2**63 + 1, step=2, **options,
            )  # fmt: skip
            parts = {"loss": got.loss, "grad_input": got.grad_input, "hits": got.num_hits}
            parts |= {"grad_weight": got.grad_weight.coalesce().rows, "ids": got.grad_weight.ids()}
            for part, value in parts.items():
                yield f"sampled losses, {way}, {part}/{name}", value


def digests() -> dict[str, str]:
    found = {}
    for key, value in itertools.chain(results(), logits_cut_and_drawn(), samples(), sampled_losses()):
        array = np.asarray(value)
        if array.dtype.kind not in "ib":  # the sign and payload of NaN are free
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind == "f" else array
        found[key] = hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()[:32]
    return found


def test_golden(isa: str) -> None:
    want, found = json.loads(GOLDEN.read_text()), digests()
    assert sorted(found) == sorted(want), "ops or shapes changed: see the head of this file"
    differ = [key for key in want if found[key] != want[key]]
    assert not differ, f"{isa}: {len(differ)} of {len(want)} results changed their bits: {differ[:12]}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit("usage: PYTHONPATH=tests python tests/properties/test_golden.py --write")
    GOLDEN.write_text(json.dumps(digests(), indent=1) + "\n")
