# SPDX-License-Identifier: Apache-2.0
"""Kernels that a GPU has and the core has not, composed of the core's own. Their arguments are those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays

if TYPE_CHECKING:
    from vastmax._operands.arrays import Array


def gumbel_softmax(
    x: Array, tau: float, hard: bool, seed: int, step: int, row: int, out: Array, threads: int, isa: int
) -> None:
    """Write the softmax of (x + noise) / tau, or 1 at its largest class and 0 elsewhere."""
    kind = arrays.reduction_dtype(x.dtype)
    z = out if out.dtype == kind else np.empty_like(out, kind)
    _core.add_gumbel(x, z, seed, step, row, threads, isa)
    if hard:
        _make_one_hot(z)
    else:
        temperature = None if tau == 1 else np.broadcast_to(np.float64(tau), z.shape[:-1])
        _core.softmax(z, z, temperature, None, threads, isa)
    if z is not out:
        with np.errstate(all="ignore"):
            out[...] = z


def _make_one_hot(z: Array) -> None:
    """Put 1 at the largest of each row and 0 elsewhere; NaN everywhere if that is not finite."""
    if z.size == 0:
        return
    flat = z.reshape(-1, z.shape[-1])
    largest = np.arange(len(flat)), flat.argmax(axis=1)
    bare = ~np.isfinite(flat[largest])
    flat[...] = np.where(bare, np.nan, 0)[:, None]
    flat[largest] = np.where(bare, np.nan, 1)
    if not np.may_share_memory(flat, z):
        z[...] = flat.reshape(z.shape)


def logsumexp_signs(value: Array, sign: Array, threads: int, isa: int) -> None:
    """Write the signs of sums of positive terms: 1, 0 for none, NaN for NaN."""
    sign[...] = np.where(np.isnan(value), value, value > -np.inf)
