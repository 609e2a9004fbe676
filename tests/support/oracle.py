# SPDX-License-Identifier: Apache-2.0
"""References for every op, independent of the library under test.

Two levels. `*_mp` work on one row in mpmath with 50 digits: slow and beyond doubt. The others work on whole arrays in
double-double (about 100 bits) with a separate binary exponent, so that a true value of 1e-320 is known as well as one
of 0.5; `test_oracle.py` holds them to the first level. Float64 inputs are taken as exact numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath
import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
mp = mpmath.mp.clone()
mp.dps = 50


class Exact(NamedTuple):
    """(hi + lo) * 2**exp, element by element."""

    hi: F64
    lo: F64
    exp: npt.NDArray[np.int64]

    def __getitem__(self, index: Any) -> Any:
        return Exact(self.hi[index], self.lo[index], self.exp[index])

    def moveaxis(self, source: int, destination: int) -> Exact:
        return Exact(*(np.moveaxis(part, source, destination) for part in self))

    def reshape(self, *shape: int) -> Exact:
        return Exact(*(part.reshape(*shape) for part in self))

    def float(self) -> F64:
        """The nearest float64; for values that need no more than that."""
        with np.errstate(all="ignore"):
            return np.ldexp(self.hi + self.lo, self.exp)

    def times(self, factor: Any) -> Exact:
        """Times a float64, itself exact."""
        hi, lo = _mul((self.hi, self.lo), (np.asarray(factor, np.float64), np.zeros(())))
        return Exact(hi, lo, np.broadcast_to(self.exp, hi.shape))

    def over(self, divisor: Any) -> Exact:
        divisor = np.broadcast_to(np.asarray(divisor, np.float64), self.hi.shape)
        hi, lo = _div((self.hi, self.lo), (divisor, np.zeros_like(divisor)))
        return Exact(hi, lo, self.exp)


def exact(x: Any) -> Exact:
    x = np.asarray(x, np.float64)
    return Exact(x, np.zeros_like(x), np.zeros(x.shape, np.int64))


# Double-double arithmetic on pairs (hi, lo): Dekker and Knuth, no FMA needed.

Pair = tuple[F64, F64]


def _two_sum(a: F64, b: F64) -> Pair:
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def _two_prod(a: F64, b: F64) -> Pair:
    p = a * b
    ca, cb = a * 134217729.0, b * 134217729.0
    ah, bh = ca - (ca - a), cb - (cb - b)
    al, bl = a - ah, b - bh
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def _add(a: Pair, b: Pair) -> Pair:
    s, e = _two_sum(a[0], b[0])
    t, f = _two_sum(a[1], b[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


def _mul(a: Pair, b: Pair) -> Pair:
    p, e = _two_prod(a[0], b[0])
    return _two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


def _div(a: Pair, b: Pair) -> Pair:
    q = a[0] / b[0]
    rest = _add(a, _neg(_mul(b, (q, np.zeros_like(q)))))
    q2 = rest[0] / b[0]
    rest = _add(rest, _neg(_mul(b, (q2, np.zeros_like(q2)))))
    return _add(_two_sum(q, q2), (rest[0] / b[0], np.zeros_like(q)))


def _neg(a: Pair) -> Pair:
    return -a[0], -a[1]


def _where(condition: Any, a: Pair, b: Pair) -> Pair:
    return np.where(condition, a[0], b[0]), np.where(condition, a[1], b[1])


def _sum(a: Pair) -> Pair:
    """Along the last axis, by halves."""
    hi, lo = a
    while hi.shape[-1] > 1:
        half = hi.shape[-1] // 2
        odd = hi[..., 2 * half :], lo[..., 2 * half :]
        hi, lo = _add((hi[..., :half], lo[..., :half]), (hi[..., half : 2 * half], lo[..., half : 2 * half]))
        hi, lo = np.concatenate([hi, odd[0]], -1), np.concatenate([lo, odd[1]], -1)
    if hi.shape[-1] == 0:
        return np.zeros(hi.shape[:-1]), np.zeros(hi.shape[:-1])
    return hi[..., 0], lo[..., 0]


def _constant(value: Any, parts: int = 2) -> list[float]:
    split = []
    for _ in range(parts):
        split.append(float(value))
        value = value - split[-1]
    return split


_STEPS = 64
_LN2_STEP = _constant(mp.log(2) / _STEPS, 4)
_TABLE = np.array([_constant(mp.mpf(2) ** (mp.mpf(j) / _STEPS)) for j in range(_STEPS)]).T
_INVERSE_FACTORIAL = [_constant(1 / mp.factorial(k)) for k in range(12)]
_FLOOR = -2.0e5  # exp below it is 0 in every format by a wide margin; the clip keeps exponents in range


def _expm1_reduced(d: Pair) -> tuple[Pair, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """p, j, k with exp(d) = 2**(j / 64 + k) * (1 + p)."""
    steps = np.rint(d[0] / _LN2_STEP[0])
    r = d
    for part in _LN2_STEP:
        hi, lo = _two_prod(-steps, np.float64(part))
        r = _add(r, (hi, lo))
    top = np.zeros_like(r[0])
    for k in range(11, 6, -1):
        top = (top + _INVERSE_FACTORIAL[k][0]) * r[0]
    p: Pair = (top, np.zeros_like(top))
    for k in range(6, 0, -1):
        c = _INVERSE_FACTORIAL[k]
        p = _mul(_add(p, (np.full_like(top, c[0]), np.full_like(top, c[1]))), r)
    whole = steps.astype(np.int64)
    return p, whole % _STEPS, whole // _STEPS


def _exp(d: Pair) -> Exact:
    keep = d[0] > _FLOOR  # also turns -inf into a number
    d = np.where(keep, d[0], _FLOOR), np.where(keep, d[1], 0.0)
    p, j, k = _expm1_reduced(d)
    t = _TABLE[0][j], _TABLE[1][j]
    hi, lo = _add(t, _mul(t, p))
    return Exact(hi, lo, k)


def _expm1(d: Pair) -> Pair:
    p, j, k = _expm1_reduced(d)
    t = np.ldexp(_TABLE[0][j], k), np.ldexp(_TABLE[1][j], k)
    one = np.ones_like(p[0])
    return _add(_add(t, (-one, np.zeros_like(one))), _mul(t, p))


def _plain(a: Exact) -> Pair:
    """Without the exponent; parts below about 2**-900 become 0, which a sum with 1 cannot tell."""
    tiny = a.exp < -900
    e = np.where(tiny, 0, a.exp)
    return np.where(tiny, 0.0, np.ldexp(a.hi, e)), np.where(tiny, 0.0, np.ldexp(a.lo, e))


def _log1p(s: Exact) -> Exact:
    """For s >= 0: one Newton step on expm1 in double-double, or the series where s is tiny."""
    plain = _plain(s)
    small = plain[0] < 2.0**-60
    base = np.where(small, 1.0, plain[0]), np.where(small, 0.0, plain[1])
    y = np.log1p(base[0])
    e = _expm1((y, np.zeros_like(y)))
    gap = _add(base, _neg(e))
    step = gap[0] / (1.0 + e[0])
    hi, lo = _add((y, np.zeros_like(y)), _two_sum(step, -0.5 * step * step))
    # s - s**2/2: the next term is below 2**-120 of the result
    series = _mul((s.hi, s.lo), _add((np.ones_like(y), np.zeros_like(y)), (-0.5 * plain[0], -0.5 * plain[1])))
    hi, lo = _where(small, series, (hi, lo))
    return Exact(hi, lo, np.where(small, s.exp, 0))


def _log(a: Pair) -> Pair:
    """For a > 0, to an absolute 2**-100."""
    m, e = np.frexp(a[0])
    a = m, np.ldexp(a[1], -e)
    y = np.log(m)
    back = _exp((-y, np.zeros_like(y)))
    q = _mul(a, _plain(back))
    gap = _add(q, (-np.ones_like(y), np.zeros_like(y)))
    step = 2.0 * gap[0] / (q[0] + 1.0)
    out = _add((y, np.zeros_like(y)), (step, gap[1]))
    for part in _LN2_STEP[:3]:
        out = _add(out, _two_prod(e.astype(np.float64), np.float64(part * _STEPS)))
    return out


# Row ops. z: float64 logits, the reduced axis last.


class _Rows(NamedTuple):
    max: F64  # [..., 1]; 0 where the row has no finite entry
    top: npt.NDArray[np.bool_]  # marks one largest entry
    gap: Pair  # z - max
    others: Exact  # sum of exp(gap) over all but `top`


def _rows(z: F64) -> _Rows:
    m = np.max(z, axis=-1, keepdims=True)
    m = np.where(np.isfinite(m), m, 0.0)
    top = np.zeros(z.shape, bool)
    np.put_along_axis(top, np.argmax(z, axis=-1)[..., None], True, axis=-1)
    gap = _two_sum(z, -np.broadcast_to(m, z.shape))
    gap = np.where(gap[0] > _FLOOR, gap[0], _FLOOR), np.where(gap[0] > _FLOOR, gap[1], 0.0)
    rest = np.where(top, _FLOOR, gap[0])
    second = np.argmax(rest, axis=-1)[..., None]
    lead = np.take_along_axis(rest, second, -1), np.take_along_axis(np.where(top, 0.0, gap[1]), second, -1)
    terms = _exp(_add((rest, np.where(top, 0.0, gap[1])), _neg(lead)))
    hi, lo = _sum(_plain(Exact(np.where(top, 0.0, terms.hi), np.where(top, 0.0, terms.lo), terms.exp)))
    scale = _exp(lead)
    total = _mul((hi[..., None], lo[..., None]), (scale.hi, scale.lo))
    return _Rows(m, top, gap, Exact(*total, scale.exp))


def scaled(x: Any, temperature: Any = None, compute: Any = np.float64) -> F64:
    """The logits in float64; with a temperature, the quotient rounded once to the dtype computed in."""
    with np.errstate(all="ignore"):
        x = np.asarray(x).astype(np.float64)
        if temperature is None:
            return x
        # float64 quotients round to float32 a second time, which changes one in 2**29 of them by half an ULP: not below
        if compute == np.float32:
            return (
                (x.astype(np.longdouble) / np.asarray(temperature, np.longdouble)).astype(np.float32).astype(np.float64)
            )
        return x / np.asarray(temperature, np.float64)


def softmax(z: F64) -> Exact:
    """Finite or -inf entries, at least one finite in each row."""
    with np.errstate(all="ignore"):
        r = _rows(z)
        total = _add(_plain(r.others), (np.ones_like(r.max), np.zeros_like(r.max)))
        e = _exp(r.gap)
        hi, lo = _div((e.hi, e.lo), tuple(np.broadcast_to(t, z.shape) for t in total))  # type: ignore[arg-type]
        none = np.isneginf(z)
        return Exact(np.where(none, 0.0, hi), np.where(none, 0.0, lo), e.exp)


def log_softmax(z: F64) -> Exact:
    with np.errstate(all="ignore"):
        r = _rows(z)
        log = _log1p(r.others)
        exact_gap = _two_sum(z, -np.broadcast_to(r.max, z.shape))
        plain = _plain(log)
        hi, lo = _add(exact_gap, _neg(tuple(np.broadcast_to(t, z.shape) for t in plain)))  # type: ignore[arg-type]
        hi, lo = _where(r.top, (-log.hi, -log.lo), (hi, lo))
        none = np.isneginf(z)
        return Exact(np.where(none, -np.inf, hi), np.where(none, 0.0, lo), np.where(r.top & ~none, log.exp, 0))


def logsumexp(z: F64) -> Exact:
    with np.errstate(all="ignore"):
        r = _rows(z)
        log = _log1p(r.others)
        zero = r.max == 0
        hi, lo = _add((r.max, np.zeros_like(r.max)), _plain(log))
        hi, lo = _where(zero, (log.hi, log.lo), (hi, lo))
        none = np.isneginf(np.max(z, axis=-1, keepdims=True))
        out = Exact(np.where(none, -np.inf, hi), np.where(none, 0.0, lo), np.where(zero & ~none, log.exp, 0))
        return out[..., 0]


def logsumexp_weighted(z: F64, b: Any) -> tuple[Exact, F64, F64, F64]:
    """log |sum b exp(z)|, its sign, the scale max(|result|, largest |logit|), and sum |b e^z| / |sum b e^z|."""
    with np.errstate(all="ignore"):
        b = np.broadcast_to(np.asarray(b, np.float64), z.shape)
        z = np.where(b == 0, -np.inf, z)
        m = np.max(z, axis=-1, keepdims=True)
        m = np.where(np.isfinite(m), m, 0.0)
        e = _plain(_exp(_two_sum(z, -np.broadcast_to(m, z.shape))))
        terms = _mul(e, (b, np.zeros_like(b)))
        total = _sum(terms)
        size = _sum(_where(terms[0] < 0, _neg(terms), terms))
        sign = np.sign(total[0])
        log = _log(_where(total[0] < 0, _neg(total), total))
        hi, lo = _add((m[..., 0], np.zeros_like(m[..., 0])), log)
        result = exact(np.where(sign == 0, -np.inf, hi))._replace(lo=np.where(sign == 0, 0.0, lo))
        scale = np.maximum(np.abs(hi), np.abs(m[..., 0]))
        return result, sign, scale, size[0] / np.abs(total[0])


def dot(a: Any, b: Any) -> Pair:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return _sum(_two_prod(a, b))


def softmax_backward(g: Any, y: Any) -> tuple[Exact, F64]:
    """y (g - <g, y>), and the magnitude the contract measures its error in."""
    g, y = np.asarray(g, np.float64), np.asarray(y, np.float64)
    inner = dot(g, y)
    diff = _add((g, np.zeros_like(g)), _neg((inner[0][..., None], inner[1][..., None])))
    hi, lo = _mul(diff, (y, np.zeros_like(y)))
    scale = np.abs(y) * np.maximum(np.abs(g), np.abs(inner[0][..., None]))
    return Exact(hi, lo, np.zeros(hi.shape, np.int64)), scale


def log_softmax_backward(g: Any, y: Any) -> tuple[Exact, F64]:
    """g - exp(y) sum(g), and the larger of its two terms."""
    g, y = np.asarray(g, np.float64), np.asarray(y, np.float64)
    total = _sum((g, np.zeros_like(g)))
    p = _plain(_exp((y, np.zeros_like(y))))
    part = _mul(p, (total[0][..., None], total[1][..., None]))
    hi, lo = _add((g, np.zeros_like(g)), _neg(part))
    return Exact(hi, lo, np.zeros(hi.shape, np.int64)), np.maximum(np.abs(g), np.abs(part[0]))


# Element-wise ops


def _minus_magnitude(x: F64, beta: float) -> Pair:
    return _mul((-np.abs(x), np.zeros_like(x)), (np.full_like(x, beta), np.zeros_like(x)))


def softplus(x: Any, beta: float = 1.0) -> Exact:
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        log = _log1p(_exp(_minus_magnitude(x, beta))).over(beta)
        hi, lo = _where(x > 0, _add((np.maximum(x, 0.0), np.zeros_like(x)), _plain(log)), (log.hi, log.lo))
        out = Exact(hi, lo, np.where(x > 0, 0, log.exp))
        return _at_infinities(out, x, 0.0, np.inf)


def log_sigmoid(x: Any) -> Exact:
    out = softplus(-np.asarray(x, np.float64))
    return Exact(-out.hi, -out.lo, out.exp)


def sigmoid(x: Any, beta: float = 1.0) -> Exact:
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        e = _exp(_minus_magnitude(x, beta))
        one = np.ones_like(x), np.zeros_like(x)
        hi, lo = _div(_where(x >= 0, one, (e.hi, e.lo)), _add(one, _plain(e)))
        return _at_infinities(Exact(hi, lo, np.where(x >= 0, 0, e.exp)), x, 0.0, 1.0)


def logit(p: Any) -> Exact:
    """log(p / (1 - p)) for p strictly inside (0, 1)."""
    p = np.asarray(p, np.float64)
    zero = np.zeros_like(p)
    q = _two_sum(np.ones_like(p), -p)
    low = p < 0.5
    big, small = _where(low, q, (p, zero)), _where(low, (p, zero), q)
    with np.errstate(all="ignore"):
        near = _log1p(Exact(*_div(_add(big, _neg(small)), small), np.zeros(p.shape, np.int64)))
    far = _add(_log(big), _neg(_log(small)))  # where the ratio may overflow
    hi, lo = _where(small[0] < 2.0**-500, far, _plain(near))
    sign = np.where(low, -1.0, 1.0)
    return Exact(sign * hi, sign * lo, np.zeros(p.shape, np.int64))


def _at_infinities(out: Exact, x: F64, low: float, high: float) -> Exact:
    ends = np.isinf(x) | np.isnan(x)
    value = np.where(np.isnan(x), np.nan, np.where(x < 0, low, high))
    return Exact(np.where(ends, value, out.hi), np.where(ends, 0.0, out.lo), np.where(ends, 0, out.exp))


def binary_cross_entropy(x: Any, t: Any, weight: Any = 1.0, pos_weight: Any = 1.0) -> tuple[Exact, Exact]:
    """Losses w ((1 - t) softplus(x) + q t softplus(-x)) and their derivatives, for targets in [0, 1]."""
    x, t, weight, pos_weight = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (x, t, weight, pos_weight)))
    zero = np.zeros(x.shape)
    away = _two_sum(np.ones(x.shape), -t)
    toward = _two_prod(pos_weight, t)
    up, down = softplus(x), softplus(-x)
    # Brought to one exponent before they meet: one of the two may be far below the smallest float64.
    loss = _scaled_add(_scaled_mul(up, away), _scaled_mul(down, toward))
    slope = _scaled_add(_scaled_mul(sigmoid(x), away), _scaled_mul(sigmoid(-x), _neg(toward)))
    return _scaled_mul(loss, (weight, zero)), _scaled_mul(slope, (weight, zero))


def _scaled_mul(a: Exact, b: Pair) -> Exact:
    return Exact(*_mul((a.hi, a.lo), b), a.exp)


def _scaled_add(a: Exact, b: Exact) -> Exact:
    e = np.maximum(np.where(a.hi == 0, b.exp, a.exp), np.where(b.hi == 0, a.exp, b.exp))

    def at(v: Exact) -> Pair:
        return np.ldexp(v.hi, np.maximum(v.exp - e, -2000)), np.ldexp(v.lo, np.maximum(v.exp - e, -2000))

    return Exact(*_add(at(a), at(b)), e)


# Losses of rows. A target is a weight for each class, exact to double-double.


def target_weights(q: Any, weight: Any = 1.0, smoothing: float = 0.0, kept: Any = True) -> Pair:
    """w ((1 - smoothing) q + smoothing / K), where K counts the classes that are kept."""
    q, w = np.asarray(q, np.float64), np.asarray(weight, np.float64)
    kept = np.broadcast_to(kept, q.shape)
    zero, one = np.zeros(q.shape), np.ones(q.shape)
    share = _add((one, zero), (np.full(q.shape, -smoothing), zero))
    with np.errstate(all="ignore"):
        even = _div((np.full(q.shape, smoothing), zero), (kept.sum(-1, keepdims=True) * one, zero))
    total = _add(_mul(share, (q, zero)), _where(kept, even, (zero, zero)))
    return _mul(total, (np.broadcast_to(w, q.shape), zero))


def cross_entropy(z: F64, a: Pair, z_loss: float = 0.0) -> Exact:
    """-sum a log_softmax(z) + z_loss logsumexp(z)^2 of each row, for weights a >= 0."""
    log_p = log_softmax(z)
    with np.errstate(all="ignore"):
        none = a[0] == 0
        lead = np.max(np.where(none | (log_p.hi == 0), -(2**40), log_p.exp), axis=-1)
        terms = _where(none, (0.0 * a[0], 0.0 * a[0]), _mul((-log_p.hi, -log_p.lo), a))
        lead = np.where(lead == -(2**40), 0, lead)
        scaled_terms = _plain(Exact(*terms, log_p.exp - lead[..., None]))
        hi, lo = _sum(scaled_terms)
        hi = np.where(np.isinf(scaled_terms[0]).any(-1), np.inf, hi)
        if z_loss:
            lse = _plain(logsumexp(z))
            hi, lo = _add(_plain(Exact(hi, lo, lead)), _mul(_mul(lse, lse), (np.full_like(hi, z_loss), 0.0 * hi)))
            lead = np.zeros_like(lead)
        return Exact(hi, np.where(np.isinf(hi), 0.0, lo), lead)


def cross_entropy_grad(z: F64, a: Pair, z_loss: float = 0.0) -> tuple[Exact, F64]:
    """(sum a + 2 z_loss logsumexp(z)) p - a, and the larger of the two terms."""
    with np.errstate(all="ignore"):
        p, r = softmax(z), _rows(z)
        total = _sum(a)
        total = total[0][..., None], total[1][..., None]
        more = _mul(_plain(logsumexp(z)), (np.full(z.shape[:-1], 2 * z_loss), np.zeros(z.shape[:-1])))
        factor = _add(total, (more[0][..., None], more[1][..., None]))
        part = _mul((p.hi, p.lo), tuple(np.broadcast_to(f, z.shape) for f in factor))  # type: ignore[arg-type]
        whole = _add(_plain(Exact(*part, p.exp)), _neg(a))
        out = Exact(
            np.where(a[0] == 0, part[0], whole[0]),
            np.where(a[0] == 0, part[1], whole[1]),
            np.where(a[0] == 0, p.exp, 0),
        )
        # One class that is also the largest logit: p - 1 is minus what the others have.
        alone = r.top & (a[0] != 0) & ((a[0] != 0).sum(-1, keepdims=True) == 1) & (z_loss == 0)
        divisor = _add(_plain(r.others), (np.ones_like(r.max), np.zeros_like(r.max)))
        rest = _mul(_div((r.others.hi, r.others.lo), divisor), total)
        spread = [np.broadcast_to(v, z.shape) for v in (-rest[0], -rest[1], r.others.exp)]
        out = Exact(*(np.where(alone, mine, usual) for mine, usual in zip(spread, out, strict=True)))
        return out, np.maximum(np.abs(Exact(*part, p.exp).float()), np.abs(a[0]))


def entropy(z: F64) -> Exact:
    """log sum e^(z - max) + sum p (max - z)."""
    with np.errstate(all="ignore"):
        r, p = _rows(z), softmax(z)
        log = _log1p(r.others)
        terms = _mul((p.hi, p.lo), _neg(r.gap))
        terms = _where(p.hi == 0, (np.zeros_like(z), np.zeros_like(z)), terms)
        # Both may be far below the smallest float64: in the unit of the second largest probability.
        unit = np.where(np.isfinite(z) & ~r.top, p.exp, -(2**40)).max(-1)
        unit = np.where(unit == -(2**40), 0, unit)
        hi, lo = _sum(_plain(Exact(*terms, p.exp - unit[..., None])))
        return _scaled_add(Exact(hi, lo, unit), log[..., 0])


def kl_divergence(x: F64, z: F64) -> tuple[Exact, F64]:
    """sum p u with u = log p - log q, of finite or -inf x and finite z, and its largest term.

    As sum p (e^-u - 1 + u), which does not cancel where the two are alike: with what q has where p has nothing,
    sum p e^-u is 1.
    """
    with np.errstate(all="ignore"):
        none = np.isneginf(x)
        p, q = _plain(softmax(x)), _plain(softmax(z))
        u = _add(_plain(log_softmax(x)), _neg(_plain(log_softmax(z))))
        near = np.abs(u[0]) < 1
        bounded = np.where(near, u[0], 0.0), np.where(near, u[1], 0.0)
        apart = _add(_add(q, _neg(p)), _mul(p, u))
        terms = _where(near, _mul(p, _add(_expm1(_neg(bounded)), bounded)), apart)
        hi, lo = _sum(_where(none, q, terms))
        return Exact(hi, lo, np.zeros(hi.shape, np.int64)), np.abs(np.where(none, 0, p[0] * u[0])).max(-1)


def softcapped(x: Any, cap: float, compute: Any) -> F64:
    """c tanh(x / c), rounded once to the dtype computed in."""
    if np.dtype(compute) == np.float64:  # of which long double has too few digits more
        with mp.workdps(50):
            return np.vectorize(lambda v: float(cap * mp.tanh(mp.mpf(float(v)) / cap)), otypes=[np.float64])(x)
    wide = np.asarray(x, np.float64).astype(np.longdouble)
    return (cap * np.tanh(wide / np.longdouble(cap))).astype(compute).astype(np.float64)


# The first level: one row, mpmath, the textbook formula.


def cross_entropy_mp(row: Sequence[Any], weights: Sequence[float], z_loss: float = 0.0, cap: float = 0.0) -> Any:
    with mp.workdps(100):
        z = [cap * mp.tanh(mp.mpf(v) / cap) if cap else mp.mpf(v) for v in row]
        lse = mp.log(mp.fsum(mp.exp(v) for v in z))
        return mp.fsum(mp.mpf(w) * (lse - v) for w, v in zip(weights, z, strict=True) if w) + z_loss * lse**2


def softmax_mp(row: Sequence[float]) -> list[Any]:
    e = [mp.exp(mp.mpf(float(v))) for v in row]
    total = mp.fsum(e)
    return [v / total for v in e]


def logsumexp_mp(row: Sequence[float], b: Sequence[float] | None = None) -> Any:
    with mp.workdps(700):  # log(1 + e**-1000) needs the 1 and the e**-1000
        weights = [1.0] * len(row) if b is None else b
        return mp.log(mp.fsum(mp.mpf(float(w)) * mp.exp(mp.mpf(float(v))) for v, w in zip(row, weights, strict=True)))


def log_softmax_mp(row: Sequence[float]) -> list[Any]:
    with mp.workdps(700):
        total = logsumexp_mp(row)
        return [mp.mpf(float(v)) - total for v in row]


def softplus_mp(x: float) -> Any:
    return mp.log1p(mp.exp(mp.mpf(float(x)))) if x < 0 else mp.mpf(float(x)) + mp.log1p(mp.exp(-mp.mpf(float(x))))


def logsumexp_weighted_mp(a: Any, b: Any) -> tuple[Any, int]:
    """The logarithm of the size of sum b e^a, and its sign."""
    with mp.workdps(1500):
        total = mp.fsum(mp.mpf(float(w)) * mp.exp(mp.mpf(float(x))) for x, w in zip(a, b, strict=True) if w != 0)
        return mp.log(abs(total)) if total else mp.mpf("-inf"), int(mp.sign(total))


def softplus_of_beta_mp(x: float, beta: float) -> tuple[Any, Any]:
    """The value and its slope."""
    with mp.workdps(60):
        e = mp.exp(-abs(mp.mpf(x) * mp.mpf(beta)))
        return max(mp.mpf(x), 0) + mp.log1p(e) / mp.mpf(beta), (1 if x >= 0 else e) / (1 + e)


def sigmoid_mp(x: float) -> Any:
    e = mp.exp(-abs(mp.mpf(float(x))))
    return (1 if x >= 0 else e) / (1 + e)


def logit_mp(p: float) -> Any:
    with mp.workdps(400):
        return mp.log(mp.mpf(float(p)) / (1 - mp.mpf(float(p))))


def as_mp(value: Exact) -> Any:
    """One element as an mpmath number."""
    return mp.ldexp(mp.mpf(float(value.hi)) + mp.mpf(float(value.lo)), int(value.exp))


def from_mp(values: list[Any]) -> Exact:
    """Numbers of mpmath to 106 bits."""
    with mp.workdps(60):
        scaled = [mp.frexp(v) for v in values]
        hi = [float(m) for m, _ in scaled]
        lo = [float(m - h) for (m, _), h in zip(scaled, hi, strict=True)]
    return Exact(np.array(hi), np.array(lo), np.array([int(e) for _, e in scaled], np.int64))
