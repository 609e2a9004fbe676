# SPDX-License-Identifier: Apache-2.0
"""The losses over sampled classes: negatives that a batch shares, or of each row's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import vastmax._core as _core
from vastmax._backends.host import HostCall
from vastmax._backends.start import start_call
from vastmax._operands import arrays, class_table, targets
from vastmax._operands.numbers import SMALLEST_SCALE, check_float
from vastmax._ops.results import SampledSoftmaxResult
from vastmax._ops.sampled import corrections
from vastmax._ops.sampled.gradients import FactoredGrad, SparseRows, group
from vastmax._ops.sampled.options import Kind, Source, draws_of
from vastmax.errors import message

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from vastmax._operands.arrays import Array
    from vastmax._operands.class_table import ClassTable, Targets
    from vastmax._ops.sampled.corrections import Shifts
    from vastmax._ops.sampled.negatives import Draws
    from vastmax._ops.sampled.options import Options

# Bytes of a tile of logits that one matrix product makes, and its least rows: smaller ones cost the product more than
# the cache saves (docs/development/measured.md).
_TILE_BYTES = 3 << 20
_LEAST_ROWS = 256
# Draws of rows of their own that exist at once: 8 bytes of id, 8 of what is added.
_DRAWS_AT_ONCE = 1 << 17


_HOW = {
    "batch": "{} draws for all rows, gathered once; matrix products on the threads of NumPy's BLAS",
    "row": "{} draws for each row, read from the table one by one",
}


@np.errstate(all="ignore")
def run(
    op: str,
    kind: Kind,
    inputs: ArrayLike,
    weight: ArrayLike,
    target: ArrayLike | tuple[ArrayLike, ArrayLike],
    bias: ArrayLike | None,
    temperature: float | None,
    grad_output: ArrayLike | None,
    correction: str,
    options: Options,
) -> SampledSoftmaxResult:
    """Run a loss over sampled classes."""
    corrections.check(op, correction)
    if options.share not in ("batch", "row"):
        raise ValueError(message(op, "share", f"is {options.share!r}", "'batch', 'row'"))
    call = start_call(op, inputs, weight, bias)
    if not isinstance(call, HostCall):
        from . import device

        return device.run(call, kind, inputs, weight, target, bias, temperature, grad_output, correction, options)
    call.expect_cpu()
    table = class_table.ClassTable(op, weight, bias)
    x, grad_dtype = table.features_of(inputs)
    targets = class_table.targets(op, target, len(x), table.classes)
    size = draws_of(op, table, options)
    x, nonfinite_idle_rows = (
        _without_nonfinite_idle_rows(x, targets) if kind != Kind.NCE else (x, np.empty(0, np.int64))
    )
    scale = 1.0 if temperature is None else 1 / check_float(op, "temperature", temperature, SMALLEST_SCALE)
    outer = _outer(op, grad_output, len(x))
    source = Source(op, options, size, len(x))
    met = len(targets.ids) + size * (1 if options.share == "batch" else len(x))
    how = _HOW[options.share].format(size)
    rest = call.plan_on_cpu(op, len(x), table.classes, table.weight.dtype, (met * table.row_bytes, how))
    batch = _Batch(op, kind, table, x, targets, scale, outer, correction, source, rest)
    grad_input, grad_weight = batch.shared() if options.share == "batch" else batch.own()
    loss, lse, effective = (a.astype(arrays.reduction_dtype(table.weight.dtype)) for a in batch.results)
    lse[nonfinite_idle_rows] = effective[nonfinite_idle_rows] = np.nan
    if grad_input is not None:
        grad_input = grad_input.astype(grad_dtype, copy=False)
    return SampledSoftmaxResult(loss, lse, grad_input, grad_weight, batch.hits, effective)


def _without_nonfinite_idle_rows(x: Array, targets: Targets) -> tuple[Array, NDArray[np.int64]]:
    """Rows without a target count for nothing, so no NaN may leave them; return `x` without it, and where it was."""
    idle = np.flatnonzero(np.diff(targets.offsets) == 0)
    nonfinite_idle_rows = idle[~np.isfinite(x[idle]).all(axis=1)]
    if len(nonfinite_idle_rows):
        x = x.copy()
        x[nonfinite_idle_rows] = 0
    return x, nonfinite_idle_rows


def _outer(op: str, grad_output: ArrayLike | None, rows: int) -> Array | None:
    if grad_output is None:
        return None
    given = arrays.as_float_array(op, "grad_output", grad_output)
    if given.shape not in ((), (rows,)):
        raise ValueError(message(op, "grad_output", f"has shape {given.shape}", f"() or ({rows},)"))
    return arrays.dense(np.broadcast_to(given, (rows,)), arrays.F64)


class _Batch:
    def __init__(
        self,
        op: str,
        kind: Kind,
        table: ClassTable,
        x: Array,
        targets: Targets,
        scale: float,
        outer: Array | None,
        correction: str,
        source: Source,
        rest: tuple[int, int],
    ) -> None:
        self._op, self._kind, self._table, self._x, self._targets = op, kind, table, x, targets
        self._scale, self._outer, self._correction, self._source, self._rest = scale, outer, correction, source, rest
        self._known = source.options.sampler._target_log_q(op, targets)
        rows = len(x)
        self.results = tuple(np.empty(rows) for _ in range(3))
        self.hits = np.empty(rows, np.int64)
        self._target_slopes = np.empty(len(targets.ids))

    def shared(self) -> tuple[Array | None, SparseRows | None]:
        """Let the batch share its negatives: each is gathered once, and three matrix products do the rest."""
        draws = self._source.shared()
        self._in_table(draws)
        table, x, kind = self._table, self._x, self._table.kind
        ids, first, counts = np.unique(draws.ids[0], return_index=True, return_counts=True)
        shifts = self._shifts(draws, 0, len(self._x))
        added = shifts.draws[0, first]
        if self._kind != Kind.NCE:
            added = added + np.log(counts)
        if (bias := table.biases(ids)) is not None:
            added += bias * self._scale
        columns = (counts.astype(np.float64), counts.astype(kind), (1 / counts).astype(kind), added.astype(kind))
        core = self._core(shifts, 0, len(x))
        negatives = np.empty((len(ids), table.features), kind)
        _core.gather_rows(table.weight, ids, negatives, *self._rest)
        wanted = self._source.options.need_grad
        grad = np.empty_like(x) if wanted else None
        grad_negatives, part = np.empty_like(negatives), np.empty_like(negatives)
        grad_negatives[:] = 0
        step = max(_LEAST_ROWS, _TILE_BYTES // (len(ids) * kind.itemsize))
        room = np.empty((min(step, len(x)), len(ids)), kind)
        for at in range(0, len(x), step):
            some = x[at : at + step]
            z = np.matmul(some, negatives.T, out=room[: len(some)])
            core.shared(ids, *columns, at, z, *self._rest)
            if grad is None:
                continue
            np.matmul(z, negatives, out=grad[at : at + step])
            core.add_targets(at, grad[at : at + step], *self._rest)
            grad_negatives += np.matmul(z.T, some, out=part)
        if grad is None:
            return None, None
        return grad, self._merged(ids, grad_negatives)

    def _merged(self, ids: Array, negatives: Array) -> SparseRows:
        """Add what the targets bring to the gradients of the negatives."""
        targets = self._targets
        groups = group(np.concatenate([ids, targets.ids]), self._table.classes)
        slopes = self._target_slopes.astype(self._table.kind)
        rows = groups.sums(negatives, None, 1, (self._x, slopes, targets.rows), 0, len(groups.ids))
        return SparseRows(groups.ids, rows, self._table.weight.shape)

    def own(self) -> tuple[Array | None, FactoredGrad | None]:
        """Let each row have its own negatives: each row of the table that it meets is read once."""
        x, size, kind = self._x, self._source.size, self._table.kind
        wanted = self._source.options.need_grad
        grad = np.empty_like(x) if wanted else None
        step = max(1, _DRAWS_AT_ONCE // size)
        slopes = np.empty((len(x) if wanted else min(step, len(x)), size), kind)
        for at in range(0, len(x), step):
            count = min(step, len(x) - at)
            draws = self._source.own(at, count)
            self._in_table(draws)
            shifts = self._shifts(draws, at, count)
            to = slopes[at : at + count] if wanted else slopes[:count]
            core = self._core(shifts, at, count)
            core.own(draws.ids, shifts.draws, 0, to, None if grad is None else grad[at : at + count], *self._rest)
        if grad is None:
            return None, None
        coefficients = self._target_slopes.astype(kind)
        # The caller may write to theirs before the gradient is used.
        targets = self._targets._replace(ids=self._targets.ids.copy())
        return grad, FactoredGrad(x.copy(), slopes, self._table.weight.shape, targets, coefficients, self._source.ids)

    def _in_table(self, draws: Draws) -> None:
        if self._source.options.sampler.classes is None:
            targets.in_range(self._op, "sampler", draws.ids, self._table.classes)

    def _shifts(self, draws: Draws, first: int, count: int) -> Shifts:
        targets = self._targets.of(first, count)
        begin = self._targets.offsets[first]
        known = None if self._known is None else self._known[begin : begin + len(targets.ids)]
        if self._kind == Kind.NCE:
            return corrections.odds(self._op, draws, targets, known)
        drop_hits = self._source.options.exclude_targets
        return corrections.shifts(self._op, self._correction, draws, targets, known, drop_hits)

    def _core(self, shifts: Shifts, first: int, count: int) -> _core.SampledBatch:
        rows, targets = slice(first, first + count), self._targets.of(first, count)
        begin = int(self._targets.offsets[first])
        mine = slice(begin, begin + len(targets.ids))
        loss, lse, effective = (a[rows] for a in self.results)
        return _core.SampledBatch(
            self._table.weight,
            self._table.bias,
            self._x[rows],
            targets.offsets,
            targets.ids,
            targets.share,
            shifts.targets,
            self._kind,
            self._source.options.exclude_targets,
            shifts.average,
            self._source.size,
            shifts.rows,
            self._scale,
            None if self._outer is None else self._outer[rows],
            loss,
            lse,
            effective,
            self.hits[rows],
            self._target_slopes[mine],
        )
