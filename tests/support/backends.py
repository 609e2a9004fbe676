# SPDX-License-Identifier: Apache-2.0
"""Calls of every op with equal inputs for each backend, and what a backend makes of them.

The backends are the core (`host`), arrays that live on a GPU (`device`), and NumPy data that goes to a GPU in chunks
(`offload`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import vastmax
from support import oracle
from support.fake_gpu_arrays import ByDlpack, cuda, filled

NAN, INF = np.nan, np.inf


class Case(NamedTuple):
    op: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    terms: Any = 0  # how large the terms are that cancel in the result of this shape: its error is one of theirs


class Refusal(NamedTuple):
    kind: type[BaseException]
    text: str


def lent(value: Any) -> Any:
    """What another library would hold on a GPU."""
    if isinstance(value, tuple):
        return tuple(map(lent, value))
    return ByDlpack(value) if isinstance(value, np.ndarray) else value


GPU_OPS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "softmax_backward",
    "log_softmax_backward",
    "logsumexp_backward",
    "softplus",
    "sigmoid",
    "log_sigmoid",
    "softplus_backward",
    "sigmoid_backward",
    "log_sigmoid_backward",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "cross_entropy_with_grad",
    "softmax_stats",
    "entropy",
    "selective_log_softmax",
    "kl_divergence",
    "top_k",
    "top_k_mask_logits",
    "top_p_mask_logits",
    "min_p_mask_logits",
    "sample",
    "gumbel_softmax",
)


class OnDevice:
    """A public function whose NumPy arrays go to the GPU before a call, and whose results come back after it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        there: dict[int, Any] = {}  # an array that is given twice is one array there too
        out = options.get("out")
        given = [self.put(value, there) for value in arguments]
        made = self.function(*given, **{name: self.put(value, there) for name, value in options.items()})
        if not isinstance(made, tuple):
            return self.back(made, out, there)
        parts = [self.back(part, out, there) for part in made]
        return type(made)(*parts) if hasattr(made, "_fields") else tuple(parts)

    def put(self, value: Any, there: dict[int, Any]) -> Any:
        if isinstance(value, tuple):
            return tuple(self.put(part, there) for part in value)
        if not isinstance(value, np.ndarray) or not value.dtype.isnative:  # of which DLPack knows nothing
            return value
        if id(value) not in there:
            there[id(value)] = on_device(value)
        return there[id(value)]

    def back(self, part: Any, out: Any, there: dict[int, Any]) -> Any:
        if out is not None and part is there.get(id(out)):
            if isinstance(part, vastmax.cuda.DeviceArray):  # a copy of `out`, where host memory is not the GPU's
                out[...] = part.copy_to_host()
            return out
        assert not (there and isinstance(part, np.ndarray)), "ran on the host"
        return part.copy_to_host()[()] if isinstance(part, vastmax.cuda.DeviceArray) else part


def on_device(array: Any) -> Any:
    """An array of another library in the same memory, on the SIMT machine and where GPUs could use it; else a copy."""
    if array.size == 0:
        return vastmax.cuda.DeviceArray(array.shape, array.dtype, 0, 0)
    aligned = not any(step % array.itemsize for step in (array.ctypes.data, *array.strides))
    return ByDlpack(array) if cuda().simulated and aligned else filled(array, 0)


def parts(made: Any) -> list[Any]:
    flat = made if isinstance(made, tuple) else (made,)
    return [
        p.copy_to_host() if isinstance(p, vastmax.cuda.DeviceArray) else np.asarray(p) for p in flat if p is not None
    ]


def outcome(backend: str, case: Case, explain: bool = False) -> list[Any] | Refusal:
    """What a call on a backend returns, or how it is refused."""
    call: Callable[..., Any] = getattr(vastmax, case.op)
    if explain:
        call = partial(vastmax.explain, call)
    put = lent if backend == "device" else lambda value: value
    on = {"host": "cpu", "offload": "cuda", "device": None}[backend]
    options = {name: value if name in HOST_ONLY else put(value) for name, value in case.options.items()}
    try:
        with vastmax.config(device=on):
            made = call(*map(put, case.arguments), **options)
            return [] if explain else parts(made)
    except (TypeError, ValueError, IndexError) as error:
        return Refusal(type(error), str(error))


HOST_ONLY = ("seed",)


def wide(values: Any) -> Any:
    return np.asarray(values).astype(np.float64)


SPECIALS = (NAN, INF, -INF, -0.0, 1e30)


def logits(n: int, dtype: Any, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).standard_normal((7, n)) * 4
    for row, special in enumerate(SPECIALS, 1):
        x[row, row * n // 8] = special
    x[6] = -INF
    with np.errstate(over="ignore"):
        return x.astype(dtype)


def numbers(x: Any, seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(x.shape).astype(x.dtype)


def classes(x: Any) -> Any:
    return np.arange(len(x)) * 5 % x.shape[1]


def forward(x: Any) -> list[Case]:
    mask = np.random.default_rng(3).random(x.shape) < 0.7
    mask[4] = False
    t = np.linspace(0.3, 3, len(x))
    weights = np.abs(numbers(x))
    reduced = {"axis": -1}
    return [
        *(Case(op, (x,), more) for op in ("softmax", "log_softmax") for more in every(mask, t)),
        *(Case("logsumexp", (x,), {**reduced, **more}) for more in every(mask, t)),
        Case("logsumexp", (x,), {**reduced, "keepdims": True, "return_sign": True}),
        Case("logsumexp", (x,), {**reduced, "b": weights, "return_sign": True, "where": mask}),
        Case("entropy", (x,), {}),
        Case("entropy", (x,), {"temperature": t}),
        Case("kl_divergence", (x, numbers(x)), {}),
        Case("selective_log_softmax", (x, classes(x)), {"temperature": t}),
        Case("selective_log_softmax", (x, np.stack([classes(x), classes(x)], 1)), {}),
        Case("softmax_stats", (x,), {"target": classes(x), "top_n": min(3, x.shape[1])}),
        Case("softmax_stats", (x,), {"temperature": t}),
        Case("top_k", (x,), {"k": min(3, x.shape[1])}),
        Case("top_k_mask_logits", (x,), {"k": min(3, x.shape[1])}),
        Case("top_p_mask_logits", (x,), {"p": 0.8}),
        Case("min_p_mask_logits", (x,), {"p": 0.1}),
        *(Case(op, (x,), {}) for op in ("softplus", "sigmoid", "log_sigmoid")),
        Case("softplus", (x,), {"beta": 2.5}),
    ]


def every(mask: Any, t: Any) -> list[dict[str, Any]]:
    return [{}, {"where": mask}, {"temperature": t}, {"temperature": 0.7, "where": mask}]


def backward(x: Any) -> list[Case]:
    g, t = numbers(x, 5), np.linspace(0.3, 3, len(x))
    per_row = g[:, 0].astype(np.float64 if x.dtype == np.float64 else np.float32)
    with np.errstate(all="ignore"):
        y, log_y = vastmax.softmax(x), vastmax.log_softmax(x)
    with np.errstate(all="ignore"):
        of_softmax = oracle.softmax_backward(g, y)[1]
        of_log_softmax = oracle.log_softmax_backward(g, log_y)[1]
    return [
        Case("softmax_backward", (g, y), {}, of_softmax),
        Case("softmax_backward", (g, y), {"temperature": t}, of_softmax / t[:, None]),
        Case("log_softmax_backward", (g, log_y), {}, of_log_softmax),
        Case("logsumexp_backward", (per_row, x), {"axis": -1, "temperature": t}),
        Case("logsumexp_backward", (per_row, x), {"axis": -1, "where": numbers(x, 6) > -1}),
        *(Case(f"{op}_backward", (g, x), {}) for op in ("softplus", "log_sigmoid")),
        Case("sigmoid_backward", (g, vastmax.sigmoid(x)), {}),
    ]


def losses(x: Any) -> list[Case]:
    ids, rng = classes(x), np.random.default_rng(7)
    ids_ignored = np.where(np.arange(len(x)) == 2, -100, ids)
    shares = rng.dirichlet(np.ones(x.shape[1]), len(x)).astype(np.float64 if x.dtype == np.float64 else np.float32)
    mask = rng.random(x.shape) < 0.7
    several = (np.stack([ids, (ids + 1) % x.shape[1]], 1), np.full((len(x), 2), 0.5))
    plain = [
        {},
        {"softcap": 3.0},
        {"where": mask},
        {"where": mask, "softcap": 3.0},
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "where": mask, "softcap": 5.0},
        {"z_loss": 1e-3, "temperature": np.linspace(0.3, 3, len(x))},
        {"weight": np.linspace(0, 2, x.shape[1]), "sample_weight": np.linspace(0, 2, len(x))},
    ]
    made = [
        Case(op, (x, target), {"reduction": reduction, **more}, terms_of(op, x, target, **more))
        for op, reduction in (("cross_entropy", "mean"), ("cross_entropy_with_grad", "none"))
        for target in (ids, ids_ignored, shares, several)
        for more in plain
    ]
    chances = rng.random(x.shape).astype(x.dtype)
    return [
        *made,
        *(
            Case("binary_cross_entropy_with_logits", (x, chances), {"reduction": r, "return_grad": True})
            for r in ("none", "sum", "mean")
        ),
        Case("binary_cross_entropy_with_logits", (x, chances), {"weight": chances, "reduction": "none"}),
    ]


def terms_of(op: str, x: Any, target: Any, label_smoothing: float = 0, where: Any = None, **_: Any) -> Any:
    """The probabilities that a gradient takes from those of the logits."""
    if op == "cross_entropy":
        return 0
    dense = np.zeros(x.shape)
    if isinstance(target, tuple):
        np.put_along_axis(dense, *target, axis=1)
    elif target.ndim == 1:
        np.put_along_axis(dense, np.maximum(target, 0)[:, None], 1, axis=1)
    else:
        dense = target
    count = np.full((len(x), 1), x.shape[1]) if where is None else np.maximum(where.sum(1, keepdims=True), 1)
    return dense + label_smoothing / count
