# SPDX-License-Identifier: Apache-2.0
"""NaN on a GPU is NaN whatever its bits. The SIMT machine makes the NaN of NVIDIA's float32 arithmetic, 0x7fffffff."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts
from support.backends import Case, Refusal, backward, forward, losses, outcome, wide
from support.fake_gpu_arrays import ByDlpack

pytestmark = [
    pytest.mark.usefixtures("simulated"),
    pytest.mark.cuda,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]
MANTISSA = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
PAYLOADS = {"1": 1, "NA of R": 0x7A2, "8 ones": 0xFF, "9 ones": 0x1FF, "all ones": -1, "signalling": None}


def nan(dtype: Any, payload: int | None, sign: int) -> Any:
    """A NaN of these bits; quiet, unless there is no payload."""
    bits, size = MANTISSA[contracts.name_of(dtype)], 8 * np.dtype(dtype).itemsize
    quiet = 1 << (bits - 1)
    low = 1 if payload is None else quiet | (payload & (quiet - 1))
    exponent = ((1 << (size - 1 - bits)) - 1) << bits
    made = np.array(sign << (size - 1) | exponent | low, f"u{size // 8}").view(dtype)
    with np.errstate(invalid="ignore"):  # ml_dtypes looks at a signalling NaN in float32
        assert np.isnan(made)
    return made


def rows_with(special: Any, dtype: Any, n: int) -> Any:
    """Rows of logits with a NaN at the first, a middle and the last class; two rows without."""
    x = (np.random.default_rng(n).standard_normal((5, n)) * 4).astype(dtype)
    for row, place in enumerate((0, n // 2, n - 1)):
        x[row, place] = special
    return x


def sampled(x: Any) -> list[Case]:
    results = {"seed": 1, "return_valid": True, "return_log_prob": True}
    return [Case("sample", (x,), {**results, **more}) for more in FILTERS]


FILTERS: tuple[dict[str, Any], ...] = ({}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.01})


@pytest.fixture
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


@pytest.mark.conformance
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("kind", [forward, backward, losses, sampled])
def test_every_op_keeps_a_nan_whatever_its_bits(kind: Any, payload: str, sign: int, dtype: Any) -> None:
    for n in (9, 1100) if payload == "all ones" else (9,):  # one tile of a row, and several
        plain, special = (rows_with(s, dtype, n) for s in (np.nan, nan(dtype, PAYLOADS[payload], sign)))
        for want_case, case in zip(kind(plain), kind(special), strict=True):
            want, got = outcome("host", want_case), outcome("device", case)
            assert not isinstance(want, Refusal)
            assert not isinstance(got, Refusal)
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(np.isnan(wide(a)), np.isnan(wide(b)), err_msg=f"{n} {case}")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("n", [9, 1100, 5000])
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_row_with_nan_has_nan_for_results(payload: str, n: int, dtype: Any) -> None:
    x = ByDlpack(rows_with(nan(dtype, PAYLOADS[payload], 0), dtype, n))
    ids = np.array([1, 2, 3, 4, 5])
    with_nan = [True] * 3 + [False] * 2
    for made in (
        vastmax.logsumexp(x, axis=-1),
        vastmax.entropy(x),
        vastmax.selective_log_softmax(x, ids),
        vastmax.cross_entropy(x, ids, reduction="none"),
        vastmax.softmax_stats(x).lse,
        vastmax.softmax_stats(x).max,
    ):
        np.testing.assert_array_equal(np.isnan(wide(made.copy_to_host())), with_nan)
    for made in (vastmax.softmax(x), vastmax.log_softmax(x), vastmax.gumbel_softmax(x, seed=1)):
        values = np.isnan(wide(made.copy_to_host()))
        np.testing.assert_array_equal(values.all(1), with_nan)
        np.testing.assert_array_equal(values.any(1), with_nan)
    np.testing.assert_array_equal(vastmax.sample(x, seed=1).copy_to_host() == -1, with_nan)


def test_the_machine_makes_the_nan_of_nvidia() -> None:
    x = np.full((2, 4), np.nan, np.float32)
    assert (x.view(np.uint32) == 0x7FC00000).all()
    made = vastmax.softmax_backward(ByDlpack(x), ByDlpack(x)).copy_to_host()
    np.testing.assert_array_equal(made.view(np.uint32), 0x7FFFFFFF)
