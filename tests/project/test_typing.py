# SPDX-License-Identifier: Apache-2.0
"""What a user writes passes `mypy --strict`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vastmax

pytestmark = pytest.mark.any_isa

PROGRAM = """
import numpy as np
import numpy.typing as npt
import vastmax


def run(x: npt.NDArray[np.float32], flag: bool) -> npt.NDArray[np.float32]:
    vastmax.logsumexp(x, return_sign=flag)
    vastmax.logsumexp(x, None, None, False, flag)
    value, sign = vastmax.logsumexp(x, return_sign=True)
    vastmax.binary_cross_entropy_with_logits(x, x, return_grad=flag)
    vastmax.cross_entropy(x, [0], return_lse=flag)
    vastmax.softplus(x, np.float32(2))
    vastmax.softplus_backward(x, x, np.float32(2))
    ids = vastmax.sample(x, seed=np.random.default_rng(1))
    x[ids] = 0
    ids, log_prob = vastmax.sample(x, seed=1, return_log_prob=True)
    vastmax.special.expit(x).sum()
    stats = vastmax.softmax_stats(x, ids, top_n=2)
    stats.target_rank.sum(), (stats.target_log_prob < 0).any(), stats.top_indices[..., 0]
    sampler = vastmax.LogUniformSampler(len(x))
    result = vastmax.sampled_softmax(x, x, ids, sampler=sampler, num_sampled=3)
    result.grad_weight.apply_adagrad_(x, x, 0.1)
    result.grad_input.sum()
    y: npt.NDArray[np.float32] = vastmax.softmax(x)
    return y
"""


@pytest.mark.conformance
def test_a_program_passes_strict_checks(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    installed = Path(vastmax.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", os.devnull, str(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": str(installed)} if installed.name == "python" else None,
        cwd=tmp_path,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
