# SPDX-License-Identifier: Apache-2.0
"""Includes of C++ go one way, and are written from the root of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_isa
ROOT = Path(__file__).parents[2]
source_tree = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="needs the source tree")

# What each folder of C++ may include, beside itself and the public headers.
INCLUDES: dict[str, set[str]] = {
    "cpp/include": set(),
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


def quoted_includes(source: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', source.read_text(), re.MULTILINE)


def folder_of(file: str) -> str:
    """The folder that INCLUDES names: two levels deep, one for the bindings and for files at the top of a tree."""
    return "/".join(file.split("/")[:-1][:2])


def wrong_includes(root: Path) -> Iterator[str]:
    for source in sorted(p for tree in ("cpp", "cuda", "bindings") for p in (root / tree).rglob("*.[hc]*")):
        if not source.is_file():
            continue
        own = source.relative_to(root).as_posix()
        layer = folder_of(own)
        for name in quoted_includes(source):
            folder = folder_of(name)
            if name.startswith("vastmax/"):
                continue
            if not (root / name).exists():
                yield f"{own}: {name} is not a path from the root"
            elif layer in INCLUDES and folder not in INCLUDES[layer] | {layer, layer.split("/")[0], "cpp"}:
                yield f"{own} includes {name}"


@source_tree
def test_includes_are_rooted_and_go_down() -> None:
    assert list(wrong_includes(ROOT)) == []


def test_an_include_that_goes_up_or_is_not_rooted_is_found(tmp_path: Path) -> None:
    files = {
        "bindings/shapes.hpp": '#include "cpp/host/run/threads.hpp"\n',
        "cpp/host/run/threads.hpp": '#include "cpp/kernels/norm.hpp"\n#include "bindings/shapes.hpp"\n',
        "cpp/include/vastmax/rows.hpp": '#include "vastmax/dtype.hpp"\n#include "cpp/math/loss.hpp"\n',
        "cpp/kernels/norm.hpp": '#include "cpp/math/loss.hpp"\n#include "cpp/host/run/threads.hpp"\n',
        "cpp/math/loss.hpp": '#include "algebra.hpp"\n#include <vector>\n',
        "cpp/math/algebra.hpp": '#include "cuda/tune.hpp"\n',
        "cuda/kernels/norm.cu": '#include "cuda/tune.hpp"\n#include "bindings/shapes.hpp"\n',
        "cuda/tune.hpp": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(wrong_includes(tmp_path)) == [
        "cpp/host/run/threads.hpp includes bindings/shapes.hpp",
        "cpp/include/vastmax/rows.hpp includes cpp/math/loss.hpp",
        "cpp/kernels/norm.hpp includes cpp/host/run/threads.hpp",
        "cpp/math/algebra.hpp includes cuda/tune.hpp",
        "cpp/math/loss.hpp: algebra.hpp is not a path from the root",
        "cuda/kernels/norm.cu includes bindings/shapes.hpp",
    ]
