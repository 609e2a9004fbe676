# SPDX-License-Identifier: Apache-2.0
"""Logits of dtypes that a kernel does not read (integers, bool, other byte orders, `dtype=`), converted in chunks.

Results have the bits of a converted copy, which never exists: rows do not depend on each other, and sums over them are
formed by the core from one number for each row.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays

from . import policy
from .chunks import leading_shape, pieces
from .kernels import Loss
from .row_state import empty_states, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from vastmax._operands.arrays import Array

    from .chunks import Arguments
    from .kernels import Kernel

    Launch = Callable[[Kernel, Arguments], Any]
    DType = np.dtype[Any]


def run(launch: Launch, kernel: Kernel, dtype: DType, arguments: Arguments, options: tuple[int, int] | None) -> Any:  # noqa: ANN401
    """Run a kernel that computes in `dtype` on logits of any; `options` are those of the core, if that is what runs."""
    if arguments[kernel.converted[0]].size * dtype.itemsize <= policy.CONVERTED_BYTES:
        return launch(kernel, _converted(kernel, dtype, arguments))
    of = dict(zip(kernel.names, arguments, strict=True))
    lead = leading_shape(kernel, arguments)
    each = dtype.itemsize * (arguments[kernel.converted[0]].shape[-1] if kernel.by_rows else 1)
    if options is not None and each > policy.CONVERTED_BYTES and _adds_up_in_parts(kernel, of):
        _logsumexp_in_parts(dtype, of["x"], of["out"], options)
        return None
    most = max(1, policy.CONVERTED_BYTES // max(1, each))
    if prod(lead) <= most or _only_as_a_whole(kernel, of):
        return launch(kernel, _converted(kernel, dtype, arguments))
    for piece in pieces(kernel, arguments, lead, most):
        launch(kernel, _converted(kernel, dtype, piece))
    return _totals(of) if kernel.loss is Loss.OF_ROWS else None


def _converted(kernel: Kernel, dtype: DType, arguments: Arguments) -> Arguments:
    made = list(arguments)
    for i in kernel.converted:
        if made[i] is not None and made[i].dtype != dtype:
            made[i] = arrays.cast(made[i], dtype)
    return tuple(made)


def _only_as_a_whole(kernel: Kernel, of: dict[str, Any]) -> bool:
    """Whether a sum over all elements or rows comes in before what is written is known."""
    if kernel.loss is Loss.OF_ELEMENTS:
        return of["loss"] is None
    return kernel.loss is Loss.OF_ROWS and of["grad"] is not None and bool(of["mean"])


def _adds_up_in_parts(kernel: Kernel, of: dict[str, Any]) -> bool:
    return kernel.name == "logsumexp" and of["temperature"] is None and of["where"] is None


def _logsumexp_in_parts(dtype: DType, x: Array, out: Array, options: tuple[int, int]) -> None:
    """Reduce long rows in parts, which end where blocks end."""
    states = empty_states(*x.shape[:-1])
    width = max(1, policy.CONVERTED_BYTES // (dtype.itemsize * policy.BLOCK)) * policy.BLOCK
    for index in np.ndindex(x.shape[:-1]):
        for start in range(0, x.shape[-1], width):
            part = arrays.dense(x[index][start : start + width], dtype)
            _core.logsumexp_update(part, states[index], *options)
    largest, log = parts_of(states)
    with np.errstate(all="ignore"):  # NaN; a float64 sum that float32 cannot hold
        out[...] = largest + log


def _totals(of: dict[str, Any]) -> tuple[float, float]:
    """Return the sum of the losses of all rows, and what a mean divides by."""
    weights = weights_of_rows(of)
    return _core.reduce_losses(
        of["loss"].reshape(-1), _core.reduce_losses(weights.reshape(-1), 1.0, False)[0], of["mean"]
    )


def weights_of_rows(of: dict[str, Any]) -> Array:
    """Return the weight of each row of a loss: 0 where it is ignored."""
    ids, of_row, of_class, shape = of["ids"], of["sample_weight"], of["weight"], of["loss"].shape
    weights = np.ones(shape) if of_row is None else of_row
    if ids is not None:
        used = (ids != of["ignore_index"]).reshape(*shape, of["width"])
        if of_class is not None and of["id_probabilities"] is None:
            weights = weights * of_class[np.where(used[..., 0], ids.reshape(shape), 0)]
        weights = np.where(used.any(axis=-1), weights, 0.0)
    return weights if of_row is None else np.where(of_row != 0, weights, 0.0)
