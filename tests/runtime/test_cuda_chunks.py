# SPDX-License-Identifier: Apache-2.0
"""NumPy data on a GPU: the same bits wherever it is cut, and device memory that stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts
from vastmax._backends import policy as _policy

needs_gpu = pytest.mark.skipif(
    not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"
)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (0,), (3, 0), (4, 5), (2, 3, 4), (1, 1, 9), (5, 1, 2)])
@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 1000])
def test_blocks_cover_all_once_in_order(shape: tuple[int, ...], most: int) -> None:
    from vastmax._backends.chunks import blocks

    numbers = np.arange(prod(shape)).reshape(shape)
    found = [numbers[(*index, ...)] for index in blocks(shape, most)]
    assert [n for part in found for n in part.ravel()] == list(range(prod(shape)))
    assert all(0 < part.size <= min(most, found[0].size) for part in found)


def test_blocks_are_even() -> None:
    from vastmax._backends.chunks import blocks

    numbers = np.arange(22).reshape(2, 11)
    assert [numbers[index].size for index in blocks((2, 11), 10)] == [6, 5, 6, 5], "not 10, 1, 10, 1"


def inputs(shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(7)
    x, g = ((rng.standard_normal(shape) * 3).astype(dtype) for _ in range(2))
    return x, g, rng.random(shape) < 0.8


def flat(results: Any) -> Any:
    return np.concatenate([np.ravel(a).astype(np.float64) for a in results])


def calls(x: Any, g: Any, mask: Any) -> dict[str, Callable[[], Any]]:
    """Each op, with options, layouts and destinations."""
    t = np.linspace(0.5, 2, x.shape[0])[:, None, None]
    up = g[..., 0].astype(contracts.computed_in(contracts.name_of(x.dtype)))
    first = np.moveaxis(x, -1, 0)
    bce = vastmax.binary_cross_entropy_with_logits
    n = x.shape[-1]
    ids = np.arange(x[..., 0].size).reshape(x.shape[:-1]) % n
    some = np.where(ids == 1, -100, ids)
    of_class, of_row, share = abs(x[0, 0].astype(np.float64)), np.linspace(0, 1, ids.size).reshape(ids.shape), abs(g)
    weights = {"weight": of_class, "sample_weight": of_row}
    loss, with_grad = vastmax.cross_entropy, vastmax.cross_entropy_with_grad
    pairs = np.stack([ids, (ids + 1) % n], -1), np.full((*ids.shape, 2), 0.5)
    return {
        "softmax": lambda: vastmax.softmax(x),
        "softmax out=": lambda: vastmax.softmax(x, out=np.empty_like(x)),
        "softmax where= temperature=": lambda: vastmax.softmax(x, temperature=t, where=mask),
        "log_softmax axis=0 of a transposed array": lambda: vastmax.log_softmax(first, axis=0),
        "log_softmax over two axes": lambda: vastmax.log_softmax(first, axis=(0, 2), where=np.moveaxis(mask, -1, 0)),
        "log_softmax in place": lambda: (y := x.copy(), vastmax.log_softmax(y, out=y))[1],
        "logsumexp": lambda: vastmax.logsumexp(x, axis=-1),
        "logsumexp of everything": lambda: vastmax.logsumexp(x),
        "logsumexp keepdims out=": lambda: vastmax.logsumexp(
            x, axis=1, keepdims=True, temperature=2.5, out=np.empty((x.shape[0], 1, x.shape[2]), up.dtype)
        ),
        "logsumexp sign": lambda: np.stack(vastmax.logsumexp(x, axis=-1, return_sign=True)),
        "logsumexp_backward": lambda: vastmax.logsumexp_backward(up, x, axis=-1, temperature=t, where=mask),
        "softmax_backward": lambda: vastmax.softmax_backward(g, x, temperature=0.7),
        "log_softmax_backward": lambda: vastmax.log_softmax_backward(g, x, axis=1),
        "cross_entropy of each row": lambda: loss(x, some, reduction="none", temperature=t, where=mask | (x > 9)),
        "cross_entropy mean": lambda: loss(x, some, **weights, z_loss=1e-3, softcap=5.0),
        "cross_entropy of probabilities": lambda: loss(x, share, reduction="none", label_smoothing=0.1),
        "cross_entropy of pairs axis=0": lambda: loss(first, pairs, axis=0, reduction="sum"),
        "cross_entropy_with_grad backward of the mean": lambda: with_grad(x, some, **weights, grad_output=0.5).grad,
        "cross_entropy_with_grad backward of rows": lambda: (
            with_grad(x, share, reduction="none", grad_output=of_row, out=np.empty_like(x)).grad
        ),
        "cross_entropy_with_grad lse": lambda: with_grad(x, ids, label_smoothing=0.1).lse,
        "softmax_stats": lambda: flat(vastmax.softmax_stats(x, ids, top_n=2, temperature=0.7)),
        "softmax_stats axis=0": lambda: flat(vastmax.softmax_stats(first, axis=0)[:4]),
        "entropy": lambda: vastmax.entropy(x, 1),
        "selective_log_softmax": lambda: vastmax.selective_log_softmax(x, pairs[0]),
        "selective_log_softmax of one": lambda: vastmax.selective_log_softmax(x, ids, temperature=t),
        "kl_divergence": lambda: vastmax.kl_divergence(x, g[:, ::-1]),
        "softplus": lambda: vastmax.softplus(x, beta=2.0),
        "sigmoid of a view": lambda: vastmax.sigmoid(x[::-1, :, ::2]),
        "sigmoid of a broadcast": lambda: vastmax.sigmoid(np.broadcast_to(x[:1], x.shape)),
        "log_sigmoid of columns": lambda: vastmax.log_sigmoid(np.asfortranarray(x)),
        "logit": lambda: vastmax.special.logit(vastmax.special.expit(x)),
        "softplus_backward": lambda: vastmax.softplus_backward(g, x),
        "bce": lambda: bce(x, mask, weight=g[0], reduction="none"),
        "bce gradient": lambda: bce(x, mask, pos_weight=2.0, reduction="sum", return_grad=True)[1],
        "bce gradient of columns": lambda: bce(np.asfortranarray(x), mask, return_grad=True)[1],
        "bce sum": lambda: bce(x.astype(np.float64), mask, reduction="sum"),
        "bce sum of columns": lambda: bce(
            np.asfortranarray(x).astype(np.float64), mask, weight=abs(g[0]), reduction="sum"
        ),
    }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of the arrays of each chunk that goes to the device."""
    from vastmax._backends import offload as _chunks

    sizes: list[int] = []
    send = _chunks._Lane.send

    def seen(lane: Any, kernel: Any, arguments: Any) -> None:
        sizes.append(sum(a.nbytes for a in arguments if isinstance(a, np.ndarray)))
        send(lane, kernel, arguments)

    monkeypatch.setattr(_chunks._Lane, "send", seen)
    return sizes


@pytest.fixture
def on_gpu() -> Iterator[None]:
    with vastmax.config(device="cuda"):
        yield


@pytest.mark.conformance
@needs_gpu
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("name", calls(*inputs((2, 2, 2), np.float32)))
def test_the_same_bits_wherever_it_is_cut(
    name: str, dtype: Any, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = calls(*inputs((5, 3, 1100), dtype))[name]
    whole = np.asarray(call())
    assert sent, "did not run on the GPU"
    assert name == "logit" or len(sent) == 1
    counts = set()
    for budget in (1, 10_000, 100_000):
        sent.clear()
        monkeypatch.setattr(_policy, "CHUNK_BYTES", budget)
        np.testing.assert_array_equal(np.asarray(call()), whole)
        least = max(min(sent), budget)
        assert max(sent) <= least or "bce" in name, "more than a budget and more than one row"
        counts.add(len(sent))
    assert len(counts) > 1 or "everything" in name or "two axes" in name, counts


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_values_are_those_of_the_cpu(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which rows a chunk holds, which mask and which temperature: not only that cuts agree with each other."""
    monkeypatch.setattr(_policy, "CHUNK_BYTES", 20_000)
    for name, call in calls(*inputs((5, 3, 300), dtype)).items():
        got = np.asarray(call()).astype(np.float64)
        with vastmax.config(device="cpu"):
            want = np.asarray(call()).astype(np.float64)
        relative = {2: 2.0**-7, 4: 2.0**-20, 8: 2.0**-49}[np.dtype(dtype).itemsize]
        absolute = 2.0**-23 if dtype == np.float16 else 0.0  # two steps below its normal numbers
        if "backward" in name:  # differences of sums
            absolute += relative * abs(want[np.isfinite(want)]).max()
        np.testing.assert_allclose(got, want, rtol=relative, atol=absolute, err_msg=name)


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_device_memory_is_bounded(sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    import vastmax._cuda as module

    x = inputs((64, 1, 2000), np.float32)[0]
    vastmax.softmax(x)
    before, _ = module.memory(0)
    low = [before]
    copy = module.copy
    monkeypatch.setattr(module, "copy", lambda *a: (low.append(module.memory(0)[0]), copy(*a))[1])
    monkeypatch.setattr(_policy, "CHUNK_BYTES", 40_000)
    vastmax.softmax(x)
    assert len(sent) > 10
    assert 0 < before - min(low) <= _policy.LANES * 45_000
    assert module.memory(0)[0] == before


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_chunks_leave_a_share_of_free_memory(sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    import vastmax._cuda as module

    monkeypatch.setattr(module, "memory", lambda _: (100_000, 1 << 30))
    vastmax.softplus(np.zeros(100_000, np.float32))
    assert max(sent) <= 100_000 * _policy.SHARE_OF_FREE_MEMORY / _policy.LANES


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_a_row_longer_than_a_chunk(sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs((2, 1, 50_000), np.float32)[0]
    want = vastmax.softmax(x)
    sent.clear()
    from vastmax._backends import offload as _chunks

    monkeypatch.setattr(_policy, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(_chunks, "_idle", {})  # lanes with little pinned memory
    np.testing.assert_array_equal(vastmax.softmax(x), want)
    assert sent == [400_000, 400_000]


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_a_row_longer_than_the_device_is_a_memory_error() -> None:
    import vastmax._cuda as module

    if not module.simulated:
        pytest.skip("needs more memory of the host than a test should take")
    before = module.memory(0)
    with pytest.raises(MemoryError, match=r"logsumexp on cuda:0: out of memory, \d+ bytes wanted, \d+ of \d+ free"):
        vastmax.logsumexp(np.broadcast_to(np.float32(0), (1 << 31,)))
    assert module.memory(0) == before
    assert vastmax.logsumexp(np.zeros(4, np.float32)) == np.float32(np.log(4))


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_an_interrupt_leaves_nothing_hanging(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import vastmax._cuda as module
    from vastmax._backends import offload as _chunks

    x = inputs((8, 1, 500), np.float32)[0]
    want = vastmax.softmax(x)
    before = module.memory(0)
    monkeypatch.setattr(_policy, "CHUNK_BYTES", 5000)
    send = _chunks._Lane.send
    sent: list[int] = []

    def interrupted(*arguments: Any) -> None:
        if len(sent) == after:
            raise KeyboardInterrupt
        sent.append(1)
        send(*arguments)

    monkeypatch.setattr(_chunks._Lane, "send", interrupted)
    out = np.full_like(x, 7)
    with pytest.raises(KeyboardInterrupt):
        vastmax.softmax(x, out=out)
    assert module.memory(0) == before
    done = (out != 7).any(axis=-1)
    np.testing.assert_array_equal(out[done], want[done])
    monkeypatch.setattr(_chunks._Lane, "send", send)
    np.testing.assert_array_equal(vastmax.softmax(x), want)


@needs_gpu
def test_threads_have_lanes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_policy, "CHUNK_BYTES", 3000)
    rows = [np.random.default_rng(i).standard_normal((20, 1, 100)).astype(np.float32) for i in range(4)]
    want = [vastmax.softmax(x) for x in rows]
    got: dict[int, Any] = {}

    def work(i: int) -> None:
        with vastmax.config(device="cuda"):
            got[i] = [vastmax.softmax(rows[i]) for _ in range(3)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, x in enumerate(want):
        for y in got[i]:
            np.testing.assert_allclose(y, x, rtol=1e-6)


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_nothing_to_do() -> None:
    bce = vastmax.binary_cross_entropy_with_logits
    empty = np.empty((0, 4), np.float32)
    assert vastmax.softmax(empty).shape == (0, 4)
    assert vastmax.softplus(empty).shape == (0, 4)
    assert bce(empty, empty, reduction="sum") == 0
    assert np.isnan(bce(empty, empty))
    np.testing.assert_array_equal(vastmax.logsumexp(np.empty((3, 0), np.float32), axis=-1), [-np.inf] * 3)
    assert vastmax.softplus(np.float32(0)) == np.float32(np.log(2))


@needs_gpu
@pytest.mark.usefixtures("on_gpu")
def test_what_no_gpu_does_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import vastmax._cuda as module

    monkeypatch.delattr(module, "softplus")
    out = np.full(3, 7.0)
    with pytest.raises(
        vastmax.BackendUnavailable, match="softplus: device='cuda' was asked for, but no GPU does it yet"
    ):
        vastmax.softplus(np.zeros(3), out=out)
    assert (out == 7).all()
