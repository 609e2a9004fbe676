# SPDX-License-Identifier: Apache-2.0
"""Every test that reaches a kernel runs once per instruction set of this CPU, and proves which one ran.

The tests of an op run on every backend too: the core with each instruction set (`host`), arrays that live on a GPU
(`device`), and NumPy data that goes to a GPU in chunks (`offload`). The last two need the CUDA module, and run on its
SIMT machine where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

import vastmax
from support import backends, contracts
from support.quick_set import off_the_diagonal

hypothesis.settings.register_profile("vastmax", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("vastmax")

ISAS = tuple(vastmax.available_isas())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a plain `pytest` does not run. What runs on each instruction set anyway needs no forced one."""
    for item in items:
        if {"isa", "backend"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("any_isa")
    for item in off_the_diagonal(items):
        item.add_marker("conformance")
    if config.option.markexpr:
        return
    left_out = ("slow",) if any("::" in argument for argument in config.args) else ("slow", "conformance")
    deselected = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, left_out))]


BACKENDS = {
    "host": [pytest.param(("host", isa), id=isa) for isa in ISAS],
    "device": [pytest.param(("device", None), id="device", marks=pytest.mark.cuda)],
    "offload": [pytest.param(("offload", None), id="offload", marks=pytest.mark.cuda)],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test with the fixture `backend` runs on every backend, or on those that its marker `backends` names."""
    if "backend" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("backends")
    names = marker.args if marker else tuple(BACKENDS)
    here = [name for name in names if name == "host" or vastmax.cuda.is_available()]
    metafunc.parametrize("backend", [param for name in here for param in BACKENDS[name]], indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the public functions run in this test: `host`, `device` or `offload`."""
    name, isa = request.param
    if name == "device":
        for op in backends.GPU_OPS:
            monkeypatch.setattr(vastmax, op, backends.OnDevice(getattr(vastmax, op)))
    with vastmax.config(**({"isa": isa} if name == "host" else {"device": "cuda"} if name == "offload" else {})):
        yield name


@pytest.fixture
def simulated() -> None:
    """Where host memory is device memory: the machine that runs CUDA kernels on the CPU."""
    if not pytest.importorskip("vastmax._cuda").simulated:
        pytest.skip("host memory is not device memory here")


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
