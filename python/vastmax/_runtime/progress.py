# SPDX-License-Identifier: Apache-2.0
"""A bar on standard error for long calls: rich's where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

_WIDTH = 40


def track(steps: Sequence[T], text: str, wanted: bool) -> Iterable[T]:
    """Return `steps`, with a bar that grows as they are taken, if one is wanted."""
    if not wanted:
        return steps
    if importlib.util.find_spec("rich") is None:
        return _plain(steps, text)
    from rich.console import Console
    from rich.progress import track as bar

    return bar(steps, text, console=Console(stderr=True), transient=True)


def _plain(steps: Sequence[T], text: str) -> Iterator[T]:
    drawn = -1
    for i, step in enumerate(steps):
        if (filled := _WIDTH * i // len(steps)) != drawn:
            _draw(text, drawn := filled)
        yield step
    _draw(text, _WIDTH)
    print(file=sys.stderr)


def _draw(text: str, filled: int) -> None:
    print(f"\r{text} [{'#' * filled:<{_WIDTH}}]", end="", file=sys.stderr, flush=True)
