# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend against the same oracles and contracts as the CPU: on a GPU, or on the SIMT machine of the host.

Rows lie around lanes (32), groups of 16 bytes, tiles (512 or 1024 classes) and several tiles, at addresses off their
boundaries too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import contracts
import inputs
import oracle
import vastmax

pytestmark = pytest.mark.skipif(
    not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"
)

LENGTHS = (1, 2, 31, 33, 100, 511, 513, 1000, 1023, 1024, 1025, 2049, 5000)
UNARY = ("softplus", "sigmoid", "log_sigmoid")


@pytest.fixture(autouse=True)
def on_gpu() -> Iterator[None]:
    with vastmax.config(device="cuda"):
        plan = vastmax.explain(vastmax.softmax, np.zeros(3, np.float32))
        assert plan.backend == "cuda"
        yield


def logits(n: int, dtype: Any, rows: int = 3, sigma: float = 4.0) -> Any:
    return (np.random.default_rng(n).standard_normal((rows, n)) * sigma).astype(dtype)


def check_row(x: Any, hint: Any) -> None:
    z = x.astype(np.float64)
    contracts.check_softmax(vastmax.softmax(x), oracle.softmax(z), hint=hint)
    contracts.check("log_softmax", vastmax.log_softmax(x), oracle.log_softmax(z), hint=hint)
    contracts.check_logsumexp(vastmax.logsumexp(x, axis=-1), oracle.logsumexp(z), z, hint=hint)


@pytest.mark.parametrize("n", LENGTHS)
def test_rows_of_every_length(n: int, dtype: Any) -> None:
    check_row(logits(n, dtype), n)


@pytest.mark.parametrize("name", inputs.NAMES)
def test_rows_with_teeth(name: str, dtype: Any) -> None:
    check_row(inputs.row(name, dtype), name)


@pytest.mark.parametrize("place", ["first", "tile edge", "last"])
@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("n", [5, 1000, 3000])
def test_special_values_are_those_of_the_cpu(special: float, place: str, n: int, dtype: Any) -> None:
    x = logits(n, dtype)
    x[1, {"first": 0, "tile edge": n // 2, "last": n - 1}[place]] = special
    x[2] = -np.inf
    g = np.ones(3, contracts.computed_in(contracts.name_of(dtype)))
    for call in (
        vastmax.softmax,
        vastmax.log_softmax,
        lambda v: vastmax.logsumexp(v, axis=-1),
        lambda v: vastmax.logsumexp_backward(g, v, axis=-1),
    ):
        got = np.asarray(call(x)).astype(np.float64)
        with vastmax.config(device="cpu"):
            want = np.asarray(call(x)).astype(np.float64)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_array_equal(np.isinf(got) * np.sign(got), np.isinf(want) * np.sign(want))
        np.testing.assert_array_equal(got == 0, want == 0)


@pytest.mark.parametrize("n", [7, 1000, 2500])
def test_mask_temperature_and_axis(n: int, dtype: Any) -> None:
    x = logits(n, dtype)
    mask = np.random.default_rng(1).random(x.shape) < 0.7
    mask[1] = False
    t = np.array([0.7, 1.0, 2.0])
    for call in (vastmax.softmax, vastmax.log_softmax):
        got = call(x.T, axis=0, temperature=t, where=mask.T)
        with vastmax.config(device="cpu"):
            want = call(x.T, axis=0, temperature=t, where=mask.T)
        near(got, want, 2)
    got = vastmax.logsumexp(x[:, ::-1], axis=-1, temperature=t, where=mask)
    with vastmax.config(device="cpu"):
        near(got, vastmax.logsumexp(x[:, ::-1], axis=-1, temperature=t, where=mask), 1)


@pytest.mark.parametrize("n", [7, 1000, 2500])
def test_gradients(n: int, dtype: Any) -> None:
    x, g = logits(n, dtype), logits(n, dtype, sigma=1.0)[::-1].copy()
    with vastmax.config(device="cpu"):
        y, log_y = vastmax.softmax(x), vastmax.log_softmax(x)
    want, scale = oracle.softmax_backward(g, y)
    contracts.check("softmax_backward", vastmax.softmax_backward(g, y), want, scale=scale)
    contracts.check("softmax_backward", vastmax.softmax_backward(g.T, y.T, axis=0).T, want, scale=scale)
    want, scale = oracle.log_softmax_backward(g, log_y)
    contracts.check("log_softmax_backward", vastmax.log_softmax_backward(g, log_y), want, scale=scale)
    up = np.array([0.5, -2.0, 3.0], contracts.computed_in(contracts.name_of(dtype)))
    got = vastmax.logsumexp_backward(up, x, axis=-1, temperature=2.5)
    with vastmax.config(device="cpu"):
        near(got, vastmax.logsumexp_backward(up, x, axis=-1, temperature=2.5), 4 if dtype == np.float64 else 1)


def near(got: Any, want: Any, ulps: float) -> None:
    """`got` within so many spacings of `want`, and the same NaN and infinities."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    fmt = contracts.FORMATS[contracts.name_of(want.dtype)]
    wide = want.astype(np.float64)
    error = contracts.ulp_error(got, oracle.Exact(wide, np.zeros_like(wide), np.zeros(wide.shape, np.int64)), fmt)
    assert error.size == 0 or error.max() <= ulps, error.max()


@pytest.mark.parametrize("op", UNARY)
def test_every_16_bit_input_has_the_bits_of_the_cpu(op: str) -> None:
    for name in ("f16", "bf16"):
        x = np.arange(65536, dtype=np.uint16).view(contracts.FORMATS[name].dtype)
        got = getattr(vastmax, op)(x)
        with vastmax.config(device="cpu"):
            want = getattr(vastmax, op)(x)
        good = ~np.isnan(want.astype(np.float64))
        np.testing.assert_array_equal(got.view(np.uint16)[good], want.view(np.uint16)[good])
        assert np.isnan(got.astype(np.float64)[~good]).all()


def test_binary_cross_entropy(dtype: Any) -> None:
    x, t = logits(3000, dtype), np.random.default_rng(5).random((3, 3000)).astype(dtype)
    for reduction in ("none", "mean", "sum"):
        got = vastmax.binary_cross_entropy_with_logits(x, t, pos_weight=2.0, reduction=reduction, return_grad=True)
        with vastmax.config(device="cpu"):
            want = vastmax.binary_cross_entropy_with_logits(x, t, pos_weight=2.0, reduction=reduction, return_grad=True)
        near(got[0], want[0], 0 if reduction == "none" else 8)
        near(got[1], want[1], 0)


# --- arrays of other libraries, played by NumPy where the "GPU" is the host


class OnGpu:
    """An array on a GPU as another library would hold it."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.asked: list[Any] = []
        self.pointer = array.__array_interface__["data"][0]

    @property
    def shape(self) -> Any:
        return self.array.shape


class ByDlpack(OnGpu):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        self.asked.append((stream, max_version))
        module = pytest.importorskip("vastmax._cuda")
        a = self.array
        code = 4 if a.dtype.type.__name__ == "bfloat16" else 6 if a.dtype == bool else 2
        steps = [s // a.itemsize for s in a.strides]
        return module.export_dlpack(
            a, self.pointer, (2, 0), code, 8 * a.itemsize, list(a.shape), steps, max_version is not None
        )


class ByInterface(OnGpu):
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        a = self.array
        return {
            "shape": a.shape,
            "typestr": a.dtype.str,
            "data": (self.pointer, False),
            "strides": a.strides,
            "version": 3,
        }


@pytest.fixture
def simulated() -> None:
    import vastmax._cuda as module

    if not module.simulated:
        pytest.skip("host memory is not device memory here")


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("kind", [ByDlpack, ByInterface])
def test_arrays_of_others(kind: Any) -> None:
    x = logits(1500, np.float32)
    given = kind(x)
    y = vastmax.softmax(given)
    assert isinstance(y, vastmax.cuda.DeviceArray)
    contracts.check_softmax(y.copy_to_host(), oracle.softmax(x.astype(np.float64)))
    again = vastmax.logsumexp(y, axis=-1)
    np.testing.assert_allclose(
        again.copy_to_host(), np.log(np.exp(y.copy_to_host().astype(np.float64)).sum(-1)), rtol=1e-6
    )
    if kind is ByDlpack:
        assert given.asked[0] == (1, (1, 0)), "0 is not a stream in DLPack"


@pytest.mark.usefixtures("simulated")
def test_out_and_in_place() -> None:
    x = logits(1500, np.float32)
    want = vastmax.softmax(x)
    out = np.full_like(x, np.nan)
    wrapped = ByDlpack(out)
    assert vastmax.softmax(ByDlpack(x), out=wrapped) is wrapped
    np.testing.assert_array_equal(out, want)
    own = x.copy()
    vastmax.softmax(ByDlpack(own), out=ByDlpack(own))
    np.testing.assert_array_equal(own, want)
    room = np.empty(x.size + 7, np.float32)
    room[: x.size] = x.ravel()
    with pytest.raises(ValueError, match="shares a part"):
        vastmax.softmax(ByDlpack(room[: x.size].reshape(x.shape)), out=ByDlpack(room[7:].reshape(x.shape)))


@pytest.mark.usefixtures("simulated")
def test_errors_name_what_is_accepted() -> None:
    x = ByDlpack(logits(5, np.float32))
    with pytest.raises(TypeError, match="softmax: out is a ndarray"):
        vastmax.softmax(x, out=np.empty((3, 5), np.float32))
    with pytest.raises(ValueError, match="softmax: out has shape"):
        vastmax.softmax(x, out=ByDlpack(np.empty((3, 4), np.float32)))
    with pytest.raises(TypeError, match="dtype is float64"):
        vastmax.softmax(x, dtype=np.float64)
    with pytest.raises(TypeError, match="type code 0"):
        vastmax.softmax(IntegersByDlpack(np.arange(6)))
    with pytest.raises(ValueError, match=r"b is given for an array on a GPU"):
        vastmax.logsumexp(x, b=2.0)
    with pytest.raises(ValueError, match="temperature is"):
        vastmax.softmax(x, temperature=-1.0)


class IntegersByDlpack(ByDlpack):
    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:
        module = pytest.importorskip("vastmax._cuda")
        a = self.array
        return module.export_dlpack(a, self.pointer, (2, 0), 0, 64, list(a.shape), [1], True)


@pytest.mark.usefixtures("simulated")
def test_too_large_for_the_device_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="bytes wanted"):
        vastmax.cuda.DeviceArray((1 << 40,), np.dtype(np.float32), 0, 0)


def test_a_stream_is_an_address_or_knows_its_own() -> None:
    class Stream:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 0

    with vastmax.config(stream=Stream()):
        vastmax.softmax([1.0, 2.0])
    for wrong, error in (("x", TypeError), (-1, ValueError), (True, TypeError)):
        with pytest.raises(error, match="config: stream is"):
            vastmax.config(stream=wrong)
