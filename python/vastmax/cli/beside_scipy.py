# SPDX-License-Identifier: Apache-2.0
"""SciPy's wrong results, and time, memory and accuracy beside it on logits of the next word."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from . import chart, exact, machine, screen
from .contenders import Arrays, ours, peers, roof
from .timing import Pace, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .exact import Array, Long, Truth
    from .python_source import Corpus
    from .screen import Screen

_COMPARED = 100  # rows that SciPy computes too: its temporaries take several times their size
_JUDGED = 8  # rows whose exact result is computed
_REPEATS = 3
_SHOWN = 4  # words after each featured one
_FEATURED = ("import", "raise", "self", "not", "range", "open")
_SMOOTHING = 0.1  # of the probability goes to all words, by frequency
_SIZES = tuple(int(10**exponent) for exponent in np.arange(3, 7.1, 0.5))
_PACE = Pace(rounds=3, block=0.04)


def tell(out: Screen, corpus: Corpus, count: int) -> dict[str, Any]:
    """Tell the story, section by section."""
    facts = machine.described()
    machine.show(out, facts)
    return {"machine": facts, "where SciPy errs": _where_scipy_errs(out), **_next_words(out, corpus, count)}


def _next_words(out: Screen, corpus: Corpus, count: int) -> dict[str, Any]:
    pairs = _Pairs(corpus)
    contexts = pairs.contexts(count)
    _introduce(out, corpus, len(contexts))
    logits = _all_logits(out, pairs, contexts)
    probabilities = np.zeros_like(logits)
    return {
        "classes": len(corpus.words),
        "whole": _over_all(out, logits, probabilities),
        "predictions": _predictions(out, pairs, contexts, logits, probabilities),
        "comparison": _comparison(out, logits, probabilities),
    }


class _Pairs:
    """How often a word followed another in the files learned."""

    def __init__(self, corpus: Corpus) -> None:
        before, after = corpus.learned.pairs()
        rows = len(corpus.words) + 1  # rare words come first in pairs, never second
        pairs, self._counts = np.unique(before * rows + after, return_counts=True)
        self._before, self._after = np.divmod(pairs, rows)
        self._frequencies = corpus.counts / corpus.counts.sum()
        self.words = corpus.words
        self.totals = np.bincount(before, minlength=rows)[:-1]

    def contexts(self, count: int) -> list[int]:
        """Return the featured words, then the most frequent ones, up to `count`."""
        featured = [self.words.index(word) for word in _FEATURED if word in self.words]
        candidates = dict.fromkeys([*featured, *range(len(self.words))])
        return [word for word in candidates if self.totals[word]][:count]

    def logits(self, context: int) -> Array:
        """Return log(0.9 x count of the pair + 0.1 x count of the first word x frequency of the second)."""
        first, last = np.searchsorted(self._before, [context, context + 1])
        smoothed: Array = _SMOOTHING * self.totals[context] * self._frequencies
        smoothed[self._after[first:last]] += (1 - _SMOOTHING) * self._counts[first:last]
        return np.log(smoothed)


def _introduce(out: Screen, corpus: Corpus, rows: int) -> None:
    out.heading("Logits of the next word")
    out.text(
        f"A language model gives every word of its vocabulary a score, the logit. softmax turns the scores into "
        f"probabilities: p(word) = exp(score) / sum of all exp(scores). logsumexp is the logarithm of that sum, which "
        f"training needs at each step. With many words this is a lot of memory to read, and a long sum to get right. "
        f"Here the vocabulary has {len(corpus.words):,} words of Python's own source files. The scores come from "
        f"counts: for each of {rows} words, how often every other word came next."
    )
    out.text(
        f"logit = log({1 - _SMOOTHING:g} x count of the pair + {_SMOOTHING:g} x count of the first word x frequency of "
        f"the second): interpolation with word frequencies."
    )


def _all_logits(out: Screen, pairs: _Pairs, contexts: list[int]) -> Array:
    logits = np.empty((len(contexts), len(pairs.words)), np.float32)
    for row, context in out.progress(zip(logits, contexts, strict=True), "building logits", len(contexts)):
        row[:] = pairs.logits(context)
    return logits


def _over_all(out: Screen, logits: Array, probabilities: Array) -> dict[str, Any]:
    probabilities.fill(0)  # so that its memory is there before the clock starts
    seconds = {
        "softmax": _best(partial(vastmax.softmax, logits, out=probabilities)),
        "logsumexp": _best(partial(vastmax.logsumexp, logits, axis=-1)),
    }
    out.text(
        f"{logits.shape[0]} x {logits.shape[1]:,} logits in float32 are {screen.megabytes(logits.nbytes)}. "
        f"vastmax took {screen.seconds(seconds['softmax'])} for all their probabilities (softmax with out=) and "
        f"{screen.seconds(seconds['logsumexp'])} for logsumexp."
    )
    return {"shape": logits.shape, "bytes": logits.nbytes, "seconds": seconds}


def _best(call: Callable[[], object]) -> float:
    """Return the median of a few calls."""
    samples = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return float(np.median(samples))


def _predictions(
    out: Screen, pairs: _Pairs, contexts: list[int], logits: Array, probabilities: Array
) -> list[dict[str, Any]]:
    found = []
    for row in range(min(len(_FEATURED), len(contexts))):
        log_p = vastmax.log_softmax(logits[row])
        p = np.exp(log_p.astype(np.float64))
        likeliest = np.argsort(probabilities[row])[: -_SHOWN - 1 : -1]
        found.append(
            {
                "word": pairs.words[contexts[row]],
                "next": {pairs.words[i]: float(probabilities[row, i]) for i in likeliest},
                "sum": float(probabilities[row].sum(dtype=np.float64)),
                "logsumexp": float(vastmax.logsumexp(logits[row])),
                "log_count": float(np.log(pairs.totals[contexts[row]])),
                "entropy_bits": float(-(p @ log_p) / np.log(2)),
            }
        )
    _show_predictions(out, found)
    return found


def _show_predictions(out: Screen, found: list[dict[str, Any]]) -> None:
    out.heading("The likeliest next words")
    out.table(
        ["after", "comes", ">logsumexp", ">log of its count", ">entropy", ">like choosing among"],
        [
            [
                each["word"],
                ", ".join(f"{word} {share:.1%}" for word, share in each["next"].items()),
                f"{each['logsumexp']:.4f}",
                f"{each['log_count']:.4f}",
                f"{each['entropy_bits']:.2f} bits",
                f"{2 ** each['entropy_bits']:,.0f} words",
            ]
            for each in found
        ],
    )
    out.text(
        "The scores of a row are logarithms of counts that add up to the count of its word, so logsumexp must give "
        "back the logarithm of that count. Entropy, -sum p log p, says how open the next word is; NumPy takes it from "
        "log_softmax."
    )


@dataclass(frozen=True)
class _Op:
    ours: Callable[[], Array]
    scipy: Callable[[], Array]
    truth: Callable[[Long], Truth]


def _comparison(out: Screen, logits: Array, room: Array) -> dict[str, Any]:
    from scipy import special

    x, y = logits[:_COMPARED], room[:_COMPARED]
    ops = {
        "softmax": _Op(partial(vastmax.softmax, x, out=y), partial(special.softmax, x, axis=-1), exact.softmax),
        "log_softmax": _Op(
            partial(vastmax.log_softmax, x, out=y), partial(special.log_softmax, x, axis=-1), exact.log_softmax
        ),
        "logsumexp": _Op(
            partial(vastmax.logsumexp, x, axis=-1), partial(special.logsumexp, x, axis=-1), exact.logsumexp
        ),
    }
    steps: Iterable[tuple[str, _Op]] = out.progress(list(ops.items()), "comparing with SciPy", len(ops))
    found = {name: {"vastmax": _judged(op.ours, op, x), "scipy": _judged(op.scipy, op, x)} for name, op in steps}
    _show_comparison(out, found, x)
    return {"rows": len(x), "bytes": x.nbytes, "ops": found}


def _judged(call: Callable[[], Array], op: _Op, x: Array) -> dict[str, Any]:
    result, memory = machine.peak_growth(call)
    truth = op.truth(exact.wide(x[:_JUDGED]))
    error = exact.ulp_error(np.asarray(result[:_JUDGED]), truth, "float32").max()
    del result
    return {"seconds": _best(call), "extra_bytes": memory, "worst_ulp": float(error)}


def _show_comparison(out: Screen, found: dict[str, dict[str, Any]], x: Array) -> None:
    out.heading("Beside SciPy, on the same rows")
    rows = []
    for op, pair in found.items():
        for name, each in pair.items():
            ratio = each["seconds"] / pair["vastmax"]["seconds"]
            memory = each["extra_bytes"]
            rows.append(
                [
                    op if name == "vastmax" else "",
                    name,
                    screen.seconds(each["seconds"]),
                    "" if name == "vastmax" else f"{ratio:.1f} x",
                    "not measured" if memory is None else screen.megabytes(memory),
                    f"{each['worst_ulp']:.2f} ULP",
                ]
            )
    out.table(["op", "by", ">time", ">to vastmax", ">extra memory at its peak", ">worst error"], rows)
    out.text(
        f"{len(x)} rows, {screen.megabytes(x.nbytes)}: no more, as SciPy's temporary arrays are several times that. "
        f"vastmax writes softmax and log_softmax into an array given with out=. One ULP is the distance between "
        f"neighbouring float32 numbers; a result rounded as well as can be is off by half of one at most. Errors are "
        f"the worst of {min(_JUDGED, len(x))} rows, against a wider type. Times are medians of {_REPEATS} calls."
    )


def _where_scipy_errs(out: Screen) -> list[dict[str, str]]:
    cases = (_half_precision, _bytes, _near_certainty, _first_axis, _long_first_axis, _ten_million)
    found = [case() for case in out.progress(cases, "computing exact results", len(cases))]
    out.heading("Where SciPy is wrong, or loses digits")
    out.table(
        ["input", "SciPy", "vastmax", "truth"],
        [[each["input"], each["scipy"], each["vastmax"], each["truth"]] for each in found],
    )
    out.text(
        "Why: a sum kept in float16 overflows at 65,504. Unsigned numbers wrap around when the largest is subtracted. "
        "log(1 + tiny) must not become log(1). Along the first axis float32 numbers are added one by one: each "
        "addition loses digits, and from 16,777,216 on, adding 1 changes nothing."
    )
    return found


def _case(name: str, scipy: str, mine: str, truth: str) -> dict[str, str]:
    return {"input": name, "scipy": scipy, "vastmax": mine, "truth": truth}


def _scipy(op: str, x: Array, axis: int | None = None) -> Array:
    """Call SciPy without the warnings that come with its wrong answers."""
    from scipy import special

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(getattr(special, op)(x, axis=axis))


def _half_precision() -> dict[str, str]:
    x = np.zeros(100_000, np.float16)
    results = _scipy("logsumexp", x), vastmax.logsumexp(x), exact.logsumexp(exact.wide(x)).value
    return _case("logsumexp of 100,000 equal logits, float16", *(f"{float(result):.6g}" for result in results))


def _bytes() -> dict[str, str]:
    x = np.array([1, 2, 3], np.uint8)
    results = _scipy("softmax", x), vastmax.softmax(x), exact.softmax(exact.wide(x)).value
    return _case("softmax of [1, 2, 3], uint8", *(_numbers(result, ".4f") for result in results))


def _near_certainty() -> dict[str, str]:
    x = np.array([40.0, 0.0])
    results = _scipy("log_softmax", x), vastmax.log_softmax(x), exact.log_softmax(exact.wide(x)).value
    return _case("log_softmax of [40, 0], float64", *(_numbers(result, ".6g") for result in results))


def _numbers(values: Array, form: str) -> str:
    return ", ".join(format(float(value), form) for value in values)


def _first_axis() -> dict[str, str]:
    x = np.random.default_rng(0).standard_normal((1_000_000, 4), np.float32)
    return _largest_error("softmax of 1,000,000 x 4 along the first axis, float32", x, 0)


def _long_first_axis() -> dict[str, str]:
    classes = 20_000_000
    x = np.zeros((classes, 2), np.float32)
    results = _scipy("softmax", x, axis=0), vastmax.softmax(x, axis=0)
    name = f"softmax of {classes:,} x 2 equal logits along the first axis, float32"
    scipy, mine = (f"{float(result[0, 0]):.6g}" for result in results)
    return _case(name, scipy, mine, f"{1 / classes:.6g}")


def _ten_million() -> dict[str, str]:
    x = np.random.default_rng(0).standard_normal((1, 10_000_000), np.float32)
    return _largest_error("softmax of 10,000,000 classes, float32", x, 1)


def _largest_error(name: str, x: Array, axis: int) -> dict[str, str]:
    """Show the entry in which SciPy errs most."""
    scipy, mine = (np.moveaxis(y, axis, -1) for y in (_scipy("softmax", x, axis=axis), vastmax.softmax(x, axis=axis)))
    truth = exact.softmax(exact.wide(np.moveaxis(x, axis, -1)))
    errors = [exact.ulp_error(np.ascontiguousarray(result), truth, "float32") for result in (scipy, mine)]
    at = np.unravel_index(np.argmax(errors[0]), errors[0].shape)
    texts = [f"{y[at]:.8e} (worst: {e.max():.3g} ULP off)" for y, e in zip((scipy, mine), errors, strict=True)]
    return _case(name, texts[0], texts[1], f"{truth.value[at]:.8e}")


def plot(out: Screen, path: str) -> dict[str, Any]:
    """Time one row of more and more classes, and draw lower quartiles: spikes would hide the curve."""
    rng = np.random.default_rng(0)
    panels: dict[str, Any] = {
        op: {"sizes": _SIZES, "seconds": {}, "bytes": [], "roof": []} for op in ("softmax", "logsumexp")
    }
    steps = [(op, size) for size in _SIZES for op in panels]
    for op, size in out.progress(steps, "timing sizes", len(steps)):
        x = rng.standard_normal((1, size), np.float32)
        _time_size(panels[op], op, Arrays(x, x, np.zeros_like(x)))
    chart.draw_sizes(path, panels, machine.described()["cpu"])
    out.line(f"\nDrawn: {path}")
    return panels


def _time_size(panel: dict[str, Any], op: str, arrays: Arrays) -> None:
    calls = {"vastmax": ours(op, arrays, -1, into=op == "softmax"), **peers(op, arrays, -1, ("scipy", "torch"))}
    calls.pop("torch", None)  # its faster way, with out=, is there
    names = [*calls]
    moved = arrays.x.nbytes * (2 if op == "softmax" else 1)
    if moved > machine.beyond_caches():  # else memory is not what serves
        calls["roof"] = roof("copy roof" if op == "softmax" else "read roof", arrays)
    timings = compare({name: [call] for name, call in calls.items()}, _PACE)
    panel["bytes"].append(moved)
    panel["roof"].append(moved / timings["roof"].lower if "roof" in timings else None)
    for name in names:
        panel["seconds"].setdefault(name, []).append(timings[name].lower)
