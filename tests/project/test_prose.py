# SPDX-License-Identifier: Apache-2.0
"""Sources of documents have one sentence a line, so that a change of one shows as one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.any_isa
ROOT = Path(__file__).parents[2]
DOCUMENTS = [p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md") if p.exists()]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
ASIDE = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|\([^()]*\)|\"[^\"]*\"")  # code, links, asides, quotations
END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bet al)(?<!\bcf)(?<!\bvs)(?<!\b[A-Z])[.!?] +[A-Z]")


def lines_of_two_sentences(text: str) -> Iterator[str]:
    in_code = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.startswith(("|", "#", "    ", "<!--")):
            prose = re.sub(r"^\s*(?:[-*]|\d+\.) ", "", line)
            while ASIDE.search(prose):
                prose = ASIDE.sub("", prose)
            if END.search(prose):
                yield line


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the source tree")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_one_sentence_a_line(document: Path) -> None:
    assert list(lines_of_two_sentences(document.read_text())) == []


def test_two_sentences_are_found() -> None:
    two = ["One fact. Another one.", "- Is it so? It is.", "1. As `f` does. Not as `g`."]
    one = [
        "As in e.g. Debian.",
        "1. First.",
        "| a. B | c |",
        "Blanc and Rendle (2018). (See there.)",
        "By J. Smith.",
        "```",
        "a. B",
        "```",
    ]
    assert list(lines_of_two_sentences("\n".join(two + one))) == two
