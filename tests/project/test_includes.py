# SPDX-License-Identifier: Apache-2.0
"""Includes of C++ go one way, and are written from the root of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_isa
ROOT = Path(__file__).parents[2]
source_tree = pytest.mark.skipif(not (ROOT / "cpp").is_dir(), reason="needs the source tree")

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
