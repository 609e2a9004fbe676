# SPDX-License-Identifier: Apache-2.0
"""Time the ops on a GPU against a copy on the same device: `python bench/gpu.py [--smoke] [--out FILE]`.

Needs nothing but vastmax with its CUDA extension; PyTorch and CuPy are timed beside it where they are installed. A
percentage is bytes per second over those of a device-to-device copy, both counted as the op must move them: each input
once, each output once. Arrays rotate so that no cache holds them. On the SIMT machine of the host everything runs once
and nothing is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import vastmax
from vastmax._backends import device as _device
from vastmax._backends import load as _backends
from vastmax.cli import machine
from vastmax.cuda import DeviceArray

ROOT = Path(__file__).resolve().parent.parent

Call = Callable[[], object]

BEYOND_CACHE = 512 << 20  # what one contender's arrays come to at least: several second-level caches
BATCH = 20e-3  # seconds that are timed as one
ROUNDS = 5
LAUNCH_ROUNDS, LAUNCHES = 50, 100
MICROSECONDS = {("logsumexp", 10_000_000): 15, ("softmax", 10_000_000): 40}  # float32
LAUNCH_MICROSECONDS = 8
STATISTICS = ("entropy", "softmax_stats", "selective_log_softmax", "kl_divergence")
TOP_N = 20  # of softmax_stats


@dataclass(frozen=True)
class Case:
    """One op on `rows` x `classes`."""

    op: str
    rows: int
    classes: int
    dtype: str

    @property
    def reduces(self) -> bool:
        return self.op in ("logsumexp", *STATISTICS)

    @property
    def inputs(self) -> int:
        return 2 if self.op.endswith("_backward") or self.op == "kl_divergence" else 1

    def __str__(self) -> str:
        return f"{self.op}, {self.rows:,} x {self.classes:,}, {self.dtype}"


def table() -> Iterator[Case]:
    for dtype in ("float32", "bfloat16"):
        for op in ("logsumexp", "softmax", "log_softmax"):
            for classes in (32_768, 50_257, 50_264, 131_072, 1_048_576):
                yield Case(op, 4096, classes, dtype)
            yield Case(op, 1, 10_000_000, dtype)
        yield Case("softmax_backward", 4096, 131_072, dtype)
        for op in STATISTICS:
            yield Case(op, 4096, 131_072, dtype)
        yield Case("softmax_stats", 4096, 50_257, dtype)
        yield Case("softmax_stats", 1, 10_000_000, dtype)
        for op in ("softplus", "sigmoid", "log_sigmoid"):
            yield Case(op, 4096, 131_072, dtype)
    yield Case("softmax", 65_536, 1_000, "float32")
    yield Case("softmax", 4096, 131_072, "float64")


def smoke_table() -> Iterator[Case]:
    """Every op and dtype, on rows of each strategy."""
    for op in ("logsumexp", "softmax", "log_softmax", "softmax_backward", "softplus", "sigmoid", "log_sigmoid"):
        for dtype in ("float32", "bfloat16", "float64"):
            yield Case(op, 5, 1000, dtype)
    for op in ("logsumexp", "softmax", *STATISTICS):
        yield Case(op, 8, 3001, "float32")
        yield Case(op, 1, 20_001, "float32")


def numpy_dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


class Gpu:
    """The device, its default stream, and arrays on it."""

    def __init__(self, smoke: bool = False) -> None:
        self.module = _backends.cuda_module()
        self.beyond_cache = 0 if smoke else BEYOND_CACHE
        self.info = vastmax.cuda.device_info()[0]
        self.simulated = bool(self.module.simulated)

    def copy(self, to: int, source: int, nbytes: int) -> None:
        self.module.copy(to, source, nbytes, 0, 0)

    def synchronize(self) -> None:
        self.module.synchronize(0, 0)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        return DeviceArray(shape, dtype, 0, 0)

    def logits(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
        """Make normal variates of deviation 4, a block of them again and again."""
        made = self.empty(shape, dtype)
        block = (np.random.default_rng(0).standard_normal(min(made.size, 1 << 22), np.float32) * 4).astype(dtype)
        self.copy(made.pointer, block.ctypes.data, block.nbytes)
        self.synchronize()  # the block may go
        done = block.nbytes
        while done < made.nbytes:
            more = min(done, made.nbytes - done)
            self.copy(made.pointer + done, made.pointer, more)
            done += more
        return made


@dataclass
class Arrays:
    """What one call reads and writes."""

    x: DeviceArray
    second: DeviceArray | None
    out: DeviceArray

    @property
    def moved(self) -> int:
        return self.x.nbytes + (self.second.nbytes if self.second is not None else 0) + self.out.nbytes


def arrays(gpu: Gpu, case: Case) -> list[Arrays]:
    """Make as many sets as go beyond every cache."""
    dtype, shape = numpy_dtype(case.dtype), (case.rows, case.classes)
    result = dtype if not case.reduces or dtype.itemsize > 2 else np.dtype(np.float32)

    def one() -> Arrays:
        second = gpu.logits(shape, dtype) if case.inputs == 2 else None
        return Arrays(gpu.logits(shape, dtype), second, gpu.empty((case.rows,) if case.reduces else shape, result))

    first = one()
    return [first, *(one() for _ in range(gpu.beyond_cache // first.moved))]


def described(a: DeviceArray) -> Any:
    return _device.describe(a.pointer, a.shape, None, a.dtype)


def ours(gpu: Gpu, case: Case, a: Arrays) -> Call:
    """Return a call of the extension: enqueues, and no more."""
    x, out = described(a.x), described(a.out)
    if case.op in STATISTICS:
        return statistics(gpu, case, a)
    if a.second is not None:
        return partial(gpu.module.softmax_backward, x, described(a.second), out, None, 0, 0, 0)
    if case.op in ("softplus", "sigmoid", "log_sigmoid"):
        return partial(getattr(gpu.module, case.op), x, out, 1.0, 0, 0, 0)
    return partial(getattr(gpu.module, case.op), x, out, None, None, 0, 0, 0)


def statistics(gpu: Gpu, case: Case, a: Arrays) -> Call:
    """Return a call of one of them, with what it reads and writes beside the logits."""
    kept = []  # as long as the call

    def room(kind: type[Any], count: int) -> Any:
        kept.append(gpu.empty((count,), np.dtype(kind)))
        return described(kept[-1])

    x, rows = described(a.x), case.rows
    number, classes = partial(room, np.float64), partial(room, np.int64)
    if case.op == "kl_divergence":
        assert a.second is not None
        call = partial(gpu.module.kl_divergence, x, described(a.second), number(rows), 0, 0, 0)
    elif case.op == "entropy":
        nothing = (None,) * 5
        call = partial(gpu.module.softmax_stats, x, None, 0, None, None, None, number(rows), *nothing, 0, 0, 0)
    else:
        target = classes(rows)
        zeros = np.zeros(rows, np.int64)
        gpu.copy(target.ctypes.data, zeros.ctypes.data, zeros.nbytes)
        gpu.synchronize()
        if case.op == "selective_log_softmax":
            call = partial(gpu.module.selective_log_softmax, x, target, 1, number(rows), None, 0, 0, 0)
        else:
            of_row = (number(rows), number(rows), classes(rows), number(rows), number(rows), classes(rows))
            of_top = (number(rows * TOP_N), classes(rows * TOP_N))
            call = partial(gpu.module.softmax_stats, x, target, TOP_N, *of_row, *of_top, None, 0, 0, 0)
    return lambda: (call(), kept)


def copies(gpu: Gpu, sets: list[Arrays]) -> tuple[list[Call], int]:
    """Return copies of one array to the next, and the bytes that each reads and writes."""
    if len(sets) > 1:
        pairs = [(sets[i].x.pointer, sets[i - 1].x.pointer) for i in range(len(sets))]
        size = sets[0].x.nbytes
    else:  # half of one to its other half
        size = sets[0].x.nbytes // 32 * 16
        pairs = [(sets[0].x.pointer + size, sets[0].x.pointer)]
    return [partial(gpu.copy, to, source, size) for to, source in pairs], 2 * size


def seconds(gpu: Gpu, contenders: dict[str, list[Call]]) -> dict[str, list[float]]:
    """Time batches of calls that end with the device idle, contenders alternating; call by call in seconds."""
    rotations = {name: cycle(calls) for name, calls in contenders.items()}

    def batch(name: str, count: int) -> float:
        gpu.synchronize()
        start = time.perf_counter()
        for call in islice(rotations[name], count):
            call()
        gpu.synchronize()
        return (time.perf_counter() - start) / count

    counts = {}
    for name, calls in contenders.items():
        batch(name, len(calls) + 2)  # compiles, allocates, wakes
        counts[name] = max(len(calls), int(BATCH / batch(name, 3)) + 1)
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, count in counts.items():
            samples[name].append(batch(name, count))
    return samples


def torch_calls(case: Case, sets: list[Arrays]) -> dict[str, list[Call]]:
    """Return PyTorch's own and what its compiler makes (Triton)."""
    import torch
    from torch.nn import functional

    functions: dict[str, Callable[[Any], Any]] = {
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "softplus": functional.softplus,
        "sigmoid": torch.sigmoid,
        "log_sigmoid": functional.logsigmoid,
    }
    if case.op not in functions:
        return {}
    torch._dynamo.reset()  # each shape by itself, as someone would who has only that one
    tensors = [torch.from_dlpack(a.x) for a in sets]
    plain, compiled = functions[case.op], torch.compile(functions[case.op], dynamic=False)
    return {
        "torch": [partial(plain, x) for x in tensors],
        "torch.compile": [partial(compiled, x) for x in tensors],
    }


def cupy_calls(case: Case, sets: list[Arrays]) -> dict[str, list[Call]]:
    """Return CuPy's version of SciPy, which has no bfloat16."""
    import cupy
    from cupyx.scipy import special

    if case.op not in ("logsumexp", "softmax", "log_softmax") or case.dtype == "bfloat16":
        return {}
    function = getattr(special, case.op)
    return {"CuPy": [partial(function, cupy.from_dlpack(a.x), axis=-1) for a in sets]}


def peers(gpu: Gpu, case: Case, sets: list[Arrays]) -> tuple[dict[str, list[Call]], dict[str, str]]:
    """Return those that run here, each tried once, and why others do not."""
    found: dict[str, list[Call]] = {}
    failed = {}
    for library, make in (("torch", torch_calls), ("cupy", cupy_calls)):
        try:
            made = make(case, sets)
        except ImportError:
            continue
        except Exception as error:
            made, failed[library] = {}, f"{type(error).__name__}: {error}"
        for name, calls in made.items():
            try:
                calls[0]()
                gpu.synchronize()
                found[name] = calls
            except Exception as error:  # another library's trouble must not end the table
                failed[name] = f"{type(error).__name__}: {error}".split("\n", 1)[0]
    return found, failed


def strategy(gpu: Gpu, case: Case) -> str:
    if case.op in ("softplus", "sigmoid", "log_sigmoid"):
        return "elements"
    like = np.empty(0, numpy_dtype(case.dtype))
    return str(gpu.module.plan(case.rows, case.classes, like, case.reduces, 0))


def aim(case: Case, how: str) -> int | None:
    """Percent of a copy that the case should reach."""
    if case.rows == 1 or case.dtype == "float64" or case.op.endswith("_backward") or case.op in STATISTICS:
        return None
    if how == "elements":
        return 92
    return 60 if how == "split" and not case.reduces else 90


def fitted(gpu: Gpu, case: Case) -> Case:
    """Return the case with as many rows as fit in half of the device."""
    dtype = numpy_dtype(case.dtype)
    rows = case.rows
    while rows > 1 and rows * case.classes * dtype.itemsize * (case.inputs + 1) > gpu.info["memory"] // 2:
        rows //= 2
    return Case(case.op, rows, case.classes, case.dtype)


def measure(gpu: Gpu, case: Case) -> dict[str, Any]:
    """Return the figures of one case; on the host, only that it ran."""
    how = strategy(gpu, case)
    result: dict[str, Any] = {"case": str(case), "op": case.op, "shape": [case.rows, case.classes], "dtype": case.dtype}
    result["strategy"] = how
    sets = arrays(gpu, case)
    calls = [ours(gpu, case, a) for a in sets]
    copying, copied = copies(gpu, sets)
    if gpu.simulated:
        for call in (*calls, *copying):
            call()
        gpu.synchronize()
        return result
    others, failed = peers(gpu, case, sets)
    samples = seconds(gpu, {"vastmax": calls, "copy": copying, **others})
    medians = {name: median(each) for name, each in samples.items()}
    roof = copied / medians["copy"]
    share = {name: 100 * sets[0].moved / t / roof for name, t in medians.items() if name != "copy"}
    result |= {"seconds": medians, "samples": samples, "copy bytes per second": roof, "percent of copy": share}
    result |= {"aim": aim(case, how), "failed": failed}
    return result


def launch_overhead(gpu: Gpu) -> dict[str, Any]:
    """Time calls of the public function from Python, which return before the GPU has done the work."""
    x = gpu.logits((32, 1024), np.dtype(np.float32))
    out = gpu.empty(x.shape, x.dtype)
    samples = []
    for _ in range(1 if gpu.simulated else LAUNCH_ROUNDS):
        gpu.synchronize()
        start = time.perf_counter()
        for _ in range(LAUNCHES):
            vastmax.softmax(x, out=out)
        samples.append((time.perf_counter() - start) / LAUNCHES)
    gpu.synchronize()
    result: dict[str, Any] = {"case": "launch overhead of softmax, 32 x 1,024, from Python"}
    return result if gpu.simulated else result | {"seconds": median(samples), "aim": LAUNCH_MICROSECONDS * 1e-6}


def line(result: dict[str, Any]) -> str:
    """Format a case as a row of the table."""
    if "seconds" not in result:
        return f"{result['case']:45} {result.get('strategy', ''):9} ran"
    if not isinstance(result["seconds"], dict):
        return f"{result['case']}: {result['seconds'] * 1e6:.1f} us, aim {result['aim'] * 1e6:.0f}"
    percent, wanted = result["percent of copy"], result["aim"]
    verdict = "" if wanted is None else f"aim {wanted}: {'reached' if percent['vastmax'] >= wanted else 'MISSED'}"
    limit = MICROSECONDS.get((result["op"], result["shape"][1])) if result["dtype"] == "float32" else None
    if limit is not None:
        verdict = f"aim {limit} us: {'reached' if result['seconds']['vastmax'] <= limit * 1e-6 else 'MISSED'}"
    rest = ", ".join(f"{name} {share:.0f} %" for name, share in percent.items() if name != "vastmax")
    mine = f"{result['seconds']['vastmax'] * 1e6:10.1f} us {percent['vastmax']:5.1f} %"
    return f"{result['case']:45} {result['strategy']:9} {mine}  {verdict}  {rest}"


def between_cases(results: list[dict[str, Any]]) -> Iterator[str]:
    """Compare 50,257 classes with 50,264, and with PyTorch at 131,072, against the aims."""
    timed = {(r["op"], *r["shape"], r["dtype"]): r for r in results if isinstance(r.get("seconds"), dict)}
    for (op, rows, classes, dtype), result in timed.items():
        mine = result["seconds"]["vastmax"]
        if classes == 50_257 and (op, rows, 50_264, dtype) in timed:
            ratio = mine / timed[op, rows, 50_264, dtype]["seconds"]["vastmax"]
            yield f"{op}, {dtype}: 50,257 classes take {ratio:.3f} x the time of 50,264; aim 1.03"
        if classes == 131_072 and op in ("softmax", "logsumexp") and "torch" in result["seconds"]:
            factor, wanted = result["seconds"]["torch"] / mine, 1.5 if op == "softmax" else 5
            yield f"{op}, {dtype}, {rows:,} x 131,072: {factor:.2f} x as fast as torch; aim {wanted}"


def driver() -> str | None:
    """Return the version that nvidia-smi tells."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    return None


def commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None


def versions() -> dict[str, str | None]:
    from importlib import metadata

    found: dict[str, str | None] = {"vastmax": vastmax.__version__}
    for name in ("numpy", "torch", "triton", "cupy-cuda12x", "cupy-cuda13x"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--smoke", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, help="JSON; default: bench/results/DATE-DEVICE.json")
    options = parser.parse_args()
    if not vastmax.cuda.is_available():
        print(f"no GPU: {vastmax.cuda.reason()}", file=sys.stderr)
        return 2
    gpu = Gpu(options.smoke)
    if gpu.simulated and not options.smoke:
        print("the GPU is simulated on the host: it has no speed; only --smoke runs there", file=sys.stderr)
        return 2
    if gpu.simulated and options.out is not None:
        print("the GPU is simulated on the host: --out has no figures to keep", file=sys.stderr)
        return 2

    print(f"{gpu.info['name']}, driver {driver()}, commit {commit()}")
    if gpu.simulated:
        print("simulated: everything runs once, nothing is timed")
    results = []
    for case in smoke_table() if options.smoke else table():
        with contextlib.suppress(ImportError):  # bfloat16 without ml_dtypes
            results.append(measure(gpu, fitted(gpu, case)))
            print(line(results[-1]), flush=True)
    results.append(launch_overhead(gpu))
    print(line(results[-1]))
    for text in between_cases(results):
        print(text)
    if gpu.simulated or options.smoke:
        return 0
    facts = {"gpu": gpu.info, "driver": driver(), "date": date.today().isoformat(), "commit": commit()}
    facts |= {"versions": versions(), "cpu": machine.described()["cpu"]}
    slug = re.sub(r"\W+", "-", gpu.info["name"].lower()).strip("-")
    out = options.out or ROOT / "bench" / "results" / f"{facts['date']}-{slug}.json"
    out.write_text(json.dumps({"machine": facts, "cases": results}, indent=1) + "\n")
    print(f"written: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
