# SPDX-License-Identifier: Apache-2.0
"""How draws are judged: G-tests, and the random bits that they are made of, written anew."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats


def p_value(observed: Any, probability: Any) -> float:
    """The G-test. Neighbouring bins are pooled until ten are expected in each."""
    observed, expected = np.asarray(observed, np.float64), np.asarray(probability) * np.sum(observed)
    edges, filled = [0], 0.0
    for i, e in enumerate(expected):
        filled += e
        if filled >= 10:
            edges.append(i + 1)
            filled = 0.0
    assert len(edges) > 2, "too few draws to test"
    starts = edges[:-1]
    o, e = np.add.reduceat(observed, starts), np.add.reduceat(expected, starts)
    g = 2 * np.sum(o[o > 0] * np.log(o[o > 0] / e[o > 0]))
    return float(stats.chi2.sf(g, len(o) - 1))


def follows(ids: Any, probability: Any) -> bool:
    counts = np.bincount(ids, minlength=len(probability))
    if len(counts) != len(probability) or counts[np.asarray(probability) == 0].any():
        return False
    return p_value(counts, probability) > 1e-6


def independent(a: Any, b: Any, bins: int) -> bool:
    counts = np.bincount(a * bins + b, minlength=bins * bins)
    share = np.bincount(a, minlength=bins) / len(a), np.bincount(b, minlength=bins) / len(b)
    return p_value(counts, np.outer(*share).ravel()) > 1e-6


def words(counter: Any, key: int) -> Any:
    """Philox4x32-10 in NumPy, of counters [4, n]."""
    c = [np.asarray(w, np.uint64) for w in counter]
    k = [key & 0xFFFFFFFF, key >> 32]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [b >> 32 ^ c[1] ^ np.uint64(k[0]), b & low, a >> 32 ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform_bits(seed: int, step: int, row: int, n: int, purpose: int = 0) -> Any:
    """64 bits for each of n draws; `purpose` is the number of one in cpp/math/random.hpp."""
    blocks = np.arange((n + 1) // 2)
    same = [np.full(len(blocks), v) for v in (row & 0xFFFFFFFF, row >> 32 | purpose << 16, step)]
    w = words([blocks, *same], seed)
    return np.stack([w[1] << 32 | w[0], w[3] << 32 | w[2]], 1).ravel()[:n]
