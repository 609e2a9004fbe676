# SPDX-License-Identifier: Apache-2.0
"""Gate on what ptxas says of the kernels: nothing on the stack, nothing spilled.

Reads the output of nvcc with -Xptxas=-v from files or standard input. Prints the kernels that use most registers, exits
with 1 if any uses local memory.
"""

from __future__ import annotations

import fileinput
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Kernel(NamedTuple):
    name: str
    arch: str
    registers: int
    stack: int


def kernels(lines: Iterable[str]) -> Iterator[Kernel]:
    name, arch, stack = "", "", 0
    for line in lines:
        if entry := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name, arch = entry.groups()
        elif local := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack = max(map(int, local.groups()))
        elif used := re.search(r"Used (\d+) registers", line):
            yield Kernel(name, arch, int(used[1]), stack)


def plain(names: list[str]) -> list[str]:
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return [re.sub(r"vastmax::(cuda::)?", "", n).partition("(")[0] for n in done.stdout.split("\n")]


def main() -> int:
    with fileinput.input() as lines:
        found = sorted(kernels(lines), key=lambda k: -k.registers)
    if not found:
        print("no kernel in the output of ptxas: was -Xptxas=-v given?")
        return 1
    names = plain([k.name for k in found])
    for kernel, name in list(zip(found, names, strict=False))[:5]:
        print(f"{kernel.registers:4} registers  {kernel.arch}  {name}")
    bad = [(k, n) for k, n in zip(found, names, strict=False) if k.stack]
    for kernel, name in bad:
        print(f"{kernel.stack:4} bytes of local memory  {kernel.arch}  {name}")
    print(f"{len(found)} kernels, {len(bad)} with local memory")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
