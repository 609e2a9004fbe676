# SPDX-License-Identifier: Apache-2.0
"""Kernels of the extensions: the order, the names and the roles of their operands, and what they read and write.

This is the only place that knows an order. Launchers, chunks, `explain`, `tune` and tests ask here.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from operator import itemgetter
from typing import NamedTuple


class Role(Enum):
    """The part of an operand in a call. It decides how chunks cut the operand and which memory it may share."""

    LOGITS = "logits"  # full shape, in the dtype that the kernel computes in
    ROWS = "rows"  # full shape, in a dtype of its own: a mask, or probabilities of the target
    PER_ROW = "per row"  # the shape without the classes, with or without a last axis of its own
    WHOLE = "whole"  # an array that every chunk needs all of
    SCALAR = "scalar"
    ROW_NUMBER = "row number"  # the number of the first row, which random numbers depend on
    ROWS_OUT = "rows out"
    PER_ROW_OUT = "per row out"
    WHOLE_OUT = "whole out"


class Operand(NamedTuple):
    """An argument of a kernel."""

    name: str
    role: Role


class Traffic(NamedTuple):
    """Arrays of the size of the logits that an op reads, writes, and reads again once a row no longer fits L2."""

    reads: int
    writes: int
    again: int


class Loss(Enum):
    """The sum that a kernel returns. On a device it writes the sum, or parts of it, to a last operand."""

    OF_ROWS = "rows"  # of the losses of all rows, and of the weights of the rows
    OF_ELEMENTS = "elements"


_SUMS = {Loss.OF_ROWS: Operand("totals", Role.WHOLE_OUT), Loss.OF_ELEMENTS: Operand("parts", Role.SCALAR)}


class Kernel:
    """One op of the extensions: its function there, its operands in order, and its traffic.

    Chunks of a kernel are rows, or elements where `by_rows` is false. `offloads` says whether NumPy data may go to a
    GPU for this op. `on_device` is the kernel as a GPU has it.
    """

    __slots__ = (
        "arguments",
        "by_rows",
        "converted",
        "function",
        "inputs",
        "loss",
        "name",
        "names",
        "offloads",
        "on_device",
        "operands",
        "outputs",
        "row_number",
        "rows",
        "traffic",
        "whole",
        "written",
    )

    def __init__(
        self,
        name: str,
        traffic: tuple[int, int, int],
        *operands: Operand,
        function: str = "",
        by_rows: bool = True,
        loss: Loss | None = None,
        offloads: bool = True,
    ) -> None:
        self.name, self.function, self.traffic = name, function or name, Traffic(*traffic)
        self.operands, self.by_rows, self.loss, self.offloads = operands, by_rows, loss, offloads
        self.names = tuple(o.name for o in operands)
        self.arguments = itemgetter(*self.names)  # from operands by name
        self.inputs = self._named(Role.LOGITS, Role.ROWS, Role.PER_ROW, Role.WHOLE)
        self.outputs = self._named(Role.ROWS_OUT, Role.PER_ROW_OUT)
        self.converted = self._places(*self._named(Role.LOGITS))
        self.rows = self._named(Role.LOGITS, Role.ROWS, Role.ROWS_OUT)
        self.written = self._places(*self.outputs, *self._named(Role.WHOLE_OUT))
        self.whole = self._places(*self._named(Role.WHOLE, Role.WHOLE_OUT))
        self.row_number = next(iter(self._places(*self._named(Role.ROW_NUMBER))), None)
        self.on_device = self if loss is None else self._with(_SUMS[loss])

    def __repr__(self) -> str:
        return f"Kernel({self.name!r}: {self.function}({', '.join(self.names)}))"

    def _named(self, *roles: Role) -> tuple[str, ...]:
        return tuple(o.name for o in self.operands if o.role in roles)

    def _places(self, *names: str) -> tuple[int, ...]:
        return tuple(self.names.index(name) for name in names)

    def _with(self, operand: Operand) -> Kernel:
        return Kernel(self.name, self.traffic, *self.operands, operand, function=self.function, by_rows=self.by_rows)

    def copied(self, rows: int, classes: int, itemsize: int) -> int:
        """Return the bytes of the arrays of a call, which are what goes to a GPU and back."""
        return rows * classes * itemsize * (self.traffic.reads + self.traffic.writes)


def _operands(role: Role, *names: str) -> tuple[Operand, ...]:
    return tuple(Operand(name, role) for name in names)


_logits = partial(_operands, Role.LOGITS)
_rows_in = partial(_operands, Role.ROWS)
_per_row = partial(_operands, Role.PER_ROW)
_whole = partial(_operands, Role.WHOLE)
_scalar = partial(_operands, Role.SCALAR)
_row_number = partial(_operands, Role.ROW_NUMBER)
_rows_out = partial(_operands, Role.ROWS_OUT)
_per_row_out = partial(_operands, Role.PER_ROW_OUT)

_ROW_OPTIONS = (*_per_row("temperature"), *_rows_in("where"))
_ELEMENTS = (*_logits("x"), *_rows_out("out"), *_scalar("beta"))
_GRADIENT_OF_ELEMENTS = (*_logits("g", "saved"), *_rows_out("out"), *_scalar("beta"))
_LOSS = (
    *_logits("x"),
    *_rows_out("grad"),
    *_per_row("ids"),
    *_scalar("width"),
    *_per_row("id_probabilities"),
    *_rows_in("probabilities"),
    *_scalar("ignore_index"),
    *_whole("weight"),
    *_per_row("sample_weight"),
    *_scalar("label_smoothing", "z_loss", "softcap"),
    *_per_row_out("loss", "lse"),
    *_per_row("grad_output"),
    *_scalar("mean"),
    *_ROW_OPTIONS,
)
_STATISTICS = (
    *_logits("x"),
    *_per_row("target"),
    *_scalar("top_n"),
    *_per_row_out("lse", "largest", "argmax", "entropy"),
    *_per_row_out("target_log_prob", "target_rank", "top_log_probs", "top_indices"),
    *_per_row("temperature"),
)
_MASK = (*_logits("x"), *_per_row("top_k", "top_p", "min_p"), *_rows_out("out"))
_SAMPLE = (
    *_logits("x"),
    *_scalar("size", "replace"),
    *_per_row("temperature", "top_k", "top_p", "min_p"),
    *_scalar("seed", "step"),
    *_row_number("row"),
    *_per_row_out("ids", "log_prob", "valid"),
    *_rows_in("where"),
)
_GUMBEL = (
    *_logits("x"),
    *_scalar("tau", "hard", "seed", "step"),
    *_row_number("row"),
    *_rows_out("out"),
)


_ALL = (
    Kernel("softmax", (1, 1, 1), *_logits("x"), *_rows_out("out"), *_ROW_OPTIONS),
    Kernel("log_softmax", (1, 1, 1), *_logits("x"), *_rows_out("out"), *_ROW_OPTIONS),
    Kernel("softmax_backward", (2, 1, 2), *_logits("g", "y"), *_rows_out("out"), *_per_row("temperature")),
    Kernel("log_softmax_backward", (2, 1, 2), *_logits("g", "y"), *_rows_out("out"), *_per_row("temperature")),
    Kernel("logsumexp", (1, 0, 0), *_logits("x"), *_per_row_out("out"), *_ROW_OPTIONS),
    Kernel("logsumexp_weighted", (2, 0, 0), *_logits("a", "b"), *_per_row_out("out", "sign"), *_ROW_OPTIONS),
    Kernel("logsumexp_backward", (1, 1, 1), *_per_row("grad"), *_logits("x"), *_rows_out("out"), *_ROW_OPTIONS),
    Kernel("softplus", (1, 1, 0), *_ELEMENTS, by_rows=False),
    Kernel("sigmoid", (1, 1, 0), *_ELEMENTS, by_rows=False),
    Kernel("log_sigmoid", (1, 1, 0), *_ELEMENTS, by_rows=False),
    Kernel("logit", (1, 1, 0), *_ELEMENTS, by_rows=False),
    Kernel("softplus_backward", (2, 1, 0), *_GRADIENT_OF_ELEMENTS, by_rows=False),
    Kernel("sigmoid_backward", (2, 1, 0), *_GRADIENT_OF_ELEMENTS, by_rows=False),
    Kernel("log_sigmoid_backward", (2, 1, 0), *_GRADIENT_OF_ELEMENTS, by_rows=False),
    Kernel(
        "binary_cross_entropy_with_logits",
        (2, 1, 0),
        *_logits("x", "target", "weight", "pos_weight"),
        *_rows_out("loss", "grad"),
        *_scalar("grad_scale"),
        function="bce_with_logits",
        by_rows=False,
        loss=Loss.OF_ELEMENTS,
    ),
    Kernel("cross_entropy", (1, 0, 0), *_LOSS, loss=Loss.OF_ROWS),
    Kernel("cross_entropy_with_grad", (1, 1, 1), *_LOSS, function="cross_entropy", loss=Loss.OF_ROWS),
    Kernel("softmax_stats", (1, 0, 0), *_STATISTICS),
    Kernel("entropy", (1, 0, 0), *_STATISTICS, function="softmax_stats"),
    Kernel(
        "selective_log_softmax",
        (1, 0, 0),
        *_logits("x"),
        *_per_row("ids"),
        *_scalar("width"),
        *_per_row_out("out"),
        *_per_row("temperature"),
    ),
    Kernel("kl_divergence", (2, 0, 0), *_logits("p", "q"), *_per_row_out("out")),
    Kernel("sample", (1, 0, 0), *_SAMPLE),
    Kernel("gumbel_softmax", (1, 1, 1), *_GUMBEL, offloads=False),
    Kernel("top_k", (1, 0, 0), *_logits("x"), *_scalar("k"), *_per_row_out("values", "indices")),
    Kernel("top_k_mask_logits", (1, 1, 1), *_MASK, function="mask_logits"),
    Kernel("top_p_mask_logits", (1, 1, 1), *_MASK, function="mask_logits"),
    Kernel("min_p_mask_logits", (1, 1, 1), *_MASK, function="mask_logits"),
)
KERNELS = {kernel.name: kernel for kernel in _ALL}

# The signs of sums of positive terms, which need no kernel of their own on a CPU.
LOGSUMEXP_SIGNS = Kernel("logsumexp_signs", (0, 0, 0), *_per_row("value"), *_per_row_out("sign"), offloads=False)
