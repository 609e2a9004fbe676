# SPDX-License-Identifier: Apache-2.0
"""Arrays of other libraries: the same library out, streams, capsules, devices, and what is refused.

On the SIMT machine, which has two devices; stand-ins play the libraries (fake_gpu_arrays.py).
"""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, fake_gpu_arrays, oracle, subprocesses
from support.fake_gpu_arrays import BeforeDlpack1, ByDlpack, ByInterface, Library
from vastmax._runtime import config as _config


def _simulated() -> bool:
    if not vastmax.cuda.is_available():
        return False
    import vastmax._cuda as module

    return bool(module.simulated)


pytestmark = [pytest.mark.any_isa, pytest.mark.skipif(not _simulated(), reason="needs the SIMT build of vastmax._cuda")]
X = (np.random.default_rng(3).standard_normal((3, 40)) * 3).astype(np.float32)


@pytest.fixture
def module() -> Any:
    import vastmax._cuda as module

    return module


@pytest.fixture
def streams(module: Any) -> Iterator[list[int]]:
    """One stream of each device."""
    made = [module.new_stream(device) for device in (0, 1)]
    yield made
    for device, stream in enumerate(made):
        module.end_stream(device, stream)


@pytest.fixture(params=fake_gpu_arrays.LIBRARIES)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(request.param, monkeypatch)


# --- the same library out


@pytest.mark.parametrize("device", [0, 1])
def test_the_same_library_out(library: Library, device: int, dtype: Any) -> None:
    if library.name == "numba" and np.dtype(dtype).kind == "V":
        pytest.skip("its interface has no bfloat16")
    x = X.astype(dtype)
    given = library.array(x, device)
    y, total = vastmax.softmax(given), vastmax.logsumexp(given, axis=-1)
    for made in (y, total):
        assert type(made) is library.kind
        assert made.memory.device == device
    contracts.check_softmax(y.get(), oracle.softmax(x.astype(np.float64)), hint=library.name)
    assert total.get().dtype == contracts.computed_in(contracts.name_of(dtype))
    np.testing.assert_allclose(total.get(), np.log(np.exp(x.astype(np.float64)).sum(-1)), rtol=1e-6)
    loss, grad = vastmax.binary_cross_entropy_with_logits(given, given, reduction="none", return_grad=True)
    assert type(loss) is type(grad) is library.kind


def test_a_reduced_loss_is_a_number(library: Library) -> None:
    t = (X > 0).astype(np.float32)
    loss = vastmax.binary_cross_entropy_with_logits(library.array(X, 1), library.array(t, 1))
    assert isinstance(loss, np.float32)
    assert loss == pytest.approx(vastmax.binary_cross_entropy_with_logits(X, t), rel=1e-6)


def test_out_of_the_same_library(library: Library) -> None:
    given, out = library.array(X), library.array(np.full_like(X, np.nan))
    if library.name == "jax":
        with pytest.raises(ValueError, match=r"softmax: out is a Array, which is immutable"):
            vastmax.softmax(given, out=out)
        assert np.isnan(out.get()).all()
        return
    assert vastmax.softmax(given, out=out) is out
    np.testing.assert_array_equal(out.get(), vastmax.softmax(given).get())


def test_no_library_is_imported() -> None:
    subprocesses.run(
        """
        import sys
        import numpy as np, vastmax
        from support.fake_gpu_arrays import ByDlpack
        loaded = set(sys.modules)
        vastmax.softmax(ByDlpack(np.zeros((2, 3), np.float32)))
        new = {name.partition(".")[0] for name in set(sys.modules) - loaded}
        assert not new & {"torch", "cupy", "jax", "numba"}, new
        """
    )


def test_a_library_without_memory_is_a_memory_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = Library("torch", monkeypatch)
    vast = np.broadcast_to(np.float32(0), (1, 1 << 29))

    class Vast(torch.kind):  # type: ignore[misc,name-defined]
        def __dlpack__(self, **_: Any) -> Any:
            return ByDlpack(vast).capsule(versioned=True)

    with pytest.raises(MemoryError, match=r"softmax on cuda:0: out of memory for float32 \(1, 536870912\): CUDA out"):
        vastmax.softmax(Vast(fake_gpu_arrays.filled(X, 0)))


def test_out_of_memory_names_op_device_and_sizes() -> None:
    for given in (ByDlpack(np.broadcast_to(np.float32(0), (1, 1 << 31))),):
        with pytest.raises(MemoryError, match=r"softmax on cuda:0: out of memory, 8589934592 bytes wanted, \d+ of \d+"):
            vastmax.softmax(given)


# --- streams


@pytest.mark.parametrize("name", ["torch", "cupy"])
def test_the_current_stream_of_the_library(name: str, streams: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(name, monkeypatch)
    for device in (0, 1):
        for current, said in ((streams[device], streams[device]), (0, 1), (2, 2)):
            library.module.streams[device] = current
            given = library.array(X, device)
            vastmax.softmax(given)
            assert given.asked[-1] == said, "the consumer's stream, 1 for the legacy default"


def test_the_stream_of_config_wins(library: Library, streams: list[int]) -> None:
    given = library.array(X)
    if library.name in ("torch", "cupy"):
        library.module.streams[0] = 2
    with vastmax.config(stream=streams[0]):
        vastmax.softmax(given)
    if library.name != "numba":
        assert given.asked == [streams[0]]
    with vastmax.config(stream=1):
        vastmax.softmax(given)
    if library.name != "numba":
        assert given.asked == [streams[0], 1]


@pytest.mark.parametrize("consumer", [None, 1, 2, -1, "other", "own"])
def test_who_waits_for_a_result(
    consumer: Any, streams: list[int], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = module.new_stream(0)
    with vastmax.config(stream=streams[0]):
        y = vastmax.softmax(ByDlpack(X))
    waits: list[Any] = []
    monkeypatch.setattr(module, "wait", lambda *a: waits.append(a))
    y.__dlpack__(stream={"other": other, "own": streams[0]}.get(consumer, consumer), max_version=(1, 0))
    expected = {None: 0, 1: 0, 2: 2, "other": other}
    assert waits == ([(expected[consumer], streams[0], 0)] if consumer in expected else [])
    module.end_stream(0, other)


@pytest.mark.parametrize("wrong", [0, -2])
def test_stream_numbers_that_the_standard_forbids(wrong: int) -> None:
    y = vastmax.softmax(ByDlpack(X))
    with pytest.raises(BufferError, match=f"stream is {wrong}; accepted: None, -1"):
        y.__dlpack__(stream=wrong)
    if wrong == 0:
        with pytest.raises(ValueError, match=r"softmax: x names the stream 0x0"):
            vastmax.softmax(ByInterface(X, stream=wrong))


def test_the_stream_of_an_interface_is_waited_for(
    streams: list[int], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[Any] = []
    monkeypatch.setattr(module, "wait", lambda *a: waits.append(a))
    for theirs, waited in ((None, []), (1, [(0, 0, 0)]), (2, [(0, 2, 0)]), (streams[0], [(0, streams[0], 0)])):
        vastmax.softmax(ByInterface(X, stream=theirs))
        assert waits == waited
        waits.clear()


def test_streams_of_other_devices_and_ended_ones(streams: list[int], module: Any) -> None:
    ended = module.new_stream(0)
    module.end_stream(0, ended)
    for wrong in (streams[1], ended, 12345):
        with vastmax.config(stream=wrong), pytest.raises(ValueError, match=rf"softmax: stream is {wrong:#x}.*cuda:0"):
            vastmax.softmax(ByDlpack(X))
        with (
            vastmax.config(stream=wrong, device="cuda"),
            pytest.raises(ValueError, match=rf"softmax: stream is {wrong:#x}.*cuda:0"),
        ):
            vastmax.softmax(X)
        with pytest.raises(ValueError, match=rf"softmax: x names the stream {wrong:#x}"):
            vastmax.softmax(ByInterface(X, stream=wrong))


def test_a_stream_lives_as_long_as_what_must_be_freed_on_it(module: Any) -> None:
    class Stream:
        def __init__(self) -> None:
            self.ptr = module.new_stream(0)

        def __del__(self) -> None:
            module.end_stream(0, self.ptr)

    stream = Stream()
    alive = weakref.ref(stream)
    before = module.memory(0)
    with vastmax.config(stream=stream):
        y = vastmax.softmax(ByDlpack(X))
    del stream
    gc.collect()
    assert alive() is not None
    del y
    gc.collect()
    assert alive() is None
    assert module.memory(0) == before
    assert isinstance(_config.Address(5), int)


# --- capsules


def test_capsules_of_every_version() -> None:
    want = vastmax.softmax(ByDlpack(X)).copy_to_host()
    old = BeforeDlpack1(X)
    np.testing.assert_array_equal(vastmax.softmax(old).copy_to_host(), want)
    assert old.asked == [1]
    new = ByDlpack(X)
    np.testing.assert_array_equal(vastmax.softmax(new).copy_to_host(), want)
    assert new.asked == [(1, (1, 0))]


@pytest.mark.parametrize(
    ("max_version", "name"), [(None, "dltensor"), ((0, 8), "dltensor"), ((1, 0), "dltensor_versioned")]
)
def test_capsules_that_we_give(max_version: Any, name: str, module: Any) -> None:
    capsule = vastmax.softmax(ByDlpack(X)).__dlpack__(max_version=max_version)
    assert f'"{name}"' in repr(capsule)
    pointer, device, kind, shape, steps, read_only, owner = module.import_dlpack(capsule)
    assert (device, kind, shape, steps, read_only) == ((2, 0), (2, 32, 1), [3, 40], [40, 1], False)
    assert pointer
    assert owner
    with pytest.raises(BufferError, match="no capsule that is still unused"):
        module.import_dlpack(capsule)


def test_a_capsule_of_integers(module: Any) -> None:
    """They are no floats of as many bits."""
    argmax = vastmax.softmax_stats(ByDlpack(X)).argmax
    _, _, kind, shape, _, _, _ = module.import_dlpack(argmax.__dlpack__(max_version=(1, 0)))
    assert (kind, tuple(shape)) == ((0, 64, 1), X.shape[:1])


def test_a_capsule_of_a_later_major_version() -> None:
    class Later(ByDlpack):
        def __dlpack__(self, **_: Any) -> Any:
            capsule = self.capsule(versioned=True)
            pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
            pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            address = pointer_of(capsule, b"dltensor_versioned")
            ctypes.c_uint32.from_address(address).value = 2
            return capsule

    with pytest.raises(BufferError, match="DLPack version is 2; accepted: 1"):
        vastmax.softmax(Later(X))


@pytest.mark.parametrize("kind", [ByDlpack, ByInterface])
def test_read_only_is_for_inputs(kind: Any) -> None:
    out = np.full_like(X, np.nan)
    with pytest.raises(ValueError, match="softmax: out is read-only; accepted: a writable array"):
        vastmax.softmax(kind(X), out=kind(out, read_only=True))
    assert np.isnan(out).all()
    vastmax.softmax(kind(X, read_only=True), out=kind(out))
    assert not np.isnan(out).any()


# --- devices


def test_arrays_on_two_devices() -> None:
    x, far = fake_gpu_arrays.filled(X, 0), fake_gpu_arrays.filled(X, 1)
    mask, t = fake_gpu_arrays.filled(X > 0, 1), fake_gpu_arrays.filled(np.ones(3), 1)
    for call, argument in (
        (lambda: vastmax.softmax(x, where=mask), "where"),
        (lambda: vastmax.softmax(x, temperature=t), "temperature"),
        (lambda: vastmax.softmax(x, out=far), "out"),
        (lambda: vastmax.softmax_backward(far, x), "grad_output"),
        (lambda: vastmax.binary_cross_entropy_with_logits(x, far), "target"),
    ):
        with pytest.raises(ValueError, match=f"{argument} is on cuda:1; accepted: cuda:0"):
            call()
    np.testing.assert_array_equal(far.copy_to_host(), X)
    y = vastmax.softmax(far, where=mask, temperature=t)
    assert y.device == 1
    np.testing.assert_allclose(y.copy_to_host(), vastmax.softmax(X, where=X > 0), rtol=1e-6)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="softmax: an array is on cuda:7; accepted: cuda:0, cuda:1"):
        vastmax.softmax(ByDlpack(X, 7))
    with pytest.raises(ValueError, match="softmax: out is on cuda:7; accepted: cuda:0, cuda:1"):
        vastmax.softmax(ByDlpack(X), out=ByDlpack(X.copy(), 7))
    with pytest.raises(ValueError, match="device is 7; accepted: 0 to 1"):
        vastmax.cuda.DeviceArray((3,), np.dtype(np.float32), 7, 0)


def test_an_interface_says_where_by_its_address(module: Any) -> None:
    y = vastmax.softmax(fake_gpu_arrays.WithInterface(fake_gpu_arrays.filled(X, 1)))
    assert y.device == 1
    assert vastmax.softmax(ByInterface(np.empty((0, 3), np.float32))).shape == (0, 3)
    pinned = module.pinned(X.nbytes).view(np.float32).reshape(X.shape)
    with pytest.raises(TypeError, match="softmax: an array is not in the memory of a GPU"):
        vastmax.softmax(ByInterface(pinned))


@pytest.mark.parametrize("current", [0, 1])
def test_the_current_device_stays(current: int, module: Any) -> None:
    far = fake_gpu_arrays.filled(X, 1 - current)
    module.set_device(current)
    try:
        y = vastmax.softmax(far)
        assert module.current_device() == current
        y.copy_to_host()
        vastmax.logsumexp(far, axis=-1)
        with pytest.raises(ValueError, match="out has shape"):
            vastmax.softmax(far, out=fake_gpu_arrays.room((2, 2), np.float32, 1 - current))
        with pytest.raises(MemoryError):
            vastmax.cuda.DeviceArray((1 << 40,), np.dtype(np.float32), 1 - current, 0)
        with pytest.raises(ValueError, match="stream is"), vastmax.config(stream=999):
            vastmax.softmax(far)
        del y
        gc.collect()
        assert module.current_device() == current
        before = module.memory(0)[0], module.memory(1)[0]
        seen = []
        copy = module.copy
        with vastmax.config(device="cuda"), pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "copy", lambda *a: (seen.append(a[3]), copy(*a))[1])
            vastmax.softmax(X)
        assert set(seen) == {current}, "NumPy data goes to the current device"
        assert (module.memory(0)[0], module.memory(1)[0]) == before
        assert module.current_device() == current
    finally:
        module.set_device(0)


# --- what cannot be used


class Elsewhere:
    """An array on a device that is no CUDA device."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def __dlpack_device__(self) -> Any:
        if isinstance(self.device, Exception):
            raise self.device
        return self.device

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("asked for its memory")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("copied to the host")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ((10, 0), "is on ROCm"),
        ((8, 0), "is on Metal"),
        ((14, 1), "is on oneAPI"),
        ((99, 0), "is on 99"),
        (ValueError("Unknown device type meta for Dlpack"), "is on a device that its library does not share"),
    ],
)
def test_devices_of_no_use(device: Any, words: str) -> None:
    accepted = "arrays on the CPU, or on a GPU with CUDA"
    for call in (
        lambda a: vastmax.softmax(a),
        lambda a: vastmax.logsumexp(a),
        lambda a: vastmax.softplus(a),
        lambda a: vastmax.softmax_backward(a, X),
    ):
        with pytest.raises(TypeError, match=f"(x|a|grad_output) {words}; accepted: {accepted}"):
            call(Elsewhere(device))
    with pytest.raises(TypeError, match=f"where {words}"):
        vastmax.softmax(X, where=Elsewhere(device))


def test_a_gpu_array_beside_numpy_ones() -> None:
    with pytest.raises(
        ValueError, match="softmax: where is on a GPU beside NumPy arrays; accepted: arrays of one device"
    ):
        vastmax.softmax(X, where=ByDlpack(X > 0))
    with pytest.raises(ValueError, match="softmax: temperature is on a GPU beside NumPy arrays"):
        vastmax.softmax(X, temperature=fake_gpu_arrays.filled(np.ones(3), 0))
    with pytest.raises(TypeError, match="softmax: out is a DeviceArray; accepted: a NumPy array"):
        vastmax.softmax(X, out=fake_gpu_arrays.room(X.shape, X.dtype, 0))


def test_numpy_does_not_read_a_gpu() -> None:
    y = vastmax.softmax(ByDlpack(X))
    with pytest.raises(TypeError, match="copy_to_host"):
        np.asarray(y)
    want = y.copy_to_host()
    columns = np.empty((40, 3), np.float32).T
    assert y.copy_to_host(columns) is columns
    np.testing.assert_array_equal(columns, want)
    with pytest.raises(ValueError, match=r"copy_to_host: out has shape \(3, 39\)"):
        y.copy_to_host(np.empty((3, 39), np.float32))
    with pytest.raises(ValueError, match="copy_to_host: out has dtype float16"):
        y.copy_to_host(np.empty((3, 40), np.float16))
