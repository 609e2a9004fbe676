# SPDX-License-Identifier: Apache-2.0
"""A plain `pytest` runs each test with every value of each of its parameters."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from support.quick_set import off_the_diagonal

pytestmark = pytest.mark.any_isa


class Item(SimpleNamespace):
    __hash__ = object.__hash__


def product(**lengths: int) -> list[Any]:
    combinations = itertools.product(*map(range, lengths.values()))
    indices = [dict(zip(lengths, each, strict=True)) for each in combinations]
    return [Item(nodeid=f"test.py::test[{i}]", callspec=SimpleNamespace(indices=i)) for i in indices]


@pytest.mark.parametrize("lengths", [{"n": 7}, {"dtype": 4, "isa": 3}, {"dtype": 4, "isa": 4, "n": 9, "axis": 2}])
def test_every_value_of_every_parameter_is_left(lengths: dict[str, int]) -> None:
    items = product(**lengths)
    left_out = set(off_the_diagonal(items))
    left = [item.callspec.indices for item in items if item not in left_out]
    assert len(left) == max(lengths.values())
    for name, length in lengths.items():
        assert {index[name] for index in left} == set(range(length))


def test_a_test_without_parameters_is_left() -> None:
    assert not list(off_the_diagonal([Item(nodeid="test.py::test")]))
