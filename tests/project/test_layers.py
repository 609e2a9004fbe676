# SPDX-License-Identifier: Apache-2.0
"""Imports go down through the layers of the package, and ops do not know of devices."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vastmax
from support.imports import import_graph

pytestmark = pytest.mark.any_isa
LAYERS = ("_ops", "_backends", "_runtime", "_operands", "errors")  # below the public modules
LEAVES = ("_version", "_contracts")  # data, for any of them
DEVICE_CODE = "_ops/sampled/device.py"


def layer(module: str) -> int:
    part = module.split(".")[1] if "." in module else ""
    return LAYERS.index(part) + 1 if part in LAYERS else len(LAYERS) + 1 if part in LEAVES else 0


def imports_that_go_up(package: Path) -> list[tuple[str, str]]:
    graph = import_graph(package)
    return sorted((a, b) for a, targets in graph.items() for b in targets if layer(b) < layer(a))


def ops_that_name_cuda(package: Path) -> Iterator[str]:
    """By a name of code, not in prose."""
    for path in sorted((package / "_ops").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [getattr(node, field, None) for node in nodes for field in ("id", "attr", "name", "module", "arg")]
        where = path.relative_to(package).as_posix()
        if where != DEVICE_CODE and any("cuda" in str(name).lower() for name in names):
            yield where


PACKAGE = Path(str(vastmax.__file__)).parent
layered = pytest.mark.skipif(not (PACKAGE / "_ops").exists(), reason="the package has no layers yet")


@layered
def test_imports_go_down() -> None:
    assert imports_that_go_up(PACKAGE) == []


@layered
def test_no_op_names_cuda() -> None:
    assert list(ops_that_name_cuda(PACKAGE)) == []


def test_what_goes_up_or_names_cuda_is_found(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from .softmax import softmax\n",
        "softmax.py": "from ._ops import normalizers\nfrom .errors import message\n",
        "errors.py": "",
        "_ops/__init__.py": "",
        "_ops/normalizers.py": "from .._backends import host\nfrom ..softmax import softmax\n",
        "_ops/losses.py": "def loss(call):\n    return call.cuda_module\n",
        "_ops/sampled/__init__.py": '"""Sampled losses; vastmax.cuda has the arrays."""\n',
        "_ops/sampled/device.py": "import vastmax._cuda\n",
        "_ops/selection.py": "def top_k():\n    from .. import _cuda as module\n",
        "_backends/__init__.py": "",
        "_backends/host.py": "def run():\n    from .._ops import losses\n",
        "_operands/__init__.py": "from ..errors import message\nfrom .. import _version\n",
        "_version.py": "",
    }
    package = tmp_path / "vastmax"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert imports_that_go_up(package) == [
        ("vastmax._backends.host", "vastmax._ops"),
        ("vastmax._backends.host", "vastmax._ops.losses"),
        ("vastmax._ops.normalizers", "vastmax.softmax"),
    ]
    assert list(ops_that_name_cuda(package)) == ["_ops/losses.py", "_ops/selection.py"]
