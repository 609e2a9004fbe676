# SPDX-License-Identifier: Apache-2.0
"""Output of commands: headings, text, tables, progress. With rich on a terminal where it is installed."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    Rows = Sequence[Sequence[str]]

T = TypeVar("T")
_TELL_EVERY = 5.0  # seconds between lines of a log


class Screen:
    """Plain text, for pipes and logs."""

    width = 100

    def heading(self, text: str) -> None:
        """Start a section."""
        self._write(f"\n{text}\n{'-' * len(text)}")

    def text(self, text: str) -> None:
        """Write a paragraph, folded to the width."""
        self._write(textwrap.fill(textwrap.dedent(text).strip().replace("\n", " "), self.width))

    def line(self, text: str) -> None:
        """Write a line as it is."""
        self._write(text)

    def table(self, columns: Sequence[str], rows: Rows) -> None:
        """Write rows of cells; a column whose name starts with ">" is set flush right."""
        names = [name.removeprefix(">") for name in columns]
        widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
        for row in [names, ["-" * width for width in widths], *rows]:
            cells = [
                cell.rjust(width) if name.startswith(">") else cell.ljust(width)
                for cell, width, name in zip(row, widths, columns, strict=True)
            ]
            self._write("  ".join(cells).rstrip())

    def progress(self, items: Iterable[T], text: str, total: int) -> Iterable[T]:
        """Say that a longer step runs; standard error, so that the answer stays clean."""
        print(f"{text} ({total} steps) ...", file=sys.stderr, flush=True)
        return items

    def clock(self, text: str, seconds: float) -> AbstractContextManager[Callable[[float, str], None]]:
        """Show how much of a time is over: call with the seconds that are, and a note."""
        return self._clock(text, seconds)

    @contextmanager
    def _clock(self, text: str, seconds: float) -> Iterator[Callable[[float, str], None]]:
        said = 0.0

        def tell(over: float, note: str) -> None:
            nonlocal said
            if over - said >= _TELL_EVERY:
                said = over
                print(f"{text}: {over:.0f} of {seconds:.0f} s, {note}", file=sys.stderr, flush=True)

        yield tell

    def _write(self, text: str) -> None:
        print(text, flush=True)


class _Silent(Screen):
    """For --json: the answer is all that is written."""

    def _write(self, text: str) -> None:
        pass

    def progress(self, items: Iterable[T], text: str, total: int) -> Iterable[T]:
        return items

    @contextmanager
    def _clock(self, text: str, seconds: float) -> Iterator[Callable[[float, str], None]]:
        yield lambda over, note: None


class _Rich(Screen):
    def __init__(self) -> None:
        from rich.console import Console

        self._out = Console(highlight=False)
        self._err = Console(stderr=True)
        self.width = min(self._out.width, 110)

    def heading(self, text: str) -> None:
        self._out.print(f"\n{text}", style="bold", markup=False)

    def table(self, columns: Sequence[str], rows: Rows) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            table.add_column(Text(name.removeprefix(">")), justify="right" if name.startswith(">") else "left")
        for row in rows:
            table.add_row(*map(Text, row))
        self._out.print(table)

    def progress(self, items: Iterable[T], text: str, total: int) -> Iterable[T]:
        from rich.progress import track

        return track(items, text, total, console=self._err, transient=True)

    @contextmanager
    def _clock(self, text: str, seconds: float) -> Iterator[Callable[[float, str], None]]:
        from rich.progress import Progress

        with Progress(console=self._err, transient=True) as bars:
            bar = bars.add_task(text, total=seconds)
            yield lambda over, note: bars.update(bar, completed=over, description=f"{text}, {note}")

    def _write(self, text: str) -> None:
        self._out.print(text, markup=False, soft_wrap=True)


def open_screen(*, silent: bool) -> Screen:
    """Return what fits: nothing beside JSON, rich on a terminal, else plain text."""
    if silent:
        return _Silent()
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        return _Rich()
    return Screen()


def print_json(value: object) -> None:
    """Write one strict JSON document: NaN and infinities become null."""
    print(json.dumps(_plain(value), indent=2, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def seconds(value: float) -> str:
    """Write a duration with three digits and a fitting unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def megabytes(count: float) -> str:
    """Write a number of bytes in MB, with more digits where it is small."""
    return f"{count / 1e6:,.0f} MB" if count >= 10e6 else f"{count / 1e6:.1f} MB"
