# SPDX-License-Identifier: Apache-2.0
"""What arrays are taken, where results go, and what an error says.

Errors are held to four things: the op, the argument, what was given, what is accepted. Their prose is free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, logit_rows

INF, NAN = np.inf, np.nan
NORMALISERS = ("softmax", "log_softmax")
ELEMENTWISE = ("softplus", "sigmoid", "log_sigmoid")
UNARY = (*NORMALISERS, "logsumexp", *ELEMENTWISE)
unary = pytest.mark.parametrize("op", UNARY)


@contextmanager
def raises(kind: type[Exception], *words: str) -> Iterator[None]:
    with pytest.raises(kind) as caught:
        yield
    missing = [w for w in words if not re.search(rf"(?<!\w){re.escape(w)}", str(caught.value))]
    assert not missing, f"{missing} not in: {caught.value}"


def argument_of(op: str) -> str:
    return "a" if op == "logsumexp" else "x"


def call(op: str, *args: Any, **options: Any) -> Any:
    return getattr(vastmax, op)(*args, **options)


# Dtypes


@unary
@pytest.mark.parametrize("given", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_become_float64_before_any_arithmetic(op: str, given: str) -> None:
    """SciPy gives softmax(uint8 [0, 255]) = [0.731, 0.269]."""
    info = None if given == "bool" else np.iinfo(given)
    x = np.array([[False, True, True]]) if info is None else np.array([[0, info.max, info.min, 1]], given)
    got = call(op, x)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, call(op, x.astype(np.float64)))


def test_integers_that_wrap() -> None:
    np.testing.assert_array_equal(vastmax.softmax(np.array([0, 255], np.uint8)), vastmax.softmax([0.0, 255.0]))
    np.testing.assert_array_equal(vastmax.softmax(np.array([100, -100], np.int8)), vastmax.softmax([100.0, -100.0]))
    assert vastmax.softmax(np.array([2**63 - 1, -(2**63)]))[0] == 1


@unary
def test_python_values(op: str) -> None:
    for value in (
        1.5,
        2,
        True,
        [0.0, 1.0],
        [1, 2, 3],
        [[1, 2], [3, 4.5]],
        (1.0, 2.0),
        [np.float32(1.0), np.float32(2.0)],
    ):
        got = call(op, value)
        want = call(op, np.asarray(value))
        assert type(got) is type(want)
        np.testing.assert_array_equal(got, want)
    assert call(op, [1, 2]).dtype == np.float64


@unary
@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3, np.complex64),
        np.zeros(3, np.complex128),
        np.zeros(3, np.longdouble),
        np.zeros(3, object),
        np.array(["a", "b"]),
        np.array([b"a"]),
        np.zeros(3, "M8[s]"),
        np.zeros(3, "m8[s]"),
        np.zeros(3, [("a", "f4")]),
        "text",
        None,
        1j,
    ],
    ids=repr,
)
def test_dtypes_refused(op: str, value: Any) -> None:
    with raises(
        TypeError, op, argument_of(op), str(np.asarray(value).dtype), "float16", "bfloat16", "float32", "float64"
    ):
        call(op, value)


@unary
def test_masked_arrays_are_refused(op: str) -> None:
    with raises(TypeError, op, argument_of(op), "mask", "where="):
        call(op, np.ma.masked_array([1.0, 2.0], [True, False]))


@unary
def test_raw_bfloat16_bytes(op: str) -> None:
    """What np.load gives for a saved bfloat16 array."""
    with raises(TypeError, op, argument_of(op), "ml_dtypes.bfloat16"):
        call(op, np.zeros(4, "V2"))


@unary
def test_dtype_converts_the_input_first(op: str) -> None:
    x = np.array([[0.1, 70000.0, -3.0]])
    for name, fmt in contracts.FORMATS.items():
        got = call(op, x, dtype=fmt.dtype)
        with np.errstate(over="ignore"):
            want = call(op, x.astype(fmt.dtype))
        assert got.dtype == want.dtype, name
        np.testing.assert_array_equal(got, want)
    assert call(op, x.astype(np.float32), dtype="float64").dtype == np.float64
    assert call(op, np.array([1, 2]), dtype=np.float32).dtype == np.float32
    for bad in ("int32", complex, "longdouble", "no such dtype"):
        with raises(TypeError, op, "dtype", "float32", "float64"):
            call(op, x, dtype=bad)


@unary
@pytest.mark.parametrize("name", ["f16", "f32", "f64"])
def test_big_endian(op: str, name: str) -> None:
    dtype = contracts.FORMATS[name].dtype
    x = logit_rows.integer_logits(71, (4, 33)).astype(dtype)
    got = call(op, x.astype(dtype.newbyteorder(">")))
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, call(op, x))
    assert call(op, x, dtype=dtype.newbyteorder(">")).dtype.isnative


@unary
def test_float64_is_never_narrowed(op: str) -> None:
    x = np.array([[1.0, 1.0 + 2.0**-40, -2.0]])
    assert call(op, x).dtype == np.float64
    with raises(ValueError, op, "out", "float32", "float64"):
        call(op, x, out=np.empty(np.shape(call(op, x)), np.float32))


# Memory


@unary
def test_unaligned(op: str, dtype: Any) -> None:
    x = logit_rows.integer_logits(72, (5, 40)).astype(dtype)
    for offset in (1, 3, 5, 7):
        raw = np.zeros(x.nbytes + 8, np.uint8)
        y = raw[offset : offset + x.nbytes].view(dtype).reshape(x.shape)
        y[...] = x
        np.testing.assert_array_equal(call(op, y), call(op, x))
        if op != "logsumexp":
            assert call(op, y, out=y) is y
            np.testing.assert_array_equal(y, call(op, x))
        assert not raw[:offset].any()
        assert not raw[offset + x.nbytes :].any()


@unary
def test_field_of_a_structured_array(op: str) -> None:
    """A stride that is no multiple of the item size."""
    table = np.zeros((6, 9), [("flag", "u1"), ("x", "f4"), ("y", "f8")])
    table["x"], table["y"] = logit_rows.integer_logits(73, (6, 9)), logit_rows.integer_logits(74, (6, 9))
    for field in ("x", "y"):
        np.testing.assert_array_equal(call(op, table[field]), call(op, table[field].copy()))


@unary
def test_read_only_and_memmap(op: str, tmp_path: Path) -> None:
    x = logit_rows.integer_logits(75, (6, 50)).astype(np.float32)
    want = call(op, x)
    path = tmp_path / "x.npy"
    np.save(path, x)
    for mode in ("r", "c"):
        np.testing.assert_array_equal(call(op, np.load(path, mmap_mode=mode)), want)
    x.setflags(write=False)
    np.testing.assert_array_equal(call(op, x), want)


class Sub(np.ndarray):
    pass


@unary
def test_subclasses(op: str) -> None:
    x = logit_rows.integer_logits(76, (3, 20))
    np.testing.assert_array_equal(np.asarray(call(op, x.view(Sub))), call(op, x))
    np.testing.assert_array_equal(np.asarray(call(op, x.view(np.recarray))), call(op, x))


@unary
def test_objects_with_an_array_interface(op: str) -> None:
    x = logit_rows.integer_logits(77, (3, 20))

    class Wrapped:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return x if dtype is None else x.astype(dtype)

    np.testing.assert_array_equal(call(op, Wrapped()), call(op, x))
    np.testing.assert_array_equal(call(op, memoryview(x)), call(op, x))


@unary
def test_inputs_are_left_alone(op: str, dtype: Any) -> None:
    x = logit_rows.integer_logits(78, (4, 33)).astype(dtype)
    before = x.tobytes()
    call(op, x)
    call(op, x.T)
    assert x.tobytes() == before


@unary
def test_scalars(op: str, dtype: Any) -> None:
    """0-d in, a scalar of the result's dtype out."""
    result = contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype if op == "logsumexp" else dtype
    for x in (np.array(2.0).astype(dtype), dtype.type(2.0)):
        got = call(op, x)
        assert np.ndim(got) == 0
        assert not isinstance(got, np.ndarray)
        assert got.dtype == result
        assert got == call(op, np.array([2.0]).astype(dtype)).reshape(-1)[0]
    assert type(call(op, 2.0)) is np.float64
    if op not in ELEMENTWISE:
        for axis in (None, 0, -1, ()):
            assert np.ndim(call(op, np.array(2.0), axis=axis)) == 0


def test_reductions_return_scalars(dtype: Any) -> None:
    x = np.zeros(5, dtype)
    want = contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype
    got = vastmax.logsumexp(x)
    assert isinstance(got, np.generic)
    assert got.dtype == want
    assert vastmax.logsumexp(x, keepdims=True).shape == (1,)
    value, sign = vastmax.logsumexp(x, return_sign=True)
    assert isinstance(value, np.generic)
    assert isinstance(sign, np.generic)


def test_empty_tuple_of_axes() -> None:
    """Each element is its own row."""
    x = np.array([[1.0, -INF], [NAN, 2.0]])
    np.testing.assert_array_equal(vastmax.softmax(x, axis=()), [[1, NAN], [NAN, 1]])
    np.testing.assert_array_equal(vastmax.logsumexp(x, axis=()), x)


def test_many_dimensions() -> None:
    x = np.random.default_rng(79).standard_normal((2, 1, 3, 1, 2, 2, 1, 3, 2, 1, 2))
    for axis in (0, 4, -1, (0, 10), (2, 5, 7)):
        got = vastmax.softmax(x, axis=axis)
        np.testing.assert_allclose(got.sum(axis=axis), 1.0, rtol=1e-14)


# axis


@pytest.mark.parametrize("op", [*NORMALISERS, "logsumexp"])
@pytest.mark.parametrize("axis", [2, -3, (0, 2), 10**12])
def test_axis_out_of_range(op: str, axis: Any) -> None:
    with raises(np.exceptions.AxisError, op, "axis", str(axis[-1] if isinstance(axis, tuple) else axis), "2"):
        call(op, np.zeros((2, 3)), axis=axis)


@pytest.mark.parametrize("op", [*NORMALISERS, "logsumexp"])
def test_axis_of_a_wrong_kind(op: str) -> None:
    with raises(ValueError, op, "axis", "(0, 0)"):
        call(op, np.zeros((2, 3)), axis=(0, 0))
    with raises(ValueError, op, "axis", "(0, -2)"):
        call(op, np.zeros((2, 3)), axis=(0, -2))
    for axis in ("0", 1.0, [None]):
        with raises(TypeError, op, "axis", "int"):
            call(op, np.zeros((2, 3)), axis=axis)


# out=


def out_like(op: str, x: Any) -> Any:
    return np.empty_like(call(op, x, axis=-1)) if op not in ELEMENTWISE else np.empty_like(call(op, x))


def along(op: str) -> dict[str, Any]:
    return {} if op in ELEMENTWISE else {"axis": -1}


@unary
def test_out_is_returned(op: str, dtype: Any) -> None:
    x = logit_rows.integer_logits(80, (6, 40)).astype(dtype)
    want = call(op, x, **along(op))
    for out in (out_like(op, x), np.asfortranarray(out_like(op, x)), np.repeat(out_like(op, x), 2, 0)[::2]):
        assert call(op, x, **along(op), out=out) is out
        np.testing.assert_array_equal(out, want)


@unary
def test_out_must_fit(op: str) -> None:
    x = logit_rows.integer_logits(81, (6, 40)).astype(np.float32)
    good = out_like(op, x)
    for bad, words in (
        (np.full((7, 41), 5.0, np.float32), ("shape", "(7, 41)", str(good.shape))),
        (np.full(good.shape[::-1] or (2,), 5.0, np.float32)[..., None], ("shape", str(good.shape))),
        (np.full(good.shape, 5.0, np.float64), ("float64", "float32")),
        (np.full(good.shape, 5, np.int32), ("int32", "float32")),
        (np.full(good.shape, 5.0, ">f4"), ("float32",)),
    ):
        with raises(ValueError, op, "out", *words):
            call(op, x, **along(op), out=bad)
        assert (bad == 5).all(), "written to before the error"
    frozen = np.full(good.shape, 5.0, np.float32)
    frozen.setflags(write=False)
    with raises(ValueError, op, "out", "writ"):
        call(op, x, **along(op), out=frozen)
    assert (frozen == 5).all()
    for bad in ([0.0], "out", 3.0):
        with raises(TypeError, op, "out"):
            call(op, x, **along(op), out=bad)


@unary
def test_nothing_is_written_when_another_argument_is_wrong(op: str) -> None:
    x = np.zeros((3, 4), np.float32)
    out = np.full_like(out_like(op, x), 5.0)
    attempts: list[Callable[[], Any]] = [lambda: call(op, np.zeros((3, 4), complex), out=out)]
    if op not in ELEMENTWISE:
        attempts += [
            lambda: call(op, x, axis=5, out=out),
            lambda: call(op, x, axis=-1, temperature=0.0, out=out),
            lambda: call(op, x, axis=-1, temperature=[1.0, 2.0, NAN], out=out),
            lambda: call(op, x, axis=-1, where=np.ones((9, 9), bool), out=out),
        ]
    if op == "logsumexp":
        attempts.append(lambda: call(op, x, axis=-1, b=np.ones((7, 5)), out=out))
    if op == "softplus":
        attempts.append(lambda: call(op, x, beta=-1.0, out=out))
    for attempt in attempts:
        with pytest.raises((ValueError, TypeError, IndexError)):
            attempt()
        assert (out == 5).all()


@pytest.mark.parametrize("op", [*NORMALISERS, *ELEMENTWISE])
@pytest.mark.parametrize("axis", [0, 1])
def test_overlap(op: str, axis: int, dtype: Any) -> None:
    """The result is as if the input had been copied first, whatever the overlap."""
    options = {} if op in ELEMENTWISE else {"axis": axis}
    source = logit_rows.integer_logits(82, (40, 40)).astype(dtype)
    views: list[Callable[[Any], tuple[Any, Any]]] = [
        lambda b: (b, b),
        lambda b: (b[:-1], b[1:]),
        lambda b: (b[1:], b[:-1]),
        lambda b: (b[:, :-1], b[:, 1:]),
        lambda b: (b[:, 1:], b[:, :-1]),
        lambda b: (b, b[::-1]),
        lambda b: (b, b[:, ::-1]),
        lambda b: (b, b.T),
        lambda b: (b[::2], b[:20]),
        lambda b: (b[:20], b[::2]),
        lambda b: (
            b.ravel()[:-3].reshape(-1, 1)[:1500].reshape(30, 50),
            b.ravel()[3:].reshape(-1, 1)[:1500].reshape(30, 50),
        ),
    ]
    for view in views:
        buffer = source.copy()
        x, out = view(buffer)
        want = call(op, x.copy(), **options)
        untouched = np.ones(buffer.shape, bool)
        view(untouched)[1][...] = False
        assert call(op, x, out=out, **options) is out
        np.testing.assert_array_equal(out, want)
        np.testing.assert_array_equal(buffer[untouched], source[untouched])


def test_overlap_of_reductions_and_options(wide_dtype: Any) -> None:
    buffer = logit_rows.integer_logits(83, (30, 31)).astype(wide_dtype)
    x = buffer[:, 1:]
    want = vastmax.logsumexp(x.copy(), axis=1)
    np.testing.assert_array_equal(vastmax.logsumexp(x, axis=1, out=buffer[:, 1]), want)
    if wide_dtype == np.float64:
        buffer = np.abs(logit_rows.integer_logits(84, (30, 31))) + 1
        t = buffer[:, 0]
        want = vastmax.softmax(buffer.copy(), temperature=t.copy())
        np.testing.assert_array_equal(vastmax.softmax(buffer, temperature=t, out=buffer), want)


def test_gradients_in_place(dtype: Any) -> None:
    g, y = (logit_rows.integer_logits(s, (7, 45)).astype(dtype) / dtype.type(16) for s in (85, 86))
    g, y = g.astype(dtype), np.abs(y).astype(dtype)
    for op in (
        "softmax_backward",
        "log_softmax_backward",
        "softplus_backward",
        "sigmoid_backward",
        "log_sigmoid_backward",
    ):
        want = call(op, g, y)
        for alias in (0, 1):
            pair = [g.copy(), y.copy()]
            assert call(op, *pair, out=pair[alias]) is pair[alias]
            np.testing.assert_array_equal(pair[alias], want)
        buffer = np.concatenate([g, g[:1]])
        np.testing.assert_array_equal(call(op, buffer[:-1], y, out=buffer[1:]), want)


def test_broadcast_input_gives_an_ordinary_output() -> None:
    x = np.broadcast_to(np.array([1.0, 2.0, 3.0]), (4, 3))
    for op in (*NORMALISERS, *ELEMENTWISE):
        got = call(op, x)
        got[0, 0] = 7.0
        assert got[1, 0] != 7.0


@unary
def test_internally_overlapping_out(op: str) -> None:
    """Several elements share memory: refused, or at least no crash and no foreign memory."""
    x = np.zeros((4, 5), np.float32)
    shape = out_like(op, x).shape
    base = np.full(64, 9.0, np.float32)
    view = np.lib.stride_tricks.as_strided(base[20:], shape, (0,) * len(shape))
    with raises(ValueError, op, "out"):
        call(op, x, **along(op), out=view)
    assert (base == 9).all()


def test_an_empty_out_has_no_memory_to_share() -> None:
    out = np.empty((2, 0), np.float32)
    assert vastmax.softmax(out, out=out) is out


# temperature and where


@pytest.mark.parametrize("op", [*NORMALISERS, "logsumexp"])
def test_temperature_values(op: str) -> None:
    x = logit_rows.integer_logits(87, (4, 9)).astype(np.float32)
    for bad in (0, 0.0, -0.0, -1.0, NAN, INF, -INF, [1.0, 2.0, 0.0, 1.0], np.array([[1.0], [1.0], [NAN], [1.0]])):
        with raises(ValueError, op, "temperature"):
            call(op, x, axis=1, temperature=bad)
    for bad in (np.ones(5), np.ones((4, 9)), np.ones((1, 1, 1)), np.ones((1, 9))):
        with raises(ValueError, op, "temperature", str(bad.shape), "(4, 1)"):
            call(op, x, axis=1, temperature=bad)
    for bad in ("hot", 1j, object()):
        with raises(TypeError, op, "temperature"):
            call(op, x, axis=1, temperature=bad)
    want = call(op, x, axis=1, temperature=2.0)
    for good in (
        2,
        np.float32(2),
        np.array(2),
        np.full(4, 2),
        np.full((4, 1), 2.0, np.float16),
        np.full((1, 1), 2.0),
        [2.0],
    ):
        np.testing.assert_array_equal(call(op, x, axis=1, temperature=good), want)


@pytest.mark.parametrize("op", [*NORMALISERS, "logsumexp"])
def test_where_values(op: str) -> None:
    x = logit_rows.integer_logits(88, (4, 9)).astype(np.float32)
    for bad in (np.ones((4, 8), bool), np.ones((5, 4, 9), bool), np.ones(4, bool)):
        with raises(ValueError, op, "where", str(bad.shape), "(4, 9)"):
            call(op, x, axis=1, where=bad)
    for bad in (np.ones((4, 9)), np.ones((4, 9), int), "yes"):
        with raises(TypeError, op, "where", "bool"):
            call(op, x, axis=1, where=bad)
    for good in (True, np.True_, [True] * 9, np.ones((4, 1), bool), np.ones((1, 9), bool)):
        np.testing.assert_array_equal(call(op, x, axis=1, where=good), call(op, x, axis=1))
    keep = np.random.default_rng(89).random((4, 18)) < 0.5
    np.testing.assert_array_equal(
        call(op, x, axis=1, where=keep[:, ::2]), call(op, x, axis=1, where=keep[:, ::2].copy())
    )
    np.testing.assert_array_equal(
        call(op, x, axis=1, where=keep[:, 8::-1]), call(op, x, axis=1, where=np.ascontiguousarray(keep[:, 8::-1]))
    )


def test_weights_errors() -> None:
    a = np.zeros((3, 4))
    with raises(ValueError, "logsumexp", "b", "(5,)", "(3, 4)"):
        vastmax.logsumexp(a, b=np.ones(5))
    with raises(TypeError, "logsumexp", "b", "complex128", "float64"):
        vastmax.logsumexp(a, b=np.ones((3, 4), complex))


def test_weights_dtypes() -> None:
    """As SciPy: the common type, integers counting as float64."""
    for a_name in ("f32", "f64"):
        for b_name in ("f32", "f64"):
            a = np.array([1.0, 2.0], contracts.FORMATS[a_name].dtype)
            b = np.array([1.0, 2.0], contracts.FORMATS[b_name].dtype)
            assert vastmax.logsumexp(a, b=b).dtype == np.result_type(a, b)
    assert vastmax.logsumexp(np.array([1, 2]), b=np.array([1, 2], np.float32)).dtype == np.float64


def test_values_that_a_cast_cannot_keep_raise_no_warning() -> None:
    """Warnings are errors here."""
    signalling = np.array([0x7FA00000], np.uint32).view(np.float32)
    assert np.isnan(vastmax.softmax_backward(signalling, np.ones(1))).all()
    assert np.isnan(vastmax.logsumexp(signalling, b=np.ones(1)))
    with raises(ValueError, "softmax", "temperature", "inf"):
        vastmax.softmax(np.zeros(3), temperature=np.longdouble("1e4000"))


# Gradients


def test_gradient_shapes_must_agree() -> None:
    g = np.zeros((3, 4))
    for op in (
        "softmax_backward",
        "log_softmax_backward",
        "softplus_backward",
        "sigmoid_backward",
        "log_sigmoid_backward",
    ):
        with raises(ValueError, op, "grad_output", "(3, 4)", "(3, 5)"):
            call(op, g, np.zeros((3, 5)))
        with raises(TypeError, op, "grad_output", "complex128", "float64"):
            call(op, g.astype(complex), g)
        with raises(ValueError, op, "out"):
            call(op, g, g, out=np.zeros((4, 3)))
    with raises(ValueError, "logsumexp_backward", "grad_output", "(4,)", "(3,)"):
        vastmax.logsumexp_backward(np.zeros(4), np.zeros((3, 4)), axis=1)


def test_signatures() -> None:
    """Options after the star are keyword-only; axis of the normalisers, and logsumexp's first five, are positional."""
    x = np.zeros((2, 3))
    np.testing.assert_array_equal(vastmax.softmax(x, 0), vastmax.softmax(x, axis=0))
    assert vastmax.logsumexp(x, 0, None, True, False).shape == (1, 3)
    for op in NORMALISERS:
        with pytest.raises(TypeError):
            call(op, x, 0, 2.0)
    with pytest.raises(TypeError):
        vastmax.logsumexp(x, 0, None, True, False, 2.0)
    with pytest.raises(TypeError):
        vastmax.softplus(x, 1.0, x)
    np.testing.assert_array_equal(vastmax.special.softmax(x), vastmax.softmax(x, axis=None))
    assert vastmax.special.logsumexp(x, 1).shape == (2,)


def test_huge_logical_arrays_are_not_copied() -> None:
    """2**33 logical elements behind one zero stride; a copy would need 32 GB."""
    x = np.broadcast_to(np.float32(1.5), (1, 2**33))
    assert x[:, : 10**6].strides == (0, 0)
    got = vastmax.logsumexp(x[:, : 10**7], axis=1)
    np.testing.assert_array_equal(got, np.float32(1.5 + np.log(1e7)))
    empty = np.broadcast_to(np.float32(0), (2**40, 0))
    assert vastmax.softmax(empty).shape == (2**40, 0)


class LazyArray:
    """What a Dask array looks like from outside."""

    shape, ndim, dtype = (2, 3), 2, np.dtype(np.float64)

    def __dask_graph__(self) -> dict[str, Any]:
        return {}

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the whole array was computed")


@pytest.mark.any_isa
@pytest.mark.parametrize(
    "call",
    [
        vastmax.softmax,
        vastmax.logsumexp,
        vastmax.softplus,
        vastmax.entropy,
        vastmax.softmax_stats,
        lambda x: vastmax.cross_entropy(x, [0, 1]),
        lambda x: vastmax.cross_entropy(np.zeros((2, 3)), x),
        lambda x: vastmax.cross_entropy(np.zeros((2, 3)), [0, 1], sample_weight=x),
        lambda x: vastmax.softmax(np.zeros((2, 3)), where=x),
        lambda x: vastmax.softmax(np.zeros((2, 3)), temperature=x),
        lambda x: vastmax.kl_divergence(np.zeros((2, 3)), x),
        lambda x: vastmax.logsumexp(np.zeros((2, 3)), b=x),
        lambda x: vastmax.softmax_backward(x, np.zeros((2, 3))),
        lambda x: vastmax.selective_log_softmax(x, [0, 1]),
        lambda x: vastmax.sample(x, seed=1),
        lambda x: vastmax.top_k(x, 1),
        lambda x: vastmax.top_p_mask_logits(x, 0.5),
        lambda x: vastmax.gumbel_softmax(x, seed=1),
        lambda x: vastmax.binary_cross_entropy_with_logits(x, np.zeros((2, 3))),
        lambda x: vastmax.linear_cross_entropy(np.zeros((2, 3)), x, [0, 1]),
        lambda x: vastmax.linear_logsumexp(x, np.zeros((5, 3))),
        lambda x: vastmax.LogSumExp((2,)).update(x),
        lambda x: vastmax.special.expit(x),
        lambda x: vastmax.UnigramSampler(x),
    ],
)
def test_dask_arrays_are_not_computed_without_a_word(call: Any) -> None:
    with pytest.raises(TypeError, match=r"is a Dask collection; accepted: .*vastmax\.dask"):
        call(LazyArray())


@pytest.mark.any_isa
def test_objects_that_are_numbers_are_told_how_to_become_floats() -> None:
    for objects in ([Decimal(1), Decimal(2)], np.array([1.0, None], object), np.array([Fraction(1, 3)])):
        with pytest.raises(TypeError, match=r"softmax: x has dtype object; .*x\.to_numpy\(float\)"):
            vastmax.softmax(objects)
