# SPDX-License-Identifier: Apache-2.0
"""The interface of a backend: what an op asks of a call, wherever its arrays live.

An op checks its arguments, then calls `plan`, then `run`, then `finish`. Nothing is computed or written before `plan`,
where `explain` stops, and nothing is allocated before `run`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vastmax._operands import arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike

    from vastmax._operands.arrays import Array
    from vastmax._operands.rows import Rows

    from .kernels import Kernel

    DType = np.dtype[Any]


class Output:
    """A result of a call: where a kernel writes it, and what the user gets.

    `given` is the user's `out`, checked. A new array has the memory order of `like`. The kernel sees `kernel_shape`.
    The user gets the dtype `returned`, with the last axis moved to `axis`.
    """

    array: Array | None = None
    given: Any = None
    give: Callable[[], Array] | None = None
    kernel_shape: tuple[int, ...] | None = None
    axis = -1

    def __init__(
        self, shape: tuple[int, ...], dtype: DType, like: Array | None = None, returned: DType | None = None
    ) -> None:
        self.shape, self.dtype, self.like = shape, dtype, like
        self.returned = dtype if returned is None else returned

    @property
    def made(self) -> Array:
        """The array that the kernel wrote."""
        assert self.array is not None
        return self.array


class Call(Protocol):
    """One call of a public function on the backend where its arrays live."""

    op: str

    def as_logits(
        self, argument: str, value: ArrayLike, dtype: DTypeLike | None = None, beside: DType | None = None
    ) -> tuple[Array, DType]:
        """Check an array of the full shape; return it, and the dtype to compute in, to which `run` converts it.

        `dtype` is the user's `dtype=`. Integers and Python numbers take `beside`, the dtype of another array.
        """

    def as_float_array(self, argument: str, value: ArrayLike) -> Array:
        """Return an array in a dtype to compute in."""

    def as_operand(self, argument: str, value: ArrayLike, dtype: DType) -> Array:
        """Return what stands beside logits of `dtype`. Integers and Python numbers take that dtype."""

    def doubles(self, argument: str, value: ArrayLike, *shapes: tuple[int, ...]) -> Array:
        """Return dense float64 numbers of one of these shapes, or of any shape if none is named."""

    def cast(self, a: Array, dtype: DType) -> Array:
        """Return `a` in a dtype: itself, if it has that."""

    def described(self, argument: str, value: ArrayLike) -> Array:
        """Return an array of any dtype, for its shape and dtype alone."""

    def on_host(self, argument: str, value: ArrayLike) -> ArrayLike:
        """Return what must be checked on the host: class ids, parameters of rows."""

    def per_row(self, *checked: Array | None) -> tuple[Array | None, ...]:
        """Bring what was checked on the host to where the call runs."""

    def row_options(
        self, rows: Rows, temperature: ArrayLike | None, where: ArrayLike | None
    ) -> tuple[Array | None, Array | None]:
        """Check `temperature=` and `where=`: one float64 for each row, and a mask of the full shape.

        None stands for what changes nothing.
        """

    def output(self, out: object, shape: tuple[int, ...], dtype: DType, *, like: Array | None = None) -> Output:
        """Check `out=` in full."""

    def plan(self, kernel: Kernel, rows: int, classes: int, dtype: DType) -> None:
        """Choose what runs the kernel, or stop here if the call is only to be explained."""

    def run(
        self,
        kernel: Kernel,
        rows: Rows | None,
        dtype: DType,
        /,
        **operands: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Allocate the outputs, copy what would be overwritten, and run the kernel. Return the sum of a loss."""

    def sums(self, found: Any) -> Any:  # noqa: ANN401
        """Return on the host what `run` returned."""

    def finish(self, output: Output) -> Array:
        """Return what the user gets: an array of the library that the call's arrays come from, or a scalar."""


def clear_of_output(kernel: Kernel, operands: dict[str, Any], name: str, copy: Callable[[Array], Array]) -> None:
    """Copy inputs that share memory with an `out=` of the user, before it is written.

    Logits that are exactly the array to be written stay: kernels work in place. What a kernel may read again after it
    has written is copied.
    """
    output = operands[name]
    for other in kernel.inputs:
        if (a := operands[other]) is not None:
            in_place = other in kernel.rows and name in kernel.rows and a.dtype == output.dtype
            if (arrays.overlap if in_place else arrays.share)(a, output.array):
                operands[other] = copy(a)
