# SPDX-License-Identifier: Apache-2.0
"""Conditions that figures depend on: processor, load, memory, versions, commit."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import vastmax
from vastmax import _core
from vastmax._backends import tuned

from .contenders import PEERS, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .screen import Screen

T = TypeVar("T")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def described() -> dict[str, Any]:
    """Collect it."""
    return {
        "cpu": tuned.cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": list(os.getloadavg()),
        "caches": _core.caches(),
        "isa": vastmax.active_isa(),
        "threads": vastmax.get_num_threads(),
        "python": platform.python_version(),
        "versions": {"vastmax": vastmax.__version__, **installed(("numpy", *PEERS))},
        "compiler": _core.build_config().get("compiler", ""),
        "flags": _core.build_config().get("flags", ""),
        "commit": _commit(),
    }


def show(out: Screen, facts: dict[str, Any]) -> None:
    """Write it in three lines."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number)
    out.line(f"{facts['cpu']}; {facts['cores']} cores; load {facts['load'][0]:.1f}")
    out.line(f"isa {facts['isa']}, {facts['threads']} threads; {facts['compiler']} {facts['flags']}")
    out.line(f"Python {facts['python']}, {versions}; commit {facts['commit'] or 'unknown'}")


def _commit() -> str | None:
    """Return the commit of the checkout that this runs from, with "+" where it has changes, or was built from."""
    here = Path(vastmax.__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if git("ls-files", "--", "__init__.py"):  # else it is installed, in a folder that some repository holds
            changed = git("status", "--porcelain", "--untracked-files=no")
            return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    return _core.build_config().get("commit") or None


def beyond_caches() -> int:
    """Return the bytes from which on arrays do not stay in any cache."""
    return int(1.25 * max(_core.caches().values(), default=0))


def memory_free() -> int:
    """Return the bytes that a process may still take."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    return 4 << 30


def peak_growth(call: Callable[[], T]) -> tuple[T, int | None]:
    """Return a result, and by how many bytes resident memory rose at its peak; None where Linux does not tell."""
    _give_back()
    try:
        _CLEAR.write_text("5")  # the peak starts anew
        before = _resident("VmRSS")
        result = call()
        return result, max(_resident("VmHWM") - before, 0)
    except OSError:
        return call(), None


def _give_back() -> None:
    """Return freed memory to the system: what a call takes of it again would not show."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _resident(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1]) * 1024
