# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend against the same oracles and contracts as the CPU: on a GPU, or on the SIMT machine of the host.

Rows lie around lanes (32), groups of 16 bytes, tiles (512 or 1024 classes) and several tiles, at addresses off their
boundaries too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, fake_dlpack_exchange, oracle
from support.fake_gpu_arrays import ByDlpack, ByInterface
from vastmax._backends.device import DeviceCall
from vastmax._backends.load import cuda_module

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]

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


@pytest.mark.parametrize("n", [50_257, 128_256])
def test_rows_of_real_vocabularies(n: int, dtype: Any) -> None:
    check_row(logits(n, dtype, rows=1), n)


@pytest.mark.conformance
def test_a_row_of_more_tiles_than_a_block_has_threads() -> None:
    check_row(logits(600_000, np.float32, rows=1), None)


def test_agrees_with_the_cpu_within_two_ulp(dtype: Any) -> None:
    x = np.concatenate([logits(3000, dtype, rows=8, sigma=sigma) for sigma in (0.1, 1, 4, 12, 40)])
    for call in (vastmax.softmax, vastmax.log_softmax, partial(vastmax.logsumexp, axis=-1)):
        got = call(x)
        with vastmax.config(device="cpu"):
            near(got, call(x), 4 if dtype == np.float64 else 2)


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


# --- arrays that live on the device


def to_device(x: Any) -> vastmax.cuda.DeviceArray:
    made = vastmax.cuda.DeviceArray(x.shape, x.dtype, 0, 0)
    cuda_module().copy(made.pointer, np.ascontiguousarray(x).ctypes.data, made.nbytes, 0, 0)
    return made


def there(call: Any, *arrays: Any) -> Any:
    """Return on the host what `call` makes of arrays on the device."""
    made = call(*[to_device(a) for a in arrays])
    return tuple(m.copy_to_host() for m in made) if type(made) is tuple else made.copy_to_host()


@pytest.mark.parametrize("n", [7, 1000, 2500])
@pytest.mark.parametrize("signed", [False, True])
def test_weights(n: int, signed: bool, dtype: Any) -> None:
    a, b = logits(n, dtype), np.random.default_rng(6).random((3, n)) * 3
    b = (b - 0.4 * signed).astype(dtype)
    b[:, ::3] = 0
    exact, sign, scale, condition = oracle.logsumexp_weighted(a.astype(np.float64), b.astype(np.float64))
    got, got_sign = there(lambda a, b: vastmax.logsumexp(a, axis=1, b=b, return_sign=True), a, b)
    np.testing.assert_array_equal(got_sign, sign)
    name = contracts.reduced(contracts.name_of(dtype))
    error = contracts.ulp_error(got, exact, contracts.FORMATS[name], scale)
    assert (error <= contracts.MAX_ULP["logsumexp_weighted"][name] * condition).all(), error.max()


def test_weights_with_special_values(wide_dtype: Any) -> None:
    inf, nan = np.inf, np.nan
    a = [
        [inf, 0, 1],
        [nan, 0, 1],
        [1000, 0, 1],
        [-inf, -inf, -inf],
        [5, 5, -inf],
        [inf, -inf, nan],
        [2, 2, 2],
        [inf, inf, 0],
    ]
    b = [[-1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 2, 3], [1, -1, 7], [0, 0, 0], [-1, 0, 0], [1, -1, 0]]
    a, b = (np.tile(np.asarray(v, wide_dtype), 500) for v in (a, b))  # over several tiles
    got = there(lambda a, b: vastmax.logsumexp(a, axis=1, b=b, return_sign=True), a, b)
    with vastmax.config(device="cpu"):
        want = vastmax.logsumexp(a, axis=1, b=b, return_sign=True)
        plain = vastmax.logsumexp(a, axis=1, return_sign=True)
    near(got[0], want[0], 1)
    np.testing.assert_array_equal(got[1], want[1])
    assert want[0][4] == -inf, "terms of several tiles cancel exactly"
    got = there(lambda a: vastmax.logsumexp(a, axis=1, return_sign=True), a)
    near(got[0], plain[0], 1)
    np.testing.assert_array_equal(got[1], plain[1])


def test_a_row_over_axes_that_do_not_lie_behind_each_other(dtype: Any) -> None:
    x = logits(4 * 30, dtype, rows=7).reshape(7, 4, 30)
    mask = np.random.default_rng(7).random(x.shape) < 0.8
    t = np.array([0.5, 1.0, 2.0, 3.0])
    for call in (vastmax.softmax, vastmax.log_softmax, vastmax.logsumexp):
        got = there(lambda x, mask, call=call: call(x, axis=(0, 2), where=mask, temperature=t), x, mask)
        with vastmax.config(device="cpu"):
            near(got, call(x, axis=(0, 2), where=mask, temperature=t), 2)
    got = there(lambda x, b: vastmax.logsumexp(x, b=b, axis=(2, 0)), x, mask[:1].astype(dtype))
    with vastmax.config(device="cpu"):
        near(got, vastmax.logsumexp(x, b=mask[:1].astype(dtype), axis=(2, 0)), 2)


def test_conversions_round_once(dtype: Any) -> None:
    rng = np.random.default_rng(8)
    wide = rng.standard_normal(4000) * 10.0 ** rng.integers(-45, 40, 4000)
    halves = (1 + np.arange(64) / 1024 + 2.0**-11) * np.array([[1.0], [-1.0]])  # ties of float16, and just beside them
    ties = [(halves * (1 + side)).ravel() for side in (0, 2.0**-45, -(2.0**-45))]
    x = np.concatenate([wide, *ties, [np.inf, -np.inf, 0.0, -0.0]])
    with np.errstate(all="ignore"):
        want = x.astype(dtype)
    site = DeviceCall("test", to_device(x))
    got = site.fetch(site.cast(site.upload(x), np.dtype(dtype)))
    if (name := contracts.name_of(dtype)) == "bf16":  # ml_dtypes rounds twice: by way of float32
        finite = np.isfinite(want.astype(np.float64))
        exact = oracle.Exact(x[finite], np.zeros(finite.sum()), np.zeros(finite.sum(), np.int64))
        assert contracts.ulp_error(got[finite], exact, contracts.FORMATS[name]).max() <= 0.5
        np.testing.assert_array_equal(got[~finite].astype(np.float64), want[~finite].astype(np.float64))
    else:
        np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))
    back = site.fetch(site.cast(site.upload(want), np.dtype(np.float64)))
    np.testing.assert_array_equal(back, want.astype(np.float64))


def test_dtype_and_mixed_dtypes(dtype: Any) -> None:
    x, y = logits(600, dtype), logits(600, np.float32)
    for wanted in (np.float16, np.float32, np.float64):
        got = there(partial(vastmax.softmax, dtype=wanted), x)
        with vastmax.config(device="cpu"):
            near(got, vastmax.softmax(x, dtype=wanted), 2)
    got = there(vastmax.softmax_backward, y, x)
    with vastmax.config(device="cpu"):
        near(got, vastmax.softmax_backward(y, x), 2)


# --- arrays of other libraries; more in test_cuda_arrays.py


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
    vastmax.softmax(ByDlpack(room[: x.size].reshape(x.shape)), out=ByDlpack(room[7:].reshape(x.shape)))
    np.testing.assert_array_equal(room[7:].reshape(x.shape), want)


def same_bits(got: Any, want: Any) -> None:
    assert (got.dtype, got.shape, got.tobytes()) == (want.dtype, want.shape, want.tobytes())


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("offset", [1, 3, 7])
def test_off_their_boundaries(offset: int, dtype: Any) -> None:
    room = logits(3 * 3100 + 8, dtype, rows=1)[0]
    x = room[offset : offset + 3 * 3100].reshape(3, 3100)
    out = np.full(room.size, 7, dtype)
    y = out[8 - offset :][: x.size].reshape(x.shape)
    for call in (vastmax.softmax, vastmax.log_softmax, vastmax.softplus):
        call(ByDlpack(x), out=ByDlpack(y))
        same_bits(y, call(x.copy()))
        assert (out[: 8 - offset] == 7).all()
        assert (out[8 - offset + x.size :] == 7).all()
    strided = logits(4100, dtype)[:, 1::2]
    same_bits(vastmax.softmax(ByDlpack(strided)).copy_to_host(), vastmax.softmax(strided.copy()))


@pytest.mark.usefixtures("simulated")
def test_offsets_beyond_32_bits() -> None:
    room = np.zeros(3 << 30, np.float32)  # 12 GB that nobody touches
    x = np.lib.stride_tricks.as_strided(room, (2, 2, 2000), (5 << 30, (1 << 31) + 64, 4))
    mask = np.random.default_rng(9).random((2, 2, 4000)) < 0.7
    for where in (None, mask[..., ::2]):
        x[:] = logits(2000, np.float32, rows=4).reshape(x.shape)
        want = vastmax.softmax(x.copy(), where=where)
        vastmax.softmax(ByDlpack(x), where=where if where is None else ByDlpack(where), out=ByDlpack(x))
        same_bits(x.copy(), want)


CALLS = {
    "softmax": lambda x, g, **out: vastmax.softmax(x, **out),
    "log_softmax": lambda x, g, **out: vastmax.log_softmax(x, **out),
    "logsumexp": lambda x, g, **out: vastmax.logsumexp(x, axis=-1, **out),
    "softmax_backward": lambda x, g, **out: vastmax.softmax_backward(g, x, **out),
    "softplus": lambda x, g, **out: vastmax.softplus(x, **out),
    "sigmoid_backward": lambda x, g, **out: vastmax.sigmoid_backward(g, x, **out),
}


@pytest.fixture
def short_road(simulated: None) -> Iterator[None]:
    fake_dlpack_exchange.OnGpu.sixteen = contracts.FORMATS["bf16"].dtype
    fake_dlpack_exchange.streams.clear()
    with vastmax.config():  # as outside of any `config`
        token = vastmax._runtime.config.scope.set(None)
        yield
        vastmax._runtime.config.scope.reset(token)
    assert not fake_dlpack_exchange.living, "a tensor was not given back"


@pytest.mark.usefixtures("short_road")
@pytest.mark.parametrize("call", CALLS)
def test_the_short_road_gives_arrays_of_the_same_library_with_the_same_bits(call: str, dtype: Any) -> None:
    x, g = logits(1500, dtype), logits(1501, dtype)[:, 1:].copy()
    with vastmax.config(device="cuda"):
        want = CALLS[call](x, g)
    got = CALLS[call](fake_dlpack_exchange.OnGpu(x), fake_dlpack_exchange.OnGpu(g))
    assert type(got) is fake_dlpack_exchange.OnGpu
    assert fake_dlpack_exchange.streams == [(2, 0)]
    same_bits(got.array, want)
    out = fake_dlpack_exchange.OnGpu(np.empty_like(want))
    assert CALLS[call](fake_dlpack_exchange.OnGpu(x), fake_dlpack_exchange.OnGpu(g), out=out) is out
    same_bits(out.array, want)


@pytest.mark.usefixtures("short_road")
def test_the_short_road_is_closed_for_what_it_cannot_do() -> None:
    import vastmax._cuda as module

    x = logits(40, np.float32)
    room = np.zeros((2, 3, 40), np.float32)
    refused = {
        "strides": x[:, ::2],
        "integers": x.astype(np.int32),
        "elements": x[:, :0],
        "dimensions": np.array(x[0, 0]),
        "what the library itself refuses": None,
    }
    for why, array in refused.items():
        assert module.softmax_plain(fake_dlpack_exchange.OnGpu(array), None) is None, why
    out = {
        "shape": fake_dlpack_exchange.OnGpu(np.zeros((3, 41), np.float32)),
        "dtype": fake_dlpack_exchange.OnGpu(np.zeros((3, 40))),
        "read-only": fake_dlpack_exchange.OnGpu(np.zeros_like(x), flags=1),
        "library": np.zeros_like(x),
    }
    for why, array in out.items():
        assert module.softmax_plain(fake_dlpack_exchange.OnGpu(x), array) is None, why
        assert not getattr(array, "array", array).any(), why
    room.ravel()[:120] = x.ravel()
    overlapping = fake_dlpack_exchange.OnGpu(room.ravel()[40:160].reshape(3, 40))
    assert module.softmax_plain(fake_dlpack_exchange.OnGpu(room[0]), overlapping) is None
    assert module.softmax_backward_plain(fake_dlpack_exchange.OnGpu(x), fake_dlpack_exchange.OnGpu(x[:2]), None) is None
    assert module.logsumexp_plain(fake_dlpack_exchange.OnGpu(x[0]), None) is None


@pytest.mark.usefixtures("simulated")
def test_errors_name_what_is_accepted() -> None:
    x = ByDlpack(logits(5, np.float32))
    with pytest.raises(TypeError, match="softmax: out is a ndarray"):
        vastmax.softmax(x, out=np.empty((3, 5), np.float32))
    with pytest.raises(ValueError, match="softmax: out has shape"):
        vastmax.softmax(x, out=ByDlpack(np.empty((3, 4), np.float32)))
    with pytest.raises(TypeError, match="dtype is int64"):
        vastmax.softmax(x, dtype=np.int64)
    with pytest.raises(TypeError, match="x has dtype int64"):
        vastmax.softmax(ByDlpack(np.arange(6)))
    with pytest.raises(ValueError, match=r"b has shape \(4,\)"):
        vastmax.logsumexp(x, b=np.ones(4))
    with pytest.raises(ValueError, match="temperature is"):
        vastmax.softmax(x, temperature=-1.0)
    with pytest.raises(TypeError, match="softplus: beta is"):
        vastmax.softplus(x, np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match="softplus_backward: beta is"):
        vastmax.softplus_backward(x, x, np.array([1.0, 2.0]))


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
