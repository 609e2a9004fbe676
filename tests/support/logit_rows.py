# SPDX-License-Identifier: Apache-2.0
"""Rows with teeth: each name is a way in which softmax code has been wrong somewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _normal(seed: int, n: int, sigma: float) -> Array:
    return np.random.default_rng(seed).standard_normal(n) * sigma


def _masked(n: int) -> Array:
    row = _normal(9, n, 3.0)
    row[np.random.default_rng(10).random(n) < 0.9] = -np.inf
    row[n // 2] = 1.0
    return row


def _subnormal(n: int, largest_gap: float) -> Array:
    """Every result from the last normal ones down to exactly 0."""
    row = np.linspace(0.0, largest_gap, n)
    row[1:] += _normal(11, n - 1, 0.01)
    return row


_ROWS: dict[str, Callable[[], Array]] = {
    "peaked": lambda: np.concatenate([_normal(1, 99, 1.0), [15.0], _normal(2, 100, 1.0)]),
    "flat": lambda: _normal(3, 1000, 1e-3),
    "equal": lambda: np.full(97, 0.37),
    "tied": lambda: np.array([0.5, 0.5]),
    "tied_far": lambda: np.concatenate([[-3.0, 593.0], np.full(50, -7.0), [593.0, 593.0]]),
    "tied_negative": lambda: np.concatenate([[-300.0], np.full(40, -333.0), [-300.0]]),
    "one_hot": lambda: np.concatenate([np.zeros(70), [60.0], np.zeros(60)]),
    "certain": lambda: np.array([40.0, 0.0]),
    "certain_in_double": lambda: np.array([0.0, -700.0, -720.0, -705.0]),
    "lse_near_zero": lambda: np.full(1000, -np.log(1000.0)),
    "normal_1": lambda: _normal(4, 1000, 1.0),
    "normal_12": lambda: _normal(5, 1000, 12.0),
    "normal_100": lambda: _normal(6, 1000, 100.0),
    "ascending": lambda: np.linspace(-30.0, 30.0, 777),
    "descending": lambda: np.linspace(30.0, -30.0, 777),
    "masked": lambda: _masked(300),
    "subnormal_f32": lambda: _subnormal(500, -106.0),
    "subnormal_f64": lambda: _subnormal(500, -748.0),
    "subnormal_f16": lambda: _subnormal(500, -18.5),
    "offset_1e4": lambda: 1e4 + _normal(7, 500, 8.0),
    "offset_-1e4": lambda: -1e4 + _normal(7, 500, 8.0),
    "offset_1e8": lambda: 1e8 + _normal(7, 500, 40.0),
    "offset_1e15": lambda: 1e15 + _normal(7, 500, 40.0),
    "offset_1e30": lambda: 1e30 + _normal(7, 500, 1e15),
    "offset_-1e30": lambda: -1e30 + _normal(7, 500, 1e15),
    "offset_208": lambda: 208.0 + _normal(12, 500, 20.0),
    "offset_-208": lambda: -208.0 + _normal(12, 500, 20.0),
    "offset_1490": lambda: 1490.0 + _normal(12, 500, 60.0),
    "two_scales": lambda: np.concatenate([_normal(13, 200, 1e-30), _normal(14, 200, 50.0)]),
    "largest_zero": lambda: np.concatenate([[0.0], -np.abs(_normal(15, 50, 5.0)) - 12.0]),
    "extremes": lambda: np.array([3.3e38, -3.3e38, 0.0, 3.2e38]),
}
NAMES = tuple(_ROWS)


@functools.cache
def row(name: str, dtype: Any) -> Array:
    """Rounded to dtype; what overflows its range is clipped, so every entry is finite or -inf on purpose."""
    x = _ROWS[name]()
    if np.dtype(dtype) == np.float16:
        x = np.where(np.isneginf(x), x, np.clip(x, -60000.0, 60000.0))
    x = x.astype(dtype)
    x.setflags(write=False)
    return x


# Around every width a kernel may have, and its multiples.
TAIL_LENGTHS = tuple(range(1, 70)) + tuple(n + d for n in (96, 128, 256, 512, 1024, 2048, 4096) for d in (-1, 0, 1, 7))


def integer_logits(seed: int, shape: tuple[int, ...], spread: int = 12) -> Array:
    """Bell-shaped multiples of 1/64 within about +-`spread`, made of raw Philox bits and integer arithmetic.

    The same on every platform, and exact in float16.
    """
    n = int(np.prod(shape))
    raw = np.random.Philox(key=seed).random_raw(n)
    total = np.zeros(n, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((raw >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    centred = (total - 2 * 0xFFFF) * spread * 64 // (2 * 0xFFFF)
    return (centred.astype(np.float64) / 64.0).reshape(shape)
