# SPDX-License-Identifier: Apache-2.0
"""States of rows whose logits come in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import vastmax._core as _core
from vastmax._runtime import config

if TYPE_CHECKING:
    from vastmax._operands.arrays import Array

NUMBERS = 8  # of a row's state, in float64: RowState in cpp/include/vastmax/vastmax.hpp


def empty_states(*shape: int) -> Array:
    """Return the states of rows of which nothing was seen."""
    states = np.zeros((*shape, NUMBERS))
    states[..., 0] = -np.inf
    return states


def parts_of(states: Array) -> tuple[Array, Array]:
    """Return the largest logit and the logarithm that is added to it."""
    largest, log = np.empty(states.shape[:-1]), np.empty(states.shape[:-1])
    _core.logsumexp_value(states, largest, log, config.current().isa)
    return largest, log
