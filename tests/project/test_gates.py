# SPDX-License-Identifier: Apache-2.0
"""cuda/gates.py sees what it is there to see."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import pytest

from support import ROOT

SOURCE = ROOT / "cuda" / "gates.py"

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(not SOURCE.exists() or shutil.which("c++filt") is None, reason="no source tree or no binutils"),
]

DENSE, MERGE = "_ZN7vastmax4cuda11unary_denseINS0_8SoftplusEfEEvi", "_ZN7vastmax4cuda13reduce_kernelIfLb1EEEvi"


@pytest.fixture
def gates() -> Any:
    spec = importlib.util.spec_from_file_location("gates", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def log(stack: int) -> str:
    return f"""ptxas info    : Compiling entry function '{DENSE}' for 'sm_90'
ptxas info    : Function properties for {DENSE}
    {stack} bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""


def sass(*lines: str, name: str = DENSE) -> str:
    body = "\n".join(f"        /*00{i}0*/                   {line} ;   /* 0x1 */" for i, line in enumerate(lines))
    return f"arch = sm_90\n\t\tFunction : {name}\n{body}\n"


def test_local_memory_is_seen(gates: Any) -> None:
    assert gates.check_usages(list(gates.usages(log(0).splitlines()))) == []
    (wrong,) = gates.check_usages(list(gates.usages(log(8).splitlines())))
    assert wrong == "8 bytes of local memory  sm_90  unary_dense<Softplus, float>"
    assert gates.check_usages([]) != []


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (("LDG.E.128.CONSTANT R4, [R2.64]", "@!P0 STG.E.128 [R2.64], R4"), []),
        (("LDG.E R4, [R2.64]", "STG.E.128 [R2.64], R4"), ["no LDG.128"]),
        (("LDG.E.128 R4, [R2.64]", "STG.E.64 [R2.64], R4"), ["no STG.128"]),
        (("LDG.E.128 R4, [R2.64]", "STG.E.128 [R2.64], R4", "LDL.64 R4, [R1]", "STL [R1], R4"), ["LDL", "STL"]),
    ],
)
def test_narrow_and_local_accesses_are_seen(gates: Any, lines: tuple[str, ...], wrong: list[str]) -> None:
    found = gates.check_instructions(gates.instructions(sass(*lines).splitlines()))
    assert [text.split("  ")[0] for text in found] == wrong


def test_other_kernels_may_be_narrow_but_are_not_all_there_is(gates: Any) -> None:
    both = sass("LDG.E R4, [R2.64]", name=MERGE)
    assert gates.check_instructions(gates.instructions(both.splitlines())) == [
        "no kernel of plain data among them: have they other names?"
    ]
