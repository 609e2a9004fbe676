# SPDX-License-Identifier: Apache-2.0
"""The README's figures are those of the committed results."""

from __future__ import annotations

import importlib.util

from support import ROOT


def test_benchmark_table_is_made_from_the_results() -> None:
    spec = importlib.util.spec_from_file_location("table", ROOT / "bench" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    text = (ROOT / "README.md").read_text()
    assert table.updated(text) == text, "python bench/table.py makes the README's table anew"
