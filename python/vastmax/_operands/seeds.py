# SPDX-License-Identifier: Apache-2.0
"""Seeds, steps and rows: what tells one draw from another. The core makes random numbers of these alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vastmax._operands.numbers import check_int

if TYPE_CHECKING:
    from numpy.random import Generator, SeedSequence

    Seed: TypeAlias = int | Generator | SeedSequence | None


def key(op: str, seed: object) -> int:
    """Return the 64 bits that a seed stands for. A Generator gives its next ones."""
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(1 << 64, dtype=np.uint64))
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1, np.uint64)[0])
    return _int_key(op, seed)


def check(op: str, seed: object) -> None:
    """Check `seed=`, and leave a Generator where it is."""
    if seed is not None and not isinstance(seed, np.random.Generator | np.random.SeedSequence):
        _int_key(op, seed)


def _int_key(op: str, seed: object) -> int:
    if type(seed) is int and 0 <= seed < 1 << 64:
        return seed
    accepted = "an int from 0 to 2**64 - 1, a numpy.random.Generator or SeedSequence, None for fresh entropy"
    return check_int(op, "seed", seed, 0, (1 << 64) - 1, accepted)


def step(op: str, value: object) -> int:
    """Check `step=`."""
    return check_int(op, "step", value, 0, (1 << 32) - 1, "an int from 0 to 2**32 - 1")


def row_offset(op: str, value: object, rows: int) -> int:
    """Check `row_offset=` of a part with this many rows."""
    return check_int(op, "row_offset", value, 0, (1 << 48) - rows, "an int >= 0; rows end at 2**48")


def draws(op: str, argument: str, value: object) -> int:
    """Check a number of draws."""
    return check_int(op, argument, value, 0, (1 << 32) - 1, "an int from 0 to 2**32 - 1")
