# SPDX-License-Identifier: Apache-2.0
"""Imports and includes go one way, and are written from the root of the repository."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_isa
ROOT = Path(__file__).parent.parent
source_tree = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="needs the source tree")

# Each floor imports from itself and from those after it.
FLOORS = ("", "_ops", "_backends", "_runtime", "_operands", "errors")
# What each folder of C++ may include, beside itself and the public headers.
INCLUDES = {
    "cpp/math": set(),
    "cpp/simd": {"cpp/math"},
    "cpp/ops": {"cpp/simd", "cpp/math"},
    "cpp/kernels": {"cpp/ops", "cpp/simd", "cpp/math"},
    "cpp/host": {"cpp/kernels", "cpp/math"},
    "cuda/simt": set(),
    "cuda/runtime": {"cuda/simt"},
    "cuda/device": {"cuda/kernels", "cuda/simt", "cpp/math", "cpp/ops", "cpp/simd", "cpp/kernels"},
    "cuda/kernels": {"cuda/device", "cuda/runtime", "cpp/math", "cpp/ops", "cpp/simd", "cpp/kernels"},
    "cuda/host": {"cuda/kernels", "cuda/runtime", "cuda/simt", "cpp/host", "cpp/math", "cpp/ops"},
}


def imports(source: Path, package: Path) -> Iterator[str]:
    """What a module imports when it runs: paths below the package, with dots."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for_types = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    skipped = {id(inner) for node in for_types for inner in ast.walk(node)}
    here = (package.name, *source.relative_to(package).parts[:-1])
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in skipped:
            continue
        base = here[: len(here) + 1 - node.level] if node.level else ()
        path = (*base, *(node.module.split(".") if node.module else ()))
        if path[:1] == (package.name,):
            yield from (".".join((*path[1:], alias.name)) for alias in node.names)


def floor(module: str) -> int:
    first = module.partition(".")[0]
    return FLOORS.index(first) if first in FLOORS else 0


def upward(package: Path) -> list[str]:
    """Imports of a higher floor."""
    found = []
    for source in sorted(package.rglob("*.py")):
        module = ".".join(source.relative_to(package).with_suffix("").parts)
        if module == "errors" or floor(module) > 0:
            for name in imports(source, package):
                if not name.startswith(("_core", "_cuda", "_version")) and floor(name) < floor(module):
                    found.append(f"{module} imports {name}")
    return found


@source_tree
def test_python_imports_go_down() -> None:
    assert not upward(ROOT / "python" / "vastmax")


def test_an_import_that_goes_up_is_found(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "_ops").mkdir(parents=True)
    (package / "_backends").mkdir()
    (package / "_ops" / "a.py").write_text(
        "from package._backends import b\nfrom . import c\nif TYPE_CHECKING:\n    from package.x import y\n"
    )
    assert not upward(package)
    (package / "_backends" / "b.py").write_text("def f():\n    from .._ops.a import g\n")
    (package / "_ops" / "d.py").write_text("from package.softmax import softmax\n")
    assert upward(package) == ["_backends.b imports _ops.a.g", "_ops.d imports softmax.softmax"]


@source_tree
def test_only_one_file_of_the_ops_is_for_devices() -> None:
    ops = ROOT / "python" / "vastmax" / "_ops"
    named = {str(p.relative_to(ops)) for p in ops.rglob("*.py") if re.search(r"cuda", p.read_text(), re.IGNORECASE)}
    assert named <= {"sampled/device.py"}


def quoted_includes(source: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', source.read_text(), re.MULTILINE)


@source_tree
def test_includes_are_rooted_and_go_down() -> None:
    wrong = []
    for source in (
        p for folder in ("cpp", "cuda", "bindings") for p in (ROOT / folder).rglob("*.[hc]*") if p.is_file()
    ):
        own = source.relative_to(ROOT).as_posix()
        layer = next((folder for folder in INCLUDES if own.startswith(f"{folder}/")), None)
        for name in quoted_includes(source):
            if name.startswith("vastmax/"):
                continue
            if not (ROOT / name).exists():
                wrong.append(f"{own}: {name} is not a path from the root")
            elif layer is not None and name.count("/") > 1:
                folder = "/".join(name.split("/")[:2])
                if folder != layer and folder not in INCLUDES[layer]:
                    wrong.append(f"{own} includes {name}")
    assert not wrong
