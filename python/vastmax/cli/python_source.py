# SPDX-License-Identifier: Apache-2.0
"""The words of the Python files on this machine, in their order; some files are held out."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .exact import Array

CONTEXT = 8  # words that precede the one to predict
HELD_OUT = 0.05  # of the files
_WORD = re.compile(rb"[A-Za-z_]\w*")
_PACKAGES = {"site-packages", "dist-packages"}  # of which the first lies in the folder of the standard library
_PAIR_BITS = 18
PAIRS = 1 << _PAIR_BITS
_ODD = np.uint64(0xBF58476D1CE4E5B9)  # of SplitMix64


class Batch(NamedTuple):
    """Words to predict, and what a model is given for each."""

    context: Array  # (rows, CONTEXT): the word before it, the one before that, ...
    pair: Array  # hash of the last two
    target: Array


class Text:
    """Words of files by number, and the places of those that a model is asked for."""

    def __init__(self, files: Sequence[Array], classes: int) -> None:
        edge = np.full(CONTEXT, classes, np.int64)  # before a file there is nothing known: rare words
        self._stream = np.concatenate([part for file in files for part in (edge, file)] or [edge])
        self._places = np.flatnonzero(self._stream < classes)
        self._classes = classes

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, rows: Array | slice) -> Batch:
        """Return some of the words to predict."""
        places = self._places[rows]
        context = self._stream[places[:, None] - np.arange(1, CONTEXT + 1)]
        return Batch(context, pair_hash(context, self._classes), self._stream[places])

    def pairs(self) -> tuple[Array, Array]:
        """Return the word before each word to predict, and the words to predict."""
        return self._stream[self._places - 1], self._stream[self._places]

    def some(self, count: int) -> Batch:
        """Return `count` of them, evenly spread."""
        return self.batch(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))


class Corpus:
    """Words that occur twice or more in the files learned, most frequent first; number `len(words)` is any other."""

    def __init__(self, learned: Sequence[list[bytes]], held_out: Sequence[list[bytes]]) -> None:
        counts = Counter(word for file in learned for word in file)
        common = [(word, count) for word, count in counts.most_common() if count > 1]
        self.words = [word.decode() for word, _ in common]
        self.counts = np.array([count for _, count in common], np.int64)
        self.files = len(learned), len(held_out)
        self._number = {word: i for i, (word, _) in enumerate(common)}
        self.learned, self.held_out = (
            Text([self.numbers(file) for file in files], len(common)) for files in (learned, held_out)
        )

    def numbers(self, words: Sequence[bytes]) -> Array:
        """Return the numbers of words."""
        rare = len(self._number)
        return np.array([self._number.get(word, rare) for word in words], np.int64)

    def ask(self, text: str) -> Batch:
        """Return what a model is given to continue a text; there is no target."""
        rare = len(self.words)
        words = np.concatenate([np.full(CONTEXT, rare), self.numbers(split(text.encode()))])
        context = words[None, : -CONTEXT - 1 : -1]
        return Batch(context, pair_hash(context, rare), np.empty(0, np.int64))


def split(text: bytes) -> list[bytes]:
    """Return the words of a file: names, keywords, and words of comments and strings."""
    return _WORD.findall(text)


def pair_hash(context: Array, classes: int) -> Array:
    """Return a number below `PAIRS` for the last two words."""
    pair = context[:, 0].astype(np.uint64) * np.uint64(classes + 1) + context[:, 1].astype(np.uint64)
    pair *= _ODD
    pair ^= pair >> np.uint64(32)
    return (pair * _ODD >> np.uint64(64 - _PAIR_BITS)).astype(np.int64)


def load(share: float = 1, *, packages: bool = False) -> Corpus:
    """Read a share of the files of the standard library, and of the packages beside it."""
    return read(_folders(packages), share, packages=packages)


def read(folders: Sequence[Path], share: float = 1, *, packages: bool = False) -> Corpus:
    """Read a share of the files in folders. A copy of a file is left out: it could be learned and held out."""
    learned: list[list[bytes]] = []
    held_out: list[list[bytes]] = []
    seen = set()
    for name, path in _files(folders, packages):
        if _place(name, b"chosen") >= share:
            continue
        text = path.read_bytes()
        digest = blake2b(text).digest()
        if digest not in seen:
            seen.add(digest)
            (held_out if is_held_out(name) else learned).append(split(text))
    return Corpus(learned, held_out)


def is_held_out(name: str) -> bool:
    """Say whether a file is held out: by its path within its folder, the same on every machine."""
    return _place(name, b"held out") < HELD_OUT


def _place(name: str, purpose: bytes) -> float:
    """Return a number in [0, 1) that depends on the name and the purpose alone."""
    digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8, person=purpose).digest()
    return int.from_bytes(digest, "little") / 2**64


def _folders(packages: bool) -> list[Path]:
    names = ("stdlib", "purelib", "platlib") if packages else ("stdlib",)
    return list(dict.fromkeys(Path(sysconfig.get_path(name)) for name in names))


def _files(folders: Sequence[Path], packages: bool) -> Iterator[tuple[str, Path]]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if path.is_file() and (packages or not _PACKAGES & {*name.parts}):
                yield name.as_posix(), path
