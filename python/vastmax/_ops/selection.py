# SPDX-License-Identifier: Apache-2.0
"""top_k, and masks of the logits below a threshold: one body for every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._backends.base import Output
from vastmax._backends.kernels import KERNELS
from vastmax._backends.start import start_call
from vastmax._operands.rows import rows_along
from vastmax._operands.sampling_parameters import counts, shares

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vastmax._operands.arrays import Array

_INT64 = np.dtype(np.int64)


def top_k(x: ArrayLike, k: int, axis: int) -> tuple[Array, Array]:
    """Run top_k."""
    op = "top_k"
    call = start_call(op, x)
    logits, kind = call.as_logits("x", x)
    rows = rows_along(op, "x", logits, axis)
    n = rows.check_count("k", k, 1, "x")
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    back = rows.axes[0] if rows.axes and rows.axes[0] != len(rows.reduced_shape) else -1
    values, indices = Output((*rows.reduced_shape, n), kind), Output((*rows.reduced_shape, n), _INT64)
    values.axis = indices.axis = back
    call.run(kernel, rows, kind, x=logits, k=n, values=values, indices=indices)
    return call.finish(values), call.finish(indices)


def mask(
    op: str,
    logits: ArrayLike,
    axis: int,
    *,
    k: ArrayLike | None = None,
    top_p: ArrayLike | None = None,
    min_p: ArrayLike | None = None,
) -> Array:
    """Run one of the masks; users call its filter k or p."""
    call = start_call(op, logits)
    x, kind = call.as_logits("logits", logits)
    rows = rows_along(op, "logits", x, axis)
    filters = (
        None if k is None else counts(op, "k", call.on_host("k", k), rows),
        None if top_p is None else shares(op, "p", call.on_host("p", top_p), rows),
        None if min_p is None else shares(op, "p", call.on_host("p", min_p), rows),
    )
    kernel = KERNELS[op]
    call.plan(kernel, rows.count, rows.classes, kind)
    y = Output(x.shape, kind, like=x)
    kept_classes, kept_mass, least = call.per_row(*filters)
    call.run(kernel, rows, kind, x=x, top_k=kept_classes, top_p=kept_mass, min_p=least, out=y)
    return call.finish(y)
