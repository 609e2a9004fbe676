# SPDX-License-Identifier: Apache-2.0
"""Which modules of a package import which, read from their source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def imported(module: str, path: Path) -> Iterator[str]:
    """Everything that a module may import from, inside its functions and for its types too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def import_graph(package: Path) -> dict[str, set[str]]:
    """Which modules each module of a package imports, itself and the packages that it lies in aside."""
    modules = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {
        module: {name for name in imported(module, path) if name in modules and not f"{module}.".startswith(f"{name}.")}
        for module, path in modules.items()
    }
