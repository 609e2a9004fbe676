# SPDX-License-Identifier: Apache-2.0
"""Time vastmax beside its peers and the roofs of memory, against the bars it is held to."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from . import chart, contention, machine, memory, sampled_calls, screen
from .cases import MEMORY, ONE_MICROSECOND, OTHER_SETTINGS, TABLE, Case, held, verdict
from .contenders import GRADIENTS, OPS, PEERS, REDUCTIONS, ROOFS, Arrays, installed, ours, peers, roof
from .timing import Pace, compare, timing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .exact import Array
    from .screen import Screen
    from .timing import Call

OURS = "vastmax"
_QUICK = Pace(rounds=2, block=0.03)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Choose cases, settings, rivals and output."""
    parser.add_argument("--op", choices=(*OPS, *sampled_calls.OPS), help="only this op")
    parser.add_argument("--shape", type=_shape, metavar="64x128256", help="one array of this shape, last axis")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32", "float64"), help="of that array")
    parser.add_argument("--isa", choices=vastmax.available_isas(), help="default: the fastest here")
    parser.add_argument("--threads", type=_count, help="default: as vastmax.info() says")
    parser.add_argument(
        "--against", type=_rivals, default=PEERS, metavar=",".join(PEERS), help="default: those installed"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios: .png, .svg or .pdf")
    parser.add_argument("--bars", action="store_true", help="also hold each case against the bars of this project")
    parser.add_argument("--quick", action="store_true", help="fewer cases and rounds: under 30 s, and noisier")


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.lower().replace("_", "").split("x"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive int")
    return int(text)


def _rivals(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.replace("-", "_").split(",")))
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PEERS)}")
    return names


def run(options: argparse.Namespace) -> int:
    """Measure, print, and draw if asked; slow is no failure."""
    if options.plot and not Path(options.plot).parent.is_dir():  # said before minutes of measuring
        print(f"--plot: no folder {Path(options.plot).parent}", file=sys.stderr)
        return 2
    if options.plot and not chart.available():
        print(f"--plot needs matplotlib: {chart.INSTALL}", file=sys.stderr)
        return 2
    if options.op in sampled_calls.OPS and (options.shape or options.dtype):
        print(f"--shape and --dtype: not with {options.op}, whose sizes are those of its bars", file=sys.stderr)
        return 2
    out = screen.open_screen(silent=options.json)
    asked = options.isa or options.threads
    with vastmax.config(isa=options.isa, threads=options.threads) if asked else nullcontext():  # as users call it
        result = _measure(options, out)
    if options.json:
        screen.print_json(result)
    if options.plot:
        chart.draw_ratios(options.plot, result["cases"], machine=result["machine"]["cpu"])
    return 0


def _measure(options: argparse.Namespace, out: Screen) -> dict[str, Any]:
    facts = machine.described()
    machine.show(out, facts)
    _tell_missing(out, options.against)
    chosen = _chosen(options)
    pace = _QUICK if options.quick else Pace()
    steps = out.progress(chosen, "measuring", len(chosen))
    results = [_case_result(case, options.against, pace) for case in steps]
    whole = (options.bars or options.json) and not _narrowed(options)
    extra = memory.measure([case for case in MEMORY if case.quick or not options.quick]) if whole else []
    crowded = contention.measure(1.0 if options.quick else 4.0) if whole else None
    _show(out, results)
    _show_faster(out, results)
    if options.bars:
        memory.show(out, extra)
        _show_crowded(out, crowded)
        _show_bars(out, [*results, *extra, *([crowded] if crowded else [])])
    return {"machine": facts, "cases": results, "extra memory": extra, "one core busy": crowded}


def _tell_missing(out: Screen, against: tuple[str, ...]) -> None:
    missing = [name for name, number in installed(against).items() if number is None]
    if missing:
        out.text(f'Not installed, so left out: {", ".join(missing)}. All peers come with: pip install ".[bench]"')


def _narrowed(options: argparse.Namespace) -> bool:
    return bool(options.op or options.shape or options.dtype)


def _chosen(options: argparse.Namespace) -> list[Case]:
    if options.shape or options.dtype:
        op, shape = options.op or "softmax", options.shape or (64, 128_256)
        return [Case(op, shape, options.dtype or "float32")]
    cases = [case for case in TABLE if options.op in (None, case.op) and _possible(case)]
    quick = [case for case in cases if case.quick] if options.quick else []
    return quick or cases


def _possible(case: Case) -> bool:
    if case.dtype == "bfloat16" and installed(("ml_dtypes",))["ml_dtypes"] is None:
        return False
    return case.isa is None or {case.isa, "avx512"} <= set(vastmax.available_isas())


def _case_result(case: Case, against: tuple[str, ...], pace: Pace) -> dict[str, Any]:
    timings = compare(_calls(case, against), pace)
    mine = timings[OURS].median
    if any(bar.against == ONE_MICROSECOND for bar in case.bars):
        timings[ONE_MICROSECOND] = timing([1e-6])
    bars = [held(bar, mine / timings[bar.against].median) for bar in case.bars if bar.against in timings]
    size = int(np.prod(case.shape))
    return {
        "case": str(case),
        "op": case.op,
        "shape": case.shape,
        "dtype": case.dtype,
        "ns_per_element": mine / size * 1e9,
        "timings": {name: asdict(each) for name, each in timings.items()},
        "bars": bars,
    }


def _calls(case: Case, against: tuple[str, ...]) -> dict[str, list[Call]]:
    """Return each contender's calls, one for each set of arrays that they rotate through."""
    if case.op in sampled_calls.OPS:
        return sampled_calls.calls(case.op, case.shape, case.share, against)
    sets = list(_arrays(case))
    calls: dict[str, list[Call]] = {OURS: [_our_call(case, arrays) for arrays in sets]}
    if case.peers:
        for arrays in sets:
            for name, call in peers(case.op, arrays, case.axis, against).items():
                calls.setdefault(name, []).append(call)
        if not case.warm:
            calls |= {name: [roof(name, arrays) for arrays in sets] for name in ROOFS}
    for bar in case.bars:
        if bar.against in OTHER_SETTINGS:
            other = _in_other_setting(case, bar.against)
            calls[bar.against] = [_our_call(other, arrays) for arrays in _arrays(other)]
    return calls


def _in_other_setting(case: Case, name: str) -> Case:
    if name == "float32":
        return replace(case, dtype=name)
    if name == "last axis":
        return replace(case, axis=-1, shape=case.shape[::-1])
    if name == "logsumexp":
        return replace(case, op=name)
    return replace(case, isa=name)


def _our_call(case: Case, arrays: Arrays) -> Call:
    call = ours(case.op, arrays, case.axis, into=case.into and case.op not in REDUCTIONS)
    return call if case.isa is None else partial(_on, case.isa, call)


def _on(isa: str, call: Call) -> object:
    with vastmax.config(isa=isa):
        return call()


def _arrays(case: Case) -> Iterator[Arrays]:
    """Yield one set of arrays where they should stay in cache, else as many as go round beyond the caches."""
    size = int(np.prod(case.shape))
    logits, results = _stock(case.dtype, size)
    count = 1 if case.warm else len(logits) // size
    for i in range(count):
        x, out = (stock[i * size : (i + 1) * size].reshape(case.shape) for stock in (logits, results))
        j = (i + 1) % count * size
        y = logits[j : j + size].reshape(case.shape) if case.op in GRADIENTS else x
        yield Arrays(x, y, out)


_BLOCK = 1 << 22


def _stock(dtype: str, at_least: int) -> tuple[Array, Array]:
    """Return logits and room for results, each larger than the last-level cache where memory allows."""
    itemsize = 2 if dtype.endswith("16") else np.dtype(dtype).itemsize
    cache_bytes = machine.beyond_caches()
    count = max(min(cache_bytes, machine.memory_free() // 10), 64 << 20) // itemsize
    return _filled(dtype, count if count >= at_least else at_least)


@cache
def _filled(dtype: str, count: int) -> tuple[Array, Array]:
    if dtype == "bfloat16":
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    else:
        kind = np.dtype(dtype)
    block = (np.random.default_rng(0).standard_normal(min(count, _BLOCK), np.float32) * 4).astype(kind)
    return np.resize(block, count), np.zeros(count, kind) + kind.type(0)


def _show(out: Screen, results: Sequence[dict[str, Any]]) -> None:
    out.heading("How fast vastmax is beside others")
    rows = []
    for result in results:
        mine = result["timings"][OURS]["median"]
        others = [(name, each["median"]) for name, each in result["timings"].items() if name in _shown(result)]
        case, takes = result["case"], screen.seconds(mine)
        for name, time in others or [("", 0.0)]:
            rows.append([case, takes, name, _faster(time / mine) if name else "", screen.seconds(time) if name else ""])
            case = takes = ""
    out.table(["case", ">vastmax", "beside", ">vastmax is", ">time"], rows)


def _shown(result: dict[str, Any]) -> list[str]:
    return [name for name in result["timings"] if name not in (OURS, *OTHER_SETTINGS, ONE_MICROSECOND)]


def _faster(ratio: float) -> str:
    """Write how many times as fast vastmax is, or how many times as long it takes."""
    fast = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
    return f"{fast} x as fast" if ratio >= 1 else f"{1 / ratio:.2f} x as long"


def _show_faster(out: Screen, results: Sequence[dict[str, Any]]) -> None:
    out.heading("Where others are faster")
    lines = [
        f"{result['case']}: {name}, {result['timings'][OURS]['median'] / result['timings'][name]['median']:.2f} x"
        for result in results
        for name in _shown(result)
        if name not in (*ROOFS, *sampled_calls.FLOORS)
        and result["timings"][name]["median"] < result["timings"][OURS]["median"]
    ]
    for line in lines or ["Nowhere in this run."]:
        out.line(line)


def _show_crowded(out: Screen, crowded: dict[str, Any] | None) -> None:
    if crowded is None:
        return
    out.heading("One core kept busy by another process")
    out.text(
        f"{crowded['case']}: {screen.seconds(crowded['serial'])} on one undisturbed thread; with "
        f"{crowded['threads']} threads beside the busy core, mean {screen.seconds(crowded['mean'])} "
        f"and p99 {screen.seconds(crowded['p99'])}; "
        + "; ".join(f"{bar['text']}: {verdict(bar)}" for bar in crowded["bars"])
    )


def _show_bars(out: Screen, results: Sequence[dict[str, Any]]) -> None:
    out.heading("Bars")
    bars = [(result["case"], bar) for result in results for bar in result["bars"]]
    for aim, kind in ((False, "bars"), (True, "aims")):
        passed = [bar["passed"] for _, bar in bars if bar["aim"] == aim]
        if passed:
            out.line(f"{sum(passed)} of {len(passed)} {kind} reached")
    for case, bar in bars:
        out.line(f"{case}: {bar['text']}, {bar['against']}: {verdict(bar)}")
