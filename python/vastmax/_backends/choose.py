# SPDX-License-Identifier: Apache-2.0
"""Which backend serves a call: a pure function, so its test is a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from vastmax._backends import policy
from vastmax._backends.kernels import KERNELS
from vastmax.errors import BackendUnavailable, message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from vastmax._backends.tuned import Policy


class Choice(NamedTuple):
    """A backend and why it was chosen."""

    backend: str
    reason: str


class Planned(Exception):  # noqa: N818 - it reports no error
    """The plan of a call, raised in place of the computation while `explain` asks."""

    def __init__(
        self,
        op: str,
        home: str,
        choice: Choice,
        rows: int,
        classes: int,
        dtype: np.dtype[Any],
        table: tuple[int, str] | None = None,
    ) -> None:
        super().__init__(op)
        self.op, self.home, self.choice = op, home, choice
        self.rows, self.classes, self.dtype = rows, classes, dtype
        self.table = table  # bytes that make the logits, where those are never whole, and how


_STAYS = Choice("cpu", "NumPy data stays on the CPU")
_NAMED = Choice("cpu", "device='cpu' was asked for")


def choose(
    op: str,
    home: str,
    wish: str | None,
    rows: int,
    classes: int,
    dtype: np.dtype[Any],
    *,
    absent: Callable[[], Mapping[str, str]],
    measured: Callable[[], Policy | None],
) -> Choice:
    """Pick the backend for `op` on data that lives on `home`, where the user's wish is `wish`.

    `absent` names the backends that cannot be used, with the reason; `measured` predicts seconds. Both are asked only
    where that matters.
    """
    if home == "cuda":
        return require(op, home, "the data lives on a GPU", absent())
    if wish is None:
        return _STAYS
    if wish == "cpu":
        return _NAMED
    if wish == "cuda":
        return require(op, wish, "device='cuda' was asked for", absent())
    if "cuda" in (missing := absent()):
        return Choice("cpu", f"device='auto': {missing['cuda']}")
    if (measures := measured()) is None:
        return Choice("cpu", "device='auto': no policy was measured here (python -m vastmax tune)")
    predicted = measures.predict(op, dtype.name, KERNELS[op].copied(rows, classes, dtype.itemsize))
    if predicted is None:
        return Choice("cpu", f"device='auto': {op} was not measured in {dtype}")
    if wins(predicted):
        return Choice("cuda", "device='auto': the GPU should be faster, its copies counted")
    return Choice("cpu", "device='auto': the GPU would not be clearly faster, its copies counted")


def wins(predicted: Mapping[str, float]) -> bool:
    """Say whether seconds by backend speak for the GPU."""
    return predicted["cuda"] <= policy.CLEAR_WIN * predicted["cpu"]


def require(op: str, backend: str, why: str, absent: Mapping[str, str]) -> Choice:
    if backend in absent:
        accepted = "NumPy arrays with device None or 'cpu'"
        raise BackendUnavailable(message(op, f"{why},", f"but {absent[backend]}", accepted))
    return Choice(backend, why)
