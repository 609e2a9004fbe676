# SPDX-License-Identifier: Apache-2.0
"""The accuracy contract under every option: scales of logits from 1e-40 to 1e38, offsets to 1e30, near certainty.

The reference is the textbook formula in 1,400 bits, of the logits as they are once divided and capped: both are rounded
once to the type computed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import vastmax
from support import contracts, oracle

pytestmark = [pytest.mark.conformance, pytest.mark.any_isa]  # the bits are those of every other instruction set
mp = oracle.mp
SIZES = (1, 2, 3, 5, 17)
DTYPES = list(contracts.DTYPES)


@pytest.fixture(autouse=True)
def bits() -> Iterator[None]:
    with mp.workprec(1400):  # e^-745 beside 1, and as many digits again
        yield


def rounded(value: Any, name: str) -> Any:
    """To the nearest number of a format."""
    form = contracts.FORMATS[name]
    if value == 0 or not mp.isfinite(value):
        return value
    unit = mp.ldexp(1, max(int(mp.frexp(value)[1]) - 1, form.min_exponent) - form.precision + 1)
    nearest = mp.nint(value / unit) * unit
    return nearest if abs(nearest) <= form.max else mp.sign(value) * mp.inf


def ulp(got: Any, want: Any, name: str, scale: Any = None) -> float:
    """Distance in units of the last place of `want`, or of `scale`; what the format cannot hold counts as infinite."""
    form, got = contracts.FORMATS[name], float(got)
    size = abs(want) if scale is None else scale
    if size > form.max:
        return 0.0 if abs(got) > form.max / 4 or scale is not None else np.inf
    if not np.isfinite(got):
        return 0.0 if got == float(want) or size > form.max * (1 - 2.0 ** (2 - form.precision)) else np.inf
    exponent = int(mp.frexp(size)[1]) - 1 if size else form.min_exponent
    return float(abs(mp.mpf(got) - want) / mp.ldexp(1, max(exponent, form.min_exponent) - form.precision + 1))


def logits(rng: Any, n: int, name: str) -> Any:
    """A row of any scale: ordinary, far from 0, tiny, vast, certain, all equal, or with a -inf."""
    form, x = contracts.FORMATS[name], rng.standard_normal(n)
    kind = rng.integers(9)
    reach = 5 if name == "f16" else 38
    x *= [1, 10, 100, 1, 10.0 ** -rng.integers(1, 40), 10.0 ** rng.integers(2, reach), 1, 1, 1][kind]
    if kind == 3:
        x += rng.choice([-1, 1]) * 10.0 ** rng.integers(1, min(reach, 30))
    if kind == 6:
        x[0] += rng.choice([20, 40, 80])
    if kind == 7:
        x[:] = x[0]
    x = np.clip(x, -form.max, form.max)
    if kind == 8 and n > 1:
        x[rng.integers(n)] = -np.inf
    return x.astype(form.dtype)


class Row(NamedTuple):
    z: list[Any]  # divided and capped
    slope: list[Any]
    largest: Any
    log: Any  # of the sum over e^largest
    p: list[Any]


def row_of(x: Any, name: str, temperature: float = 1.0, cap: float | None = None) -> Row:
    computed = contracts.reduced(name)
    q = [rounded(mp.mpf(float(v)) / mp.mpf(temperature), computed) for v in x]
    z = q if cap is None else [rounded(mp.mpf(cap) * mp.tanh(v / mp.mpf(cap)), computed) for v in q]
    slope = [mp.mpf(1) if cap is None else mp.sech(v / mp.mpf(cap)) ** 2 for v in q]
    largest = max(z)
    e = [mp.exp(v - largest) for v in z]
    first = z.index(largest)
    log = mp.log1p(mp.fsum(v for i, v in enumerate(e) if i != first))
    return Row(z, slope, largest, log, [v / mp.fsum(e) for v in e])


def target_of(rng: Any, kind: str, n: int, name: str) -> tuple[Any, list[Any]]:
    """A target, and its probability of each class."""
    if kind == "class":
        t = int(rng.integers(n))
        return t, [mp.mpf(int(i == t)) for i in range(n)]
    if kind == "probabilities":  # which need not sum to 1
        q = (rng.dirichlet(np.ones(n)) * rng.choice([1, 1, 0.5, 1e3, 1e-3])).astype(contracts.FORMATS[name].dtype)
        return q, [mp.mpf(float(v)) for v in q]
    ids, q = rng.integers(0, n, 3), rng.random(3)
    return (ids, q), [mp.fsum(mp.mpf(v) for i, v in zip(ids, q, strict=True) if i == j) for j in range(n)]


OPTIONS: list[dict[str, Any]] = [
    {},
    *({"temperature": t} for t in (0.7, 3.0, 1e30)),
    *({"softcap": c} for c in (1e-30, 0.01, 1.0, 30.0, 1e4, 1e30)),
    *({"z_loss": z} for z in (1e-8, 1e-4, 1e-2, 1.0, 1e3)),
    *({"label_smoothing": e} for e in (1e-6, 0.1, 0.5, 1.0)),
    *({"weight": w} for w in (1.0, 1e300, 1e-300)),
    *({"weight": w, "label_smoothing": 0.1} for w in (1.0, 1e300, 1e-300)),
    {"weight": 1.0, "label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 5.0, "temperature": 3.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", DTYPES)
def test_cross_entropy(name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    o = dict(options)
    size, z_loss, smoothing = o.pop("weight", None), mp.mpf(o.get("z_loss", 0)), mp.mpf(o.get("label_smoothing", 0))
    temperature, cap = o.get("temperature", 1.0), o.get("softcap")
    for kind in ("class", "class", "probabilities", "pairs"):
        for n in SIZES * 3:
            x = logits(rng, n, name)
            row = row_of(x, name, temperature, cap)
            if not mp.isfinite(row.largest):
                continue
            target, q = target_of(rng, kind, n, name)
            w = np.ones(n) if size is None else rng.uniform(0.1, 3, n) * size * (rng.random(n) < 0.9)
            mean = kind == "class" and w[target] != 0  # so that a loss of weight 1e300 fits float32
            unit = 1 / (mp.mpf(w[target]) if mean else mp.mpf(size or 1))
            if not mean and size not in (None, 1.0):
                continue
            options_of = {**o, "reduction": "mean" if mean else "sum", **({} if size is None else {"weight": w})}
            got = vastmax.cross_entropy_with_grad(x, target, **options_of)
            a = [mp.mpf(v) * unit * ((1 - smoothing) * u + smoothing / n) for v, u in zip(w, q, strict=True)]
            lse, lam, mass = row.largest + row.log, z_loss * unit, mp.fsum(a)
            wide = max(abs(lse), max(abs(v) for v in row.z if mp.isfinite(v)))  # logsumexp is so good
            loss = mp.fsum(u * ((row.largest - v) + row.log) for u, v in zip(a, row.z, strict=True) if u) + lam * lse**2
            what = (kind, x, target, w)
            kept = contracts.reduced(name)
            assert ulp(got.loss, loss, kept, max(loss, 2 * lam * abs(lse) * wide)) <= 4, (what, got.loss, float(loss))
            bound = contracts.MAX_ULP["cross_entropy_with_grad"][name]
            exact = kind == "class" and not z_loss and not smoothing and cap is None  # also where p is nearly 1
            for j, (u, p, slope) in enumerate(zip(a, row.p, row.slope, strict=True)):
                outer = slope / mp.mpf(temperature)
                others = mp.fsum(v for i, v in enumerate(row.p) if i != j)
                want = ((mass - u + 2 * lam * lse) * p - u * others) * outer
                if p < mp.mpf(float(np.finfo(contracts.computed_in(name)).smallest_subnormal)) / 2:
                    continue  # softmax is 0
                scale = None if exact else max((mass + 2 * lam * wide) * p, u) * outer
                assert ulp(got.grad[j], want, name, scale) <= bound, (what, j, got.grad[j], float(want))


@pytest.mark.parametrize("temperature", [1.0, 0.7, 3.0, 1e30])
@pytest.mark.parametrize("name", DTYPES)
def test_statistics(name: str, temperature: float) -> None:
    rng = np.random.default_rng(4)
    kept = contracts.reduced(name)
    for n in SIZES * 12:
        x = logits(rng, n, name)
        row = row_of(x, name, temperature)
        if not mp.isfinite(row.largest):
            continue
        target = int(rng.integers(n))
        stats = vastmax.softmax_stats(x, target, top_n=n, temperature=temperature)
        log_p = [(v - row.largest) - row.log for v in row.z]
        largest = max(abs(v) for v in row.z if mp.isfinite(v))
        lse = row.largest + row.log
        assert ulp(stats.lse, lse, kept, max(abs(lse), largest)) <= contracts.MAX_ULP["logsumexp"][kept], x
        picked = vastmax.selective_log_softmax(x, target, temperature=temperature)
        for got, want in ((picked, log_p[target]), (stats.target_log_prob, log_p[target])):
            assert got == float(want) or ulp(got, want, kept) <= 4, (x, target, got)
        for got, i in zip(stats.top_log_probs, stats.top_indices, strict=True):
            assert got == float(log_p[i]) or ulp(got, log_p[i], kept) <= 4, (x, i, got)
        entropy = row.log + mp.fsum(p * (row.largest - v) for p, v in zip(row.p, row.z, strict=True) if p)
        for got in (stats.entropy, vastmax.entropy(x, temperature=temperature)):
            assert ulp(got, entropy, kept) <= 8, (x, got, float(entropy))


@pytest.mark.parametrize("name", DTYPES)
def test_kl_divergence(name: str) -> None:
    rng = np.random.default_rng(5)
    kept = contracts.reduced(name)
    for n in SIZES * 12:
        x = logits(rng, n, name)
        off = rng.standard_normal(n) * 10.0 ** -rng.integers(0, 8)
        near = np.where(np.isfinite(x), x.astype(np.float64) + off, -np.inf).astype(x.dtype)
        other = logits(rng, n, name)
        other[~np.isfinite(x)], other[np.isinf(other)] = -np.inf, 0
        for y in (near, other):
            p, q = row_of(x, name), row_of(y, name)
            if not (mp.isfinite(p.largest) and mp.isfinite(q.largest)):
                continue
            terms = [
                share * (((u - p.largest) - p.log) - ((v - q.largest) - q.log))
                for share, u, v in zip(p.p, p.z, q.z, strict=True)
                if share and mp.isfinite(v)
            ]
            want, got = mp.fsum(terms), vastmax.kl_divergence(x, y)
            assert got >= 0
            assert ulp(got, want, kept, max(abs(want), max(map(abs, terms)))) <= 8, (x, y, got, float(want))


@pytest.mark.parametrize("name", DTYPES)
def test_binary_cross_entropy(name: str) -> None:
    rng = np.random.default_rng(6)
    form, kept = contracts.FORMATS[name], contracts.reduced(name)
    for _ in range(60):
        x = logits(rng, 5, name)
        t = rng.choice([0.0, 1.0, 0.5, rng.random()], 5).astype(form.dtype)
        w, b = ((rng.random(5) * 10.0 ** rng.integers(-4, 5)).astype(form.dtype) for _ in range(2))
        loss, grad = vastmax.binary_cross_entropy_with_logits(x, t, w, pos_weight=b, reduction="none", return_grad=True)
        for i in range(5):
            z, on, off = mp.mpf(float(x[i])), mp.mpf(float(b[i])) * mp.mpf(float(t[i])), 1 - mp.mpf(float(t[i]))
            if not mp.isfinite(z):
                continue
            least = mp.log1p(mp.exp(-abs(z)))  # below which float32 has fewer digits to multiply
            if least < form.min_exponent * mp.log(2) or float(least) < np.finfo(kept.replace("f", "float")).tiny:
                continue
            terms = on * (least + max(-z, 0)), off * (least + max(z, 0))
            size = mp.mpf(float(w[i]))
            what = (x[i], t[i], w[i], b[i])
            assert ulp(loss[i], size * mp.fsum(terms), kept) <= 8, (what, loss[i])
            slopes = off / (1 + mp.exp(-z)), on / (1 + mp.exp(z))
            assert ulp(grad[i], size * (slopes[0] - slopes[1]), name, size * max(slopes)) <= 8, (what, grad[i])
