# SPDX-License-Identifier: Apache-2.0
"""The examples run, in small."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import subprocesses

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
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


@pytest.mark.skipif(not EXAMPLES.exists(), reason="tests without the rest of the source tree")
def test_generate() -> None:
    pytest.importorskip("wordsegment")
    script = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"

    def texts(*more: str) -> list[str]:
        args = (str(EXAMPLES / "generate.py"), "thank", "high", "--steps", "20", "--texts", "2", "--words", "4", *more)
        return [line for line in subprocesses.run(script, args=args).splitlines() if "nats a word" in line]

    drawn = texts()
    assert [line.split(": ")[1].split()[0] for line in drawn] == ["thank", "thank", "high", "high"]
    assert all(len(line.split(": ")[1].split()) == 5 for line in drawn)
    greedy = texts("--temperature", "0")
    assert greedy[0] == greedy[1]
    assert greedy[0].split()[0] == "0.00"


@pytest.mark.skipif(not EXAMPLES.exists(), reason="tests without the rest of the source tree")
def test_next_word() -> None:
    pytest.importorskip("wordsegment")
    sizes = ("--steps", "201", "--features", "16", "--batch", "1024", "--negatives", "200")
    script = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    text = subprocesses.run(script, args=(str(EXAMPLES / "next_word.py"), *sizes))
    losses = [float(loss) for loss in re.findall(r"estimated loss ([\d.]+)", text)]
    exact, perplexity = (float(found) for found in re.findall(r"exact loss ([\d.]+), perplexity (\d+)", text)[0])
    uniform = 12.72  # log of 333,213 words
    assert len(losses) == 2
    assert losses[1] < losses[0] < uniform  # which an estimate from few negatives is far below
    assert exact < 8
    assert abs(perplexity / 2.718281828**exact - 1) < 0.01
    assert len(re.findall(r"^(?:thank|happy|credit)(?: \S+ [\d.]+%){4}$", text, re.MULTILINE)) == 3
