# SPDX-License-Identifier: Apache-2.0
"""The examples run, in small."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from support import ROOT, subprocesses

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.any_isa


@pytest.mark.skipif(not EXAMPLES.exists(), reason="tests without the rest of the source tree")
def test_hundred_million_classes(tmp_path: Path) -> None:
    sizes = ("--classes", "20000000", "--beside", "20000", "--rows", "64", "--negatives", "50")
    script = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    args = (str(EXAMPLES / "hundred_million_classes.py"), *sizes, "--steps", "30", "--directory", str(tmp_path))
    text = subprocesses.run(script, args=args)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", text)]
    half = len(losses) // 2
    assert losses[half - 1] < losses[0] - 1
    assert losses[-1] < losses[half] - 1
    assert "20,000,000 classes of 16 features, 1.44 GB" in text
    on_disk = [int(size) for size in re.findall(r"(\d+) MB on disk", text)]
    assert max(on_disk) < 100  # of 1,440: the file has holes
    peaks = [int(size) for size in re.findall(r"peak memory so far (\d+) MB", text)]
    assert peaks[1] - peaks[0] < 100
    assert re.search(r"a step takes [\d.]+ times as long with 20,000,000 classes as with 20,000$", text.strip())
    assert not list(tmp_path.iterdir())


@pytest.mark.conformance
@pytest.mark.skipif(not EXAMPLES.exists(), reason="tests without the rest of the source tree")
def test_next_word() -> None:
    sizes = ("--files", "[a-d]*.py", "--features", "16", "--negatives", "300")
    script = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    text = subprocesses.run(script, args=(str(EXAMPLES / "next_word.py"), *sizes))
    assert len(re.findall(r"estimated loss [\d.]+", text)) > 1
    found = re.search(r"([\d,]+) words; held-out loss ([\d.]+), of frequencies alone ([\d.]+)", text)
    assert found is not None
    exact, frequencies = float(found[2]), float(found[3])
    assert exact < frequencies - 0.2 < np.log(int(found[1].replace(",", "")))
    assert len(re.findall(r"-> \S+ [\d.]+%(?: \S+ [\d.]+%){3}$", text, re.MULTILINE)) == 3


@pytest.mark.skipif(not EXAMPLES.exists(), reason="tests without the rest of the source tree")
def test_examples_can_be_copied_out_of_the_repository() -> None:
    """They import the public package alone: neither private modules nor those of the commands."""
    imported = {
        name
        for path in EXAMPLES.glob("*.py")
        for name in re.findall(r"^\s*(?:from|import) (vastmax\.[\w.]+)", path.read_text(), re.MULTILINE)
    }
    assert not {name for name in imported if re.search(r"\.(?:_|cli\b)", name)}
