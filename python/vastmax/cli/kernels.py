# SPDX-License-Identifier: Apache-2.0
"""Every kernel: how to call it, inputs made from logits and a gradient, what it should give, and its error bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax
from vastmax import special
from vastmax._contracts import bounds

from . import exact
from .exact import wide

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vastmax._ops.sampled.proposal import Law

    from .exact import Array, Long, Truth

    Inputs = tuple[Array, ...]
    Bounds = dict[str, float]

TEMPERATURE = 0.7


@dataclass(frozen=True)
class Kernel:
    """One function in one way of calling it."""

    name: str
    prepare: Callable[[Array, Array], Inputs]  # of logits and a gradient, both of the dtype
    run: Callable[..., Array]  # of the axis and the inputs
    truth: Callable[..., Truth]  # of the name of the dtype and the widened inputs
    bounds: Bounds  # ULP, by the dtype of the result
    by_rows: bool = True
    special: bool = True  # what it gives for nan and inf is settled
    dtypes: tuple[str, ...] = ("float16", "bfloat16", "float32", "float64")  # of the logits


def _logits(x: Array, _: Array) -> Inputs:
    return (x,)


def _both(x: Array, g: Array) -> Inputs:
    return x, g


def _probabilities(x: Array, g: Array) -> Inputs:
    return g, exact.softmax(wide(x)).value.astype(np.float64).astype(x.dtype)


def _log_probabilities(x: Array, g: Array) -> Inputs:
    return g, exact.log_softmax(wide(x)).value.astype(np.float64).astype(x.dtype)


def _squashed(x: Array) -> Array:
    return exact.sigmoid(wide(x)).value.astype(np.float64).astype(x.dtype)


def _accumulates_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _one_gradient_per_row(x: Array, g: Array) -> Inputs:
    return g[:, 0].astype(_accumulates_in(x.dtype)), x


def _weights(x: Array, g: Array) -> Inputs:
    return x, np.clip(np.abs(g), 0.125, 8).astype(x.dtype)


def _kept(g: Array) -> NDArray[np.bool_]:
    return np.greater(g, -1.5)


def _quotient(dtype: str, x: Long) -> Long:
    """Divided by the temperature, rounded once to the dtype computed in."""
    if dtype == "float64":
        return (x.astype(np.float64) / TEMPERATURE).astype(np.longdouble)
    return (x / np.longdouble(TEMPERATURE)).astype(np.float32).astype(np.longdouble)


def _masked_run(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda axis, x, g: function(x, axis, where=_kept(g), temperature=TEMPERATURE)


def _masked_truth(function: Callable[[Long], Truth], fill: float) -> Callable[..., Truth]:
    def truth(dtype: str, x: Long, g: Long) -> Truth:
        kept = _kept(g)
        value, scale = function(np.where(kept, _quotient(dtype, x), -np.inf))
        if value.ndim == x.ndim:
            value = np.where(kept, value, fill)
        return exact.Truth(value, np.where(np.isnan(scale), 0, scale))

    return truth


def _normalisers() -> list[Kernel]:
    made = []
    for function, truth, fill in (
        (vastmax.softmax, exact.softmax, 0.0),
        (vastmax.log_softmax, exact.log_softmax, -np.inf),
        (vastmax.logsumexp, exact.logsumexp, -np.inf),
    ):
        name = function.__name__
        made.append(Kernel(name, _logits, _along(function), _of_values(truth), bounds(name)))
        made.append(
            Kernel(
                f"{name} where= temperature=", _both, _masked_run(function), _masked_truth(truth, fill), bounds(name)
            )
        )
    return made


def _along(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda axis, *inputs: function(*inputs, axis)


def _of_values(truth: Callable[..., Truth]) -> Callable[..., Truth]:
    return lambda _, *inputs: truth(*inputs)


def _rows_with_gradients() -> list[Kernel]:
    return [
        Kernel(
            "logsumexp b=",
            _weights,
            lambda axis, x, b: vastmax.logsumexp(x, axis, b),
            _of_values(exact.logsumexp_weighted),
            bounds("logsumexp_weighted"),
            special=False,
        ),
        Kernel(
            "logsumexp_backward",
            _one_gradient_per_row,
            lambda axis, g, x: vastmax.logsumexp_backward(g, x, axis),
            lambda dtype, g, x: exact.times(g[:, None], exact.softmax(x).value, dtype),
            bounds("logsumexp_backward"),
            special=False,
        ),
        Kernel(
            "softmax_backward",
            _probabilities,
            _along(vastmax.softmax_backward),
            _of_values(exact.softmax_backward),
            bounds("softmax_backward"),
            special=False,
        ),
        Kernel(
            "log_softmax_backward",
            _log_probabilities,
            _along(vastmax.log_softmax_backward),
            _of_values(exact.log_softmax_backward),
            bounds("log_softmax_backward"),
            special=False,
        ),
    ]


def _bce_prepare(x: Array, g: Array) -> Inputs:
    return x, _squashed(g)


def _bce_gradient(_: int, x: Array, t: Array) -> Array:
    return vastmax.binary_cross_entropy_with_logits(x, t, reduction="sum", return_grad=True)[1]


def _bce_loss(_: int, x: Array, t: Array) -> Array:
    return np.asarray(vastmax.binary_cross_entropy_with_logits(x, t, reduction="none"))


def _element_wise() -> list[Kernel]:
    plain = (
        ("softplus", vastmax.softplus, exact.softplus, _logits, bounds("softplus")),
        ("sigmoid", vastmax.sigmoid, exact.sigmoid, _logits, bounds("sigmoid")),
        ("log_sigmoid", vastmax.log_sigmoid, exact.log_sigmoid, _logits, bounds("log_sigmoid")),
        ("logit", special.logit, exact.logit, lambda x, _: (_squashed(x),), bounds("logit")),
    )
    gradients = (
        (
            "softplus_backward",
            vastmax.softplus_backward,
            exact.sigmoid,
            lambda x, g: (g, x),
            bounds("softplus_backward"),
        ),
        (
            "sigmoid_backward",
            vastmax.sigmoid_backward,
            lambda y: exact.Truth(y * (1 - y), y),
            lambda x, g: (g, _squashed(x)),
            bounds("sigmoid_backward"),
        ),
        (
            "log_sigmoid_backward",
            vastmax.log_sigmoid_backward,
            lambda x: exact.sigmoid(-x),
            lambda x, g: (g, x),
            bounds("log_sigmoid_backward"),
        ),
    )
    return [
        *(Kernel(name, prepare, _each(f), _of_values(truth), ulp, False) for name, f, truth, prepare, ulp in plain),
        *(Kernel(name, prepare, _each(f), _product(slope), ulp, False) for name, f, slope, prepare, ulp in gradients),
        Kernel(
            "binary_cross_entropy",
            _bce_prepare,
            _bce_loss,
            _of_values(exact.bce),
            bounds("binary_cross_entropy"),
            False,
            False,
        ),
        Kernel(
            "binary_cross_entropy gradient",
            _bce_prepare,
            _bce_gradient,
            _of_values(exact.bce_gradient),
            bounds("binary_cross_entropy gradient"),
            False,
            False,
        ),
    ]


def _each(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda _, *inputs: function(*inputs)


def _product(slope: Callable[[Long], Truth]) -> Callable[..., Truth]:
    return lambda dtype, g, x: exact.times(g, slope(x).value, dtype)


def _targets(x: Array, axis: int) -> NDArray[np.intp]:
    """Return the class in the middle for each row."""
    rows = np.delete(x.shape, axis)
    return np.full(rows, x.shape[axis] // 2)


def _of_targets(function: Callable[[Long], Truth], sign: int = 1) -> Callable[..., Truth]:
    def truth(_: str, x: Long) -> Truth:
        value, scale = (part[..., x.shape[-1] // 2] for part in function(x))
        return exact.Truth(sign * value, scale)

    return truth


def _losses_and_statistics() -> list[Kernel]:
    return [
        Kernel(
            "cross_entropy",
            _logits,
            lambda axis, x: np.asarray(vastmax.cross_entropy(x, _targets(x, axis), axis=axis, reduction="none")),
            _of_targets(exact.log_softmax, -1),
            bounds("cross_entropy"),
            special=False,
        ),
        Kernel(
            "cross_entropy_with_grad",
            _logits,
            lambda axis, x: vastmax.cross_entropy_with_grad(x, _targets(x, axis), axis=axis, reduction="sum").grad,
            lambda _, x: exact.cross_entropy_gradient(x, _targets(x, -1)),
            bounds("cross_entropy_with_grad"),
            special=False,
        ),
        Kernel(
            "selective_log_softmax",
            _logits,
            lambda axis, x: np.asarray(vastmax.selective_log_softmax(x, _targets(x, axis), axis)),
            _of_targets(exact.log_softmax),
            bounds("selective_log_softmax"),
            special=False,
        ),
        Kernel(
            "entropy",
            _logits,
            lambda axis, x: np.asarray(vastmax.entropy(x, axis)),
            _of_values(exact.entropy),
            bounds("entropy"),
            special=False,
        ),
        Kernel(
            "kl_divergence",
            lambda x, g: (x, (x.astype(np.float64) + g.astype(np.float64) / 64).astype(x.dtype)),
            lambda axis, x, z: np.asarray(vastmax.kl_divergence(x, z, axis)),
            _of_values(exact.kl_divergence),
            bounds("kl_divergence"),
            special=False,
        ),
    ]


_TOP = 5


def _found(axis: int, x: Array) -> Array:
    """Return the log-probabilities that softmax_stats finds: of the likeliest classes, then of the target."""
    stats = vastmax.softmax_stats(x, _targets(x, axis), axis=axis, top_n=min(_TOP, x.shape[axis]))
    found = np.concatenate([stats.top_log_probs, np.asarray(stats.target_log_prob)[:, None]], -1)
    return found if axis == -1 else found.T


def _found_truth(_: str, x: Long) -> Truth:
    value, scale = exact.log_softmax(x)
    target = np.full((len(x), 1), x.shape[-1] // 2)
    classes = np.concatenate([np.argsort(-x, -1, kind="stable")[:, :_TOP], target], -1)
    return exact.Truth(*(np.take_along_axis(part, classes, -1) for part in (value, scale)))


def _order(axis: int, x: Array) -> Array:
    """Return what softmax_stats counts: the likeliest classes, then the rank of the target."""
    stats = vastmax.softmax_stats(x, _targets(x, axis), axis=axis, top_n=min(_TOP, x.shape[axis]))
    order = np.concatenate([stats.top_indices, np.asarray(stats.target_rank)[:, None]], -1).astype(np.float64)
    return order if axis == -1 else order.T


def _order_truth(_: str, x: Long) -> Truth:
    rank = 1 + (x > x[:, x.shape[-1] // 2, None]).sum(-1, keepdims=True)
    value = np.concatenate([np.argsort(-x, -1, kind="stable")[:, :_TOP], rank], -1).astype(np.longdouble)
    return exact.Truth(value, np.ones_like(value))


def _streamed(axis: int, x: Array) -> Array:
    """Return logsumexp in three chunks, two of them merged."""
    rows = tuple(np.delete(x.shape, axis))
    first, second = (vastmax.LogSumExp(rows, _accumulates_in(x.dtype)) for _ in range(2))
    chunks = np.array_split(x, 3, axis)
    first.update(chunks[0], axis)
    second.update(chunks[1], axis).update(chunks[2], axis)
    return np.asarray(first.merge(second).value)


def _more_of_rows() -> list[Kernel]:
    exactly: Bounds = {"float64": 0}
    return [
        Kernel("softmax_stats, log-probabilities", _logits, _found, _found_truth, bounds("log_softmax"), special=False),
        Kernel("softmax_stats, order", _logits, _order, _order_truth, exactly, special=False),
        Kernel("LogSumExp", _logits, _streamed, _of_values(exact.logsumexp), bounds("logsumexp")),
    ]


_FEATURES, _DRAWS = 6, 32


def _layer(x: Array, _: Array) -> Inputs:
    """Return features and weights whose products no dtype rounds."""
    rng = np.random.default_rng(x.size)
    rows, classes = x.shape
    features = rng.integers(-8, 9, (rows, _FEATURES)) / 4
    return features.astype(x.dtype), (rng.integers(-8, 9, (classes, _FEATURES)) / 8).astype(x.dtype)


def _middle(features: Array, weights: Array) -> NDArray[np.intp]:
    return np.full(len(features), len(weights) // 2)


def _of_layer(truth: Callable[[Long], Truth]) -> Callable[..., Truth]:
    return lambda _, features, weights: truth(features @ weights.T)


def _layer_loss(z: Long) -> Truth:
    value, scale = exact.log_softmax(z)
    at = z.shape[-1] // 2
    return exact.Truth(-value[:, at], scale[:, at])


def _best(_: int, features: Array, weights: Array) -> Array:
    found = vastmax.linear_top_k(features, weights, min(_TOP, len(weights)))
    return np.concatenate([np.asarray(part, np.float64) for part in found[:2]], -1)


def _best_truth(z: Long) -> Truth:
    order = np.argsort(-z, -1, kind="stable")[:, :_TOP]
    value = np.concatenate([np.take_along_axis(z, order, -1), order], -1)
    return exact.Truth(value, np.abs(value))


def _layers() -> list[Kernel]:
    return [
        Kernel(
            "linear_cross_entropy",
            _layer,
            lambda _, x, w: np.asarray(vastmax.linear_cross_entropy(x, w, _middle(x, w), reduction="none")),
            _of_layer(_layer_loss),
            bounds("linear_cross_entropy"),
            by_rows=False,
            special=False,
        ),
        Kernel(
            "linear_logsumexp",
            _layer,
            lambda _, x, w: np.asarray(vastmax.linear_logsumexp(x, w)),
            _of_layer(exact.logsumexp),
            bounds("linear_logsumexp"),
            by_rows=False,
            special=False,
        ),
        Kernel("linear_top_k", _layer, _best, _of_layer(_best_truth), {"float64": 0}, by_rows=False, special=False),
    ]


def _shares(classes: int) -> Long:
    """Return q of each class as a log-uniform sampler has it."""
    k = np.arange(classes).astype(np.longdouble)
    q: Long = np.log1p(1 / (k + 1)) / np.log1p(np.longdouble(classes))
    return q


def _drawn(share: str, x: Array, w: Array) -> vastmax.SampledSoftmaxResult:
    sampler = vastmax.LogUniformSampler(len(w))
    return vastmax.sampled_softmax(x, w, _middle(x, w), sampler=sampler, num_sampled=_DRAWS, share=share, seed=1)


def _with_draws(share: str) -> Callable[[Array, Array], Inputs]:
    """Make the inputs of a layer of at least two classes, and the draws of each row."""

    def prepare(x: Array, g: Array) -> Inputs:
        features, weights = _layer(np.tile(x, 2), g)
        if share == "batch":
            ids = vastmax.LogUniformSampler(len(weights)).sample(_DRAWS, seed=1)
        else:
            gradient = _drawn(share, features, weights).grad_weight
            assert isinstance(gradient, vastmax.FactoredGrad)
            ids = gradient.ids()
        return features, weights, np.broadcast_to(ids, (len(features), _DRAWS)).astype(np.float64)

    return prepare


def _sampled_truth(_: str, features: Long, weights: Long, drawn: Long) -> Truth:
    """Return the loss of each row; errors count in its largest corrected logit."""
    z, ids = features @ weights.T, drawn.astype(np.intp)
    target, q = len(weights) // 2, _shares(len(weights))
    others = ids != target
    kept = others.sum(-1, keepdims=True)
    with np.errstate(all="ignore"):
        corrected = np.take_along_axis(z, ids, -1) - np.log(kept * q[ids] / (1 - q[target]))
    both = np.concatenate([z[:, [target]], np.where(others, corrected, -np.inf)], -1)
    value = -exact.log_softmax(both).value[:, 0]
    return exact.Truth(value, np.maximum(value, np.where(np.isfinite(both), np.abs(both), 0).max(-1)))


_BINS, _MANY_DRAWS = 16, 100_000


def _laws() -> list[tuple[Law, Long]]:
    """Return samplers and the probabilities of their classes, of which there are as many as bins."""
    counts = np.arange(_BINS) * 7919 % 97 + 1.0
    unigram = vastmax.UnigramSampler(counts, power=1)
    even, weighed = np.full(_BINS, 1 / np.longdouble(_BINS)), counts / counts.sum().astype(np.longdouble)
    mixture = vastmax.MixtureSampler([vastmax.UniformSampler(_BINS), unigram], [1, 3])
    return [
        (vastmax.UniformSampler(_BINS), even),
        (vastmax.LogUniformSampler(_BINS), _shares(_BINS)),
        (unigram, weighed),
        (mixture, 0.25 * even + 0.75 * weighed),
    ]


def _sampler(law: Law, q: Long) -> list[Kernel]:
    """Judge log q of each class, and how often each is drawn, in units of a standard deviation or a little less."""

    def counted(_: int, __: Array) -> Array:
        ids = law.sample(_MANY_DRAWS, seed=1)
        return np.bincount(ids, minlength=_BINS).astype(np.float64)

    sigma = np.sqrt(_MANY_DRAWS * q * (1 - q))
    name = type(law).__name__
    logs, counts = exact.Truth(np.log(q), -np.log(q)), exact.Truth(_MANY_DRAWS * q, sigma * 2.0**52)
    return [
        Kernel(
            f"{name}.{method}",
            lambda *_: (np.zeros(1),),
            run,
            lambda *_, truth=truth: truth,
            {"float64": bound},
            by_rows=False,
            dtypes=("float64",),
        )
        for method, run, truth, bound in (
            ("log_prob", lambda *_: np.asarray(law.log_prob(np.arange(_BINS))), logs, 4),
            ("sample, in sigma", counted, counts, 5),
        )
    ]


def _sampled(share: str) -> Kernel:
    return Kernel(
        f"sampled_softmax, draws of each {share}",
        _with_draws(share),
        lambda _, x, w, __: np.asarray(_drawn(share, x, w).loss),
        _sampled_truth,
        bounds("sampled_softmax on exact products"),
        by_rows=False,
        special=False,
        dtypes=("float32", "float64"),
    )


KERNELS = (
    *_normalisers(),
    *_rows_with_gradients(),
    *_losses_and_statistics(),
    *_more_of_rows(),
    *_element_wise(),
    *_layers(),
    *(kernel for law, q in _laws() for kernel in _sampler(law, q)),
    *map(_sampled, ("batch", "row")),
)
