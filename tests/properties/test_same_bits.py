# SPDX-License-Identifier: Apache-2.0
"""One row, one result: whatever the threads, the batch around it, strides, alignment, place of the output and ISA.

Results are compared as SHA-256 of their bytes. The reference is a contiguous, aligned array on one thread with the last
ISA of the list; every other way to compute the same rows has to give the same digest.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import vastmax
from support import contracts
from vastmax import _core

Array = np.ndarray[Any, Any]
REFERENCE_ISA = vastmax.available_isas()[-1]
SHAPES = 1200


class Case(NamedTuple):
    rows: int
    n: int
    dtype: str
    options: str
    seed: int


def _cases() -> list[Case]:
    draw = np.random.Generator(np.random.Philox(key=61))
    cases = []
    for i in range(SHAPES):
        n = int(np.exp(draw.uniform(0.0, np.log(16_000)))) if i >= 140 else i + 1
        rows = int(np.exp(draw.uniform(0.0, np.log(max(2.0, 16_000 / n)))))
        options = ("plain", "plain", "temperature", "where", "both")[int(draw.integers(5))]
        cases.append(Case(rows, n, contracts.DTYPES[i % len(contracts.DTYPES)], options, i))
    return cases


CASES = _cases()
VAST = [
    Case(rows, n, dtype, options, 5000 + n)
    for dtype in contracts.DTYPES
    for rows, n, options in (
        (1, 150_001, "plain"),
        (2, 75_007, "both"),
        (15_000, 7, "plain"),
        (130, 1000, "temperature"),
    )
]


class Data(NamedTuple):
    x: Array
    grad: Array
    temperature: Any
    where: Any


@functools.lru_cache(maxsize=2048)
def data(case: Case) -> Data:
    rng = np.random.default_rng(case.seed)
    sigma = (0.5, 3.0, 12.0, 60.0)[case.seed % 4]
    offset = (0.0, -5.0, 300.0, 0.0, 2000.0)[case.seed % 5]
    dtype = contracts.FORMATS[case.dtype].dtype
    x = (rng.standard_normal((case.rows, case.n)) * sigma + offset).astype(dtype)
    x[rng.random(x.shape) < 0.01] = -np.inf
    x[:, rng.integers(case.n)] = offset
    grad = rng.standard_normal(x.shape).astype(dtype)
    temperature = rng.uniform(0.2, 5.0, case.rows) if case.options in ("temperature", "both") else None
    where = rng.random(x.shape) < 0.8 if case.options in ("where", "both") else None
    return Data(x, grad, temperature, where)


Layout = Callable[[Array, int], Array]


def _at_offset(x: Array, offset: int) -> Array:
    """The same array `offset` bytes after a 64-byte boundary: unaligned where that is no multiple of the item size."""
    raw = np.zeros(x.nbytes + 192, np.uint8)
    start = (-raw.ctypes.data) % 64 + offset
    y = raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def _strided(x: Array, step: int) -> Array:
    wide = np.zeros((*x.shape[:-1], x.shape[-1] * step), x.dtype)
    wide[..., ::step] = x
    return wide[..., ::step]


def _frozen(x: Array) -> Array:
    y = x.copy()
    y.setflags(write=False)
    return y


# Each gives an array equal to x with its row axis still last; `axis_first` below moves it.
LAYOUTS: dict[str, Layout] = {
    "contiguous": lambda x, i: x,
    "offset": lambda x, i: _at_offset(x, i % 64),
    "columns": lambda x, i: np.asfortranarray(x),
    "step 2": lambda x, i: _strided(x, 2),
    "step 3": lambda x, i: _strided(x, 3),
    "backwards": lambda x, i: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "rows backwards": lambda x, i: np.ascontiguousarray(x[::-1])[::-1],
    "every other row": lambda x, i: np.repeat(x, 2, 0)[::2],
    "inside a wider array": lambda x, i: (
        np.pad(x.view(f"u{x.itemsize}"), ((1, 2), (3, 5)))[1:-2, 3:-5].view(x.dtype) if x.shape[-1] > 1 else x
    ),
    "read-only": lambda x, i: _frozen(x),
    "big-endian": lambda x, i: x.astype(x.dtype.newbyteorder(">")) if x.dtype.kind == "f" else x,
}


def results(
    case: Case, layout: str = "contiguous", *, axis_first: bool = False, in_place: bool = False
) -> dict[str, str]:
    """Digest of every op on the rows of the case."""
    x, grad, temperature, where = data(case)

    def given(a: Array) -> Array:
        b = LAYOUTS[layout](a, case.seed)
        return np.ascontiguousarray(b.T) if axis_first and layout == "contiguous" else b.T if axis_first else b

    axis = 0 if axis_first else -1
    options: dict[str, Any] = {}
    if temperature is not None:
        options["temperature"] = temperature[None] if axis_first else temperature
    if where is not None:
        options["where"] = where.T if axis_first else where

    def out_for(a: Array) -> dict[str, Array]:
        return {"out": a} if in_place else {}

    def digest(a: Array) -> str:
        a = np.asarray(a)
        a = a.T if axis_first and a.ndim == 2 else a
        assert a.dtype.isnative
        return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()

    def fresh(a: Array) -> Array:
        b = given(a)
        if not in_place:
            return b
        if b.flags.writeable and b.dtype.isnative:
            return b if not np.shares_memory(b, a) else b.copy()
        return b.copy().astype(a.dtype)

    found = {}
    for op in ("softmax", "log_softmax"):
        z = fresh(x)
        found[op] = digest(getattr(vastmax, op)(z, axis=axis, **options, **out_for(z)))
    found["logsumexp"] = digest(vastmax.logsumexp(given(x), axis=axis, **options))
    y, log_y = saved(case)
    g = fresh(grad)
    found["softmax_backward"] = digest(vastmax.softmax_backward(g, given(y), axis=axis, **out_for(g)))
    g = fresh(grad)
    found["log_softmax_backward"] = digest(vastmax.log_softmax_backward(g, given(log_y), axis=axis, **out_for(g)))
    per_row = {"temperature": options["temperature"]} if "temperature" in options else {}
    stats = vastmax.softmax_stats(given(x), targets(case), axis=axis, top_n=min(3, case.n), **per_row)
    found["softmax_stats"] = "".join(digest_of_rows(part) for part in stats)
    found["entropy"] = digest(vastmax.entropy(given(x), axis, **per_row))
    found["selective_log_softmax"] = digest(vastmax.selective_log_softmax(given(x), targets(case), axis, **per_row))
    found["kl_divergence"] = digest(vastmax.kl_divergence(given(x), given(grad), axis))
    row_grad = row_gradient(case)
    found["logsumexp_backward"] = digest(vastmax.logsumexp_backward(row_grad, given(x), axis=axis, **options))
    found["weighted"] = digest(vastmax.logsumexp(given(x), axis=axis, b=given(grad), return_sign=True)[0])
    for op in ("softplus", "sigmoid", "log_sigmoid"):
        z = fresh(x)
        found[op] = digest(getattr(vastmax, op)(z, **out_for(z)))
    for name, target, more in losses(case):
        z = fresh(x)
        q = given(target) if target.shape == x.shape else target
        loss, slope, lse = vastmax.cross_entropy_with_grad(z, q, axis=axis, **options, **more, **out_for(z))
        each = vastmax.cross_entropy(given(x), q, axis=axis, reduction="none", **options, **more)
        found[name] = "".join(map(digest, (loss, slope, lse, each)))
    return found


def digest_of_rows(a: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()


@functools.lru_cache(maxsize=2048)
def targets(case: Case) -> Array:
    return np.random.default_rng(case.seed + 3).integers(0, case.n, case.rows)


@functools.lru_cache(maxsize=2048)
def losses(case: Case) -> list[tuple[str, Array, dict[str, Any]]]:
    """Some of the ways to use cross_entropy, for every third case."""
    rng = np.random.default_rng(case.seed + 2)
    classes = rng.integers(0, case.n, case.rows)
    classes[rng.random(case.rows) < 0.2] = -100
    q = rng.random((case.rows, case.n)).astype(contracts.FORMATS[case.dtype].dtype)
    all_of_them = [
        ("cross_entropy", classes, {"z_loss": 0.01}),
        ("cross_entropy of classes, smoothed", classes, {"label_smoothing": 0.1, "softcap": 20.0}),
        ("cross_entropy of probabilities", q, {"weight": rng.random(case.n)}),
    ]
    return all_of_them if case.seed % 3 == 0 else all_of_them[:1]


@functools.lru_cache(maxsize=2048)
def saved(case: Case) -> tuple[Array, Array]:
    """Outputs for the gradients to start from; any values would do, as long as they are always the same."""
    with vastmax.config(isa=REFERENCE_ISA, threads=1):
        return vastmax.softmax(data(case).x), np.maximum(
            vastmax.log_softmax(data(case).x), np.array(-50, data(case).x.dtype)
        )


@functools.lru_cache(maxsize=2048)
def row_gradient(case: Case) -> Array:
    name = contracts.reduced(case.dtype)
    return np.random.default_rng(case.seed + 1).standard_normal(case.rows).astype(contracts.FORMATS[name].dtype)


@functools.lru_cache(maxsize=2048)
def reference(case: Case) -> dict[str, str]:
    with vastmax.config(isa=REFERENCE_ISA, threads=1):
        return results(case)


def assert_same(case: Case, found: dict[str, str], how: Any) -> None:
    differ = [op for op, digest in reference(case).items() if found[op] != digest]
    assert not differ, f"{differ} of {case} differ: {how}"


@pytest.mark.conformance
def test_every_shape(isa: str) -> None:
    """Each of more than a thousand shapes in one way of many; the ways rotate against each other."""
    layouts = list(LAYOUTS)
    for i, case in enumerate(CASES):
        layout, threads = layouts[i % len(layouts)], 1 + i % 8
        axis_first, in_place = i % 3 == 1, i % 4 == 1
        with vastmax.config(threads=threads):
            found = results(case, layout, axis_first=axis_first, in_place=in_place)
        assert_same(case, found, (isa, layout, threads, "axis 0" if axis_first else "axis -1", in_place))


@pytest.mark.conformance
@pytest.mark.parametrize("case", VAST, ids=str)
def test_threads(isa: str, case: Case) -> None:
    """Large enough that every number of threads cuts it differently."""
    slow = isa == "scalar"
    for threads in (1, 3, 8) if slow else range(1, 9):
        with vastmax.config(threads=threads):
            assert_same(case, results(case, in_place=threads % 2 == 0), (isa, threads))
    with vastmax.config(threads=2):
        assert_same(case, results(case, axis_first=True), (isa, "axis 0"))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("in_place", [False, True])
def test_layouts(isa: str, layout: str, in_place: bool) -> None:
    for case in CASES[300:320] + CASES[:12]:
        for axis_first in (False, True):
            assert_same(
                case, results(case, layout, axis_first=axis_first, in_place=in_place), (isa, layout, axis_first)
            )


@pytest.mark.parametrize("n", [1, 5, 31, 64, 130, 1023])
def test_alignment(isa: str, dtype: Any, n: int) -> None:
    """All 64 offsets of the input against all of a few of the output."""
    x = np.random.default_rng(n).standard_normal((2, n)).astype(dtype)
    ops = (vastmax.softmax, vastmax.log_softmax, vastmax.softplus, vastmax.sigmoid)
    want = [f(x).tobytes() for f in ops]
    lse = vastmax.logsumexp(x, axis=1).tobytes()
    for offset in range(64):
        y = _at_offset(x, offset)
        out = _at_offset(x, (offset * 7 + 1) % 64)
        for f, bits in zip(ops, want, strict=True):
            assert f(y).tobytes() == bits, offset
            assert f(y, out=out).tobytes() == bits, offset
            assert f(y, out=y).tobytes() == bits, offset
            y[...] = x
        assert vastmax.logsumexp(y, axis=1).tobytes() == lse, offset


STREAMED = 4 << 20  # bytes: policy::stream_bytes in cpp/host/run/policy.hpp
ROW_OPS: dict[str, Callable[..., Array]] = {
    "softmax": lambda x, g, **o: vastmax.softmax(x, **o),
    "log_softmax": lambda x, g, **o: vastmax.log_softmax(x, **o),
    "logsumexp_backward": lambda x, g, axis, **o: vastmax.logsumexp_backward(g.take([0], axis), x, axis, **o),
    "softmax_backward": lambda x, g, **o: vastmax.softmax_backward(g, x, **o),
    "log_softmax_backward": lambda x, g, **o: vastmax.log_softmax_backward(g, x, **o),
}
ELEMENT_OPS: dict[str, Callable[..., Array]] = {
    "softplus": lambda x, g, **o: vastmax.softplus(x, **o),
    "sigmoid": lambda x, g, **o: vastmax.sigmoid(x, **o),
    "log_sigmoid": lambda x, g, **o: vastmax.log_sigmoid(x, **o),
    "softplus_backward": lambda x, g, **o: vastmax.softplus_backward(g, x, **o),
    "sigmoid_backward": lambda x, g, **o: vastmax.sigmoid_backward(g, x, **o),
    "log_sigmoid_backward": lambda x, g, **o: vastmax.log_sigmoid_backward(g, x, **o),
}


@functools.lru_cache(maxsize=32)
def vast_rows(dtype: Any, rows: int) -> tuple[Array, Array]:
    """Logits and gradients of a little more than STREAMED bytes. No two rows have the same normaliser."""
    rng = np.random.default_rng(rows)
    x, g = rng.standard_normal((2, rows, STREAMED // dtype.itemsize // rows + 1), np.float32)
    x += np.linspace(-5, 3, rows, dtype=np.float32)[:, None]
    return x.astype(dtype), g.astype(dtype)


def contiguous_digest(a: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(a).view(np.uint8)).hexdigest()


@functools.lru_cache(maxsize=256)
def unstreamed(op: str, dtype: Any, rows: int, axis: int) -> str:
    """Digest of the result for vast_rows, computed in pieces that are not streamed."""
    f = functools.partial(ROW_OPS[op], axis=-1) if op in ROW_OPS else ELEMENT_OPS[op]
    pieces = [np.array_split(a, min(rows, 5)) for a in vast_rows(dtype, rows)]
    with vastmax.config(isa=REFERENCE_ISA, threads=1):
        y = np.concatenate([f(x, g) for x, g in zip(*pieces, strict=True)])
    return contiguous_digest(y.T if axis == 0 else y)


@pytest.mark.parametrize(
    ("ops", "rows", "axis"),
    [
        (ELEMENT_OPS, 3, -1),
        (ROW_OPS, 3, -1),  # each split over threads
        (ROW_OPS, 1001, -1),
        (dict(itertools.islice(ROW_OPS.items(), 3)), 64, 0),  # gradients of the others are not streamed here
        (dict(itertools.islice(ROW_OPS.items(), 3)), 160, 0),  # several groups of columns, none of them dense
    ],
    ids=["elements", "vast rows", "rows", "columns", "groups of columns"],
)
def test_streamed(isa: str, dtype: Any, ops: dict[str, Callable[..., Array]], rows: int, axis: int) -> None:
    """Outputs large enough to be written past the caches, wherever in a cache line they begin."""
    x, g = vast_rows(dtype, rows)
    if axis == 0:
        x, g = np.ascontiguousarray(x.T), np.ascontiguousarray(g.T)
    offsets = (dtype.itemsize, 16, 64 - dtype.itemsize, 40, 0, 63)
    for i, (op, f) in enumerate(ops.items()):
        options = {"axis": axis} if op in ROW_OPS else {}
        for offset in offsets[i % 3 :: 6 if isa == "scalar" else 3]:
            out = _at_offset(np.zeros_like(x), offset)
            f(x, g, out=out, **options)
            assert contiguous_digest(out) == unstreamed(op, dtype, rows, axis), (op, offset)
            assert not np.any(out.base[:offset]), (op, offset)
            assert not np.any(out.base[-64:]), (op, offset)


SAMPLED_CLASSES = 3000
SAMPLERS: dict[str, Callable[[], vastmax.samplers.Law]] = {
    "uniform": lambda: vastmax.UniformSampler(SAMPLED_CLASSES),
    "log-uniform": lambda: vastmax.LogUniformSampler(SAMPLED_CLASSES),
    "unigram": lambda: vastmax.UnigramSampler(np.arange(SAMPLED_CLASSES) * 7919 % 97),
    "mixture": lambda: vastmax.MixtureSampler(
        [vastmax.UniformSampler(SAMPLED_CLASSES), vastmax.UnigramSampler(np.arange(SAMPLED_CLASSES) % 5)], [1, 3]
    ),
}


@functools.lru_cache(maxsize=16)
def sampled_by(name: str) -> list[str]:
    with vastmax.config(isa=REFERENCE_ISA, threads=1):
        return samples_of(SAMPLERS[name]())


def samples_of(sampler: vastmax.samplers.Law) -> list[str]:
    ids = sampler.sample(40_001, seed=5, step=2)
    unique = [sampler.sample(size, seed=5, step=3, unique=True) for size in (1, 300, 1900)]
    return [digest_of_rows(a) for a in (ids, sampler.log_prob(ids), *unique)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers(isa: str, name: str) -> None:
    for threads in (1, 2, 3, 8):
        with vastmax.config(threads=threads):
            assert samples_of(SAMPLERS[name]()) == sampled_by(name), (isa, threads)


@functools.lru_cache(maxsize=32)
def layer(dtype: Any) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(64)
    shapes = (37, 24), (SAMPLED_CLASSES, 24), SAMPLED_CLASSES
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, w, b, rng.integers(0, SAMPLED_CLASSES, (37, 2))


def sampled_rows(
    x: Array, w: Array, b: Array, t: Array, op: str, *, row_offset: int = 0, unique: bool = False
) -> list[list[str]]:
    """Digests of what each row gets from draws of its own."""
    got = getattr(vastmax, op)(
        x, w, t, bias=b, sampler=vastmax.LogUniformSampler(SAMPLED_CLASSES), num_sampled=50, share="row",
        unique=unique, temperature=1.5, seed=7, row_offset=row_offset,
    )  # fmt: skip
    parts = (got.loss, got.lse, got.grad_input, got.num_hits, got.effective_sample_size, got.grad_weight.ids())
    return [[digest_of_rows(part[i]) for part in parts] for i in range(len(x))]


@functools.lru_cache(maxsize=32)
def sampled_alone(dtype: Any, op: str, unique: bool) -> list[list[str]]:
    with vastmax.config(isa=REFERENCE_ISA, threads=1):
        return sampled_rows(*layer(dtype), op, unique=unique)


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("op", ["sampled_softmax", "nce_loss"])
def test_draws_of_a_rows_own(isa: str, dtype: Any, op: str, unique: bool) -> None:
    """Any number of threads, part of the batch and layout."""
    x, w, b, t = layer(dtype)
    want = sampled_alone(dtype, op, unique)
    for threads in (1, 2, 3, 8):
        with vastmax.config(threads=threads):
            assert sampled_rows(x, w, b, t, op, unique=unique) == want, (isa, threads)
    for part in (slice(0, 1), slice(5, 30), slice(36, 37)):
        some = sampled_rows(x[part], w, b, t[part], op, unique=unique, row_offset=part.start)
        assert some == want[part], (isa, part)
    for name, layout in LAYOUTS.items():
        table = layout(w, 3)
        if table.strides[1] != w.itemsize or not table.dtype.isnative:  # which is an error
            table = w
        assert sampled_rows(layout(x, 3), table, b, t, op, unique=unique) == want, (isa, name)


def test_batch_position(isa: str, dtype: Any) -> None:
    """A row alone, and anywhere in batches of any size."""
    rng = np.random.default_rng(62)
    for n in (3, 17, 100, 1000, 5003):
        x = rng.standard_normal((64, n)).astype(dtype)
        alone = [vastmax.softmax(row).tobytes() for row in x]
        sums = [np.asarray(vastmax.logsumexp(row)).tobytes() for row in x]
        for rows in (1, 2, 7, 33, 64):
            for start in (0, 64 - rows):
                batch = x[start : start + rows]
                p, lse = vastmax.softmax(batch), vastmax.logsumexp(batch, axis=1)
                assert [row.tobytes() for row in p] == alone[start : start + rows]
                assert [value.tobytes() for value in lse] == sums[start : start + rows]
        cube = np.ascontiguousarray(np.moveaxis(x.reshape(8, 8, n), -1, 1))
        p = np.moveaxis(vastmax.softmax(cube, axis=1), 1, -1).reshape(64, n)
        assert [np.ascontiguousarray(row).tobytes() for row in p] == alone


def test_small_calls_take_a_short_road_to_the_same_bits(dtype: Any) -> None:
    """A call without options has an entry of its own, which any `config`, as in the isa fixture, leads past."""
    short = dtype.name != "bfloat16"
    for n in (1, 2, 16, 100, 4096, 33_000):
        x = np.random.default_rng(n).standard_normal(n).astype(dtype)
        for f in (vastmax.softmax, vastmax.log_softmax, vastmax.softplus, vastmax.sigmoid, vastmax.log_sigmoid):
            assert (getattr(_core, f"{f.__name__}_plain")(x, None) is not None) == short
            got = f(x).tobytes(), f(x, out=np.empty_like(x)).tobytes(), f(x[None])[0].tobytes()
            with vastmax.config(device="cpu"):
                assert {f(x).tobytes()} == {*got}
        got = vastmax.logsumexp(x).tobytes(), vastmax.logsumexp(x[None], axis=-1)[0].tobytes()
        with vastmax.config(device="cpu"):
            assert {vastmax.logsumexp(x).tobytes()} == {*got}


def test_zero_stride(isa: str, dtype: Any) -> None:
    x = np.random.default_rng(63).standard_normal(77).astype(dtype)
    p = vastmax.softmax(x)
    for view in (np.broadcast_to(x, (5, 77)), np.broadcast_to(x, (2, 3, 77))):
        assert all(row.tobytes() == p.tobytes() for row in vastmax.softmax(view).reshape(-1, 77))
    constant = np.broadcast_to(np.array(1.25).astype(dtype), (3, 130))
    assert vastmax.softmax(constant).tobytes() == vastmax.softmax(constant.copy()).tobytes()
    assert vastmax.logsumexp(constant, axis=1).tobytes() == vastmax.logsumexp(constant.copy(), axis=1).tobytes()
