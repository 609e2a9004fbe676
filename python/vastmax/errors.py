# SPDX-License-Identifier: Apache-2.0
"""Errors that only vastmax raises, and the one wording that all its errors share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class BackendUnavailable(RuntimeError):  # noqa: N818 - public name
    """A call needs a backend that this build or this machine does not have."""


class Op(str):
    """The name of an op that serves a function of another name, which is what errors say."""

    __slots__ = ("called",)
    called: str

    def __new__(cls, name: str, called: str) -> Self:
        """Let the op `name` serve the function `called`."""
        self = super().__new__(cls, name)
        self.called = called
        return self


def called(op: str) -> str:
    """Return the name of the function that the user called."""
    return op.called if isinstance(op, Op) else op


def serving(name: str, op: str) -> str:
    """Return the op `name`, which errors call what they call `op`."""
    return op if name == op else Op(name, called(op))


def message(op: str, argument: str, given: str, accepted: str) -> str:
    """Say which op, which argument, what was given and what is accepted."""
    return f"{called(op)}: {argument} {given}; accepted: {accepted}"
