# SPDX-License-Identifier: Apache-2.0
"""Gates on compiled kernels: `python cuda/gates.py LOG [OBJECT...]`; cuda/gates.sh compiles and calls it.

LOG is what nvcc said with -Xptxas=-v: no kernel may keep anything in local memory. OBJECTs are disassembled where
cuobjdump is at hand (PATH, beside nvcc, or from PyPI): kernels of plain data move 16 bytes at once.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Kernel(NamedTuple):
    name: str
    arch: str


class Usage(NamedTuple):
    kernel: Kernel
    registers: int
    stack: int


# Kernels of plain data, by name and template arguments; the last argument of some says whether it is.
READS = re.compile(r"\w+_dense<|own_kernel<|(tiles|map)_kernel<.*true>|(short|block)_kernel<(?!.*false)")
WRITES = re.compile(r"\w+_dense<|map_kernel<.*true>|block_kernel<(?!.*false)|short_kernel<\w+, (?!true|false)")


def usages(log: Iterable[str]) -> Iterator[Usage]:
    """Each kernel in the output of ptxas."""
    kernel, stack = Kernel("", ""), 0
    for line in log:
        if entry := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            kernel = Kernel(*entry.groups())
        elif local := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack = max(map(int, local.groups()))
        elif used := re.search(r"Used (\d+) registers", line):
            yield Usage(kernel, int(used[1]), stack)


def instructions(sass: Iterable[str]) -> dict[Kernel, set[str]]:
    """The loads and stores of each kernel, as LDG, LDG.128, STG, STG.128, LDL, STL."""
    found: dict[Kernel, set[str]] = {}
    arch, kernel = "", Kernel("", "")
    for line in sass:
        if target := re.match(r"arch = (\w+)", line):
            arch = target[1]
        elif function := re.search(r"Function : (\w+)", line):
            kernel = Kernel(function[1], arch)
            found[kernel] = set()
        elif access := re.search(r"^\s+/\*\w+\*/.*?\b(LDG|STG|LDL|STL)\b(\S*)", line):
            found[kernel].add(access[1] + (".128" if ".128" in access[2] else ""))
    return found


def plain(names: Iterable[str]) -> dict[str, str]:
    """Names without mangling, namespace and parameters."""
    mangled = sorted(set(names))
    done = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
    short = [re.sub(r"^void |vastmax::(cuda::)?", "", n).partition("(")[0] for n in done.stdout.split("\n")]
    return dict(zip(mangled, short, strict=False))


def check_usages(found: list[Usage]) -> list[str]:
    """Print the hungriest kernels, return what is wrong."""
    names = plain(u.kernel.name for u in found)
    for usage in sorted(found, key=lambda u: -u.registers)[:5]:
        print(f"{usage.registers:4} registers  {usage.kernel.arch}  {names[usage.kernel.name]}")
    print(f"{len(found)} kernels for {', '.join(sorted({u.kernel.arch for u in found}))}")
    if not found:
        return ["no kernel in the output of ptxas: was -Xptxas=-v given?"]
    return [f"{u.stack} bytes of local memory  {u.kernel.arch}  {names[u.kernel.name]}" for u in found if u.stack]


def check_instructions(found: dict[Kernel, set[str]]) -> list[str]:
    """Return what is wrong."""
    names = plain(k.name for k in found)
    wrong, wide = [], 0
    for kernel, has in found.items():
        name = names[kernel.name]
        lacks = [need for need, which in (("LDG.128", READS), ("STG.128", WRITES)) if which.match(name)]
        wide += bool(lacks)
        wrong += [f"no {need}  {kernel.arch}  {name}" for need in lacks if need not in has]
        wrong += [f"{local}  {kernel.arch}  {name}" for local in ("LDL", "STL") if local in has]
    print(f"{len(found)} kernels disassembled, {wide} of plain data")
    return wrong if wide else [*wrong, "no kernel of plain data among them: have they other names?"]


def cuobjdump() -> str | None:
    """Find it; nvdisasm, which it calls, lies beside it."""
    nvcc = shutil.which("nvcc")
    wheels = Path(sysconfig.get_path("purelib")) / "nvidia"
    places = [os.environ["PATH"], *([str(Path(nvcc).parent)] if nvcc else []), *map(str, wheels.glob("cu*/bin"))]
    return shutil.which("cuobjdump", path=os.pathsep.join(places))


def disassembled(objects: list[str]) -> Iterator[str]:
    tool = cuobjdump()
    assert tool is not None
    environment = os.environ | {"PATH": os.pathsep.join((str(Path(tool).parent), os.environ["PATH"]))}
    for each in objects:
        run = subprocess.run([tool, "-sass", each], env=environment, capture_output=True, text=True, check=True)
        yield from run.stdout.splitlines()


def main(log: str, *objects: str) -> int:
    with open(log) as lines:
        wrong = check_usages(list(usages(lines)))
    if objects and cuobjdump() is None:
        print("not disassembled, there is no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm")
    elif objects:
        wrong += check_instructions(instructions(disassembled(list(objects))))
    print("\n".join(wrong) if wrong else "nothing in local memory, nothing narrow")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
