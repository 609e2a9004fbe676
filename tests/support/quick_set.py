# SPDX-License-Identifier: Apache-2.0
"""Which cases of a product of parameters a plain `pytest` runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def off_the_diagonal(items: Sequence[Any]) -> Iterator[Any]:
    """Most cases of a test that takes several parameters.

    On the diagonal of their product lies every value of every parameter, beside changing values of the others: case k
    has value k of each, counted round.
    """
    indices = {item: item.callspec.indices for item in items if hasattr(item, "callspec")}
    lengths: dict[str, dict[str, int]] = {}
    for item, index in indices.items():
        known = lengths.setdefault(function_of(item), {})
        for name, i in index.items():
            known[name] = max(known.get(name, 0), i + 1)
    for item, index in indices.items():
        length = lengths[function_of(item)]
        if not any(all(k % length[name] == i for name, i in index.items()) for k in range(max(length.values()))):
            yield item


def function_of(item: Any) -> str:
    return item.nodeid.partition("[")[0]
