# SPDX-License-Identifier: Apache-2.0
"""Check every kernel, instruction set and dtype on this machine against a wider reference; status 1 on failure."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax

from . import exact, screen
from .kernels import KERNELS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .exact import Array, Truth
    from .kernels import Inputs, Kernel
    from .screen import Screen

    Block = tuple[Inputs, Truth]

# Around every vector width, then rows of several blocks and a wide spread.
_LENGTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129, 1000)
_SHAPES = (*((3, n, 4.0) for n in _LENGTHS), (2, 20_001, 12.0), (1, 5_000, 80.0))
_SPECIAL_LENGTH = 67
_MANY = ((5, 17_001), (1, 70_001))  # enough for several threads: whole rows, and parts of one
_THREADS = (2, 7)
_PLAIN = "as called"  # no settings: takes the core's entries for small arrays


@dataclass(frozen=True)
class Check:
    """One kernel on one instruction set with one dtype."""

    kernel: str
    dtype: str
    isa: str
    worst_ulp: float
    bound: float
    same_bits: bool
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether accuracy and bits are as promised."""
        return self.worst_ulp <= self.bound and self.same_bits and not self.error


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take nothing but what every command takes."""


def run(options: argparse.Namespace) -> int:
    """Run all checks."""
    start = time.perf_counter()
    dtypes = _dtypes()
    checks = [
        check
        for kernel in KERNELS
        for dtype in dtypes.values()
        if dtype.name in kernel.dtypes
        for check in _checks(kernel, dtype)
    ]
    passed = all(check.passed for check in checks)
    result = {
        "passed": passed,
        "seconds": time.perf_counter() - start,
        "isas": list(vastmax.available_isas()),
        "dtypes": list(dtypes),
        "threads": [1, *_THREADS],
        "checks": [{**asdict(check), "passed": check.passed} for check in checks],
    }
    if options.json:
        screen.print_json(result)
    else:
        _show(screen.open_screen(silent=False), checks, result)
    return 0 if passed else 1


def _dtypes() -> dict[str, np.dtype[Any]]:
    found: list[np.dtype[Any]] = [np.dtype(np.float16), np.dtype(np.float32)]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        found.insert(1, np.dtype(ml_dtypes.bfloat16))
    if exact.REACHES_FLOAT64:
        found.append(np.dtype(np.float64))
    return {dtype.name: dtype for dtype in found}


def _checks(kernel: Kernel, dtype: np.dtype[Any]) -> Iterator[Check]:
    blocks = [_block(kernel, *pair) for pair in _pairs(dtype) if kernel.special or np.isfinite(pair[0]).all()]
    many = [kernel.prepare(*_pair(np.random.default_rng(1), *shape, 4.0, dtype)) for shape in _MANY]
    expected: list[Array] = []
    worst = bound = np.inf
    for isa in (*vastmax.available_isas(), _PLAIN):
        try:
            with _setting(isa):
                results = [np.asarray(kernel.run(-1, *inputs)) for inputs, _ in blocks]
            large = [list(_in_other_ways(kernel, inputs, isa)) for inputs in many]
        except Exception as error:  # whatever breaks a kernel is reported as its failure
            yield Check(kernel.name, dtype.name, isa, np.inf, 0, False, f"{type(error).__name__}: {error}")
            continue
        found = [*results, *(ways[0] for ways in large)]
        same = bool(expected) and _same(found, expected)
        if not same:  # else the errors are those known already
            worst, bound = _worst(kernel, results, blocks)
        same_ways = all(_same(ways, ways[:1] * len(ways)) for ways in large)
        yield Check(kernel.name, dtype.name, isa, worst, bound, same_ways and (same or not expected))
        expected = expected or found


def _setting(isa: str, threads: int = 1) -> AbstractContextManager[None]:
    return nullcontext() if isa == _PLAIN else vastmax.config(isa=isa, threads=threads)


@cache
def _pairs(dtype: np.dtype[Any]) -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    x = _special_rows(rng)
    special = x.astype(dtype), rng.standard_normal(x.shape).astype(dtype)
    return [*(_pair(rng, *shape, dtype) for shape in _SHAPES), special]


def _pair(rng: np.random.Generator, rows: int, length: int, sigma: float, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Logits and a gradient."""
    x, g = rng.standard_normal((2, rows, length))
    return (x * sigma).astype(dtype), g.astype(dtype)


def _special_rows(rng: np.random.Generator) -> Array:
    """Put nan, inf and -inf at each position in turn, then rows of infinities alone and of one finite logit."""
    n = _SPECIAL_LENGTH
    blocks = []
    for value in (np.nan, np.inf, -np.inf):
        block = rng.standard_normal((n, n))
        np.fill_diagonal(block, value)
        blocks.append(block)
    alone = np.full((4, n), -np.inf)
    alone[1, 3], alone[2, [5, 60]], alone[3, n - 1] = 2.5, np.inf, np.nan
    return np.concatenate([*blocks, alone])


def _block(kernel: Kernel, x: Array, g: Array) -> Block:
    with np.errstate(all="ignore"):
        inputs = kernel.prepare(x, g)
        return inputs, kernel.truth(x.dtype.name, *map(exact.wide, inputs))


def _worst(kernel: Kernel, results: list[Array], blocks: list[Block]) -> tuple[float, float]:
    dtype = results[0].dtype.name
    errors = [exact.ulp_error(result, truth, dtype).max() for result, (_, truth) in zip(results, blocks, strict=True)]
    return float(max(errors)), kernel.bounds[dtype]


def _in_other_ways(kernel: Kernel, inputs: Inputs, isa: str) -> Iterator[Array]:
    """Yield the same results from other numbers of threads and, for rows, from columns."""
    for threads in (1, *_THREADS):
        with _setting(isa, threads):
            yield kernel.run(-1, *inputs)
    if kernel.by_rows:
        columns = [np.ascontiguousarray(x.T) for x in inputs]
        with _setting(isa):
            yield kernel.run(0, *columns).T


def _same(results: list[Array], expected: list[Array]) -> bool:
    """Compare bits; one NaN is as good as another."""
    return all(
        a.tobytes() == b.tobytes() or _nan_free(a) == _nan_free(b) for a, b in zip(results, expected, strict=True)
    )


def _nan_free(result: Array) -> bytes:
    nan = np.isnan(result)
    return np.where(nan, np.zeros_like(result), result).tobytes() + np.packbits(nan).tobytes()


def _show(out: Screen, checks: list[Check], result: dict[str, Any]) -> None:
    out.text(
        f"Worst error found / allowed, in units in the last place of the exact result, over the instruction sets "
        f"{', '.join(result['isas'])}, which must agree in every bit, as must {result['threads']} threads."
    )
    if "bfloat16" not in result["dtypes"]:
        out.text('bfloat16 is left out: pip install ".[bf16]"')
    if "float64" not in result["dtypes"]:
        out.text("float64 is left out: this platform's long double is no wider.")
    out.table(["kernel", *(f">{dtype}" for dtype in result["dtypes"])], _rows(checks, result["dtypes"]))
    failures = [check for check in checks if not check.passed]
    for check in failures:
        out.line(f"FAILED {check.kernel} {check.dtype} {check.isa}: {_complaint(check)}")
    verdict = f"{len(failures)} of {len(checks)} checks failed" if failures else f"all {len(checks)} checks passed"
    out.line(f"{verdict} in {result['seconds']:.1f} s")


def _rows(checks: list[Check], dtypes: list[str]) -> list[list[str]]:
    rows = []
    for kernel in KERNELS:
        row = [kernel.name]
        for dtype in dtypes:
            mine = [check for check in checks if (check.kernel, check.dtype) == (kernel.name, dtype)]
            if not mine:
                row.append("-")
                continue
            mark = "" if all(check.passed for check in mine) else " FAILED"
            row.append(f"{max(c.worst_ulp for c in mine):.2f} / {max(c.bound for c in mine):.0f}{mark}")
        rows.append(row)
    return rows


def _complaint(check: Check) -> str:
    if check.error:
        return check.error
    if not check.worst_ulp <= check.bound:
        return f"{check.worst_ulp:.3g} ULP, allowed {check.bound:g}"
    return "bits differ between instruction sets, threads or layouts"
