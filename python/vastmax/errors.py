# SPDX-License-Identifier: Apache-2.0
"""Errors that only vastmax raises, and the one wording that all its errors share."""


class BackendUnavailable(RuntimeError):  # noqa: N818 - public name
    """A call needs a backend that this build or this machine does not have."""


def message(op: str, argument: str, given: str, accepted: str) -> str:
    """Say which op, which argument, what was given and what is accepted."""
    return f"{op}: {argument} {given}; accepted: {accepted}"
