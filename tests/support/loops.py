# SPDX-License-Identifier: Apache-2.0
"""Thousands of cheap cases in a few tests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any


def in_a_loop(**values: Sequence[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of `dtype` and `axis` that tries every combination of the other arguments; a failure names them.

    Its attribute `check` is the test of one combination.
    """

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        def test(dtype: Any, axis: int) -> None:
            for combination in itertools.product(*values.values()):
                chosen = dict(zip(values, combination, strict=True))
                try:
                    check(dtype, axis, **chosen)
                except AssertionError as error:
                    error.add_note(f"with {chosen}")
                    raise

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        test.check = check  # type: ignore[attr-defined]
        return test

    return decorate
