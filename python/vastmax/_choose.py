# SPDX-License-Identifier: Apache-2.0
"""Which backend serves a call: a pure function, so its test is a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import _policy
from .errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

DEVICES = ("cpu", "cuda", "auto")

# Backends that a call may name but this build lacks, with the reason.
ABSENT: Mapping[str, str] = {"cuda": "vastmax was built without CUDA"}


class Choice(NamedTuple):
    """A backend and why it was chosen."""

    backend: str
    reason: str


_STAYS = Choice("cpu", "NumPy data stays on the CPU")
_NAMED = Choice("cpu", "device='cpu' was asked for")


def choose(
    op: str,
    home: str,
    wish: str | None,
    rows: int,
    classes: int,
    *,
    absent: Mapping[str, str] = ABSENT,
    worth_copying: Mapping[str, int] = _policy.WORTH_COPYING,
) -> Choice:
    """Pick the backend for `op` on data that lives on `home`, where the user's wish is `wish`."""
    if home == "cuda":
        return _require(op, home, "the data lives on a GPU", absent)
    if wish is None:
        return _STAYS
    if wish == "cpu":
        return _NAMED
    if wish == "cuda":
        return _require(op, wish, "device='cuda' was asked for", absent)
    if "cuda" in absent:
        return Choice("cpu", f"device='auto': {absent['cuda']}")
    least = worth_copying.get(op)
    if least is None or rows * classes < least:
        return Choice("cpu", "device='auto': copying to the GPU would cost more than it saves")
    return Choice("cuda", f"device='auto': at least {least} elements pay for the copies")


def _require(op: str, backend: str, why: str, absent: Mapping[str, str]) -> Choice:
    if backend in absent:
        accepted = "NumPy arrays with device None or 'cpu'"
        raise BackendUnavailable(f"{op}: {why}, but {absent[backend]}; accepted: {accepted}")
    return Choice(backend, why)
