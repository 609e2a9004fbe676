# SPDX-License-Identifier: Apache-2.0
"""Losses of arrays on the GPU: the tests of the CPU, run on arrays of another library that "live" there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_cross_entropy import (  # noqa: F401 - collected here too
    test_axis,
    test_every_length,
    test_every_option,
    test_near_certainty,
    test_one_class,
    test_softcap,
)

import vastmax
from support.fake_gpu_arrays import ByDlpack

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]
HOST = {name: getattr(vastmax, name) for name in ("cross_entropy", "cross_entropy_with_grad", "logsumexp")}


def guest(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(guest(part) for part in value)
    return ByDlpack(value) if isinstance(value, np.ndarray) and value.size else value


def there(name: str) -> Callable[..., Any]:
    """The function `name`, which sends NumPy arrays to the GPU as those of another library, and brings results back."""

    def call(x: Any, *arguments: Any, **options: Any) -> Any:
        lent = {k: v if k == "temperature" else guest(v) for k, v in options.items()}
        made = HOST[name](guest(np.asarray(x)), *map(guest, arguments), **lent)
        parts = made if isinstance(made, tuple) else (made,)
        home = [p.copy_to_host()[()] if isinstance(p, vastmax.cuda.DeviceArray) else p for p in parts]
        home = [options["out"] if p is lent.get("out", home) else p for p in home]
        return (type(made)(*home) if hasattr(made, "_fields") else tuple(home)) if isinstance(made, tuple) else home[0]

    return call


@pytest.fixture(autouse=True)
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("vastmax._cuda")
    if not module.simulated:
        pytest.skip("host memory is not device memory here")
    for name in HOST:
        monkeypatch.setattr(vastmax, name, there(name))
    return


def test_results_live_on_the_gpu() -> None:
    x, target = ByDlpack(np.zeros((3, 4), np.float32)), ByDlpack(np.array([0, 3, -100], np.int32))
    loss, lse = HOST["cross_entropy"](x, target, reduction="none", return_lse=True)
    np.testing.assert_array_equal(loss.copy_to_host(), np.log(np.float32([4, 4, 1])))
    assert isinstance(lse, vastmax.cuda.DeviceArray)
    assert isinstance(HOST["cross_entropy"](x, target), np.float32)


@pytest.mark.parametrize("wrong", [4, -1, 2**40])
def test_targets_out_of_range_touch_nothing(wrong: int) -> None:
    x = np.zeros((2, 4), np.float32)
    out = np.full_like(x, 7)
    with pytest.raises(IndexError, match=f"target is {wrong} at row 1; accepted: 0 to 3"):
        HOST["cross_entropy_with_grad"](ByDlpack(x), ByDlpack(np.array([1, wrong])), out=ByDlpack(out))
    assert (out == 7).all()


def test_bad_input_says_what_is_accepted() -> None:
    x = ByDlpack(np.zeros((2, 4), np.float32))
    for target, error in ((np.zeros(3, np.int64), ValueError), (np.zeros((2, 3), np.float32), TypeError)):
        with pytest.raises(error, match="cross_entropy: target has"):
            HOST["cross_entropy"](x, ByDlpack(target))
    with pytest.raises(ValueError, match=r"weight has shape \(3,\)"):
        HOST["cross_entropy"](x, [0, 1], weight=ByDlpack(np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="reduction is 'max'"):
        HOST["cross_entropy"](x, [0, 1], reduction="max")


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
