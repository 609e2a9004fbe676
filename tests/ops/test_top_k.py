# SPDX-License-Identifier: Apache-2.0
"""top_k: the start of a stable sort, for every k, dtype, axis, stride and order of the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax
from support import logit_rows

# The bits of `offload` are those of `device`: test_backends.
pytestmark = [pytest.mark.usefixtures("backend"), pytest.mark.backends("host", "device")]

Array = np.ndarray[Any, Any]
LENGTHS = (1, 2, 63, 64, 65, 1000, 2049, 4096, 4097, 9001, 70_001)


def wide(a: Any) -> Any:
    return np.asarray(a).astype(np.float64)


def ordered(x: Any) -> Any:
    """Indices by descending logit, ties to the lower index, NaN first."""
    z = wide(x)
    index = np.broadcast_to(np.arange(z.shape[-1]), z.shape)
    return np.lexsort((index, -np.where(np.isnan(z), 0, z), ~np.isnan(z)), -1)


def check(x: Array, k: int, **options: Any) -> None:
    values, indices = vastmax.top_k(x, k, **options)
    last = np.moveaxis(x, options.get("axis", -1), -1)
    want = ordered(last)[..., :k]
    got = np.moveaxis(indices, options.get("axis", -1), -1)
    np.testing.assert_array_equal(got, want)
    assert indices.dtype == np.int64
    assert values.dtype == x.dtype
    picked = np.take_along_axis(last, want, -1)
    assert np.moveaxis(values, options.get("axis", -1), -1).tobytes() == picked.tobytes()


def ks(n: int) -> list[int]:
    return sorted({k for k in (1, 2, 7, 50, n // 128, n // 100, n // 3, n - 1, n) if 1 <= k <= n})


@pytest.mark.parametrize("name", logit_rows.NAMES)
def test_rows(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)
    for k in ks(x.size):
        check(x, k)


@pytest.mark.parametrize("n", LENGTHS)
def test_every_length(dtype: Any, n: int) -> None:
    """Tails, blocks, rows that threads share; many ties."""
    x = np.round(np.random.default_rng(n).standard_normal((3, n)) * 4, 1).astype(dtype)
    for k in ks(n):
        check(x, k)


ORDERS: dict[str, Callable[[int], Array]] = {
    "ascending": lambda n: np.arange(n) / 64.0,
    "descending": lambda n: -np.arange(n) / 64.0,
    "equal": lambda n: np.full(n, 1.5),
    "zeros of both signs": lambda n: np.where(np.arange(n) % 3 == 0, -0.0, 0.0),
    "two values": lambda n: np.where(np.arange(n) % 977 == 5, 2.0, 1.0),
    "one large in each stretch": lambda n: np.where(np.arange(n) % 64 == 63, 9.0, np.arange(n) % 50),
    "all large in one stretch": lambda n: np.where(np.arange(n) // 300 == 7, 50.0 + np.arange(n) % 7, 0.0),
    "minus infinity": lambda n: np.where(np.arange(n) % 4099 == 2, 0.0, -np.inf),
    "only minus infinity": lambda n: np.full(n, -np.inf),
    "close together": lambda n: 1.0 + np.arange(n)[::-1] * 2.0**-52,
    "subnormal": lambda n: np.sin(np.arange(n)) * 1e-310,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [3000, 70_001])
def test_worst_cases(dtype: Any, order: str, n: int) -> None:
    with np.errstate(over="ignore"):
        x = ORDERS[order](n).astype(dtype)
    for k in ks(n):
        check(x, k)


@pytest.mark.parametrize("n", [6, 5000, 70_000])
def test_nan_ranks_above_infinity(dtype: Any, n: int) -> None:
    x = np.random.default_rng(n).standard_normal((4, n)).astype(dtype)
    x[0, n // 2] = np.nan
    x[1, [0, n - 1]] = np.nan, np.inf
    x[2] = np.nan
    x[3, ::2] = -np.array(np.nan)
    x[3, [1, 3]] = np.inf, -np.inf
    for k in ks(n):
        check(x, k)


def test_infinities_of_both_signs_are_no_nan(dtype: Any) -> None:
    x = np.zeros(5000, dtype)
    x[[7, 4500]], x[[23, 39, 4000]] = np.inf, -np.inf
    check(x, 3)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axis(dtype: Any, axis: int) -> None:
    x = np.random.default_rng(3).standard_normal((60, 30, 200)).astype(dtype)
    check(x, 5, axis=axis)
    check(x, 25, axis=axis)


def test_strides(dtype: Any) -> None:
    base = np.round(np.random.default_rng(5).standard_normal((40, 10_000)), 2).astype(dtype)
    odd = np.frombuffer(b"x" + base.tobytes(), np.uint8)[1:].view(np.uint8)
    unaligned = np.ndarray(base.shape, base.dtype, odd.data)
    for x in (base[::3, ::-1], base[:, 1::7], base.T, unaligned, np.broadcast_to(base[:1], (5, 10_000))):
        for k in (1, 20, 40):
            check(x, k)
    check(base.astype(base.dtype.newbyteorder(">")).astype(dtype), 3)


@pytest.mark.backends("host")
def test_same_for_any_number_of_threads(dtype: Any) -> None:
    x = np.round(np.random.default_rng(8).standard_normal(300_001) * 3, 1).astype(dtype)
    for k in (1, 50, 2000, 100_000):
        for threads in (1, 2, 5):
            with vastmax.config(threads=threads):
                check(x, k)


@pytest.mark.backends("host")
def test_integers_and_lists() -> None:
    values, indices = vastmax.top_k([3, 9, 2], 2)
    assert values.dtype == np.float64
    assert values.tolist() == [9, 3]
    assert indices.tolist() == [1, 0]
    values, indices = vastmax.top_k(np.zeros((0, 4), np.float32), 2)
    assert values.shape == indices.shape == (0, 2)
    values, indices = vastmax.top_k(np.float32(3), 1)
    assert values.tolist() == [3] or values.tolist() == 3


@pytest.mark.backends("host")
def test_errors() -> None:
    x = np.zeros((3, 4), np.float32)
    cases: list[tuple[type[Exception], tuple[str, ...], tuple[Any, ...]]] = [
        (ValueError, ("top_k", "k", "0", "1 to 4"), (x, 0)),
        (ValueError, ("k", "5", "1 to 4"), (x, 5)),
        (ValueError, ("k", "-1"), (x, -1)),
        (TypeError, ("k", "2.0"), (x, 2.0)),
        (TypeError, ("k", "None"), (x, None)),
        (ValueError, ("x", "(3, 0)"), (x[:, :0], 1)),
        (TypeError, ("axis",), (x, 1, None)),
        (TypeError, ("x", "complex128"), (x.astype(complex), 1)),
        (np.exceptions.AxisError, ("axis", "2"), (x, 1, 2)),
    ]
    for error, words, arguments in cases:
        with pytest.raises(error) as caught:
            vastmax.top_k(*arguments)
        assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.backends("host")
@pytest.mark.slow
def test_ten_million_classes() -> None:
    x = np.random.default_rng(1).standard_normal(10_000_001, np.float32)
    x[[3, 9_999_999]] = 7.5
    for k in (1, 50, 5000, 1_000_000):
        check(x, k)
