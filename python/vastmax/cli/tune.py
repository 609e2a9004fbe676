# SPDX-License-Identifier: Apache-2.0
"""Measure which calls a GPU serves faster, its copies counted, and let device="auto" know."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax
from vastmax import special
from vastmax._backends import tuned
from vastmax._backends.kernels import KERNELS
from vastmax._backends.policy import CLEAR_WIN

from . import screen
from .timing import Pace, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vastmax._backends.tuned import Line, Policy

    from .exact import Array
    from .screen import Screen

_CLASSES = 1 << 15  # in a row, where there are as many elements
_ELEMENTS = (10_000, 100_000, 1_000_000, 10_000_000, 30_000_000)
_PACE = Pace(rounds=3, block=0.02, pause=0.01)

# Each op that takes NumPy data to a GPU, on two arrays of numbers between 0 and 1.
_CALLS: dict[str, Callable[[Array, Array], object]] = {
    "softmax": lambda x, _: vastmax.softmax(x),
    "log_softmax": lambda x, _: vastmax.log_softmax(x),
    "softmax_backward": vastmax.softmax_backward,
    "log_softmax_backward": vastmax.log_softmax_backward,
    "logsumexp": lambda x, _: vastmax.logsumexp(x, axis=-1),
    "logsumexp_weighted": lambda x, b: vastmax.logsumexp(x, axis=-1, b=b),
    "logsumexp_backward": lambda x, g: vastmax.logsumexp_backward(g[:, 0].astype(_summed(g)), x, axis=-1),
    "softplus": lambda x, _: vastmax.softplus(x),
    "sigmoid": lambda x, _: vastmax.sigmoid(x),
    "log_sigmoid": lambda x, _: vastmax.log_sigmoid(x),
    "logit": lambda x, _: special.logit(x),
    "softplus_backward": vastmax.softplus_backward,
    "sigmoid_backward": vastmax.sigmoid_backward,
    "log_sigmoid_backward": vastmax.log_sigmoid_backward,
    "binary_cross_entropy_with_logits": lambda x, t: vastmax.binary_cross_entropy_with_logits(x, t, reduction="none"),
    "cross_entropy": lambda x, _: vastmax.cross_entropy(x, _classes(x)),
    "cross_entropy_with_grad": lambda x, _: vastmax.cross_entropy_with_grad(x, _classes(x)),
    "softmax_stats": lambda x, _: vastmax.softmax_stats(x, _classes(x)),
    "entropy": lambda x, _: vastmax.entropy(x),
    "selective_log_softmax": lambda x, _: vastmax.selective_log_softmax(x, _classes(x)),
    "kl_divergence": vastmax.kl_divergence,
    "sample": lambda x, _: vastmax.sample(x, seed=0),
    "top_k": lambda x, _: vastmax.top_k(x, min(64, x.shape[-1])),
    "top_k_mask_logits": lambda x, _: vastmax.top_k_mask_logits(x, min(64, x.shape[-1])),
    "top_p_mask_logits": lambda x, _: vastmax.top_p_mask_logits(x, 0.9),
    "min_p_mask_logits": lambda x, _: vastmax.min_p_mask_logits(x, 0.1),
}


def _classes(x: Array) -> Array:
    return np.zeros(x.shape[:-1], np.int64)


@dataclass(frozen=True)
class _Sample:
    op: str
    dtype: str
    bytes: int
    cpu: float
    cuda: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what is measured."""
    parser.add_argument(
        "--op",
        nargs="+",
        choices=tuple(_CALLS),
        default=tuple(_CALLS),
        metavar="OP",
        help="only these; others stay on the CPU",
    )
    parser.add_argument("--dtype", nargs="+", choices=tuple(_dtypes()), default=tuple(_dtypes()), help="only these")
    parser.add_argument(
        "--elements", nargs="+", type=_size, default=_ELEMENTS, metavar="N", help="sizes of the arrays; two at least"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing")


def run(options: argparse.Namespace) -> int:
    """Measure, show, and write the policy where it may be written."""
    out = screen.open_screen(silent=options.json)
    if reason := vastmax.cuda.reason():
        return _end(options, out, {"refused": reason})
    sizes = sorted(set(options.elements))
    steps = list(product(options.op, options.dtype, sizes))
    samples = [s for step in out.progress(steps, "measuring", len(steps)) if (s := _measured(*step)) is not None]
    policy = tuned.Policy(_fitted(samples))
    result: dict[str, Any] = {
        "machine": tuned.machine(),
        "threads": vastmax.get_num_threads(),
        "samples": [vars(sample) for sample in samples],
        "seconds": policy.lines,
        "wins_from": {
            op: {dtype: _wins_from(policy, op, dtype) for dtype in each} for op, each in policy.lines.items()
        },
    }
    _show(out, policy, result)
    if options.dry_run:
        result["refused"] = None
    elif reason := tuned.unmeasurable():
        result["refused"] = reason
    elif len(sizes) < 2:
        result["refused"] = "one size tells no bandwidth; accepted: two at least"
    else:
        result["written"] = str(tuned.written(policy, result["threads"]))
    return _end(options, out, result)


def _size(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of elements; accepted: an int >= 1")
    return int(text)


def _end(options: argparse.Namespace, out: Screen, result: dict[str, Any]) -> int:
    if options.json:
        screen.print_json(result)
    elif "written" in result:
        out.line(f"written to {result['written']}")
    elif result["refused"]:
        out.line(f"no policy is written: {result['refused']}")
    return 1 if result.get("refused") else 0


def _dtypes() -> dict[str, np.dtype[Any]]:
    kinds: list[Any] = [np.float16, np.float32, np.float64]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        kinds.insert(1, ml_dtypes.bfloat16)
    return {np.dtype(kind).name: np.dtype(kind) for kind in kinds}


def _summed(x: Array) -> type:
    return np.float64 if x.dtype == np.float64 else np.float32


def _measured(op: str, dtype: str, elements: int) -> _Sample | None:
    """Time a call here and there, on arrays that take turns; None where the GPU lacks it."""
    classes = min(elements, _CLASSES)
    rows = elements // classes
    numbers = np.random.default_rng(elements).random(min(rows * classes, 1 << 20)).clip(0.01, 0.99)
    x, y = (np.resize(part, (rows, classes)).astype(_dtypes()[dtype]) for part in (numbers, numbers[::-1]))

    def on(device: str) -> Callable[[], object]:
        def call() -> object:
            with vastmax.config(device=device):
                return _CALLS[op](x, y)

        return call

    try:
        on("cuda")()
    except vastmax.BackendUnavailable:
        return None
    times = compare({name: [on(name)] for name in tuned.BACKENDS}, _PACE)
    size = KERNELS[op].copied(rows, classes, x.itemsize)
    return _Sample(op, dtype, size, times["cpu"].median, times["cuda"].median)


def _fitted(samples: Sequence[_Sample]) -> dict[str, dict[str, dict[str, Line]]]:
    lines: dict[str, dict[str, dict[str, Line]]] = {}
    for op, dtype in dict.fromkeys((s.op, s.dtype) for s in samples):
        mine = [s for s in samples if (s.op, s.dtype) == (op, dtype)]
        sizes = [s.bytes for s in mine]
        lines.setdefault(op, {})[dtype] = {
            name: tuned.fitted(sizes, [getattr(s, name) for s in mine]) for name in tuned.BACKENDS
        }
    return lines


def _wins_from(policy: Policy, op: str, dtype: str) -> int | None:
    """Return the least power of two of bytes that device="auto" would send to the GPU."""
    from vastmax._backends.choose import wins

    for nbytes in (1 << power for power in range(8, 41)):
        predicted = policy.predict(op, dtype, nbytes)
        if predicted is not None and wins(predicted):
            return nbytes
    return None


def _show(out: Screen, policy: Policy, result: dict[str, Any]) -> None:
    facts = result["machine"]
    out.line(f"{facts['cpu']}, {result['threads']} threads; {facts['device']}, driver {facts['driver']}")
    out.text(
        "A call is modelled as a fixed cost and a bandwidth over the bytes of its arrays, for the GPU with the copies "
        f"there and back; device='auto' takes the GPU where it should need under {CLEAR_WIN:.0%} of the time."
    )
    rows = []
    for op, by_dtype in policy.lines.items():
        for dtype, lines in by_dtype.items():
            from_here = result["wins_from"][op][dtype]
            cells = [cell for name in tuned.BACKENDS for cell in (_cost(lines[name]), _bandwidth(lines[name]))]
            rows.append([op, dtype, *cells, "never" if from_here is None else screen.megabytes(from_here)])
    out.table(["op", "dtype", ">cpu", ">GB/s", ">gpu", ">GB/s", ">gpu from"], rows)


def _cost(line: Line) -> str:
    return screen.seconds(line.fixed)


def _bandwidth(line: Line) -> str:
    return f"{1e-9 / line.per_byte:.3g}" if line.per_byte else "-"
