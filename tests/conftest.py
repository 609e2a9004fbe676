# SPDX-License-Identifier: Apache-2.0
"""Every test that reaches a kernel runs once per instruction set of this CPU, and proves which one ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

import vastmax
from support import contracts

hypothesis.settings.register_profile("vastmax", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("vastmax")

ISAS = tuple(vastmax.available_isas())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow tests run only when asked for: `-m slow`. What runs on each instruction set anyway needs no forced one."""
    for item in items:
        if "isa" in getattr(item, "fixturenames", ()):
            item.add_marker("any_isa")
    if config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with vastmax.config(isa=request.param):
        assert vastmax.active_isa() == request.param
        yield request.param
        assert vastmax.active_isa() == request.param


@pytest.fixture(params=contracts.DTYPES)
def dtype(request: pytest.FixtureRequest) -> Any:
    return contracts.FORMATS[request.param].dtype


@pytest.fixture(params=("f32", "f64"))
def wide_dtype(request: pytest.FixtureRequest) -> Any:
    return contracts.FORMATS[request.param].dtype


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = vastmax.get_num_threads()
    yield
    vastmax.set_num_threads(before)
