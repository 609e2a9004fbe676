# SPDX-License-Identifier: Apache-2.0
"""What is special about losses of arrays that live on a GPU; test_cross_entropy runs on them too."""

from __future__ import annotations

import numpy as np
import pytest

import vastmax
from support.fake_gpu_arrays import ByDlpack

pytestmark = [pytest.mark.usefixtures("simulated"), pytest.mark.cuda]


def test_results_live_on_the_gpu() -> None:
    x, target = ByDlpack(np.zeros((3, 4), np.float32)), ByDlpack(np.array([0, 3, -100], np.int32))
    loss, lse = vastmax.cross_entropy(x, target, reduction="none", return_lse=True)
    np.testing.assert_array_equal(loss.copy_to_host(), np.log(np.float32([4, 4, 1])))
    assert isinstance(lse, vastmax.cuda.DeviceArray)
    assert isinstance(vastmax.cross_entropy(x, target), np.float32)


@pytest.mark.parametrize("wrong", [4, -1, 2**40])
def test_targets_out_of_range_touch_nothing(wrong: int) -> None:
    x = np.zeros((2, 4), np.float32)
    out = np.full_like(x, 7)
    with pytest.raises(IndexError, match=f"target is {wrong} at row 1; accepted: 0 to 3"):
        vastmax.cross_entropy_with_grad(ByDlpack(x), ByDlpack(np.array([1, wrong])), out=ByDlpack(out))
    assert (out == 7).all()


def test_bad_input_says_what_is_accepted() -> None:
    x = ByDlpack(np.zeros((2, 4), np.float32))
    for target, error in ((np.zeros(3, np.int64), ValueError), (np.zeros((2, 3), np.float32), TypeError)):
        with pytest.raises(error, match="cross_entropy: target has"):
            vastmax.cross_entropy(x, ByDlpack(target))
    with pytest.raises(ValueError, match=r"weight has shape \(3,\)"):
        vastmax.cross_entropy(x, [0, 1], weight=ByDlpack(np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="reduction is 'max'"):
        vastmax.cross_entropy(x, [0, 1], reduction="max")


@pytest.mark.parametrize("op", ["LogSumExp", "linear_logsumexp"])
def test_what_cannot_run_there_says_so_rather_than_run_elsewhere(op: str) -> None:
    x = np.zeros((2, 4), np.float32)
    call = {
        "LogSumExp": lambda a: vastmax.LogSumExp(2).update(a),
        "linear_logsumexp": lambda a: vastmax.linear_logsumexp(a, x),
    }[op]
    with vastmax.config(device="cuda"), pytest.raises(vastmax.BackendUnavailable, match="accepted: NumPy arrays"):
        call(x)
    with pytest.raises(vastmax.BackendUnavailable, match="no GPU version"):
        call(ByDlpack(x))
