# SPDX-License-Identifier: Apache-2.0
"""What a call leaves behind in a process that it shares: contexts, streams, errors, pools, graphs, other libraries.

The runtime of the SIMT machine keeps account of them (cuda/simt/runtime.hpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import vastmax
from support import fake_dlpack_exchange, fake_gpu_arrays, subprocesses
from support.fake_gpu_arrays import ByDlpack, ByInterface, Library
from vastmax._backends import offload as _chunks

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]
X = (np.random.default_rng(3).standard_normal((3, 40)) * 3).astype(np.float32)
IDS = np.array([0, 1, 39])


@pytest.fixture(autouse=True)
def module() -> Any:
    import vastmax._cuda as module

    if not module.simulated:
        pytest.skip("asks the SIMT machine")
    return module


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library("torch", monkeypatch)


# --- tensors that are more than their memory

CALLS: dict[str, Callable[[Any], Any]] = {
    "softmax": vastmax.softmax,
    "softmax, temperature": lambda x: vastmax.softmax(x, temperature=2.0),
    "softmax, out": lambda x: vastmax.softmax(ByDlpack(X), out=x),
    "logsumexp": lambda x: vastmax.logsumexp(x, axis=-1),
    "softplus": vastmax.softplus,
    "softmax_backward": lambda x: vastmax.softmax_backward(x, x),
    "cross_entropy": lambda x: vastmax.cross_entropy(x, IDS),
    "binary_cross_entropy_with_logits": lambda x: vastmax.binary_cross_entropy_with_logits(x, x),
    "entropy": vastmax.entropy,
    "top_k": lambda x: vastmax.top_k(x, 3),
    "sample": lambda x: vastmax.sample(x, seed=1),
    "gumbel_softmax": lambda x: vastmax.gumbel_softmax(x, seed=1),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_tensor_that_requires_grad_is_refused_while_torch_records(call: str, torch: Library) -> None:
    x = torch.array(X)
    x.requires_grad = True
    with pytest.raises(ValueError, match=r": \w+ requires grad, which vastmax does not record; accepted: \w+.detach()"):
        CALLS[call](x)
    np.testing.assert_array_equal(x.get(), X)
    with torch.module.no_grad():
        CALLS[call](x)
    CALLS[call](x.detach())


@pytest.mark.parametrize("call", CALLS)
def test_a_view_with_its_negative_bit_set_is_refused(call: str, torch: Library) -> None:
    x = torch.array(X)
    x.negative = True
    with pytest.raises(ValueError, match=r": \w+ is a view with its negative bit set; accepted: \w+.resolve_neg()"):
        CALLS[call](x)
    np.testing.assert_array_equal(x.get(), X)


@pytest.mark.parametrize("what", ["requires_grad", "negative", "is_fake"])
@pytest.mark.parametrize("place", ["input", "second input", "out"])
def test_the_short_road_is_closed_for_them(what: str, place: str, module: Any) -> None:
    plain, more = fake_dlpack_exchange.OnGpu(X.copy()), fake_dlpack_exchange.OnGpu(X.copy())
    setattr(more, what, True)
    made = {
        "input": lambda: module.softmax_plain(more, None),
        "second input": lambda: module.softmax_backward_plain(plain, more, None),
        "out": lambda: module.softmax_plain(plain, more),
    }[place]()
    assert made is None
    np.testing.assert_array_equal(more.array, X)


def test_an_array_without_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ByDlpack(X)
    fake.pointer = 0
    nowhere = ByInterface(X, data=(0, False))
    for x in (fake, nowhere):
        with pytest.raises(ValueError, match="softmax: x has no memory, as fake tensors have none"):
            vastmax.softmax(x)
    assert vastmax.softmax(ByDlpack(X[:0])).shape == (0, 40)


# --- several devices


@pytest.mark.parametrize("call", CALLS)
def test_tensors_of_a_device_that_is_not_current(call: str, torch: Library) -> None:
    x = torch.array(X, 1)
    if call == "softmax, out":
        assert vastmax.softmax(torch.array(X, 1), out=x) is x
        return
    CALLS[call](x)
    assert x.asked, "by DLPack"


def test_no_context_is_made_on_the_device_of_others() -> None:
    subprocesses.run(
        """
        import numpy as np, vastmax, vastmax._cuda as module
        from support.fake_gpu_arrays import ByDlpack, filled
        assert not module.has_context(0)
        x = filled(np.ones((3, 5), np.float32), 1)
        vastmax.softmax(x).copy_to_host()
        vastmax.cross_entropy(x, [0, 1, 2])
        assert module.has_context(1)
        assert not module.has_context(0)
        vastmax.softmax(ByDlpack(np.ones((3, 5), np.float32))).copy_to_host()
        assert module.has_context(0)
        module.set_device(0)
        vastmax.softmax(x)
        assert module.current_device() == 0, "put back where there is a context"
        """
    )


# --- graphs


@pytest.fixture
def captured(module: Any) -> Iterator[int]:
    stream = module.new_stream(0)
    module.capture(stream, True)
    yield stream
    module.capture(stream, False)
    module.end_stream(0, stream)


HOST_MEMORY: dict[str, Callable[[Any], Any]] = {
    "scalar temperature": lambda x: vastmax.softmax(x, temperature=2.0),
    "temperature": lambda x: vastmax.logsumexp(x, axis=-1, temperature=fake_gpu_arrays.filled(np.ones(3), 0)),
    "mask": lambda x: vastmax.softmax(x, where=X > 0),
    "weights": lambda x: vastmax.logsumexp(x, axis=-1, b=np.ones(40, np.float32)),
    "targets": lambda x: vastmax.cross_entropy(x, IDS, reduction="none"),
    "reduced loss": lambda x: vastmax.binary_cross_entropy_with_logits(x, x),
    "index": lambda x: vastmax.selective_log_softmax(x, IDS),
    "filter": lambda x: vastmax.sample(x, top_k=3, seed=1),
}


@pytest.mark.parametrize("call", HOST_MEMORY)
def test_a_graph_captures_no_host_memory(call: str, captured: int) -> None:
    with (
        vastmax.config(stream=captured),
        pytest.raises(ValueError, match=r"^\w+: stream is captured into a graph, and"),
    ):
        HOST_MEMORY[call](fake_gpu_arrays.filled(X, 0))


def test_a_graph_captures_no_numpy_data(captured: int) -> None:
    refused = r"^\w+: stream is captured into a graph, and"
    for call in (vastmax.softmax, vastmax.softplus, lambda x: vastmax.binary_cross_entropy_with_logits(x, x)):
        with vastmax.config(device="cuda", stream=captured), pytest.raises(ValueError, match=refused):
            call(X)


def test_a_graph_captures_what_stays_on_the_device(captured: int) -> None:
    x = fake_gpu_arrays.filled(X, 0)
    with vastmax.config(stream=captured):
        for made in (
            vastmax.softmax(x),
            vastmax.logsumexp(x, axis=-1),
            vastmax.softmax(x, where=fake_gpu_arrays.filled(X > 0, 0)),
        ):
            assert isinstance(made, vastmax.cuda.DeviceArray)


# --- errors, pools, streams


def test_an_error_that_is_passed_over_is_not_left_for_others(module: Any, captured: int) -> None:
    shared = vastmax.softmax(fake_gpu_arrays.filled(X, 0))
    assert shared.__cuda_array_interface__
    del shared  # waits for the device, which a capture forbids
    assert module.last_error() == "cudaSuccess"
    module.free(1 << 20, 0, 0, False)  # no memory of this device
    assert module.last_error() == "cudaSuccess"
    assert not module.is_stream_of(0, 1 << 20)
    assert module.last_error() == "cudaSuccess"
    with pytest.raises(RuntimeError, match="cudaErrorInvalidResourceHandle"):
        module.end_stream(0, 1 << 20)
    assert module.last_error() == "cudaSuccess"


@pytest.mark.parametrize(("before", "after"), [(0, 256 << 20), (1 << 20, 256 << 20), (1 << 40, 1 << 40), (-1, -1)])
def test_the_pool_keeps_what_others_asked_it_to_keep(before: int, after: int) -> None:
    subprocesses.run(
        f"""
        import numpy as np, vastmax, vastmax._cuda as module
        from support.fake_gpu_arrays import ByDlpack
        module.release_threshold(0, {before % (1 << 64)})
        vastmax.softmax(ByDlpack(np.ones((3, 5), np.float32)))
        assert module.release_threshold(0, None) == {after % (1 << 64)}
        """
    )


def test_no_stream_is_lost_where_pinned_memory_cannot_be_had(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_chunks, "_idle", {})
    before = module.streams()
    module.limit_pinned(0)
    try:
        with vastmax.config(device="cuda"), pytest.raises(MemoryError, match="pinned host memory: "):
            vastmax.softmax(X)
    finally:
        module.limit_pinned(1 << 40)
    assert module.streams() == before
    assert module.last_error() == "cudaSuccess"


@pytest.mark.parametrize(
    ("architectures", "capability", "there"),
    [
        ("80-real,90", 75, False),
        ("80-real,90", 80, True),
        ("80-real,90", 86, True),  # machine code of a smaller minor version
        ("80-real,90", 90, True),
        ("80-real,90", 120, True),  # PTX of 9.0
        ("80-real,90-real", 100, False),
        ("90-virtual", 89, False),
        ("90-virtual", 90, True),
        ("90a", 90, True),
        ("90a", 100, False),
        ("86-real", 80, False),
        ("native", 75, True),
    ],
)
def test_which_gpus_have_kernels(architectures: str, capability: int, there: bool, module: Any) -> None:
    assert module.has_image(architectures, capability) == there


def test_a_gpu_without_kernels_is_not_available() -> None:
    subprocesses.run(
        """
        import pytest, numpy as np, vastmax, vastmax._cuda as module
        module.set_capability(-10)
        assert not vastmax.cuda.is_available()
        assert "no kernels for a GPU of compute capability" in vastmax.cuda.reason()
        with pytest.raises(vastmax.BackendUnavailable, match="no kernels for a GPU"), vastmax.config(device="cuda"):
            vastmax.softmax(np.ones(3))
        """
    )
