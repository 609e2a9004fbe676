# SPDX-License-Identifier: Apache-2.0
"""The demo: what it reads, what it learns, what it says."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vastmax
from support import contracts, subprocesses
from vastmax import __main__ as command_line
from vastmax.cli import beside_scipy, chart, demo, language_model, machine, python_source
from vastmax.cli.language_model import Model, Sampled, full_step, judge, numpy_step
from vastmax.cli.python_source import CONTEXT, Batch, Corpus

pytestmark = pytest.mark.any_isa
FILES, WORDS = 60, 400
needs_scipy = pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="without SciPy")


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = command_line.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


def write_files(folder: Path) -> None:
    """Files in which the next word is one of three that depend on the word before, and each has a word of its own."""
    rng = np.random.default_rng(5)
    followers = rng.zipf(1.3, (WORDS, 3)) % WORDS
    for number in range(FILES):
        word, text = 0, [f"only_{number}"]
        for choice in rng.integers(0, 3, 300):
            word = followers[word, choice] if rng.random() < 0.9 else int(rng.integers(WORDS))
            text.append(f"w{word}")
        (folder / f"file_{number}.py").write_text("# " + " ".join([*text, f"only_{number}"]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files in place of the standard library's, and negatives to fit."""
    where = tmp_path / "library"
    where.mkdir()
    write_files(where)
    monkeypatch.setattr(python_source, "_folders", lambda packages: [where])
    for module in (demo, language_model):
        monkeypatch.setattr(module, "NEGATIVES", 100)
    monkeypatch.setattr(python_source, "_PAIR_BITS", 12)
    monkeypatch.setattr(language_model, "PAIRS", 1 << 12)
    return where


@pytest.fixture
def corpus(folder: Path) -> Corpus:
    return python_source.load()


# what is read


def test_held_out_files_are_never_learned(folder: Path) -> None:
    held_out = [number for number in range(FILES) if python_source.is_held_out(f"file_{number}.py")]
    assert 0 < len(held_out) < FILES / 4
    original = folder / f"file_{held_out[0]}.py"
    copies = [name for name in ("copy_1.py", "copy_2.py", "z/copy.py") if not python_source.is_held_out(name)]
    (folder / "z").mkdir()
    for name in copies:
        (folder / name).write_bytes((folder / "file_0.py").read_bytes())
    corpus = python_source.load()
    assert corpus.files == (FILES - len(held_out), len(held_out))  # the copies are not counted
    known = {int(word.removeprefix("only_")) for word in corpus.words if word.startswith("only_")}
    assert known == {*range(FILES)} - {*held_out}
    lengths = [len(python_source.split((folder / f"file_{n}.py").read_bytes())) for n in held_out]
    assert original.exists()
    assert len(corpus.held_out) <= sum(lengths) - 2 * len(held_out)  # their own words are no targets


def test_a_copy_of_a_held_out_file_is_not_learned(folder: Path) -> None:
    number = next(n for n in range(FILES) if python_source.is_held_out(f"file_{n}.py"))
    name = next(name for name in map("zz_{}.py".format, range(9)) if not python_source.is_held_out(name))
    (folder / name).write_bytes((folder / f"file_{number}.py").read_bytes())
    assert f"only_{number}" not in python_source.load().words


def test_a_share_of_the_files_is_part_of_a_larger_one(folder: Path) -> None:
    shares = [python_source.load(share) for share in (0.3, 0.6, 1)]
    own = [{word for word in corpus.words if word.startswith("only_")} for corpus in shares]
    assert 0 < len(own[0]) < len(own[1]) < len(own[2])
    assert own[0] < own[1] < own[2]


def test_every_process_holds_the_same_files_out() -> None:
    code = (
        "import numpy as np; from vastmax.cli import python_source as p;"
        "print([n for n in range(200) if p.is_held_out(f'a/{n}.py')],"
        "p.pair_hash(np.array([[3, 5], [5, 3], [0, 13000]]), 13000).tolist())"
    )
    texts = {subprocesses.run(code, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2")}
    assert texts == {"[9, 10, 67, 92, 112, 160, 165, 169, 195] [139571, 59684, 20601]\n"}


def test_pair_hash_spreads() -> None:
    pairs = np.stack(np.meshgrid(np.arange(300), np.arange(300)), -1).reshape(-1, 2)
    found = python_source.pair_hash(pairs, 13_000)
    assert 0 <= found.min() < found.max() < python_source.PAIRS
    met = python_source.PAIRS * -np.expm1(-len(pairs) / python_source.PAIRS)  # of a random function
    assert len(np.unique(found)) > 0.97 * met


def test_rare_words_and_what_is_before_a_file_are_no_targets() -> None:
    files = [[b"a", b"b", b"a", b"once"], [b"b", b"a"]]
    corpus = Corpus(files, [[b"a", b"never", b"b"]])
    assert (corpus.words, corpus.counts.tolist()) == (["a", "b"], [3, 2])
    learned = corpus.learned.batch(slice(None))
    assert learned.target.tolist() == [0, 1, 0, 1, 0]
    rare = 2
    assert learned.context[2].tolist() == [1, 0] + [rare] * (CONTEXT - 2)
    assert learned.context[3].tolist() == [rare] * CONTEXT
    assert corpus.held_out.batch(slice(None)).context[1].tolist() == [rare, 0] + [rare] * (CONTEXT - 2)
    assert corpus.ask("b once a").context[0].tolist() == [0, rare, 1] + [rare] * (CONTEXT - 3)
    assert corpus.ask("b once a").pair == python_source.pair_hash(np.array([[0, rare]]), 2)
    before, after = corpus.learned.pairs()
    assert before.tolist() == [rare, 0, 1, rare, 1]
    assert after.tolist() == learned.target.tolist()


def test_library_leaves_packages_out(tmp_path: Path) -> None:
    for name in ("a.py", "site-packages/b.py", "c/dist-packages/d.py", "c/e.py", "f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    names = [[name for name, _ in python_source._files([tmp_path], packages)] for packages in (False, True)]
    assert names == [["a.py", "c/e.py"], ["a.py", "c/dist-packages/d.py", "c/e.py", "site-packages/b.py"]]


# what is learned


def loss_in_float64(tables: dict[str, Any], batch: Batch) -> float:
    """The sum of the losses, a row at a time."""
    total = 0.0
    for context, pair, target in zip(*batch, strict=True):
        x = tables["pairs"][pair] + sum(
            c * tables["words"][w] for c, w in zip(tables["distance"], context, strict=True)
        )
        x[0] = 1
        logits = tables["next"] @ x
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target]
    return float(total)


def wide(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name).values.astype(np.float64) for name in ("words", "pairs", "distance", "next")}


@pytest.mark.parametrize("step", [full_step, numpy_step])
def test_gradients_are_those_of_the_loss(step: Any, corpus: Corpus) -> None:
    model, batch = Model(corpus, 3), corpus.learned.batch(np.arange(50, 120))
    before = wide(model)
    step(model, batch, 1)
    rng = np.random.default_rng(0)
    rows = {"words": batch.context.ravel(), "pairs": batch.pair, "distance": np.arange(8), "next": batch.target}
    for name, candidates in rows.items():
        table = getattr(model, name)
        # The first step of row-wise Adagrad from state 0: w -= lr g / sqrt(mean g^2).
        gradient = (before[name] - table.values) * np.sqrt(table.state)[:, None] / language_model.RATE
        for row in rng.choice(candidates, 4):
            at = (row, int(rng.integers(before[name].shape[1])))
            h, here = 1e-5, before[name][at]
            sides = []
            for shift in (h, -h):
                before[name][at] = here + shift
                sides.append(loss_in_float64(before, batch))
            before[name][at] = here
            expected = (sides[0] - sides[1]) / (2 * h)
            size = np.sqrt(table.state[row])
            assert abs(gradient[at] - expected) < 2e-4 * size, (name, at)
    assert (model.words.values[:, 0] == before["words"][:, 0].astype(np.float32)).all()  # x[0] is 1 whatever they hold


def test_the_step_in_numpy_is_the_same_step(corpus: Corpus) -> None:
    ours, plain = Model(corpus), Model(corpus)
    for number in range(4):
        batch = corpus.learned.batch(np.arange(number * 500, (number + 1) * 500))
        full_step(ours, batch, number)
        numpy_step(plain, batch, number)
    for name in ("words", "pairs", "distance", "next"):
        a, b = getattr(ours, name).values, getattr(plain, name).values
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max(), name


def test_all_classes_as_negatives_make_the_full_softmax(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "NEGATIVES", len(corpus.words))
    sampled, full = Model(corpus), Model(corpus)
    batch = corpus.learned.batch(np.arange(300))
    Sampled(corpus, "importance")(sampled, batch, 1)
    full_step(full, batch, 1)
    for name in ("words", "pairs", "distance", "next"):
        a, b = getattr(sampled, name), getattr(full, name)
        np.testing.assert_allclose(a.state, b.state, rtol=1e-3, atol=1e-12)


def test_the_untrained_model_knows_the_frequencies(corpus: Corpus) -> None:
    batch = corpus.held_out.some(500)
    model, log_frequencies = Model(corpus), language_model.log_frequencies(corpus)
    loss = float(vastmax.linear_cross_entropy(model.features(batch), model.next.values, batch.target))
    assert abs(loss / -log_frequencies[batch.target].mean() - 1) < 0.01


def test_judge() -> None:
    rng = np.random.default_rng(1)
    x, weight = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
    target, popularity = rng.integers(0, 30, 40), rng.normal(size=30)
    score = judge(x, weight, target, popularity)
    logits = x.astype(np.float64) @ weight.T.astype(np.float64)
    own = np.take_along_axis(logits, target[:, None], 1)
    rank = 1 + (logits > own).sum(1)
    gains = np.where(rank <= 10, 1 / np.log2(1 + rank), 0)
    np.testing.assert_allclose(score.gains, gains)
    np.testing.assert_allclose(score.ndcg, gains.mean())
    assert score.recall == (rank <= 10).mean()
    np.testing.assert_allclose(score.loss, (np.log(np.exp(logits).sum(1)) - own[:, 0]).mean(), rtol=1e-6)
    best = np.argsort(-logits, 1)[:, :10]
    np.testing.assert_allclose(score.log_popularity, popularity[best].mean())


# what is said


def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(demo, "time", SimpleNamespace(perf_counter=lambda: next(clock)))


@pytest.mark.conformance
@pytest.mark.usefixtures("folder")
def test_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    steady_clock(monkeypatch)
    picture = tmp_path / "learning.png"
    status, result = answer(capsys, "demo", "--share", "1", "--plot", str(picture))
    assert status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    methods = result["methods"]
    assert [*methods] == ["full softmax", "sampled, importance", "sampled, candidate", "sampled, uncorrected"]
    for method in methods.values():
        assert method["ndcg"] > result["frequencies"]["ndcg"] + 0.05  # the next word depends on the one before
        assert method["loss"] < result["frequencies"]["loss"]
        assert method["steps"] == result["words_learned"] // 1024
        assert method["seconds"] == method["steps"] / 4
        assert method["step_seconds"] == 0.25
        assert method["curve"]["ndcg"][-1] == method["ndcg"]
        assert method["curve"]["seconds"][-1] == method["seconds"]
        assert len(method["curve"]["ndcg"]) == len(method["curve"]["seconds"]) > 2
    assert methods["sampled, importance"]["loss"] < methods["sampled, uncorrected"]["loss"]
    for name, claim in result["claim"].items():
        change = methods[name]["ndcg"] / methods["full softmax"]["ndcg"] - 1
        assert abs(claim["ndcg_change"] - change) < 1e-9
        assert claim["time_saved"] == 0
        assert not claim["holds"]  # for the same time
    assert [*result["beside NumPy"]] == ["full softmax in NumPy", "full softmax", "sampled, importance"]
    for each in result["completions"]:
        assert 0 < sum(each["next"].values()) <= 1 + 1e-6


@pytest.mark.conformance
@pytest.mark.usefixtures("folder")
def test_demo_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["demo", "--share", "1", "--seeds", "2"]) == 0
    text = capsys.readouterr().out
    headings = ("What is learned", "Held-out files", "The claim", "2 seeds", "Beside plain NumPy", "What comes next")
    places = [text.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    assert "within 1.5% of the full softmax, at 80% less training" in " ".join(text.split())
    assert "One run cannot show" in " ".join(text.split())


@pytest.mark.parametrize(("change", "saved", "holds"), [(0.99, 0.81, True), (0.98, 0.9, False), (1.1, 0.79, False)])
def test_the_claim_is_the_article_s(change: float, saved: float, holds: bool) -> None:
    ideal = language_model.Score(5.0, np.full(100, 0.5), 0.5, -6.0)
    scores = {"full softmax": ideal, **dict.fromkeys(demo._SAMPLED, ideal._replace(gains=ideal.gains * change))}
    trained = {name: SimpleNamespace(ndcg=score.ndcg, seconds=1 - saved) for name, score in scores.items()}
    trained["full softmax"].seconds = 1
    for claim in demo._claims(trained, scores).values():  # type: ignore[arg-type]
        assert claim["holds"] is holds
        assert abs(claim["ndcg_change"] - (change - 1)) < 1e-12


@pytest.mark.conformance
@pytest.mark.usefixtures("folder")
def test_demo_with_all_words_times_the_full_softmax_only(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = answer(capsys, "demo", "--words", "all", "--seeds", "2")
    assert status == 0
    assert [*result["methods"]] == ["sampled, importance", "sampled, candidate", "sampled, uncorrected"]
    assert result["claim"] is None
    assert result["beside NumPy"]["full softmax"]["step_seconds"] > 0
    assert len(result["seeds"]) == 2
    assert result["seeds"][0]["methods"] != result["seeds"][1]["methods"]
    assert command_line.main(["demo", "--words", "all"]) == 0
    assert "The full softmax was not trained: 3 steps took" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--share", "0"], "--share is 0; accepted: a number above 0 and up to 1"),
        (["--share", "nan"], "--share is nan; accepted"),
        (["--share", "1.5"], "--share is 1.5; accepted"),
        (["--seeds", "0"], "--seeds is 0; accepted: an int of 1 or more"),
        (["--rows", "0"], "--rows is 0; accepted: an int of 1 or more"),
        (
            ["--share", "1e-9"],
            "which leaves 0 words and none held out; accepted: a share of the files with more than 100",
        ),
    ],
)
def test_demo_refuses(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(("package", "arguments"), [("scipy", ["--beside-scipy"]), ("matplotlib", ["--plot", "x.png"])])
def test_demo_says_what_is_missing(
    package: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    assert command_line.main(["demo", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.strip() == f'The demo needs {package}: pip install ".[demo]"'


def test_learning_figure_fits() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    curves = {name: {"seconds": [0.1, 1, 10], "ndcg": [0.2, 0.25, 0.29]} for name in ("full softmax", *demo._SAMPLED)}
    cpu = "Intel(R) Xeon(R) Processor (cpu family 6, model 167, stepping 1), with a very long name"
    figure = chart.learning_figure(curves, 0.14, f"Next word of Python's files: 13,617 words\n{cpu}, 2 threads")
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_xscale() == "log"
    assert not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))
    whole = figure.bbox
    title = figure._suptitle.get_window_extent(renderer)
    assert whole.x0 <= title.x0 < title.x1 <= whole.x1
    floor = next(line for line in axes.lines if line.get_label() == "word frequencies")
    assert {*floor.get_ydata()} == {0.14}


# beside SciPy


@pytest.mark.conformance
@needs_scipy
@pytest.mark.usefixtures("folder")
def test_beside_scipy(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = answer(capsys, "demo", "--beside-scipy", "--rows", "8")
    classes = result["classes"]
    assert (status, result["whole"]["shape"]) == (0, [8, classes])
    for each in result["predictions"]:
        assert abs(each["sum"] - 1) < 1e-6
        assert abs(each["logsumexp"] - each["log_count"]) < 1e-5
        assert 0 < each["entropy_bits"] < np.log2(classes)
    for op, pair in result["comparison"]["ops"].items():
        assert pair["vastmax"]["worst_ulp"] <= contracts.MAX_ULP[op]["f32"]
        assert pair["scipy"]["seconds"] > 0
        if pair["vastmax"]["extra_bytes"] is not None:
            assert pair["vastmax"]["extra_bytes"] < 2**21
    table = result["where SciPy errs"]
    assert len(table) == 6
    assert all({*row} == {"input", "scipy", "vastmax", "truth"} for row in table)
    for row in table[:3]:
        assert row["vastmax"] == row["truth"] != row["scipy"]


@needs_scipy
@pytest.mark.usefixtures("folder")
def test_beside_scipy_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_scipy, "_where_scipy_errs", lambda out: out.heading("Where SciPy is wrong"))
    assert command_line.main(["demo", "--beside-scipy", "--rows", "2"]) == 0
    text = capsys.readouterr().out
    headings = ("Where SciPy is wrong", "Logits of the next word", "The likeliest next words", "Beside SciPy")
    places = [text.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)


def test_logits_beside_scipy_are_interpolated_counts() -> None:
    corpus = Corpus([[b"a", b"b", b"a", b"b", b"a", b"once"], [b"b", b"b"]], [[b"a"]])
    pairs = beside_scipy._Pairs(corpus)
    frequencies = np.array([3, 4]) / 7 if corpus.words == ["a", "b"] else np.array([4, 3]) / 7
    a, b = corpus.words.index("a"), corpus.words.index("b")
    followed = np.zeros((2, 2))
    followed[a, b], followed[b, a], followed[b, b] = 2, 2, 1
    for word in (a, b):
        expected = 0.9 * followed[word] + 0.1 * followed[word].sum() * frequencies
        np.testing.assert_allclose(pairs.logits(word), np.log(expected))


@pytest.mark.conformance
@needs_scipy
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("cache", [0, 5000, 10**9])
def test_beside_scipy_plot(
    cache: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Where caches serve there is no roof of memory."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / "sizes.png"
    monkeypatch.setattr(beside_scipy, "tell", lambda *_: {})
    monkeypatch.setattr(beside_scipy, "_SIZES", (1000, 3000))
    monkeypatch.setattr(machine, "beyond_caches", lambda: cache)
    status, result = answer(capsys, "demo", "--beside-scipy", "--plot", str(picture))
    assert status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    for panel in result["plot"].values():
        assert {"vastmax", "scipy"} == {*panel["seconds"]} - {"torch out=", "torch"}
        roofs = [roof is not None for roof in panel["roof"]]
        assert roofs == [bytes_ > cache for bytes_ in panel["bytes"]]
