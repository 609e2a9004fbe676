# SPDX-License-Identifier: Apache-2.0
"""Numbers that users give one of: their kind and their range."""

from __future__ import annotations

import sys
from math import inf
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from vastmax.errors import message

_MOST = sys.float_info.max
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)  # of a soft cap or a temperature: its inverse is finite in float32


def check_float(op: str, argument: str, value: object, least: float = -inf, most: float = inf) -> float:
    """Check a finite real number, and its bounds."""
    if not isinstance(value, Real) or isinstance(value, bool):  # NumPy's real scalars are
        raise TypeError(message(op, argument, f"is {value!r}", _accepted(least, most)))
    n = nearest(value)
    if not max(least, -_MOST) <= n <= min(most, _MOST):
        raise ValueError(message(op, argument, f"is {value!r}", _accepted(least, most)))
    return n


def _accepted(least: float, most: float) -> str:
    if most != inf:
        return f"a number from {least:g} to {most:g}"
    return "a finite number" if least == -inf else f"a finite number >= {least:.3g}"


def check_int(op: str, argument: str, value: object, least: float, most: float, accepted: str) -> int:
    """Check an integer."""
    try:
        n = index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(message(op, argument, f"is {value!r}", accepted)) from None
    if not least <= n <= most:
        raise ValueError(message(op, argument, f"is {n}", accepted))
    return n


def nearest(n: Any) -> float:  # noqa: ANN401 - a real number of any kind
    """Return a number in float64, infinite if it is beyond that."""
    try:
        return float(n)
    except OverflowError:
        return inf if n > 0 else -inf
