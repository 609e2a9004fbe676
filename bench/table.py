# SPDX-License-Identifier: Apache-2.0
"""Write the benchmark table of the README from the newest committed results: `python bench/table.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- made by bench/table.py -->", "<!-- end of what bench/table.py made -->"
PEERS = {"SciPy": "scipy", "PyTorch": "torch out=", "onnxruntime": "onnxruntime", "copy of the same bytes": "copy roof"}
SHOWN = (
    "logsumexp, 512 x 128,256, float32, beyond cache",
    "softmax, 64 x 128,256, float32, beyond cache",
    "softmax, 1 x 10,000,000, float32, beyond cache",
    "softmax, 2,048 x 1,000, float32, beyond cache",
    "softmax, 1 x 128,256, float32, in cache",
    "softmax, 128,256 x 64, float32, axis 0, beyond cache",
    "softplus, 64 x 128,256, float32, beyond cache",
)


def milliseconds(case: dict[str, Any], name: str) -> str:
    """Format the median time of one contender, or a dash."""
    timing = case["timings"].get(name)
    if not timing:
        return "-"
    value = timing["median"] * 1e3
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(results: dict[str, Any], name: str) -> str:
    """Return the table and what it was measured on."""
    cases = {case["case"]: case for case in results["cases"]}
    rows = [f"| ms, median | vastmax | {' | '.join(PEERS)} |", "|---" * (len(PEERS) + 2) + "|"]
    for title in SHOWN:
        cells = [milliseconds(cases[title], contender) for contender in ("vastmax", *PEERS.values())]
        rows.append(f"| {title.replace(', float32', '')} | {' | '.join(cells)} |")
    machine = results["machine"]
    versions = ", ".join(f"{peer} {machine['versions'][peer]}" for peer in ("scipy", "torch", "onnxruntime"))
    rows += [
        "",
        f"Measured on {name[:10]} at commit {machine['commit']} by `python -m vastmax bench --json`;",
        "`python bench/table.py` makes this table of it.",
        f"float32, {machine['threads']} threads, {machine['isa']}, {machine['cpu']}; {versions};",
        f"all of it, with where others are faster, is in [{name}](bench/results/{name}).",
    ]
    return "\n".join(rows)


def updated(text: str) -> str:
    """Return the README with its table made anew."""
    newest = max((ROOT / "bench" / "results").glob("*cores.json"))
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table(json.loads(newest.read_text()), newest.name)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
