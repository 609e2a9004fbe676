# SPDX-License-Identifier: Apache-2.0
"""Random shapes, strides, dtypes, axes, options and values, against the oracle or against a plain copy."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import vastmax
from support import contracts, oracle

pytestmark = pytest.mark.conformance

ISAS = st.sampled_from(vastmax.available_isas())
DTYPES = st.sampled_from(contracts.DTYPES)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9)
relaxed = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def logits(draw: st.DrawFn, specials: bool = False) -> Any:
    """An array of any dtype, with any strides: built whole, then cut and turned into a view."""
    name = draw(DTYPES)
    dtype = contracts.FORMATS[name].dtype
    shape = draw(SHAPES)
    steps = tuple(draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2])) for _ in shape)
    wide = tuple(n * abs(s) for n, s in zip(shape, steps, strict=True))
    limit = 6e4 if name == "f16" else 1e30
    numbers = st.one_of(
        st.floats(-30, 30, width=16),
        st.floats(-800, 800, width=32),
        st.floats(-limit, limit),
        st.sampled_from([0.0, -0.0, 88.72284, -103.97, 709.78, -745.13, limit, -limit]),
    )
    if specials:
        numbers = st.one_of(numbers, st.sampled_from([np.inf, -np.inf, np.nan]))
    seed_values = draw(st.lists(numbers, min_size=1, max_size=24))
    order = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, len(seed_values), wide)
    a = np.array(seed_values)[order].astype(dtype)
    a = a[tuple(slice(None, None, s) for s in steps)]
    return a.transpose(draw(st.permutations(range(a.ndim))))


@st.composite
def with_axis(draw: st.DrawFn, specials: bool = False) -> tuple[Any, Any]:
    x = draw(logits(specials))
    axis = draw(
        st.one_of(
            st.none(),
            st.integers(-x.ndim, x.ndim - 1),
            st.lists(st.integers(0, x.ndim - 1), min_size=1, max_size=x.ndim, unique=True).map(tuple),
        )
    )
    return x, axis


def rows_of(a: Any, axis: Any, ndim: int) -> Any:
    axes = tuple(range(ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    last = np.moveaxis(a, axes, range(-len(axes), 0))
    return last.reshape(*last.shape[: ndim - len(axes)], -1)


@relaxed
@given(with_axis(), ISAS, st.integers(1, 4))
def test_normalisers(case: tuple[Any, Any], isa: str, threads: int) -> None:
    x, axis = case
    z = rows_of(x, axis, x.ndim).astype(np.float64)
    with vastmax.config(isa=isa, threads=threads):
        p, log_p = vastmax.softmax(x, axis=axis), vastmax.log_softmax(x, axis=axis)
        lse = np.asarray(vastmax.logsumexp(x, axis=axis))
    assert p.shape == log_p.shape == x.shape
    contracts.check_softmax(rows_of(p, axis, x.ndim), oracle.softmax(z), hint=axis)
    contracts.check("log_softmax", rows_of(log_p, axis, x.ndim), oracle.log_softmax(z), hint=axis)
    contracts.check_logsumexp(lse.reshape(z.shape[:-1]), oracle.logsumexp(z), z, hint=axis)


@relaxed
@given(with_axis(specials=True), ISAS)
def test_special_values_follow_the_table(case: tuple[Any, Any], isa: str) -> None:
    x, axis = case
    z = rows_of(x, axis, x.ndim).astype(np.float64)
    with vastmax.config(isa=isa):
        p, log_p = (rows_of(f(x, axis=axis), axis, x.ndim) for f in (vastmax.softmax, vastmax.log_softmax))
        lse = np.asarray(vastmax.logsumexp(x, axis=axis)).reshape(z.shape[:-1])
    nan, inf = np.isnan(z).any(-1), np.isposinf(z).any(-1)
    nothing = np.isneginf(z).all(-1)
    np.testing.assert_array_equal(np.isnan(p.astype(float)), np.broadcast_to((nan | inf | nothing)[..., None], z.shape))
    np.testing.assert_array_equal(np.isnan(lse), nan)
    np.testing.assert_array_equal(np.isposinf(lse), inf & ~nan)
    np.testing.assert_array_equal(np.isneginf(lse), nothing)
    plain = ~(nan | inf | nothing)
    assert (p[plain][np.isneginf(z[plain])] == 0).all()
    assert np.isneginf(log_p[plain][np.isneginf(z[plain])].astype(float)).all()
    mixed = inf & ~nan
    np.testing.assert_array_equal(log_p[mixed].astype(float), np.where(np.isposinf(z[mixed]), np.nan, -np.inf))
    assert np.isnan(log_p[nan | nothing].astype(float)).all()


@relaxed
@given(with_axis(specials=True), ISAS, st.data())
def test_options_against_a_plain_copy(case: tuple[Any, Any], isa: str, data: st.DataObject) -> None:
    """where= as -inf, axis as a copy with the axis last, out= as assignment: to the bit."""
    x, axis = case
    keep = data.draw(hnp.arrays(bool, x.shape))
    flat = np.ascontiguousarray(rows_of(x, axis, x.ndim))
    flat_keep = np.ascontiguousarray(rows_of(keep, axis, x.ndim))
    out = np.empty(x.shape, x.dtype).transpose(data.draw(st.permutations(range(x.ndim)))).copy(order="K")
    with vastmax.config(isa=isa):
        hidden = vastmax.softmax(x, axis=axis, where=keep)
        direct = vastmax.softmax(flat, where=flat_keep)
        contracts.assert_equal(rows_of(hidden, axis, x.ndim), direct)
        empty = ~flat_keep.any(-1)
        masked = np.where(flat_keep, flat, np.array(-np.inf, x.dtype))
        want = np.where(flat_keep, vastmax.softmax(masked), np.array(0, x.dtype))
        contracts.assert_equal(direct[~empty], want[~empty])
        assert (direct[empty] == 0).all()
        if out.shape == x.shape:
            assert vastmax.softmax(x, axis=axis, out=out) is out
            contracts.assert_equal(out, vastmax.softmax(x, axis=axis))
        for f in (vastmax.softplus, vastmax.sigmoid, vastmax.log_sigmoid):
            contracts.assert_equal(f(x), f(np.ascontiguousarray(x)))


@relaxed
@given(with_axis(), ISAS, st.floats(0.01, 100))
def test_temperature(case: tuple[Any, Any], isa: str, temperature: float) -> None:
    x, axis = case
    if np.abs(x.astype(np.float64)).max() > 1e20:
        return  # the quotient overflows float32, which is the caller's doing
    z = oracle.scaled(rows_of(x, axis, x.ndim), temperature, contracts.computed_in(contracts.name_of(x.dtype)))
    with vastmax.config(isa=isa):
        p = vastmax.softmax(x, axis=axis, temperature=temperature)
        lse = np.asarray(vastmax.logsumexp(x, axis=axis, temperature=temperature)).reshape(z.shape[:-1])
    contracts.check_softmax(rows_of(p, axis, x.ndim), oracle.softmax(z))
    contracts.check_logsumexp(lse, oracle.logsumexp(z), z)


@relaxed
@given(logits(), ISAS)
def test_elementwise(x: Any, isa: str) -> None:
    z = x.astype(np.float64)
    with vastmax.config(isa=isa):
        for op in ("softplus", "sigmoid", "log_sigmoid"):
            contracts.check(op, getattr(vastmax, op)(x), getattr(oracle, op)(z))


@relaxed
@given(with_axis(), ISAS, st.data())
def test_softmax_backward(case: tuple[Any, Any], isa: str, data: st.DataObject) -> None:
    x, axis = case
    x = np.clip(x.astype(np.float64), -50, 50).astype(x.dtype)
    g = data.draw(hnp.arrays(np.float64, x.shape, elements=st.floats(-8, 8, width=16))).astype(x.dtype)
    with vastmax.config(isa=isa):
        y = vastmax.softmax(x, axis=axis)
        got = vastmax.softmax_backward(g, y, axis=axis)
    exact, scale = oracle.softmax_backward(rows_of(g, axis, x.ndim), rows_of(y, axis, x.ndim))
    contracts.check("softmax_backward", rows_of(got, axis, x.ndim), exact, scale=scale)


@relaxed
@given(
    st.one_of(
        hnp.arrays(hnp.integer_dtypes(), SHAPES),
        hnp.arrays(hnp.unsigned_integer_dtypes(), SHAPES),
        hnp.arrays(hnp.boolean_dtypes(), SHAPES),
    ),
    ISAS,
)
def test_integers(x: Any, isa: str) -> None:
    with vastmax.config(isa=isa):
        for op in ("softmax", "log_softmax", "logsumexp", "softplus", "sigmoid"):
            np.testing.assert_array_equal(getattr(vastmax, op)(x), getattr(vastmax, op)(x.astype(np.float64)))


@settings(max_examples=200)
@given(
    st.one_of(
        hnp.arrays(hnp.complex_number_dtypes(), SHAPES),
        hnp.arrays(
            st.sampled_from(
                [np.dtype("U3"), np.dtype("S2"), np.dtype(object), np.dtype("M8[s]"), np.dtype(np.longdouble)]
            ),
            3,
        ),
        st.text(),
        st.none(),
        st.dictionaries(st.integers(), st.integers(), max_size=2),
    )
)
def test_other_values_are_a_type_error(x: Any) -> None:
    for op in ("softmax", "logsumexp", "softplus"):
        with pytest.raises(TypeError, match=op):
            getattr(vastmax, op)(x)
