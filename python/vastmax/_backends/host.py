# SPDX-License-Identifier: Apache-2.0
"""Calls on NumPy data: the core runs them, or a GPU in chunks where that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax._core as _core
from vastmax._operands import arrays
from vastmax._runtime import config
from vastmax.errors import BackendUnavailable, message, serving

from . import composed, conversion, policy
from .base import Output, clear_of_output
from .choose import Planned, choose
from .load import absent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows

    from .kernels import Kernel
    from .tuned import Policy

    DType = np.dtype[Any]


def only_on_cpu(op: str) -> str:
    """Say that an op has no kernel on a GPU."""
    why = "it has no GPU version, or none for NumPy data"
    return message(op, "cannot run on a GPU,", why, "NumPy arrays with device None or 'cpu'")


class HostCall:
    """One call of a public function on NumPy data."""

    __slots__ = ("_options", "_through_gpu", "op")

    def __init__(self, op: str) -> None:
        self.op = op
        self._options = config.current()
        self._through_gpu = False

    @property
    def options(self) -> tuple[int, int]:
        """The trailing arguments of the core: threads, instruction set."""
        return self._options.threads, self._options.isa

    def as_logits(
        self, argument: str, value: ArrayLike, dtype: DTypeLike | None = None, beside: DType | None = None
    ) -> tuple[Array, DType]:
        """Check an array of the full shape; return it, and the dtype to compute in."""
        a = arrays.as_given(self.op, argument, value)
        kind = arrays.computed_dtype(self.op, argument, a.dtype)
        if dtype is not None:
            kind = arrays.check_dtype(self.op, dtype)  # a narrower one overflows to inf, as in PyTorch
        elif beside is not None and (a.dtype.kind in "iub" or type(value) in (int, float)):
            kind = beside
        if a.dtype != kind and a.size * kind.itemsize <= policy.CONVERTED_BYTES:
            a = arrays.cast(a, kind)
        return a, kind

    def as_float_array(self, argument: str, value: ArrayLike) -> Array:
        """Return an array in a dtype to compute in."""
        return arrays.as_float_array(self.op, argument, value)

    def as_operand(self, argument: str, value: ArrayLike, dtype: DType) -> Array:
        """Return what stands beside logits of `dtype`."""
        return arrays.as_operand(self.op, argument, value, dtype)

    def doubles(self, argument: str, value: ArrayLike, *shapes: tuple[int, ...]) -> Array:
        """Return dense float64 numbers of one of these shapes, or of any shape if none is named."""
        a = arrays.as_float_array(self.op, argument, value)
        if shapes and a.shape not in shapes:
            raise ValueError(message(self.op, argument, f"has shape {a.shape}", " or ".join(map(str, shapes))))
        return arrays.dense(a, arrays.F64) if a.ndim else arrays.cast(a, arrays.F64)

    def cast(self, a: Array, dtype: DType) -> Array:
        """Return `a` in a dtype: itself, if it has that."""
        return arrays.cast(a, dtype)

    def described(self, argument: str, value: ArrayLike) -> Array:
        """Return an array of any dtype."""
        return arrays.as_given(self.op, argument, value)

    def on_host(self, argument: str, value: ArrayLike) -> ArrayLike:
        """Return what is checked on the host."""
        return value

    def per_row(self, *checked: Array | None) -> tuple[Array | None, ...]:
        """Return what was checked."""
        return checked

    def row_options(
        self, rows: Rows, temperature: ArrayLike | None, where: ArrayLike | None
    ) -> tuple[Array | None, Array | None]:
        """Check `temperature=` and `where=`: one float64 for each row, and a mask of the full shape."""
        return rows.temperature(temperature), None if where is None else rows.mask(where)

    def output(self, out: object, shape: tuple[int, ...], dtype: DType, *, like: Array | None = None) -> Output:
        """Check `out=` in full."""
        output = Output(shape, dtype, like)
        if out is not None:
            output.given, output.array = out, arrays.check_out(self.op, out, shape, dtype)
        return output

    def plan(self, kernel: Kernel, rows: int, classes: int, dtype: DType) -> None:
        """Choose between the core and a GPU."""
        options = self._options
        if options.device is None and not options.explaining:
            return
        if options.device == "cuda" and not kernel.offloads:
            raise BackendUnavailable(only_on_cpu(self.op))
        wish = options.device if kernel.offloads else None
        op = serving(kernel.name, self.op)
        choice = choose(op, "cpu", wish, rows, classes, dtype, absent=absent, measured=_measured)
        if options.explaining:
            raise Planned(op, "cpu", choice, rows, classes, dtype)
        self._through_gpu = choice.backend == "cuda"

    def expect_cpu(self) -> None:
        """Refuse to run where a GPU is asked for."""
        if self._options.device == "cuda":
            raise BackendUnavailable(only_on_cpu(self.op))

    def plan_on_cpu(
        self, op: str, rows: int, classes: int, dtype: DType, table: tuple[int, str] | None = None
    ) -> tuple[int, int]:
        """Plan what only the core does, and return its options. `table` is that of `Planned`."""
        if self._options.explaining:
            choice = choose(op, "cpu", None, rows, classes, dtype, absent=absent, measured=_measured)
            raise Planned(op, "cpu", choice, rows, classes, dtype, table)
        return self.options

    def run(
        self,
        kernel: Kernel,
        rows: Rows | None,
        dtype: DType,
        /,
        **operands: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Allocate the outputs, copy what would be overwritten, and run the kernel. Return the sum of a loss."""
        for name in kernel.outputs:
            if (output := operands[name]) is not None:
                if output.given is not None:
                    clear_of_output(kernel, operands, name, np.ndarray.copy)
                operands[name] = _allocated(output)
        if rows is None:
            _in_memory_order(kernel, operands)
        elif rows.moves:
            return self._run_along(kernel, rows, dtype, operands)
        return self._launched(kernel, dtype, kernel.arguments(operands))

    def _run_along(self, kernel: Kernel, rows: Rows, dtype: DType, operands: dict[str, Any]) -> Any:  # noqa: ANN401
        """Run a kernel along other axes than the last. Outputs that cannot be a view go through a temporary."""
        wanted = dict(operands) if rows.spans_axes else {}
        for name in kernel.rows:
            if (a := operands[name]) is not None:
                operands[name] = rows.view_of(a)
        found = self._launched(kernel, dtype, kernel.arguments(operands))
        for name in wanted:
            if name in kernel.outputs and name in kernel.rows:
                rows.copy_back(operands[name], wanted[name])
        return found

    def sums(self, found: Any) -> Any:  # noqa: ANN401
        """Return what `run` returned."""
        return found

    def finish(self, output: Output) -> Array:
        """Return the user's own `out`, a scalar for no dimensions, else the array."""
        if output.given is not None:
            return output.given  # type: ignore[no-any-return]
        y = output.made
        if output.returned is not output.dtype:
            y = arrays.cast(y, output.returned)
        if output.axis != -1:
            y = np.moveaxis(y, -1, output.axis)
        return y if y.ndim else y[()]

    def _launched(self, kernel: Kernel, dtype: DType, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        launch = self._on_gpu if self._through_gpu and kernel.offloads else self._on_cpu
        for i in kernel.converted:
            if arguments[i] is not None and arguments[i].dtype != dtype:
                return conversion.run(launch, kernel, dtype, arguments, None if self._through_gpu else self.options)
        return launch(kernel, arguments)

    def _on_cpu(self, kernel: Kernel, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        options = self._options
        function = getattr(_core, kernel.function, None) or getattr(composed, kernel.function)
        return function(*arguments, options.threads, options.isa)

    def _on_gpu(self, kernel: Kernel, arguments: tuple[Any, ...]) -> Any:  # noqa: ANN401
        from . import offload  # what runs on a GPU loads when something does

        return offload.run(self.op, kernel, arguments)


def _in_memory_order(kernel: Kernel, operands: dict[str, Any]) -> None:
    """Let an element-wise kernel walk memory in order, unless it sums on the way."""
    first = operands[kernel.rows[0]]
    if first.ndim == 1 or (first.ndim and first.flags.c_contiguous):
        return
    summed = kernel.loss is not None and operands["loss"] is None
    views = arrays.in_memory_order(*[operands[name] for name in kernel.rows], summed=summed)
    operands.update(zip(kernel.rows, views, strict=True))


def _allocated(output: Output) -> Array:
    a = output.array
    if a is None:
        like, dtype = output.like, output.dtype
        output.array = a = np.empty(output.shape, dtype) if like is None else arrays.empty_like(like, dtype)
    return a if output.kernel_shape is None else a.reshape(output.kernel_shape)


def _measured() -> Policy | None:
    from . import tuned  # needed for device="auto" only

    return tuned.measured()
