# SPDX-License-Identifier: Apache-2.0
"""Two instruction sets that share a function crash old CPUs (numpy#25274): `nm` on the objects of a build tree.

Every symbol that a kernel object defines for others lies in `vastmax::<isa>`, and none of them is weak: the linker
would keep one copy of a weak symbol for all objects, compiled for whichever instruction set comes first.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support import ROOT

ISAS = ("scalar", "avx2", "avx512", "neon")


def objects() -> list[tuple[str, Path]]:
    """Kernel objects of all build trees but those of sanitizers, which bring weak symbols of their own."""
    found = []
    for path in ROOT.glob("build/**/vastmax_*.dir/**/*.o"):
        isa = re.search(r"vastmax_(\w+)\.dir", str(path))
        if isa and isa[1] in ISAS and not re.search(r"/(asan|tsan|ubsan)[^/]*/", str(path)):
            found.append((isa[1], path))
    return found


OBJECTS = objects()
pytestmark = [
    pytest.mark.skipif(not OBJECTS, reason="no build tree: cmake --workflow --preset dev"),
    pytest.mark.skipif(not shutil.which("nm"), reason="no nm"),
]


def symbols(path: Path) -> list[tuple[str, str]]:
    done = subprocess.run(["nm", "-C", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    return [(m[1], m[2]) for m in re.finditer(r"^\S+ (\w) (.+)$", done.stdout, re.MULTILINE)]


def test_every_shared_symbol_is_in_the_namespace_of_its_isa() -> None:
    for isa, path in OBJECTS:
        strangers = [
            name
            for kind, name in symbols(path)
            if (kind.isupper() or kind in "uvw") and not re.search(rf"\bvastmax::{isa}::", name)
        ]
        assert not strangers, f"{path}: {strangers[:10]}"


def test_no_weak_symbols() -> None:
    for _, path in OBJECTS:
        weak = [name for kind, name in symbols(path) if kind in "VWuvw"]
        assert not weak, f"{path}: {weak[:10]}"


def test_no_dynamic_initialisers() -> None:
    """Code that would run at load time, before the CPU has been asked what it can do."""
    for _, path in OBJECTS:
        starting = [
            name for _, name in symbols(path) if name.startswith("_GLOBAL__sub_I") or "static initialization" in name
        ]
        assert not starting, f"{path}: {starting}"
        sections = subprocess.run(["readelf", "-SW", str(path)], capture_output=True, text=True, check=False).stdout
        assert ".init_array" not in sections, path


def test_every_kernel_is_built_for_every_isa() -> None:
    kernels = {p.name for p in (ROOT / "cpp" / "kernels").glob("*.cpp")}
    trees: dict[tuple[str, str], set[str]] = {}
    for isa, path in OBJECTS:
        trees.setdefault((str(path).partition("vastmax_")[0], isa), set()).add(path.name.removesuffix(".o"))
    for tree, built in trees.items():
        if not any(Path(tree[0]).parent.rglob("_core*.so")):
            continue  # not built to the end
        assert kernels <= built, (tree, kernels - built)
