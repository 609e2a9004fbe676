# SPDX-License-Identifier: Apache-2.0
"""Scripts in a fresh interpreter, for what may crash, hang or change a process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from support import TESTS


def run(
    script: str,
    *,
    timeout: float = 120,
    env: dict[str, str] | None = None,
    args: tuple[str, ...] = (),
    python: tuple[str, ...] = (sys.executable,),
) -> str:
    """Standard output of a script that must end with status 0."""
    done = attempt(script, timeout=timeout, env=env, args=args, python=python)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def attempt(
    script: str,
    *,
    timeout: float = 120,
    env: dict[str, str] | None = None,
    args: tuple[str, ...] = (),
    python: tuple[str, ...] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    # Away from the repository, so that the installed package is what runs; with this folder for the oracle.
    tests = str(TESTS)
    path = os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [*python, "-c", textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd="/",
        env={**os.environ, "PYTHONPATH": path, **(env or {})},
        check=False,
    )
