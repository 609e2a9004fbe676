# SPDX-License-Identifier: Apache-2.0
"""Train a model of the next word over 333,213 English words with 1,000 negatives a step, and judge it exactly."""

from __future__ import annotations

import importlib.util
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from . import beside_scipy, chart, language_model, machine, screen, words
from .language_model import BATCH, FULL_BATCH, NEGATIVES, Model, Task

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .exact import Array
    from .screen import Screen

_NEEDS = ("wordsegment", "scipy")
_INSTALL = 'pip install "vastmax[demo]"'
_JUDGED_ON_THE_WAY = 1024  # pairs held out, at each of so many points of a curve
_POINTS = 6
_SHOWN = 4  # words after each featured one
_CHEAPER, _WITHIN = 0.8, 0.015  # what is said of 1,000 negatives, and tested here
_UNSEEN = 2**32 - 1  # a step that training does not reach


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Choose for how long, or the other story."""
    parser.add_argument("--seconds", type=float, default=20, help="training time of each method (default: 20)")
    parser.add_argument("--plot", metavar="FILE", help="draw held-out loss against time: .png, .svg, .pdf")
    parser.add_argument(
        "--beside-scipy", action="store_true", help="instead: next-word probabilities from counts, beside SciPy"
    )
    parser.add_argument("--words", type=int, default=400, help="with --beside-scipy: rows of logits (default: 400)")


def run(options: argparse.Namespace) -> int:
    """Tell the story, section by section."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if options.plot and not chart.available():
        missing.append("matplotlib")
    if missing:
        print(f"The demo needs {' and '.join(missing)}: {_INSTALL}", file=sys.stderr)
        return 2
    if not options.seconds > 0:
        print(f"--seconds is {options.seconds:g}; accepted: a number > 0", file=sys.stderr)
        return 2
    out = screen.open_screen(silent=options.json)
    if options.beside_scipy:
        result = beside_scipy.tell(out, options.words)
        if options.plot:
            result["plot"] = beside_scipy.plot(out, options.plot)
    else:
        result = _tell(out, options.seconds, options.plot)
    if options.json:
        screen.print_json(result)
    return 0


def _tell(out: Screen, seconds: float, path: str | None) -> dict[str, Any]:
    facts = machine.described()
    machine.show(out, facts)
    corpus = words.load()
    task = Task(corpus)
    baseline = _baseline(task)
    _introduce(out, task, baseline)
    methods = {"sampled": "importance", "sampled, not corrected": "none"}
    if path:
        methods["sampled, candidate"] = "candidate"
    steps: dict[str, Callable[[Model, int], float]] = {
        name: partial(_sampled, task, correction) for name, correction in methods.items()
    }
    steps["full softmax"] = lambda model, step: model.full_step(task, step)
    trained = {name: _trained(out, name, step, task, seconds) for name, step in steps.items()}
    curves = {name: curve for name, (_, curve) in trained.items()}
    model = trained["sampled"][0]
    _show_losses(out, curves, baseline)
    result = {
        "machine": facts,
        "classes": task.classes,
        "unigrams": baseline,
        "methods": curves,
        "claim": _claim(out, model, task),
        "predictions": _predictions(out, corpus, model),
    }
    if path:
        floor = _baseline(task, _JUDGED_ON_THE_WAY)["held out"]
        chart.draw_training(path, curves, floor, f"{facts['cpu']}: {task.classes:,} classes, {NEGATIVES:,} negatives")
        out.line(f"\nDrawn: {path}")
    return result


def _introduce(out: Screen, task: Task, baseline: dict[str, float]) -> None:
    out.heading("What is trained")
    out.text(
        f"A vector of {language_model.FEATURES} numbers for each of {task.classes:,} English words, and one for each "
        f"as the next word; the score of a next word is the product of two of them. It learns from the counts of "
        f"{len(task.learned.first):,} pairs of words on the web, drawn as often as they were counted; "
        f"{len(task.held_out.first):,} pairs are held out, so what is right there training has never seen."
    )
    out.text(
        f"The full softmax multiplies a word's vector with all {task.classes:,} at each step. Sampled softmax takes "
        f"{NEGATIVES:,} negatives, drawn as the counts to the power 0.75, and divides each by how likely it was to be "
        f"drawn: its sum then estimates the one over all classes. Losses below are exact, over all classes, from "
        f"linear_cross_entropy. Knowing only how frequent words are gives {baseline['learned']:.3f} nats on the pairs "
        f"learned, {baseline['held out']:.3f} on those held out."
    )


def _baseline(task: Task, first: int | None = None) -> dict[str, float]:
    def loss(pairs: language_model.Pairs) -> float:
        return float(np.average(-np.log(task.unigrams[pairs.second[:first]]), weights=pairs.counts[:first]))

    return {"learned": loss(task.learned), "held out": loss(task.held_out)}


def _sampled(task: Task, correction: str, model: Model, step: int) -> float:
    return model.sampled_step(task, step, correction)


def _trained(
    out: Screen, name: str, step: Callable[[Model, int], float], task: Task, seconds: float
) -> tuple[Model, dict[str, Any]]:
    """Train for so long, and judge on the way with the clock stopped."""
    model = Model(task.classes)
    some = task.held_out.some(np.arange(_JUDGED_ON_THE_WAY))
    learned = task.batch(_UNSEEN).equally()
    curve: dict[str, Any] = {"seconds": [0.0], "loss": [model.loss(some)]}
    before = {"learned": model.loss(learned), "held out": model.loss(task.held_out)}
    over, steps, due = 0.0, 0, seconds / _POINTS
    with out.clock(name, seconds) as tell:
        while over < seconds:
            start = time.perf_counter()
            loss = step(model, steps)
            over += time.perf_counter() - start
            steps += 1
            tell(over, f"loss {loss:.3f}")
            if over >= due:
                due = over + seconds / _POINTS
                curve["seconds"].append(over)
                curve["loss"].append(model.loss(some))
    after = {"learned": model.loss(learned), "held out": model.loss(task.held_out)}
    return model, {**curve, "steps": steps, "step_seconds": over / steps, "before": before, "after": after}


def _show_losses(out: Screen, methods: dict[str, Any], baseline: dict[str, float]) -> None:
    out.heading("Exact loss over all classes, for the same time of training")
    untrained = next(iter(methods.values()))["before"]
    rows = [["untrained", "", "", *_pair(untrained)], ["word frequencies alone", "", "", *_pair(baseline)]]
    rows += [
        [name, f"{m['steps']:,}", screen.seconds(m["step_seconds"]), *_pair(m["after"])] for name, m in methods.items()
    ]
    out.table([">", ">steps", ">time of one", ">learned", ">perplexity", ">held out", ">perplexity"], rows)
    out.text(
        f"A step takes {BATCH:,} pairs, of the full softmax {FULL_BATCH:,}, which serves it better in so little time. "
        f"Without the correction, scores come out against how often a word was drawn: fine for ranking, wrong as "
        f"probabilities."
    )


def _pair(losses: dict[str, float]) -> list[str]:
    return [text for loss in losses.values() for text in (f"{loss:.3f}", f"{np.exp(loss):,.0f}")]


def _claim(out: Screen, model: Model, task: Task) -> dict[str, Any]:
    """Hold the claim that the project started from against the trained model."""
    ways: dict[str, Callable[[Model], float]] = {
        "sampled": lambda m: m.sampled_step(task, 10**9),
        "in NumPy": lambda m: m.numpy_step(task, 10**9),
        "full": lambda m: m.full_step(task, 10**9, BATCH),
    }
    steps = {name: _measured(step, Model(task.classes), 0 if name == "full" else 5) for name, step in ways.items()}
    learned = task.batch(_UNSEEN)
    estimate = model.estimate(task, learned)
    exact = model.loss(learned.equally())
    off, cheaper = abs(estimate / exact - 1), 1 - steps["sampled"]["seconds"] / steps["full"]["seconds"]
    holds = cheaper >= _CHEAPER and off <= _WITHIN
    out.heading(f"{NEGATIVES:,} negatives: {_CHEAPER:.0%} cheaper and within {_WITHIN:.1%}? A step of {BATCH:,} pairs")
    names = {"sampled": "sampled softmax", "in NumPy": "NumPy, with our draws", "full": "full softmax"}
    out.table(
        ["", ">time", ">to sampled", ">extra memory at its peak"],
        [[names[name], *_cost(each, steps["sampled"])] for name, each in steps.items()],
    )
    out.text(
        f"A step with {NEGATIVES:,} negatives costs {cheaper:.1%} less than the full softmax. On a batch it estimates "
        f"a loss of {estimate:.4f} where the exact one is {exact:.4f}: {off:.2%} off. The claim "
        f"{'holds' if holds else 'does not hold'} here."
    )
    return {"steps": steps, "cheaper": cheaper, "exact": exact, "estimate": estimate, "off": off, "holds": holds}


def _measured(step: Callable[[Model], float], model: Model, repeats: int) -> dict[str, Any]:
    """Measure memory by a first step, and time by others where they are cheap."""
    times = []

    def timed() -> None:
        start = time.perf_counter()
        step(model)
        times.append(time.perf_counter() - start)

    _, memory = machine.peak_growth(timed)
    for _ in range(repeats):
        timed()
    return {"seconds": float(np.median(times[1:] or times)), "extra_bytes": memory}


def _cost(each: dict[str, Any], base: dict[str, Any]) -> list[str]:
    memory = "not measured" if each["extra_bytes"] is None else screen.megabytes(each["extra_bytes"])
    return [screen.seconds(each["seconds"]), f"{each['seconds'] / base['seconds']:.1f} x", memory]


def _predictions(out: Screen, corpus: words.Corpus, model: Model) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for word in words.FEATURED:
        p: Array = model.probabilities(corpus.index[word])
        likeliest = np.argsort(p)[: -_SHOWN - 1 : -1]
        found.append({"word": word, "next": {corpus.words[i]: float(p[i]) for i in likeliest}, "sum": float(p.sum())})
    out.heading("Likely next words, with their exact probabilities")
    out.table(
        ["after", "comes"],
        [[each["word"], ", ".join(f"{word} {share:.1%}" for word, share in each["next"].items())] for each in found],
    )
    return found
