# SPDX-License-Identifier: Apache-2.0
"""Logits of dtypes that the core does not read (integers, bool, other byte orders), converted some rows at a time.

Results have the bits of a converted copy, which never exists: rows do not depend on each other, and sums over them are
formed by the core from one number for each row.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _config, _core, _policy
from ._states import empty_states, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._arrays import Array

    Run = Callable[..., Any]


def blockwise(shape: str, run: Run, kind: np.dtype[Any], *logits: Array) -> Run:
    """Return `run` for logits that may have another dtype than `kind`. They are its first arguments."""
    if all(a.dtype == kind for a in logits):
        return run
    return partial(_run, shape, run, kind, len(logits))


def _run(shape: str, run: Run, kind: np.dtype[Any], count: int, kernel: str, *arguments: Any) -> Any:  # noqa: ANN401
    from ._chunks import _CUTS, _piece, blocks  # what is cut, and how, is the same on the way to a GPU

    lead, classes = arguments[0].shape[:-1], arguments[0].shape[-1]
    long = classes * kind.itemsize > _policy.CONVERTED_BYTES
    if long and kernel == "logsumexp" and _in_parts(kind, *arguments):
        return None
    most = max(1, _policy.CONVERTED_BYTES // max(1, classes * kind.itemsize))
    whole = _CUTS[shape].whole
    for index in blocks(lead, most):
        piece = _piece(arguments, index, whole)
        run(kernel, *(_arrays.dense(a, kind) for a in piece[:count]), *piece[count:])
    return _totals(arguments) if shape == "norm_loss" else None


def _in_parts(kind: np.dtype[Any], x: Array, value: Array, temperature: Array | None, mask: Array | None) -> bool:
    """Reduce long rows in parts, which end where blocks end; return False where only whole rows can be reduced."""
    options = _config.current()
    if temperature is not None or mask is not None or options.device not in (None, "cpu"):
        return False
    states = empty_states(*x.shape[:-1])
    width = max(1, _policy.CONVERTED_BYTES // (kind.itemsize * _policy.BLOCK)) * _policy.BLOCK
    for index in np.ndindex(x.shape[:-1]):
        for start in range(0, x.shape[-1], width):
            part = _arrays.dense(x[index][start : start + width], kind)
            _core.logsumexp_update(part, states[index], options.threads, options.isa)
    largest, log = parts_of(states)
    with np.errstate(all="ignore"):  # NaN; a float64 sum that float32 cannot hold
        value[...] = largest + log
    return True


def _totals(arguments: tuple[Any, ...]) -> tuple[float, float]:
    """Return the sum of the losses of all rows, and what a mean divides by."""
    _, _, ids, width, id_probabilities, _, ignore, of_class, of_row, *_, loss, _, _, mean, _, _ = arguments
    weights = np.ones(loss.shape) if of_row is None else of_row
    if ids is not None:
        kept = (ids != ignore).reshape(*loss.shape, width)
        if of_class is not None and id_probabilities is None:
            weights = weights * of_class[np.where(kept[..., 0], ids.reshape(loss.shape), 0)]
        weights = np.where(kept.any(axis=-1), weights, 0.0)
    if of_row is not None:
        weights = np.where(of_row != 0, weights, 0.0)
    return _core.reduce_losses(loss.reshape(-1), _core.reduce_losses(weights.reshape(-1), 1.0, False)[0], mean)
