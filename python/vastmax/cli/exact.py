# SPDX-License-Identifier: Apache-2.0
"""Right values of the ops, in NumPy's long double, and the distance of a result from them in ULP.

Longer than float64 on x86 (64 bits of precision) and Linux on ARM (113); elsewhere `REACHES_FLOAT64` is false, and only
narrower dtypes can be judged. Rows lie along the last axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Long = NDArray[np.longdouble]

REACHES_FLOAT64 = np.finfo(np.longdouble).nmant >= 63


class Format(NamedTuple):
    """Bits of precision, and the exponent of the smallest normal number."""

    precision: int
    min_exponent: int


FORMATS = {
    "float16": Format(11, -14),
    "bfloat16": Format(8, -126),
    "float32": Format(24, -126),
    "float64": Format(53, -1022),
}


class Truth(NamedTuple):
    """A result, and the magnitude in whose binade its error is counted."""

    value: Long
    scale: Long


def wide(x: Array) -> Long:
    """Convert without loss; by way of float64, which ml_dtypes knows."""
    return (x if x.dtype == np.longdouble else x.astype(np.float64)).astype(np.longdouble)


def ulp_error(got: Array, truth: Truth, dtype: str) -> NDArray[np.float64]:
    """Distance in units in the last place; 0 where NaN meets NaN and infinity its like, inf where only one is one."""
    precision, min_exponent = FORMATS[dtype]
    result, value = wide(got), truth.value
    with np.errstate(all="ignore"):
        exponent = np.frexp(truth.scale)[1] - 1
        exponent = np.where(truth.scale == 0, min_exponent, np.maximum(exponent, min_exponent))
        error = np.abs(result - value) / np.ldexp(np.longdouble(1), exponent - (precision - 1))
    alike = (result == value) | (np.isnan(result) & np.isnan(value))
    error = np.where(alike, 0, np.where(np.isnan(error), np.inf, error))
    return error.astype(np.float64)


def _itself(value: Long) -> Truth:
    return Truth(value, np.abs(value))


class _Row(NamedTuple):
    largest: Long
    gap: Long  # logits less the largest
    exp: Long
    rest: Long  # sum of `exp` over all but one of the largest


def _row(z: Long) -> _Row:
    largest = z.max(-1, keepdims=True)
    gap = z - largest
    exp = np.exp(gap)
    others = exp.copy()
    np.put_along_axis(others, z.argmax(-1)[..., None], 0, -1)
    rest = np.where(np.isinf(largest), 0, others.sum(-1, keepdims=True))
    return _Row(largest, gap, exp, rest)


def softmax(z: Long) -> Truth:
    """Return exp(z) over its sum."""
    row = _row(z)
    return _itself(row.exp / row.exp.sum(-1, keepdims=True))


def log_softmax(z: Long) -> Truth:
    """Return the logarithm of `softmax`, to full relative accuracy."""
    row = _row(z)
    return _itself(row.gap - np.log1p(row.rest))


def logsumexp(z: Long) -> Truth:
    """Return log of the sum of exp(z), its error counted in the larger of result and largest finite abs(z)."""
    row = _row(z)
    value = (row.largest + np.log1p(row.rest))[..., 0]
    size = np.where(np.isfinite(z), np.abs(z), 0).max(-1)
    return Truth(value, np.where(row.largest[..., 0] == 0, np.abs(value), np.fmax(np.abs(value), size)))


def logsumexp_weighted(z: Long, b: Long) -> Truth:
    """Return log of the sum of b exp(z) for b > 0."""
    row = _row(z)
    value = (row.largest + np.log((b * row.exp).sum(-1, keepdims=True)))[..., 0]
    return Truth(value, np.fmax(np.abs(value), np.abs(row.largest[..., 0])))


def softmax_backward(g: Long, y: Long) -> Truth:
    """Return y (g - <g, y>)."""
    inner = (g * y).sum(-1, keepdims=True)
    return Truth(y * (g - inner), np.abs(y) * np.maximum(np.abs(g), np.abs(inner)))


def log_softmax_backward(g: Long, y: Long) -> Truth:
    """Return g - exp(y) sum(g)."""
    part = np.exp(y) * g.sum(-1, keepdims=True)
    return Truth(g - part, np.maximum(np.abs(g), np.abs(part)))


def times(g: Long, factor: Long, dtype: str) -> Truth:
    """Return a product whose second factor was itself rounded, to its spacing where that is subnormal."""
    smallest = np.ldexp(np.longdouble(1), FORMATS[dtype].min_exponent)
    return Truth(g * factor, np.abs(g) * np.fmax(np.abs(factor), smallest))


def cross_entropy_gradient(z: Long, target: NDArray[np.intp]) -> Truth:
    """Return softmax less 1 at the target of each row, which is minus what the others have of the sum."""
    exp = _row(z).exp
    at, others = target[..., None], exp.copy()
    np.put_along_axis(others, at, 0, -1)
    value = exp.copy()
    np.put_along_axis(value, at, -others.sum(-1, keepdims=True), -1)
    return _itself(value / exp.sum(-1, keepdims=True))


def entropy(z: Long) -> Truth:
    """Return -sum p log p of the softmax p."""
    row = _row(z)
    gaps = -np.where(row.exp == 0, 0, row.exp * row.gap).sum(-1)
    return _itself(np.log1p(row.rest)[..., 0] + gaps / row.exp.sum(-1))


def kl_divergence(x: Long, z: Long) -> Truth:
    """Return sum p u, u = log p - log q, of logits x and z; errors count in the larger of it and its largest term.

    It is computed as sum p (e^-u - 1 + u), whose terms do not cancel.
    """
    log_p = log_softmax(x).value
    p, u = np.exp(log_p), log_p - log_softmax(z).value
    near = np.where(np.abs(u) < 0.25, u, 0)
    series = np.zeros_like(u)
    for k in range(16, 1, -1):
        series = (1 - near * series) / k  # 1/k - u/(k (k + 1)) + ...
    above = np.where(near == u, near * near * series, np.expm1(-u) + u)
    value = (p * above).sum(-1)
    return Truth(value, np.maximum(value, np.abs(p * u).max(-1)))


def softplus(x: Long) -> Truth:
    """Return log(1 + exp(x))."""
    return _itself(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def log_sigmoid(x: Long) -> Truth:
    """Return the logarithm of `sigmoid`."""
    return _itself(-softplus(-x).value)


def sigmoid(x: Long) -> Truth:
    """Return 1 / (1 + exp(-x))."""
    small = np.exp(-np.abs(x))
    return _itself(np.where(x >= 0, 1, small) / (1 + small))


def logit(p: Long) -> Truth:
    """Return log(p / (1 - p))."""
    middle = (p > 0.25) & (p < 0.75)
    ratio = np.where(middle, 2 * p - 1, p) / (1 - p)
    return _itself(np.where(middle, np.log1p(np.where(middle, ratio, 0)), np.log(ratio)))


def bce(x: Long, t: Long) -> Truth:
    """Return the binary cross-entropy of logits with targets in [0, 1]."""
    return _itself((1 - t) * softplus(x).value + t * softplus(-x).value)


def bce_gradient(x: Long, t: Long) -> Truth:
    """Return its derivative, the error counted in the larger of its two terms."""
    away, toward = (1 - t) * sigmoid(x).value, t * sigmoid(-x).value
    return Truth(away - toward, np.maximum(away, toward))
