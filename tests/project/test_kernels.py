# SPDX-License-Identifier: Apache-2.0
"""Declarations of kernels agree with the functions of both extensions and with their stubs."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import ModuleType

import pytest

import vastmax
from vastmax import _core
from vastmax._backends import composed
from vastmax._backends.kernels import KERNELS, LOGSUMEXP_SIGNS, Kernel, Role

pytestmark = pytest.mark.any_isa
ALL = (*KERNELS.values(), LOGSUMEXP_SIGNS)
AFTER = {"_core": ("threads", "isa"), "_cuda": ("device", "stream", "strategy")}


def arguments(function: object) -> tuple[str, ...]:
    """The names of the arguments of a bound function, as pybind11 writes them."""
    signature = (function.__doc__ or "").splitlines()[0]
    return tuple(re.findall(r"(\w+): ", signature[signature.index("(") : signature.rindex(") ->")]))


def in_stub(module: str) -> dict[str, tuple[str, ...]]:
    stub = Path(vastmax.__file__).with_name(f"{module}.pyi")
    functions = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {f.name: tuple(a.arg for a in (*f.args.posonlyargs, *f.args.args)) for f in functions}


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
def test_the_core_has_these_operands(kernel: Kernel) -> None:
    if hasattr(_core, kernel.function):
        assert arguments(getattr(_core, kernel.function)) == (*kernel.names, *AFTER["_core"])
        assert in_stub("_core")[kernel.function] == (*kernel.names, *AFTER["_core"])
    else:
        code = getattr(composed, kernel.function).__code__
        assert code.co_varnames[: code.co_argcount] == (*kernel.names, *AFTER["_core"])


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
def test_the_cuda_module_has_these_operands(kernel: Kernel) -> None:
    expected = (*kernel.on_device.names, *AFTER["_cuda"])
    assert in_stub("_cuda")[kernel.function] == expected
    module = pytest.importorskip("vastmax._cuda")
    assert arguments(getattr(module, kernel.function)) == expected


def functions(module: ModuleType) -> set[str]:
    return {name for name, value in vars(module).items() if callable(value) and not isinstance(value, type)}


def test_stubs_name_every_function() -> None:
    assert functions(_core) == set(in_stub("_core"))
    module = pytest.importorskip("vastmax._cuda")
    only_simulated = {"set_device", "has_context", "capture", "last_error", "streams", "limit_pinned"}
    only_simulated |= {"set_capability", "release_threshold", "set_canonical_nan"}
    assert functions(module) - only_simulated == set(in_stub("_cuda")) - only_simulated


def test_names_are_those_of_roles() -> None:
    for kernel in ALL:
        assert len(set(kernel.names)) == len(kernel.names), kernel
        roles = {operand.name: operand.role for operand in kernel.operands}
        assert roles.get("where", Role.ROWS) is Role.ROWS
        assert roles.get("temperature", Role.PER_ROW) is Role.PER_ROW
        assert {roles[name] for name in kernel.outputs} <= {Role.ROWS_OUT, Role.PER_ROW_OUT}
        assert kernel.outputs, kernel
