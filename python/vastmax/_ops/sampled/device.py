# SPDX-License-Identifier: Apache-2.0
"""The losses over sampled classes, and gradients of the rows that they met, for arrays on a GPU.

Targets, and draws that a batch shares, are looked at on the host, where they are few. Draws of each row's own are made
on the device where a law has a version there, else on the host: the same classes either way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import numpy as np

from vastmax._backends import array_libraries
from vastmax._backends.device import DeviceCall
from vastmax._operands import arrays, class_table, targets
from vastmax._operands.numbers import SMALLEST_SCALE, check_float
from vastmax._ops.results import SampledSoftmaxResult
from vastmax._ops.sampled import corrections, negatives
from vastmax._ops.sampled.gradients import FactoredGrad, SparseRows, group
from vastmax._ops.sampled.options import Kind, Source, draws_of
from vastmax._ops.sampled.proposal import Law
from vastmax._runtime import config
from vastmax.errors import message

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from vastmax._backends.array_libraries import Foreign
    from vastmax._operands.arrays import Array
    from vastmax._operands.class_table import Targets
    from vastmax._operands.targets import TargetLike
    from vastmax._ops.sampled.corrections import Shifts
    from vastmax._ops.sampled.gradients import Groups
    from vastmax._ops.sampled.negatives import Draws
    from vastmax._ops.sampled.options import Options

# Draws of rows of their own that exist at once, 16 bytes each; and bytes of logits that one matrix product makes: what
# keeps the machine full, and stays in second-level cache.
_DRAWS_AT_ONCE = 1 << 20
_LOGITS_BYTES = 16 << 20

_HOW = {
    "batch": "{} draws for all rows, gathered once; matrix products of the arrays' library, or plain ones",
    "row": "{} draws for each row, which a warp reads from the table once",
}
_INT64 = np.dtype(np.int64)
_ON_DEVICE: WeakKeyDictionary[Law, dict[int, Any]] = WeakKeyDictionary()


def run(
    site: DeviceCall,
    kind: Kind,
    inputs: ArrayLike,
    weight: ArrayLike,
    target: TargetLike,
    bias: ArrayLike | None,
    temperature: float | None,
    grad_output: ArrayLike | None,
    correction: str,
    options: Options,
) -> SampledSoftmaxResult:
    """Run a loss over sampled classes; the options that need no array are checked."""
    op = site.op
    for argument, value in (("weight", weight), ("bias", bias)):
        if value is not None and arrays.device_kind(value) != "cuda":
            accepted = f"an array on cuda:{site.device}, as the others are; a table is not copied unasked"
            raise ValueError(message(op, argument, "is not on a GPU", accepted))
    of_bias = None if bias is None else site.as_float_array("bias", bias)
    table = class_table.ClassTable(op, site.as_float_array("weight", weight), of_bias)
    given = site.as_float_array("input", inputs)
    grad_dtype, rows = table.gradient_dtype(given), len(given)
    targets = class_table.targets(op, _on_host(site, target), rows, table.classes)
    size = draws_of(op, table, options)
    scale = 1.0 if temperature is None else 1 / check_float(op, "temperature", temperature, SMALLEST_SCALE)
    outer = None if grad_output is None else _outer(site, grad_output, rows)
    source = Source(op, options, size, rows)
    met = len(targets.ids) + size * (1 if options.share == "batch" else rows)
    how = _HOW[options.share].format(size)
    site.plan_table(op, rows, table.classes, table.weight.dtype, (met * table.row_bytes, how))
    batch = _Batch(site, kind, table, targets, scale, outer, correction, source)
    # A gradient that keeps the input keeps a copy: the caller may write to theirs before it is used.
    x = _Lent.of(site, given, table.kind, inputs, copied=options.need_grad and options.share == "row")
    x, nonfinite_idle_rows = _without_nonfinite_idle_rows(site, x, targets) if kind != Kind.NCE else (x, [])
    grad = site.fresh(x.view.shape, table.kind) if options.need_grad else None
    grad_weight: SparseRows | FactoredGrad | None
    grad_weight = batch.shared(x, grad) if options.share == "batch" else batch.own(x, grad)
    for row in nonfinite_idle_rows:
        for a in batch.results[1:]:
            site.module.convert(site.upload(np.full(1, np.nan)), a[row : row + 1], *site.rest)
    reduced = arrays.reduction_dtype(table.weight.dtype)
    loss, lse, effective = (site.given(a, (rows,), reduced) for a in batch.results)
    hits = site.given(batch.hits, (rows,), _INT64)
    grad_input = None if grad is None else site.given(grad, grad.shape, grad_dtype)
    return SampledSoftmaxResult(loss, lse, grad_input, grad_weight, hits, effective)


def _on_host(site: DeviceCall, target: TargetLike) -> TargetLike:
    if not isinstance(target, tuple):
        return site.on_host("target", target)
    return cast("TargetLike", tuple(site.on_host("target", part) for part in target))


def _outer(site: DeviceCall, grad_output: ArrayLike, rows: int) -> Array:
    given = site.doubles("grad_output", grad_output, (), (rows,))
    return given if given.shape else site.copied(np.broadcast_to(given, (rows,)))


class _Lent(NamedTuple):
    """An array of the guest's library, and what describes it here."""

    view: Array
    array: Foreign

    @classmethod
    def new(cls, site: DeviceCall, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Lent:
        view, give = site.result(shape, dtype)
        return cls(view, give())

    @classmethod
    def of(cls, site: DeviceCall, view: Array, dtype: np.dtype[Any], array: Foreign, *, copied: bool) -> _Lent:
        """Return an array as it is if it is dense and of this dtype, else a copy."""
        if not copied and view.dtype == dtype and view.flags.c_contiguous and arrays.device_kind(array) == "cuda":
            return cls(view, array)
        made = cls.new(site, view.shape, dtype)
        site.module.convert(view, made.view, *site.rest)
        return made


def _without_nonfinite_idle_rows(site: DeviceCall, x: _Lent, targets: Targets) -> tuple[_Lent, list[int]]:
    """Rows without a target count for nothing, so no NaN may leave them; return `x` without it, and where it was."""
    idle = np.flatnonzero(np.diff(targets.offsets) == 0)
    if not len(idle):
        return x, []
    rows = site.fresh((len(idle), x.view.shape[1]), x.view.dtype)
    site.module.gather_rows(x.view, site.upload(idle), rows, *site.rest)
    nonfinite_idle_rows = idle[~np.isfinite(site.fetch(rows)).all(axis=1)].tolist()
    if nonfinite_idle_rows:
        x = _Lent.of(site, x.view, x.view.dtype, x.array, copied=True)
        nothing = site.upload(np.zeros(x.view.shape[1], x.view.dtype))
        for row in nonfinite_idle_rows:
            site.module.convert(nothing, x.view[row], *site.rest)
    return x, nonfinite_idle_rows


def _on_device(sampler: Law, device: int) -> Foreign:
    """Return the sampler with its tables on a device, where they stay as long as it lives."""
    by_device = _ON_DEVICE.setdefault(sampler, {})
    if device not in by_device:
        from vastmax._backends.load import cuda_module

        by_device[device] = cuda_module().Sampler(sampler._native, device)
    return by_device[device]


class _Batch:
    def __init__(
        self,
        site: DeviceCall,
        kind: Kind,
        table: class_table.ClassTable,
        targets: Targets,
        scale: float,
        outer: Array | None,
        correction: str,
        source: Source,
    ) -> None:
        self._site, self._kind, self._table, self._targets = site, kind, table, targets
        self._scale, self._outer, self._correction, self._source = scale, outer, correction, source
        self._known = source.options.sampler._target_log_q(site.op, targets)
        rows = len(targets.offsets) - 1
        self.results = tuple(site.workspace(rows) for _ in range(3))
        self.hits = site.fresh((rows,), _INT64)
        self._target_slopes = site.workspace(len(targets.ids))

    def own(self, x: _Lent, grad: Array | None) -> FactoredGrad | None:
        """Let each row have its own negatives: each row of the table that it meets is read once."""
        site, size, rows = self._site, self._source.size, len(x.view)
        slopes = None if grad is None else _Lent.new(site, (rows, size), self._table.kind)
        draws = _OwnDraws(site, self._source, rows, self._table.classes, expected=self._corrected)
        for first in range(0, rows, draws.step):
            count = min(draws.step, rows - first)
            some = slice(first, first + count)
            made, ids, log_expected = draws.of(first, count)
            shifts = self._shifts(made, first, count)
            core = self._core(shifts, x.view[some], first, count)
            to = (None, None) if grad is None or slopes is None else (slopes.view[some], grad[some])
            core.own(ids, log_expected, _added(shifts), *to, *site.rest)
        if slopes is None:
            return None
        coefficients = _Lent.new(site, self._target_slopes.shape, self._table.kind)
        site.module.convert(self._target_slopes, coefficients.view, *site.rest)
        targets = self._targets._replace(ids=self._targets.ids.copy())  # for the same reason
        return FactoredGradOnGpu(
            x.array,
            slopes.array,
            self._table.weight.shape,
            targets,
            coefficients.array,
            self._source.ids,
            self._source,
        )

    def shared(self, x: _Lent, grad: Array | None) -> SparseRows | None:
        """Let the batch share its negatives: each is gathered once, and three matrix products do the rest."""
        site, table, kind = self._site, self._table, self._table.kind
        draws = self._source.shared()
        self._in_table(draws)
        ids, first, counts = np.unique(draws.ids[0], return_index=True, return_counts=True)
        shifts = self._shifts(draws, 0, len(x.view))
        added = shifts.draws[0, first] + (0 if self._kind == Kind.NCE else np.log(counts))
        columns = [site.upload(np.asarray(a, d)) for a, d in ((counts, kind), (1 / counts, kind), (added, kind))]
        there, times = site.upload(ids), site.upload(counts.astype(np.float64))
        biases = None
        if table.bias is not None:  # in the dtype of the table
            own = site.fresh((len(ids), 1), arrays.reduction_dtype(table.bias.dtype))
            site.module.gather_rows(table.bias[:, None], there, own, *site.rest)
            biases = site.cast(own.reshape(-1), kind)
        core = self._core(shifts, x.view, 0, len(x.view))
        product = _Products(site)
        negatives = product.room((len(ids), table.features), kind)
        site.module.gather_rows(table.weight, there, negatives.view, *site.rest)
        step = max(1, _LOGITS_BYTES // (len(ids) * kind.itemsize))
        logits = product.room((min(step, len(x.view)), len(ids)), kind)
        grad_negatives = product.room((len(ids), table.features), kind)
        for at in range(0, max(1, len(x.view)), step):
            some = product.rows(x, at, min(at + step, len(x.view)))
            z = product.rows(logits, 0, len(some.view))
            product(some, product.transposed(negatives), z)
            core.shared(there, times, *columns, biases, at, z.view, grad is not None, *site.rest)
            if grad is None:
                continue
            part = product.room(some.view.shape, kind)
            product(z, negatives, part)
            core.add_targets(at, part.view, *site.rest)
            site.module.convert(part.view, grad[at : at + len(some.view)], *site.rest)
            product(product.transposed(z), some, grad_negatives, add=at > 0)
        return None if grad is None else self._merged(x, ids, grad_negatives)

    def _merged(self, x: _Lent, ids: Array, negatives: _Lent) -> SparseRows:
        """Add what the targets bring to the gradients of the negatives."""
        targets, site = self._targets, self._site
        groups = group(np.concatenate([ids, targets.ids]), self._table.classes)
        slopes = site.cast(self._target_slopes, self._table.kind)
        other = (x.view, slopes, site.upload(targets.rows))
        return _Groups.sent(site, groups).sums(site, negatives.view, None, 1, other, self._table.weight.shape)

    @property
    def _corrected(self) -> bool:
        return self._kind == Kind.NCE or self._correction != "none"

    def _in_table(self, draws: Draws) -> None:
        if self._source.options.sampler.classes is None:
            targets.in_range(self._site.op, "sampler", draws.ids, self._table.classes)

    def _shifts(self, draws: Draws, first: int, count: int) -> Shifts:
        targets = self._targets.of(first, count)
        begin = self._targets.offsets[first]
        known = None if self._known is None else self._known[begin : begin + len(targets.ids)]
        if self._kind == Kind.NCE:
            return corrections.odds(self._site.op, draws, targets, known)
        drop_hits = self._source.options.exclude_targets
        return corrections.shifts(self._site.op, self._correction, draws, targets, known, drop_hits)

    def _core(self, shifts: Shifts, x: Array, first: int, count: int) -> Foreign:
        site, rows, targets = self._site, slice(first, first + count), self._targets.of(first, count)
        begin = int(self._targets.offsets[first])
        mine = slice(begin, begin + len(targets.ids))
        loss, lse, effective = (a[rows] for a in self.results)
        return site.module.SampledBatch(
            self._table.weight,
            self._table.bias,
            x,
            site.upload(targets.offsets),
            site.upload(targets.ids),
            site.upload(targets.share),
            site.upload(shifts.targets),
            self._kind,
            self._source.options.exclude_targets,
            shifts.average,
            self._source.size,
            site.upload(shifts.rows),
            self._scale,
            None if self._outer is None else self._outer[rows],
            loss,
            lse,
            effective,
            self.hits[rows],
            self._target_slopes[mine],
        )


def _added(shifts: Shifts) -> float:
    """Return what the logits of all draws get, where the draws were told without what is expected of each."""
    return float(shifts.draws.flat[0]) if shifts.draws.size else 0.0


class _OwnDraws:
    """Draws of rows of their own, on the device."""

    def __init__(self, site: DeviceCall, source: Source, rows: int, classes: int, *, expected: bool) -> None:
        self._site, self._source, self._classes, self._expected = site, source, classes, expected
        size, sampler = source.size, source.options.sampler
        self.step = max(1, min(rows, _DRAWS_AT_ONCE // size))
        self._law = sampler if isinstance(sampler, Law) and not source.options.unique else None
        if self._law is not None:
            self._ids = site.fresh((self.step, size), _INT64)
            self._log_q = site.fresh((self.step, size), arrays.F64) if expected else None

    def of(self, first: int, count: int) -> tuple[Draws, Array, Array | None]:
        """Return draws that say nothing of single classes; the classes; and what is expected of each, if wanted."""
        site, source = self._site, self._source
        unsaid = np.empty((0, source.size), np.int64), np.zeros((1, 1))
        if self._law is not None:
            ids, log_q = self._ids[:count], None if self._log_q is None else self._log_q[:count]
            self._draw(self._law, first, ids, log_q)
            return negatives.Draws(*unsaid, True, np.full(1, np.inf)), ids, log_q
        made = source.own(first, count)
        if source.options.sampler.classes is None:
            targets.in_range(site.op, "sampler", made.ids, self._classes)
        log_expected = site.upload(made.log_expected) if self._expected else None
        return negatives.Draws(*unsaid, *made[2:]), site.upload(made.ids), log_expected

    def into(self, ids: Array) -> None:
        """Draw for all rows."""
        if self._law is not None:
            self._draw(self._law, 0, ids, None)
        else:
            self._site.module.convert(self._site.upload(self._source.ids(0, len(ids))), ids, *self._site.rest)

    def _draw(self, law: Law, first: int, ids: Array, log_q: Array | None) -> None:
        site, source = self._site, self._source
        sampler = _on_device(law, site.device)
        site.module.draw_rows(sampler, source._key, source._step, source._first + first, ids, log_q, *site.rest)


class _Products:
    """Matrix products of the guest's library, or plain ones of our own."""

    def __init__(self, site: DeviceCall) -> None:
        self._site = site
        self._product = None if config.current().stream is not None else array_libraries.product_of(site.guest)

    def room(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> _Lent:
        """Make an array for a factor or a product."""
        if self._product is None:
            return _Lent(self._site.fresh(shape, dtype), None)
        return _Lent.new(self._site, shape, dtype)

    def rows(self, of: _Lent, first: int, last: int) -> _Lent:
        """Return some rows."""
        return _Lent(of.view[first:last], None if self._product is None else of.array[first:last])

    def transposed(self, of: _Lent) -> _Lent:
        """Return the columns as rows."""
        return _Lent(of.view.T, None if self._product is None else of.array.T)

    def __call__(self, a: _Lent, b: _Lent, out: _Lent, *, add: bool = False) -> None:
        if self._product is None:
            self._site.module.product(a.view, b.view, out.view, add, *self._site.rest)
        else:
            self._product(a.array, b.array, out.array, add)


class _Groups(NamedTuple):
    """Entries by their class, on the device: `Groups` of the CPU."""

    order: Array
    starts: Array
    ids: Array

    @classmethod
    def of(cls, site: DeviceCall, ids: Array, classes: int) -> _Groups:
        """Group entries by their class; how many classes there are comes to the host."""
        order, starts, found = (site.fresh((len(ids) + more,), _INT64) for more in (0, 1, 0))
        count = site.module.group_ids(ids, classes, order, starts, found, *site.rest) if len(ids) else 0
        return cls(order, starts[: count + 1], found[:count])

    @classmethod
    def sent(cls, site: DeviceCall, groups: Groups) -> _Groups:
        """Return groups that were made on the host."""
        return cls(*(site.upload(a) for a in (groups.order, groups.starts, groups.ids)))

    def sums(
        self,
        site: DeviceCall,
        rows: Array,
        coefficients: Array | None,
        width: int,
        other: tuple[Array, Array, Array],
        shape: tuple[int, int],
    ) -> SparseRowsOnGpu:
        """Sum each group, as `Groups.sums` does."""
        ids = _Lent.new(site, self.ids.shape, _INT64)
        site.module.convert(self.ids, ids.view, *site.rest)
        sums = _Lent.new(site, (len(self.ids), rows.shape[1]), rows.dtype)
        if len(self.ids):
            pieces = site.fresh(self.starts.shape, _INT64)
            count = site.module.cut_pieces(self.starts, pieces, *site.rest)
            arguments = (self.order, self.starts, pieces, count, sums.view)
            site.module.sum_groups(rows, coefficients, width, *other, *arguments, *site.rest)
        return SparseRowsOnGpu(ids.array, sums.array, shape)


class _AppliedOnGpu:
    """Updates of a table on the GPU, as those of the gradients of the CPU."""

    coalesce: Callable[[], SparseRows]

    def apply_sgd_(self, weight: Foreign, lr: float) -> None:
        """Subtract `lr` times the gradient from `weight`, in place."""
        _apply("apply_sgd_", self.coalesce(), weight, float(lr), None, 0.0)

    def apply_adagrad_(self, weight: Foreign, state: Foreign, lr: float, eps: float = 1e-10) -> None:
        """Update `weight` by row-wise Adagrad, in place; `state` is float64 on the GPU too."""
        _apply("apply_adagrad_", self.coalesce(), weight, float(lr), state, float(eps))


@dataclass(frozen=True, eq=False)
class SparseRowsOnGpu(_AppliedOnGpu, SparseRows):
    """`SparseRows` whose arrays, of the library of the input, are on a GPU; ids are ascending and distinct."""

    def __post_init__(self) -> None:
        """Take what the loss has made."""

    def coalesce(self) -> SparseRows:
        """Return the gradient, whose ids are ascending and distinct."""
        return self

    def to_scipy(self) -> Foreign:
        """Refuse: SciPy has no arrays on a GPU."""
        raise TypeError("SparseRows.to_scipy: ids and rows are on a GPU; accepted: SparseRows of NumPy arrays")


@dataclass(frozen=True, eq=False)
class FactoredGradOnGpu(_AppliedOnGpu, FactoredGrad):
    """`FactoredGrad` whose arrays, of the library of the input, are on a GPU; the targets are on the host."""

    source: Foreign = field(repr=False)

    def ids(self) -> Foreign:
        """Return the classes that were drawn, of the shape of `coefficients`."""
        site = DeviceCall("FactoredGrad.ids", self.input)
        ids = _Lent.new(site, tuple(self.coefficients.shape), _INT64)
        _OwnDraws(site, self.source, 1, self.shape[0], expected=False).into(ids.view)
        return ids.array

    def coalesce(self) -> SparseRows:
        """Return the gradient with ascending, distinct ids, summed in the order of rows and draws."""
        site = DeviceCall("FactoredGrad.coalesce", self.input)
        x, coefficients = (
            site.as_float_array("input", self.input),
            site.as_float_array("coefficients", self.coefficients),
        )
        draws, size = coefficients.size, coefficients.shape[1]
        ids = site.fresh((draws + len(self.targets.ids),), _INT64)
        own = _OwnDraws(site, self.source, 1, self.shape[0], expected=False)
        own.into(ids[:draws].reshape(coefficients.shape))
        site.module.convert(site.upload(self.targets.ids), ids[draws:], *site.rest)
        other = (x, site.as_float_array("coefficients", self.target_coefficients), site.upload(self.targets.rows))
        return _Groups.of(site, ids, self.shape[0]).sums(site, x, coefficients, size, other, self.shape)


def _apply(op: str, gradient: SparseRows, weight: Foreign, lr: float, state: Foreign, eps: float) -> None:
    """Update a table on the GPU, in place."""
    site = DeviceCall(op, gradient.rows)
    for argument, value in (("weight", weight), ("state", state))[: 2 if op == "apply_adagrad_" else 1]:
        if arrays.device_kind(value) != "cuda":
            accepted = f"an array on cuda:{site.device}, as the gradient is"
            raise TypeError(message(op, argument, f"is a {type(value).__name__}", accepted))
    table = _writable(site, "weight", weight)
    if not arrays.is_float(table.dtype):
        raise TypeError(message(op, "weight", f"has dtype {table.dtype}", "float16, bfloat16, float32, float64"))
    if table.shape != gradient.shape or (table.shape[1] > 1 and table.strides[1] != table.itemsize):
        accepted = f"shape {gradient.shape}, rows whose features follow each other"
        raise ValueError(message(op, "weight", f"has shape {table.shape} and strides {table.strides}", accepted))
    totals = None if state is None else _writable(site, "state", state)
    if totals is not None and (
        totals.dtype != arrays.F64 or totals.shape != table.shape[:1] or not totals.flags.c_contiguous
    ):
        given = f"has dtype {totals.dtype} and shape {totals.shape}"
        raise ValueError(message(op, "state", given, f"dense float64 of shape {table.shape[:1]}"))
    arrays.expect_own_memory(op, "weight", table)
    if totals is not None:
        arrays.expect_apart(op, "state", totals, "weight", table)
    kind = arrays.F64 if table.dtype == arrays.F64 else arrays.F32
    changes, ids = site.cast(site.as_float_array("rows", gradient.rows), kind), site.described("ids", gradient.ids)
    for written in (table, totals):
        if written is not None:
            changes, ids = (site.copied(a) if arrays.share(a, written) else a for a in (changes, ids))
    site.module.update_rows(table, ids, changes, lr, totals, eps, *site.rest)


def _writable(site: DeviceCall, argument: str, value: Foreign) -> Array:
    if array_libraries.is_immutable(value):
        raise ValueError(
            message(site.op, argument, f"is a {type(value).__name__}, which is immutable", "a writable one")
        )
    return site.writable(argument, value)
