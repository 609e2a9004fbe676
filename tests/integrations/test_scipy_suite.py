# SPDX-License-Identifier: Apache-2.0
"""SciPy's own tests of logsumexp, softmax and log_softmax, from the installed SciPy, with our functions swapped in.

Complex cases are left out: vastmax takes real dtypes. The one deliberate difference, that an empty input is no error,
is tested in test_special_values.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy.special")

PLUGIN = """
import vastmax

calls = {}
SWAPPED = ("logsumexp", "softmax", "log_softmax")
COMPLEX_ONLY = ("test_logsumexp_complex_sign", "test_gh21610", "test_gh21709_small_imaginary")

def is_complex(value):
    return isinstance(value, complex) or (isinstance(value, str) and value.startswith("complex"))

def pytest_collection_modifyitems(config, items):
    kept, left_out = [], []
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        drop = item.originalname in COMPLEX_ONLY or any(is_complex(v) for v in values)
        (left_out if drop else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept
    for module in {item.module for item in items}:
        for name in SWAPPED:
            def counted(*args, _name=name, **options):
                calls[_name] = calls.get(_name, 0) + 1
                return getattr(vastmax.special, _name)(*args, **options)
            setattr(module, name, counted)

def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("calls of vastmax: " + repr(sorted(calls.items())))
"""


def test_scipy_suite(tmp_path: Path) -> None:
    (tmp_path / "swap_in_vastmax.py").write_text(PLUGIN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    kept = {k: v for k, v in os.environ.items() if k not in ("SCIPY_ARRAY_API", "PYTEST_ADDOPTS")}
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "swap_in_vastmax", "-p", "no:cacheprovider"),
            *("-c", str(tmp_path / "pytest.ini"), "--pyargs", "scipy.special.tests.test_logsumexp"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    assert counts.get("passed", 0) >= 60, done.stdout[-1000:]
    calls = dict(re.findall(r"\('(\w+)', (\d+)\)", done.stdout))
    assert set(calls) == {"logsumexp", "softmax", "log_softmax"}, "the tests did not reach our functions"
