# SPDX-License-Identifier: Apache-2.0
"""Train a model of the next word of Python's own source files, with 1,000 negatives a step and with all words."""

from __future__ import annotations

import importlib.util
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from . import beside_scipy, chart, language_model, machine, python_source, screen
from .language_model import BATCH, BEST, NEGATIVES, Model, Sampled, Score, full_step, judge, numpy_step

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from .python_source import Batch, Corpus
    from .screen import Screen

    Step = Callable[[Model, Batch, int], None]

_INSTALL = 'pip install ".[demo]"'
_SHARE = 0.1
_JUDGED = 20_000  # words held out, at most
_POINTS = 6  # of a curve: after a 32nd of the epoch, a 16th, ...
_TIMED = 3  # steps of what is only timed
_SHOWN = 4  # likely next words
_CHEAPER, _WITHIN = 0.8, 0.015  # the article's claim
_FREQUENCIES, _FULL, _NUMPY = "word frequencies alone", "full softmax", "full softmax in NumPy"
_SHOWN_MODEL = "sampled, importance"  # an estimate of the full softmax: its probabilities mean the same
_SAMPLED = {_SHOWN_MODEL: "importance", "sampled, candidate": "candidate", "sampled, uncorrected": "none"}
_PROMPTS = (
    "raise TypeError msg except ValueError as e raise",
    "in zip a b for i in range len",
    "if __name__ __main__",
    "import os import",
    "def __init__ self",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Choose the size, or the other story."""
    parser.add_argument(
        "--words", choices=["library", "all"], default="library",
        help="of the standard library (default), or of all installed packages too; then the full softmax is only timed",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=float, help=f"of the files, above 0 and up to 1 (default: {_SHARE:g}; 1 with --words all)"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train N times, and print the spread")
    parser.add_argument("--plot", metavar="FILE", help="draw held-out nDCG against time: .png, .svg, .pdf")
    parser.add_argument(
        "--beside-scipy", action="store_true", help="instead: what SciPy gets wrong, and time and memory beside it"
    )
    parser.add_argument("--rows", type=int, default=400, help="with --beside-scipy: rows of logits (default: 400)")


def run(options: argparse.Namespace) -> int:
    """Tell the story, section by section."""
    out = screen.open_screen(silent=options.json)
    try:
        _check(options)
        result = _beside_scipy(out, options) if options.beside_scipy else _next_word(out, options)
    except _UnusableError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        screen.print_json(result)
    return 0


class _UnusableError(Exception):
    """An option that cannot be served, in words for the user."""


def _check(options: argparse.Namespace) -> None:
    missing = ["scipy"] if options.beside_scipy and importlib.util.find_spec("scipy") is None else []
    if options.plot and not chart.available():
        missing.append("matplotlib")
    if missing:
        raise _UnusableError(f"The demo needs {' and '.join(missing)}: {_INSTALL}")
    if options.share is not None and not 0 < options.share <= 1:
        raise _UnusableError(f"--share is {options.share:g}; accepted: a number above 0 and up to 1")
    for name in ("seeds", "rows"):
        if getattr(options, name) < 1:
            raise _UnusableError(f"--{name} is {getattr(options, name)}; accepted: an int of 1 or more")


def _corpus(share: float, packages: bool) -> Corpus:
    corpus = python_source.load(share, packages=packages)
    if len(corpus.words) <= NEGATIVES or not len(corpus.held_out):
        held = "words" if len(corpus.held_out) else "words and none held out"
        raise _UnusableError(
            f"--share is {share:g}, which leaves {len(corpus.words):,} {held}; "
            f"accepted: a share of the files with more than {NEGATIVES:,} words and some held out"
        )
    return corpus


def _beside_scipy(out: Screen, options: argparse.Namespace) -> dict[str, Any]:
    result = beside_scipy.tell(out, _corpus(options.share or 1, options.words == "all"), options.rows)
    if options.plot:
        result["plot"] = beside_scipy.plot(out, options.plot)
    return result


@dataclass
class _Trained:
    """The cost of a method, and the quality of its model."""

    steps: int
    step_seconds: float
    seconds: float
    loss: float
    ndcg: float
    recall: float
    log_popularity: float
    curve: dict[str, list[float]]


@dataclass
class _Run:
    """Every method trained from one start, and one of the models."""

    trained: dict[str, _Trained]
    model: Model
    claims: dict[str, dict[str, Any]]


class _Course:
    """A model in training; the clock stands still while it is judged."""

    def __init__(self, model: Model, step: Step) -> None:
        self.model, self._step = model, step
        self.scores: list[Score] = []
        self._times: list[float] = []
        self._judged_at: list[float] = []

    def step_on(self, batch: Batch, number: int) -> None:
        """Make a step."""
        start = time.perf_counter()
        self._step(self.model, batch, number)
        self._times.append(time.perf_counter() - start)

    def judged(self, score: Score) -> None:
        """Keep a score of the model as it is."""
        self.scores.append(score)
        self._judged_at.append(sum(self._times))

    def trained(self) -> _Trained:
        """Return what came of it."""
        last = self.scores[-1]
        curve = {"seconds": self._judged_at, "ndcg": [score.ndcg for score in self.scores]}
        cost = (len(self._times), float(np.median(self._times)), sum(self._times))
        return _Trained(*cost, last.loss, last.ndcg, last.recall, last.log_popularity, curve)


class _Task:
    """The data of a run, judged on the same held-out words each time."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.held_out = corpus.held_out.some(_JUDGED)
        self.log_frequencies = language_model.log_frequencies(corpus).astype(np.float32)

    def frequencies(self) -> Score:
        """Return how good it is to recommend the most frequent words always."""
        ones = np.ones((len(self.held_out.target), 1), np.float32)
        return judge(ones, self.log_frequencies[:, None], self.held_out.target, self.log_frequencies)

    def score(self, model: Model) -> Score:
        """Judge a model."""
        return judge(model.features(self.held_out), model.next.values, self.held_out.target, self.log_frequencies)

    def batches(self, seed: int) -> list[Any]:
        """Return the rows of the batches of one epoch."""
        order = np.random.default_rng(seed).permutation(len(self.corpus.learned))
        count = max(len(order) // BATCH, 1)
        return [order[i * BATCH : (i + 1) * BATCH] for i in range(count)]

    def train(self, out: Screen, steps: Mapping[str, Step], seed: int, points: int) -> _Run:
        """Train a model a method for an epoch, a step of each in turn: other work on the machine slows all alike."""
        courses = {name: _Course(Model(self.corpus, seed), step) for name, step in steps.items()}
        batches = self.batches(seed)
        judged = {len(batches) >> i for i in range(points)} - {0}
        text = f"training {len(courses)} models, a step of each in turn"
        for number, rows in enumerate(out.progress(batches, text, len(batches)), 1):
            batch = self.corpus.learned.batch(rows)
            for course in courses.values():
                course.step_on(batch, number)
                if number in judged:
                    course.judged(self.score(course.model))
        trained = {name: course.trained() for name, course in courses.items()}
        claims = _claims(trained, {name: course.scores[-1] for name, course in courses.items()})
        return _Run(trained, courses[_SHOWN_MODEL].model, claims)

    def timed(self, step: Step) -> dict[str, Any]:
        """Time a few steps, after one that brings memory and threads."""
        model, times = Model(self.corpus), []
        batches = self.batches(0)[: _TIMED + 1]
        for number in range(_TIMED + 1):
            batch = self.corpus.learned.batch(batches[number % len(batches)])
            start = time.perf_counter()
            _, memory = machine.peak_growth(partial(step, model, batch, number))
            times.append(time.perf_counter() - start)
        return {"step_seconds": float(np.median(times[1:])), "extra_bytes": memory}


def _next_word(out: Screen, options: argparse.Namespace) -> dict[str, Any]:
    facts = machine.described()
    machine.show(out, facts)
    everything = options.words == "all"
    task = _Task(_corpus(options.share or (1 if everything else _SHARE), everything))
    baseline = task.frequencies()
    _introduce(out, task)
    points = _POINTS if options.plot else 1
    seeds = range(options.seeds)
    runs = [task.train(out, _steps(task.corpus, seed, full=not everything), seed, points) for seed in seeds]
    first = runs[0]
    timed = {name: task.timed(step) for name, step in _steps(task.corpus, 0, full=True).items()}
    timed[_NUMPY] = task.timed(numpy_step)
    _show_methods(out, first, baseline, timed, len(task.held_out.target))
    result = {
        "machine": facts,
        "classes": len(task.corpus.words),
        "files": task.corpus.files,
        "words_learned": len(task.corpus.learned),
        "words_judged": len(task.held_out.target),
        "frequencies": _plain(baseline),
        "methods": {name: asdict(trained) for name, trained in first.trained.items()},
        "claim": _show_claim(out, first, timed[_FULL], facts),
        "seeds": _show_spread(out, runs),
        "beside NumPy": _show_beside_numpy(out, timed),
        "completions": _show_completions(out, task.corpus, first.model),
    }
    if options.plot:
        title = (
            f"Next word of Python's source files: {result['classes']:,} words, {result['words_judged']:,} held out\n"
            f"{facts['cpu']}; threads: {facts['threads']}"
        )
        curves = {name: trained.curve for name, trained in first.trained.items()}
        chart.draw_learning(options.plot, curves, baseline.ndcg, title)
        out.line(f"\nDrawn: {options.plot}")
    return result


def _steps(corpus: Corpus, seed: int, *, full: bool) -> dict[str, Step]:
    steps: dict[str, Step] = {_FULL: full_step} if full else {}
    return steps | {name: Sampled(corpus, correction, seed) for name, correction in _SAMPLED.items()}


def _claims(trained: Mapping[str, _Trained], scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """Compare ranking and time with the full softmax, where that was trained."""
    if _FULL not in trained:
        return {}
    claims = {}
    for name in _SAMPLED:
        gap = scores[name].gains - scores[_FULL].gains
        ndcg, ideal = float(gap.mean()), trained[_FULL].ndcg
        saved = 1 - trained[name].seconds / trained[_FULL].seconds
        claims[name] = {
            "ndcg_change": ndcg / ideal,
            "standard_error": float(gap.std()) / len(gap) ** 0.5 / ideal,
            "time_saved": saved,
            "holds": ndcg / ideal >= -_WITHIN and saved >= _CHEAPER,
        }
    return claims


def _plain(score: Score) -> dict[str, float]:
    return {"loss": score.loss, "ndcg": score.ndcg, "recall": score.recall, "log_popularity": score.log_popularity}


def _introduce(out: Screen, task: _Task) -> None:
    corpus = task.corpus
    out.heading("What is learned")
    out.text(
        f"The next word of Python's own source files, given the {python_source.CONTEXT} words before it. "
        f"{corpus.files[0]:,} files have {len(corpus.learned):,} words to learn from, {corpus.files[1]} files are held "
        f"out and judge the result by {len(task.held_out.target):,} words that training never saw. "
        f"{len(corpus.words):,} words occur twice or more; these are the classes. It is a recommender too: a file is "
        f"a session, and the next word is the next item."
    )
    out.text(
        f"The model is log-bilinear with {language_model.FEATURES} features: the vector of a context is a weighted sum "
        f"of the vectors of its words and of one for its last two words; its product with the vector of a class is the "
        f"score. The bias starts at the logarithm of the word's frequency. Every method sees the same batches of "
        f"{BATCH:,} words from the same start, once, a step of each in turn. "
        f"The full softmax scores all classes at each step. Sampled softmax "
        f"scores {NEGATIVES:,} distinct ones, drawn in proportion to frequency^{language_model.POWER:g}, and corrects "
        f"the scores for that, in two ways; the last method leaves the correction out."
    )


def _show_methods(out: Screen, run: _Run, baseline: Score, timed: Mapping[str, Mapping[str, Any]], judged: int) -> None:
    out.heading(f"Held-out files, after one epoch: {judged:,} words")
    rows = [[_FREQUENCIES, *_quality(baseline), "", "", ""]]
    rows += [
        [name, *_quality(t), screen.seconds(t.step_seconds), screen.seconds(t.seconds), _memory(timed[name])]
        for name, t in run.trained.items()
    ]
    columns = ["", ">loss", f">nDCG@{BEST}", f">recall@{BEST}", ">log popularity", ">step", ">training", ">memory"]
    out.table(columns, rows)
    out.text(
        f"Loss is the exact cross-entropy over all classes, in nats. nDCG@{BEST} is 1 / log2(1 + rank) of the right "
        f"word, 0 beyond rank {BEST}; recall@{BEST} is how often it is among the first {BEST}. Log popularity is the "
        f"mean logarithm of the frequency of the {BEST} words recommended. A step is a median, and memory is what one "
        f"takes beside the model at its peak."
    )
    out.text(_popularity(run))


def _quality(score: Score | _Trained) -> list[str]:
    return [f"{score.loss:.3f}", f"{score.ndcg:.4f}", f"{score.recall:.3f}", f"{score.log_popularity:.2f}"]


def _memory(each: Mapping[str, Any]) -> str:
    count = each["extra_bytes"]
    return "not measured" if count is None else screen.megabytes(count)


def _popularity(run: _Run) -> str:
    beside = _FULL if _FULL in run.trained else _SHOWN_MODEL
    change = run.trained["sampled, uncorrected"].log_popularity - run.trained[beside].log_popularity
    rarer = "rarer" if change < 0 else "more frequent"
    return (
        f"Popularity bias: without the correction the recommended words are {np.exp(abs(change)):,.1f} times {rarer} "
        f"(geometric mean) than those of {beside}."
    )


def _show_claim(out: Screen, run: _Run, full: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any] | None:
    out.heading("The claim")
    claim = (
        f"Sampled softmax with {NEGATIVES:,} negatives keeps nDCG within {_WITHIN:.1%} of the full softmax, at "
        f"{_CHEAPER:.0%} less training time."
    )
    out.text(claim)
    if not run.claims:
        sampled = run.trained[_SHOWN_MODEL]
        saved = 1 - sampled.step_seconds / full["step_seconds"]
        out.text(
            f"The full softmax was not trained: {_TIMED} steps took {screen.seconds(full['step_seconds'])} each, so "
            f"{sampled.steps:,} would take {sampled.steps * full['step_seconds'] / 60:,.0f} minutes. A sampled step "
            f"takes {saved:.1%} less. What becomes of nDCG is not known here."
        )
        return None
    out.table(
        ["", f">nDCG@{BEST}", ">standard error", ">training time", "claim"],
        [
            [name, f"{c['ndcg_change']:+.1%}", f"{c['standard_error']:.1%}", f"{-c['time_saved']:+.0%}", _verdict(c)]
            for name, c in run.claims.items()
        ],
    )
    out.text(
        "The standard error is that of the difference on these held-out words, as if they were independent. One run "
        "cannot show how much another start, other draws and another order of the batches change (--seeds N trains N "
        "times), nor how other data, models or numbers of classes would fare. Times are of this machine; the more "
        "classes, the more is saved."
    )
    if facts["load"][0] > facts["cores"] / 2:
        out.text(
            f"Other work ran on this machine: load {facts['load'][0]:.1f} on {facts['cores']} cores before the start. "
            "Times are too long, those of short steps most, as their threads wait for each other. Run it again when "
            "the machine is idle, or on one thread: VASTMAX_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1."
        )
    return run.claims


def _verdict(claim: Mapping[str, Any]) -> str:
    return "holds" if claim["holds"] else "does not hold"


def _show_spread(out: Screen, runs: Sequence[_Run]) -> list[dict[str, Any]]:
    if len(runs) > 1:
        out.heading(f"{len(runs)} seeds: mean (smallest to largest)")
        columns = ["", ">loss", f">nDCG@{BEST}", f">change of nDCG@{BEST}", ">training time", ">claim holds"]
        out.table(columns, [_spread_row(name, runs) for name in runs[0].trained])
    return [{"methods": {name: asdict(t) for name, t in run.trained.items()}, "claim": run.claims} for run in runs]


def _spread_row(name: str, runs: Sequence[_Run]) -> list[str]:
    trained, claims = [run.trained[name] for run in runs], [run.claims[name] for run in runs if name in run.claims]
    row = [name, _spread([t.loss for t in trained], ".3f"), _spread([t.ndcg for t in trained], ".4f")]
    if not claims:
        return [*row, "", _spread([t.seconds for t in trained], ".3g") + " s", ""]
    changes = _spread([c["ndcg_change"] for c in claims], "+.1%")
    saved = _spread([-c["time_saved"] for c in claims], "+.0%")
    return [*row, changes, saved, f"{sum(c['holds'] for c in claims)} of {len(claims)}"]


def _spread(values: Sequence[float], form: str) -> str:
    mean, least, most = (format(float(v), form) for v in (np.mean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})"


def _show_beside_numpy(out: Screen, timed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    each = {name: timed[name] for name in (_NUMPY, _FULL, _SHOWN_MODEL)}
    plain = timed[_NUMPY]["step_seconds"]
    out.heading("Beside plain NumPy: one step")
    out.table(
        ["", ">time", ">times as fast", ">memory"],
        [
            [way, screen.seconds(e["step_seconds"]), f"{plain / e['step_seconds']:.1f}", _memory(e)]
            for way, e in each.items()
        ],
    )
    out.text(f"Medians of {_TIMED} steps of {BATCH:,} words, outside training. NumPy's step is the same computation.")
    return each


def _show_completions(out: Screen, corpus: Corpus, model: Model) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for prompt in _PROMPTS:
        logits = model.features(corpus.ask(prompt)) @ model.next.values.T
        stats = vastmax.softmax_stats(logits, top_n=_SHOWN)
        assert stats.top_indices is not None
        assert stats.top_log_probs is not None
        best = zip(stats.top_indices[0], np.exp(stats.top_log_probs[0]), strict=True)
        found.append({"after": prompt, "next": {corpus.words[i]: float(p) for i, p in best}})
    out.heading(f"What comes next: {_SHOWN_MODEL}, exact probabilities over {len(corpus.words):,} words")
    out.table(
        ["after", "comes"],
        [[each["after"], ", ".join(f"{word} {p:.1%}" for word, p in each["next"].items())] for each in found],
    )
    return found
