# SPDX-License-Identifier: Apache-2.0
"""Mutants: plausible wrong libraries. The suite's own tests, called on each, must fail.

A mutant replaces a public function; then the tests of its op run as they are. One that survives means the tests have no
teeth for that mistake, whatever the real library does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import test_backward
import test_binary_cross_entropy
import test_cross_entropy
import test_logsumexp
import test_row_statistics
import test_sampled_softmax
import test_softmax
import test_softplus
import test_special_values

import vastmax
from support import contracts, logit_rows

pytestmark = pytest.mark.any_isa

F16, F32, F64 = (np.dtype(t) for t in (np.float16, np.float32, np.float64))
Test = Callable[[], None]

softmax, log_softmax, logsumexp = vastmax.softmax, vastmax.log_softmax, vastmax.logsumexp
softplus, sigmoid, log_sigmoid = vastmax.softplus, vastmax.sigmoid, vastmax.log_sigmoid


def checks_of(op: str, dtype: Any) -> Iterator[Test]:
    """What the suite does for an op, cheapest first."""
    s, v = test_softmax, test_special_values
    if op in ("softmax", "log_softmax"):
        for name in logit_rows.NAMES:
            yield lambda name=name: getattr(s, f"test_{op}")(dtype, name)
        yield lambda: s.test_the_tail_weighs(dtype)
        yield lambda: s.test_every_tail_length(dtype)
        for axis in (0, 1, -1, (0, 2, 3), None):
            yield lambda axis=axis: s.test_axis(dtype, axis)
        yield lambda: s.test_temperature(dtype, "normal_12", 0.5)
        yield lambda: s.test_temperature_per_row(dtype)
        yield lambda: s.test_where(dtype)
        yield lambda: s.test_first_axis_is_as_accurate_as_the_last(dtype)
        if dtype.itemsize > 2:
            yield lambda: s.test_log_softmax_near_certainty(dtype)
    if op == "logsumexp":
        for name in logit_rows.NAMES:
            yield lambda name=name: test_logsumexp.test_logsumexp(dtype, name)
        yield lambda: test_logsumexp.test_every_tail_length(dtype)
        yield lambda: test_logsumexp.test_largest_logit_zero(F32)
        yield lambda: test_logsumexp.test_temperature(dtype, "normal_12", 0.5)
        yield lambda: test_logsumexp.test_where(dtype)
        for kind in ("positive", "signed", "with zeros"):
            yield lambda kind=kind: test_logsumexp.test_weights(dtype, kind)
        for case in test_logsumexp.WEIGHTED_SPECIAL:
            yield lambda case=case: test_logsumexp.test_weights_special(F32, *case, padding=16)
    if op in ("softmax", "log_softmax", "logsumexp"):
        for n, axis in itertools.product((16, v.N), (-1, 0)):
            for test in (
                v.test_nan_anywhere_is_nan_everywhere,
                v.test_nan_beside_infinities,
                v.test_plus_infinity,
                v.test_minus_infinity_beside_finite,
                v.test_all_minus_infinity,
            ):
                yield lambda test=test, n=n, axis=axis: test.check(dtype, axis, n)
            yield lambda n=n, axis=axis: v.test_where_hides_anything.check(dtype, axis, n, np.nan)
            yield lambda n=n, axis=axis: v.test_where_all_false.check(dtype, axis, n, 0.0)
            yield lambda n=n, axis=axis: v.test_one_finite.check(dtype, axis, n, 3.5)
        yield lambda: v.test_special_rows_leave_their_neighbours_alone(dtype)
    if op in test_softplus.OPS:
        yield lambda: test_softplus.test_accuracy(dtype, op)
        yield lambda: test_softplus.test_special_values(dtype, op)
        yield lambda: test_softplus.test_zero(dtype)
        yield lambda: test_softplus.test_beta(dtype, 5.0)
    if op in ("softmax_backward", "log_softmax_backward", "logsumexp_backward"):
        for name in test_backward.ROWS:
            yield lambda name=name: getattr(test_backward, f"test_{op}")(dtype, name)
        yield lambda: test_backward.test_axis(dtype, 0)
        yield lambda: v.test_gradients(dtype, -1)
    if op == "binary_cross_entropy_with_logits":
        yield lambda: test_binary_cross_entropy.test_each_element(dtype, True, True)
        yield lambda: test_binary_cross_entropy.test_reductions(dtype, "mean")
        if dtype.itemsize > 2:
            yield lambda: test_binary_cross_entropy.test_special_values(dtype)
    if op == "cross_entropy_with_grad":
        c = test_cross_entropy
        for name in ("peaked", "certain", "normal_12", "masked"):
            yield lambda name=name: c.test_one_class(dtype, name)
        yield c.test_near_certainty
        yield lambda: c.test_axis(dtype, 1)
        yield lambda: c.test_every_length(dtype, 4097)
        yield lambda: c.test_ignored_rows_count_as_nothing(dtype)
        yield lambda: c.test_nothing_to_average(dtype)
        yield lambda: c.test_where_hides_anything(dtype)
        yield lambda: c.test_special_rows(dtype, 5, 0.0)
        yield lambda: c.test_softcap(dtype, 5.0)
        yield lambda: c.test_minus_infinity_beside_the_target(dtype)
        for options in ({"label_smoothing": 0.25}, {"z_loss": 0.125}, {"softcap": 4.0}, {"weight": 1}):
            yield lambda options=options: c.test_gradient_is_the_slope_of_the_loss(options)
        yield lambda: c.test_grad_output(dtype, -3.0)
    if op == "softmax_stats":
        r = test_row_statistics
        for name in ("peaked", "certain", "tied", "normal_12", "masked", "extremes"):
            yield lambda name=name: r.test_rows(dtype, name)
        yield lambda: r.test_every_length(dtype, 4097)
        yield lambda: r.test_axis_and_temperature(dtype, 1)
        yield r.test_a_temperature_does_not_change_the_order
        yield lambda: r.test_special_rows(dtype, 5000)

    if op == "sampled_softmax":
        f = test_sampled_softmax
        for share in ("batch", "row"):
            for correction in ("importance", "candidate", "none"):
                yield lambda s=share, c=correction: f.test_the_formula("", s, c, 3, dtype)
            yield lambda s=share: f.test_the_formula("", s, "refined", None, dtype)
            yield lambda s=share: f.test_all_classes_are_the_full_softmax(s, "importance", None)
            yield lambda s=share: f.test_unique(s, "importance", 250)
            yield lambda s=share: f.test_unique(s, "candidate", 250)
            yield lambda s=share: f.test_all_positions_of_a_hit_go(s)
            yield lambda s=share: f.test_a_row_whose_draws_are_all_hits(s)
        yield lambda: f.test_threads_and_parts_change_no_bit("", 1, "row")
        yield f.test_a_mask_is_no_large_number
        yield f.test_the_temperature_does_not_scale_the_correction


def killed(op: str, mutant: Callable[..., Any], dtype: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(vastmax, op, mutant)
    if op == "binary_cross_entropy_with_logits":
        monkeypatch.setattr(test_binary_cross_entropy, "bce", mutant)
    with np.errstate(all="ignore"):
        for test in checks_of(op, dtype):
            try:
                test()
            except AssertionError:
                return True
    return False


def like_softmax(f: Callable[..., Any]) -> Callable[..., Any]:
    """A softmax from a function of rows, float32 logits in and probabilities out, with every option done right."""

    def whole(x: Any, axis: Any = -1, *, temperature: Any = None, where: Any = None, **_: Any) -> Any:
        x = np.asarray(x)
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        z = x.astype(np.float64)
        if temperature is not None:
            t = np.asarray(temperature, np.float64)
            kept = tuple(1 if i in {a % x.ndim for a in axes} else n for i, n in enumerate(x.shape))
            z = z / (t.reshape(kept) if t.size == np.prod(kept) else t)
        if where is not None:
            z = np.where(where, z, -np.inf)
        last = np.moveaxis(z.astype(np.float32), axes, range(-len(axes), 0))
        y = f(last.reshape(*last.shape[: x.ndim - len(axes)], -1))
        return np.moveaxis(y.reshape(last.shape), range(-len(axes), 0), axes).astype(x.dtype)

    return whole


def naive(z: Any) -> Any:
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


def textbook(z: Any) -> Any:
    """SciPy's formula: right, but for up to |x - max| ULP."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def without_tail(z: Any) -> Any:
    n = z.shape[-1] - z.shape[-1] % 16 or z.shape[-1]
    return np.concatenate([softmax(z[..., :n]), np.zeros_like(z[..., n:])], -1)


def tail_not_summed(z: Any) -> Any:
    n = z.shape[-1] - z.shape[-1] % 16 or z.shape[-1]
    return np.exp(z.astype(np.float64) - logsumexp(z[..., :n].astype(np.float64), axis=-1, keepdims=True))


def sentinel(z: Any) -> Any:
    """A finite number for -inf inside."""
    return softmax(np.maximum(z, np.float32(-5e4)))


def flushed(y: Any) -> Any:
    tiny = np.finfo(np.float32).tiny
    return np.where(np.abs(y) < tiny, np.float32(0), y)


def off(y: Any, ulps: int = 3) -> Any:
    y = np.asarray(y)
    return np.where(np.isfinite(y) & (y != 0), y + y.dtype.type(ulps) * np.spacing(y), y).astype(y.dtype)


def narrow_sum(z: Any) -> Any:
    """Adds up one by one in float32."""
    e = np.exp(z.astype(np.float64) - z.max(-1, keepdims=True))
    return e / np.cumsum(e.astype(np.float32), axis=-1, dtype=np.float32)[..., -1:]


SOFTMAX: dict[str, Callable[..., Any]] = {
    "returns 1/N": like_softmax(lambda z: np.full_like(z, 1.0 / z.shape[-1])),
    "forgets the max": like_softmax(naive),
    "textbook formula": like_softmax(textbook),
    "drops the tail": like_softmax(without_tail),
    "does not sum the tail": like_softmax(tail_not_summed),
    "finite sentinel": like_softmax(sentinel),
    "flushes subnormals": like_softmax(lambda z: flushed(softmax(z))),
    "three ULP": like_softmax(lambda z: off(softmax(z))),
    "narrow sum": like_softmax(narrow_sum),
    "swallows NaN": like_softmax(lambda z: softmax(np.where(np.isnan(z), -np.inf, z).astype(np.float32))),
    "NaN to 0": like_softmax(lambda z: np.nan_to_num(softmax(z))),
    "NaN seen in the first block only": like_softmax(
        lambda z: softmax(np.where(np.isnan(z) & (np.arange(z.shape[-1]) >= 64), -np.inf, z).astype(np.float32))
    ),
    "+inf as the largest finite": like_softmax(lambda z: softmax(np.minimum(z, np.finfo(np.float32).max))),
    "all masked is uniform": like_softmax(
        lambda z: np.where(np.isneginf(z).all(-1, keepdims=True), 1.0 / z.shape[-1], softmax(z))
    ),
    "ignores temperature": lambda x, axis=-1, temperature=None, **o: softmax(x, axis, **o),
    "multiplies by temperature": lambda x, axis=-1, temperature=None, **o: softmax(
        x, axis, temperature=None if temperature is None else 1.0 / np.asarray(temperature), **o
    ),
    "first row's temperature": lambda x, axis=-1, temperature=None, **o: softmax(
        x, axis, temperature=None if temperature is None else float(np.ravel(temperature)[0]), **o
    ),
    "ignores where": lambda x, axis=-1, where=None, **o: softmax(x, axis, **o),
    "inverts where": lambda x, axis=-1, where=None, **o: softmax(
        x, axis, where=None if where is None else ~np.asarray(where), **o
    ),
    "where without renormalising": lambda x, axis=-1, where=None, **o: np.where(
        True if where is None else where, softmax(x, axis, **o), 0
    ).astype(np.asarray(x).dtype),
    "always the last axis": lambda x, axis=-1, **o: softmax(x, -1, **o),
    "all axes": lambda x, axis=-1, **o: softmax(x, None, **o),
    "stale output": lambda x, axis=-1, **o: (
        np.concatenate([np.ravel(softmax(x, axis, **o))[:-1], [0]]).astype(np.asarray(x).dtype).reshape(np.shape(x))
    ),
    "first row for every row": lambda x, axis=-1, **o: (
        np.broadcast_to(softmax(x, axis, **o)[:1], np.shape(x)) if np.ndim(x) > 1 else softmax(x, axis, **o)
    ),
    "reversed": lambda x, axis=-1, **o: np.flip(softmax(x, axis, **o), axis),
}

LOG_SOFTMAX: dict[str, Callable[..., Any]] = {
    "x minus logsumexp, rounded": like_softmax(lambda z: z - logsumexp(z, axis=-1, keepdims=True)),
    "log of softmax": like_softmax(lambda z: np.log(softmax(z))),
    "zero near certainty": like_softmax(lambda z: np.where(log_softmax(z) > -1e-8, np.float32(0), log_softmax(z))),
    "six ULP": like_softmax(lambda z: off(log_softmax(z), 6)),
    "ignores temperature": lambda x, axis=-1, temperature=None, **o: log_softmax(x, axis, **o),
    "ignores where": lambda x, axis=-1, where=None, **o: log_softmax(x, axis, **o),
    "-0.0 for one class": like_softmax(lambda z: np.where(log_softmax(z) == 0, np.float32(-0.0), log_softmax(z))),
    "swallows NaN": like_softmax(lambda z: log_softmax(np.where(np.isnan(z), -np.inf, z).astype(np.float32))),
}


def like_logsumexp(f: Callable[[Any], Any]) -> Callable[..., Any]:
    def whole(
        a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False, **o: Any
    ) -> Any:
        if b is not None or o or return_sign or not (np.ndim(a) == 1 or axis in (-1, np.ndim(a) - 1)):
            return logsumexp(a, axis, b, keepdims, return_sign, **o)
        got = f(np.asarray(a).astype(np.float32)).astype(np.float64 if np.asarray(a).dtype == F64 else np.float32)
        return got[..., None] if keepdims else got

    return whole


LOGSUMEXP: dict[str, Callable[..., Any]] = {
    "the max": like_logsumexp(lambda z: z.max(-1)),
    "forgets the max": like_logsumexp(lambda z: np.log(np.exp(z).sum(-1))),
    "log of the sum, no log1p": like_logsumexp(
        lambda z: z.max(-1) + np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1))
    ),
    "drops the tail": like_logsumexp(lambda z: logsumexp(z[..., : z.shape[-1] - z.shape[-1] % 16 or None], axis=-1)),
    "two ULP": like_logsumexp(lambda z: off(logsumexp(z, axis=-1), 2)),
    "a bias of 1e-6": like_logsumexp(lambda z: logsumexp(z, axis=-1) * np.float32(1 + 1e-6)),
    "ignores temperature": lambda a, axis=None, b=None, *r, temperature=None, **o: logsumexp(a, axis, b, *r, **o),
    "ignores where": lambda a, axis=None, b=None, *r, where=None, **o: logsumexp(a, axis, b, *r, **o),
    "ignores b": lambda a, axis=None, b=None, *r, **o: logsumexp(a, axis, None, *r, **o),
    "absolute b": lambda a, axis=None, b=None, *r, **o: logsumexp(a, axis, None if b is None else np.abs(b), *r, **o),
    "0 times inf": lambda a, axis=None, b=None, *r, **o: logsumexp(
        a,
        axis,
        None if b is None else np.where((b == 0) & ~np.isfinite(np.asarray(a, float)), np.nan, b).astype(b.dtype),
        *r,
        **o,
    ),
    "negative sum is not NaN": lambda a, axis=None, b=None, keepdims=False, return_sign=False, **o: (
        logsumexp(a, axis, b, keepdims, True, **o)
        if return_sign
        else logsumexp(a, axis, b, keepdims, True, **o)[0]
        if b is not None
        else logsumexp(a, axis, None, keepdims, **o)
    ),
    "-inf row is NaN": like_logsumexp(
        lambda z: np.where(np.isneginf(z).all(-1), np.float32(np.nan), logsumexp(z, axis=-1))
    ),
    "-inf row is the lowest finite": like_logsumexp(
        lambda z: np.maximum(logsumexp(z, axis=-1), np.finfo(np.float32).min)
    ),
}


def each(f: Callable[[Any], Any]) -> Callable[..., Any]:
    def whole(x: Any, beta: float = 1.0, **_: Any) -> Any:
        x = np.asarray(x)
        return (f(x * x.dtype.type(beta)) / x.dtype.type(beta)).astype(x.dtype)

    return whole


ELEMENTWISE: dict[str, dict[str, Callable[..., Any]]] = {
    "softplus": {
        "log(1 + exp(x))": each(lambda x: np.log(1 + np.exp(x))),
        "threshold 12": each(lambda x: np.where(x > 12, x, softplus(np.minimum(x, 12)))),
        "flushes subnormals": each(lambda x: flushed(softplus(x))),
        "ReLU": each(lambda x: np.maximum(x, 0)),
        "ignores beta": lambda x, beta=1.0, **o: softplus(x, **o),
        "logaddexp in float32": each(lambda x: np.logaddexp(x.astype(np.float32), np.float32(0))),
    },
    "sigmoid": {
        "1 / (1 + exp(-x))": each(lambda x: 1 / (1 + np.exp(-x))),
        "0 below -88.7": each(lambda x: np.where(x < -88.7, 0, sigmoid(x))),
        "tanh form": each(lambda x: 0.5 * np.tanh(0.5 * x) + 0.5),
        "two ULP": each(lambda x: off(sigmoid(x), 2)),
    },
    "log_sigmoid": {
        "log(sigmoid)": each(lambda x: np.log(sigmoid(x))),
        "no log1p": each(lambda x: np.minimum(x, 0) - np.log(1 + np.exp(-np.abs(x)))),
        "flushes subnormals": each(lambda x: flushed(log_sigmoid(x))),
    },
}

# Mistakes that float32 cannot show.
ELEMENTWISE_DOUBLE: dict[str, dict[str, Callable[..., Any]]] = {
    "softplus": {
        "threshold 20": each(lambda x: np.where(x > 20, x, softplus(np.minimum(x, 20)))),
        "threshold 30": each(lambda x: np.where(x > 30, x, softplus(np.minimum(x, 30)))),
        "float32 inside": each(lambda x: softplus(x.astype(np.float32))),
    },
    "sigmoid": {"float32 inside": each(lambda x: sigmoid(x.astype(np.float32)))},
}

softmax_backward, log_softmax_backward = vastmax.softmax_backward, vastmax.log_softmax_backward
logsumexp_backward, bce = vastmax.logsumexp_backward, vastmax.binary_cross_entropy_with_logits

BACKWARD: dict[str, dict[str, Callable[..., Any]]] = {
    "softmax_backward": {
        "forgets the inner product": lambda g, y, axis=-1, **o: g * y,
        "inner product in the input's precision, naively": lambda g, y, axis=-1, **o: (
            (y * (g - np.cumsum((g * y).astype(y.dtype), axis, dtype=y.dtype).take([-1], axis))).astype(y.dtype)
            * y.dtype.type(1 + 2**-20)
        ),
        "always the last axis": lambda g, y, axis=-1, **o: softmax_backward(g, y),
        "the other sign": lambda g, y, axis=-1, **o: -softmax_backward(g, y, axis),
    },
    "log_softmax_backward": {
        "output taken for probabilities": lambda g, y, axis=-1, **o: (g - y * g.sum(axis, keepdims=True)).astype(
            y.dtype
        ),
        "forgets the sum": lambda g, y, axis=-1, **o: (g - np.exp(y)).astype(y.dtype),
    },
    "logsumexp_backward": {
        "ignores the gradient": lambda g, a, axis=None, **o: logsumexp_backward(np.ones_like(g), a, axis, **o),
        "NaN for a row of -inf": lambda g, a, axis=None, **o: (np.expand_dims(g, axis) * softmax(a, axis, **o)).astype(
            np.asarray(a).dtype
        ),
    },
    "binary_cross_entropy_with_logits": {
        "ignores pos_weight": lambda x, t, w=None, pos_weight=None, **o: bce(x, t, w, **o),
        "ignores weight": lambda x, t, w=None, **o: bce(x, t, None, **o),
        "pos_weight on both sides": lambda x, t, w=None, pos_weight=None, **o: bce(
            x, t, None if w is None else w * (1 if pos_weight is None else pos_weight), **o
        ),
        "sum for mean": lambda x, t, w=None, reduction="mean", **o: bce(
            x, t, w, reduction="sum" if reduction == "mean" else reduction, **o
        ),
    },
}

cross_entropy = vastmax.cross_entropy_with_grad


def recomputed(f: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """Another gradient, of logits, softmax and one-hot target, where there are no options."""

    def whole(x: Any, target: Any, *args: Any, **o: Any) -> Any:
        got = cross_entropy(x, target, *args, **o)
        if args or set(o) - {"reduction"} or o.get("reduction") != "none" or np.ndim(x) != 2 or np.ndim(target) != 1:
            return got
        x = np.asarray(x)
        one_hot = np.arange(x.shape[-1]) == np.asarray(target)[:, None]
        return got._replace(grad=f(x, softmax(x), one_hot).astype(x.dtype))

    return whole


LOSSES: dict[str, Callable[..., Any]] = {
    "p - 1": recomputed(lambda x, p, hot: p - hot),
    "forgets the target": recomputed(lambda x, p, hot: p),
    "drops the tail": recomputed(
        lambda x, p, hot: np.where(np.arange(p.shape[-1]) < p.shape[-1] // 16 * 16, p - hot, 0)
    ),
    "four ULP": lambda x, t, *a, **o: (r := cross_entropy(x, t, *a, **o))._replace(grad=off(r.grad, 6)),
    "loss as logsumexp less the logit": lambda x, t, *a, **o: (r := cross_entropy(x, t, *a, **o))._replace(
        loss=r.loss if np.ndim(r.loss) == 0 else r.lse - (r.lse - r.loss)
    ),
    "always the last axis": lambda x, t, *a, axis=-1, **o: cross_entropy(
        np.swapaxes(np.asarray(x), axis, -1).reshape(np.shape(x)), t, *a, axis=axis, **o
    ),
    "mean over ignored rows too": lambda x, t, *a, reduction="mean", **o: (
        (r := cross_entropy(x, t, *a, reduction="sum", **o))._replace(
            loss=r.loss / np.asarray(r.lse).size, grad=r.grad / np.asarray(r.lse).size
        )
        if reduction == "mean"
        else cross_entropy(x, t, *a, reduction=reduction, **o)
    ),
    **{
        f"ignores {name}": lambda x, t, *a, name=name, **o: cross_entropy(
            x, t, *a, **{key: value for key, value in o.items() if key != name}
        )
        for name in ("label_smoothing", "z_loss", "softcap", "weight", "where", "sample_weight", "grad_output")
    },
    "0 times inf": lambda x, t, *a, **o: (r := cross_entropy(x, t, *a, **o))._replace(
        loss=np.where(np.isneginf(np.asarray(x, float)).any(-1), np.nan, r.loss) if np.ndim(r.loss) == 1 else r.loss
    ),
    "NaN of an ignored row": lambda x, t, *a, **o: (r := cross_entropy(x, t, *a, **o))._replace(
        grad=np.where(np.isnan(np.asarray(x)), np.nan, r.grad).astype(r.grad.dtype)
    ),
    "mean of nothing is 0": lambda x, t, *a, **o: (r := cross_entropy(x, t, *a, **o))._replace(
        loss=np.nan_to_num(r.loss)
    ),
}

softmax_stats = vastmax.softmax_stats


def changed(**fields: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """Statistics with some fields computed another way, from the right ones, the logits and the target."""

    def whole(x: Any, target: Any = None, **o: Any) -> Any:
        got = softmax_stats(x, target, **o)
        made = {name: f(got, np.asarray(x), target) for name, f in fields.items() if o.get("axis", -1) == -1}
        return got._replace(**{name: value for name, value in made.items() if getattr(got, name) is not None})

    return whole


def picked(x: Any, target: Any) -> Any:
    return np.take_along_axis(x, np.asarray(target)[..., None], -1)


STATISTICS: dict[str, Callable[..., Any]] = {
    "ranks from 0": changed(target_rank=lambda s, x, t: None if t is None else s.target_rank - 1),
    "ties before the target": changed(target_rank=lambda s, x, t: None if t is None else (x >= picked(x, t)).sum(-1)),
    "last of the largest": changed(argmax=lambda s, x, t: x.shape[-1] - 1 - np.flip(x, -1).argmax(-1)),
    "ties to the higher index": changed(
        top_indices=lambda s, x, t: np.flip(np.argsort(x, -1, kind="stable"), -1)[..., : np.shape(s.top_indices)[-1]]
    ),
    "entropy with 0 log 0": changed(
        entropy=lambda s, x, t: -(softmax(x) * np.log(softmax(x))).sum(-1).astype(s.lse.dtype)
    ),
    "entropy as lse less the mean": changed(
        entropy=lambda s, x, t: s.lse - (softmax(x) * np.where(np.isneginf(x), 0, x)).sum(-1).astype(s.lse.dtype)
    ),
    "log of the probability": changed(
        top_log_probs=lambda s, x, t: (
            None
            if s.top_indices is None
            else np.log(np.take_along_axis(softmax(x), s.top_indices, -1)).astype(s.lse.dtype)
        )
    ),
    "ignores temperature": lambda x, target=None, temperature=None, **o: softmax_stats(x, target, **o),
    "order of the quotients": lambda x, target=None, temperature=None, **o: softmax_stats(
        x if temperature is None else np.asarray(x) / temperature, target, **o
    ),
    "swallows NaN": lambda x, target=None, **o: softmax_stats(
        np.where(np.isnan(x), -np.inf, x).astype(np.asarray(x).dtype), target, **o
    ),
}

sampled_softmax = vastmax.sampled_softmax


def corrected(name: str) -> Callable[..., Any]:
    """Another correction than the one asked for."""
    return lambda *a, correction="importance", **o: sampled_softmax(
        *a, correction=name if correction == "importance" else correction, **o
    )


def of_unique(log_q: Callable[[Any, Any, int], Any]) -> Callable[..., Any]:
    """Shared draws without replacement, weighed by another law than theirs: log_q(sampler, ids, size)."""

    def whole(x: Any, w: Any, t: Any, *, sampler: Any, num_sampled: Any = None, unique: bool = False, **o: Any) -> Any:
        if not unique or o.get("share", "batch") != "batch":
            return sampled_softmax(x, w, t, sampler=sampler, num_sampled=num_sampled, unique=unique, **o)
        ids = sampler.sample(num_sampled, seed=o["seed"], step=o.get("step", 0), unique=True)

        class Weighed(vastmax.PresetSampler):
            def _target_log_q(self, op: str, targets: Any) -> Any:
                return log_q(sampler, targets.ids, num_sampled)

        return sampled_softmax(x, w, t, sampler=Weighed(ids, log_q(sampler, ids, num_sampled)), **o)

    return whole


def tensorflows(sampler: Any, ids: Any, size: int) -> Any:
    """The probability that a class is in as many draws with replacement, as its unique samplers have it."""
    return np.log(-np.expm1(size * np.log1p(-np.exp(sampler.log_prob(ids)))) / size)


SAMPLED: dict[str, Callable[..., Any]] = {
    "forgets log q": corrected("none"),
    "corrects the targets too": corrected("candidate"),
    "forgets to, where asked": lambda *a, correction="importance", **o: sampled_softmax(
        *a, correction="importance" if correction == "candidate" else correction, **o
    ),
    "forgets accidental hits": lambda *a, **o: sampled_softmax(*a, **o, exclude_targets=False),
    "drops the last negative": lambda *a, num_sampled=None, **o: sampled_softmax(
        *a, num_sampled=None if num_sampled is None else num_sampled - 1, **o
    ),
    "q of one draw for draws without replacement": of_unique(lambda sampler, ids, size: sampler.log_prob(ids)),
    "TensorFlow's unique formula": of_unique(tensorflows),
    "replaces what it draws": lambda *a, unique=False, **o: sampled_softmax(*a, **o),
    "every part draws as the first": lambda *a, row_offset=0, **o: sampled_softmax(*a, **o),
    "the first step's draws": lambda *a, step=0, **o: sampled_softmax(*a, **o),
    **{
        f"ignores {name}": lambda *a, name=name, **o: sampled_softmax(*a, **{k: v for k, v in o.items() if k != name})
        for name in ("bias", "temperature", "grad_output")
    },
    "mean of the losses": lambda *a, **o: (r := sampled_softmax(*a, **o))._replace(
        grad_input=r.grad_input / len(r.loss)
    ),
    "counts no hits": lambda *a, **o: (r := sampled_softmax(*a, **o))._replace(num_hits=0 * r.num_hits),
    "lse of the negatives": lambda *a, **o: (r := sampled_softmax(*a, **o))._replace(
        lse=r.lse + np.log1p(-np.exp(np.minimum(-r.loss, -1e-12)))
    ),
}

MUTANTS = [
    (op, name, mutant, dtype)
    for op, mutants, dtype in (
        ("softmax", SOFTMAX, F32),
        ("log_softmax", LOG_SOFTMAX, F32),
        ("logsumexp", LOGSUMEXP, F32),
        *((op, mutants, F32) for op, mutants in ELEMENTWISE.items()),
        *((op, mutants, F64) for op, mutants in ELEMENTWISE_DOUBLE.items()),
        *((op, mutants, F32) for op, mutants in BACKWARD.items()),
        ("cross_entropy_with_grad", LOSSES, F32),
        ("softmax_stats", STATISTICS, F32),
        ("sampled_softmax", SAMPLED, F64),
    )
    for name, mutant in mutants.items()
]


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("op", "mutant", "dtype"), [m[:1] + m[2:] for m in MUTANTS], ids=[f"{m[0]}: {m[1]}" for m in MUTANTS]
)
def test_mutant_is_killed(op: str, mutant: Callable[..., Any], dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert killed(op, mutant, dtype, monkeypatch), "every test of the op passed"


@pytest.mark.conformance
@pytest.mark.parametrize(
    "op",
    [
        "softmax",
        "log_softmax",
        "logsumexp",
        *ELEMENTWISE,
        *BACKWARD,
        "cross_entropy_with_grad",
        "softmax_stats",
        "sampled_softmax",
    ],
)
def test_the_library_itself_survives(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness does not fail by itself, which would make every mutant look killed."""
    real = getattr(vastmax, op)
    assert not killed(op, lambda *args, **options: real(*args, **options), F32, monkeypatch)


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [F16, F32, F64], ids=str)
def test_scipy_is_killed(op: str, dtype: Any) -> None:
    """The best-known implementation does not meet the contract, and the tests see it."""
    special = pytest.importorskip("scipy.special")
    failures = 0
    for name in logit_rows.NAMES:
        x = logit_rows.row(name, dtype)
        with np.errstate(all="ignore"):
            got = getattr(special, op)(x)
        try:
            contracts.check(op, got, test_softmax.want(name, dtype, op), hint=name)
        except AssertionError:
            failures += 1
    assert failures >= 3


def test_the_measure_itself() -> None:
    """Neighbours are one ULP apart, in each format and in the subnormals; NaN and infinities are not numbers."""
    from support import oracle

    for name, fmt in contracts.FORMATS.items():
        for value in (1.0, 1.5, 0.125, 2.0**fmt.min_exponent, 3 * 2.0 ** (fmt.min_exponent - fmt.precision + 1)):
            exact = oracle.exact([value])
            assert contracts.ulp_error(np.array([value]).astype(fmt.dtype), exact, fmt)[0] == 0
            unit = 2.0 ** (max(np.floor(np.log2(value)), fmt.min_exponent) - fmt.precision + 1)
            above = np.array([value + unit]).astype(fmt.dtype)
            assert contracts.ulp_error(above, exact, fmt)[0] == 1, (name, value)
        one = np.array([1.0]).astype(fmt.dtype)
        for wrong in (np.nan, np.inf):
            assert contracts.ulp_error(np.array([wrong]).astype(fmt.dtype), oracle.exact([1.0]), fmt)[0] == np.inf
            assert contracts.ulp_error(one, oracle.exact([wrong]), fmt)[0] == np.inf
        assert contracts.ulp_error(np.array([np.inf]).astype(fmt.dtype), oracle.exact([-np.inf]), fmt)[0] == np.inf
        assert contracts.ulp_error(np.array([np.nan]).astype(fmt.dtype), oracle.exact([np.nan]), fmt)[0] == 0
