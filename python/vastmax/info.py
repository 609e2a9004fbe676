# SPDX-License-Identifier: Apache-2.0
"""Properties of this build and machine, and plans of calls."""

from __future__ import annotations

import importlib.util
import platform
import sys
from dataclasses import dataclass, fields
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

import vastmax._core as _core

from ._backends.choose import Planned
from ._backends.kernels import KERNELS
from ._backends.load import cuda_module, cuda_reason
from ._runtime import config
from ._version import __version__
from .errors import message

if TYPE_CHECKING:
    from collections.abc import Callable

_OPTIONAL = ("ml_dtypes", "threadpoolctl", "scipy", "torch", "onnxruntime", "rich", "matplotlib")


# Modules whose public functions make a plan, or which of them do.
_EXPLAINED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("softmax", "logsumexp", "softplus", "binary_cross_entropy", "cross_entropy", "special"), ()),
    **dict.fromkeys(("row_statistics", "sampling", "linear", "sampled"), ()),
    "tf": ("sampled_softmax_loss", "nce_loss"),
    "streaming": ("LogSumExp.update", "LogSumExp.normalize"),
}


class Info(dict[str, Any]):
    """Nested plain values, laid out for reading when printed."""

    def __repr__(self) -> str:
        shown = {**self, "caches": {level: _size(count) for level, count in self["caches"].items()}}
        return "\n".join(_lines(shown, ""))


def _size(count: int) -> str:
    """Write a number of bytes in KiB or MiB."""
    return f"{count / 2**20:,.3g} MiB" if count >= 2**20 else f"{count / 2**10:,.3g} KiB"


def _lines(values: dict[str, Any], indent: str) -> list[str]:
    lines = []
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"{indent}{key:<{width}}  {text}")
    return lines


def info() -> Info:
    """Return what this build has, what this machine runs and what is set, with the source of each setting.

    Returns
    -------
    dict
        Plain values, fit for JSON, that print as a table. Optional packages are found, not imported.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.info()["isa"]["active"] == vastmax.active_isa()
    True
    """
    from ._backends import tuned  # needed here only

    source = config.sources()
    return Info(
        vastmax=__version__,
        python=platform.python_version(),
        numpy=np.__version__,
        platform=platform.platform(),
        isa={
            "active": config.active_isa(),
            "source": source["isa"],
            "runnable": list(config.available_isas()),
            "built": list(_core.isas()),
        },
        threads={"count": config.get_num_threads(), "source": source["threads"]},
        device={"wish": config.current().device, "source": source["device"]},
        cuda=cuda_reason() or "available",
        policy=tuned.read().status,
        caches=dict(_core.caches()),
        build=dict(_core.build_config()),
        packages={name: _version_of(name) for name in _OPTIONAL},
    )


def _version_of(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and needed here only

    if importlib.util.find_spec(package) is None:
        return None
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown version"


@dataclass(frozen=True)
class Plan:
    """How a call would be served; see `explain`."""

    op: str
    backend: str
    isa: str
    threads: int
    strategy: str
    rows: int
    classes: int
    dtype: str
    bytes: int
    predicted: dict[str, float] | None
    reason: str

    def __str__(self) -> str:
        return "\n".join(f"{field.name:<9}  {getattr(self, field.name)}" for field in fields(self))


def explain(fn: Callable[..., object], /, *args: object, **kwargs: object) -> Plan:
    """Return how a call of a vastmax function would be served, without computing or writing anything.

    Parameters
    ----------
    fn : callable
        A function of vastmax that computes; also `LogSumExp.update` and `LogSumExp.normalize` of a state.
    *args, **kwargs
        What it would be called with.

    Returns
    -------
    Plan
        `op`, `backend`, `isa`, `threads`, `strategy` ("serial"; "rows": whole rows in parallel; "split": parts of a row
        in parallel; on a GPU its family of kernels: "brief", "block", "split", "elements"), `rows`, `classes`, `dtype`,
        `bytes` (estimated traffic beyond the caches), `predicted` (seconds of NumPy data on "cpu", and on "cuda" with
        its copies, where `python -m vastmax tune` has measured them, else None) and `reason`.

    Raises
    ------
    TypeError
        If `fn` is no such function. It is not called then.
    Exception
        What the call itself would raise for these arguments.

    Examples
    --------
    >>> import numpy as np
    >>> import vastmax
    >>> plan = vastmax.explain(vastmax.logsumexp, np.zeros((3, 5), np.float32), axis=-1)
    >>> plan.backend, plan.strategy, plan.rows, plan.classes, plan.dtype
    ('cpu', 'serial', 3, 5, 'float32')
    """
    if not _makes_a_plan(fn):
        raise TypeError(message("explain", "fn", f"is {fn!r}", "functions of vastmax that compute"))
    try:
        with config.using(explaining=True):
            fn(*args, **kwargs)
    except Planned as planned:
        return _plan(planned)
    raise AssertionError(f"{fn!r} makes no plan")


def _makes_a_plan(fn: object) -> bool:
    """Whether `fn` is one of the functions that stop before they compute or change anything while `explain` asks."""
    function = getattr(fn, "__func__", fn)  # of a method
    package, _, module = (getattr(function, "__module__", None) or "").rpartition(".")
    if not isinstance(function, FunctionType) or package != "vastmax" or module not in _EXPLAINED:
        return False
    name, names = function.__qualname__, _EXPLAINED[module]
    try:
        ours = attrgetter(name)(sys.modules[function.__module__])
    except AttributeError:  # of a local function
        return False
    return function is ours and not name.startswith("_") and (not names or name in names)


def _plan(call: Planned) -> Plan:
    if call.table is not None:
        return _tiled_plan(call, *call.table)
    if call.choice.backend == "cuda":
        return _gpu_plan(call)
    itemsize = call.dtype.itemsize
    strategy, threads, tasks = _core.plan(call.rows, call.classes, itemsize, config.get_num_threads())
    how = {
        "serial": "one thread: too little work to share",
        "rows": f"{call.rows} rows in {tasks} tasks",
        "split": f"few long rows, each cut into blocks of {_core.block_length(itemsize)}, in {tasks} tasks",
    }
    reads, writes, again = KERNELS[call.op].traffic
    if call.classes * itemsize > _core.caches()["L2"]:
        reads += again
    return Plan(
        op=call.op,
        backend=call.choice.backend,
        isa=config.active_isa(),
        threads=threads,
        strategy=strategy,
        rows=call.rows,
        classes=call.classes,
        dtype=call.dtype.name,
        bytes=call.rows * call.classes * itemsize * (reads + writes),
        predicted=_predicted(call),
        reason=f"{call.choice.reason}; {how.get(strategy, strategy)}",
    )


def _predicted(call: Planned) -> dict[str, float] | None:
    from ._backends import tuned

    policy = tuned.read().policy if call.home == "cpu" else None
    size = KERNELS[call.op].copied(call.rows, call.classes, call.dtype.itemsize)
    return policy and policy.predict(call.op, call.dtype.name, size)


def _tiled_plan(call: Planned, size: int, how: str) -> Plan:
    on_cpu = call.choice.backend == "cpu"
    return Plan(
        op=call.op,
        backend=call.choice.backend,
        isa=config.active_isa() if on_cpu else "cuda",
        threads=config.get_num_threads() if on_cpu else 0,
        strategy="tiles",
        rows=call.rows,
        classes=call.classes,
        dtype=call.dtype.name,
        bytes=size,
        predicted=None,
        reason=f"{call.choice.reason}; {how}",
    )


def _gpu_plan(call: Planned) -> Plan:
    from ._backends import offload

    how = {
        "brief": "a warp for each row of one tile",
        "block": "a block for each row, which keeps it on the chip or finds it in the cache again",
        "split": "a warp for each tile of a row, then one merge for each row",
        "elements": "a thread for every 16 bytes",
    }
    kernel = KERNELS[call.op]
    reads, writes, again = kernel.traffic
    size = kernel.copied(call.rows, call.classes, call.dtype.itemsize)
    strategy, rows, where = "elements", call.rows, ""
    device = cuda_module().current_device()
    if call.home == "cpu":
        units = call.rows if kernel.by_rows else call.rows * call.classes
        most = offload.most_at_once(size, units, device)
        rows = min(rows, most)
        where = f", in {-(-units // most)} chunks of up to {most} {'rows' if kernel.by_rows else 'elements'}"
    if kernel.by_rows:
        like = np.empty(0, call.dtype)
        strategy = cuda_module().plan(rows, call.classes, like, not again, device)
    return Plan(
        op=call.op,
        backend="cuda",
        isa="cuda",
        threads=0,
        strategy=strategy,
        rows=call.rows,
        classes=call.classes,
        dtype=call.dtype.name,
        bytes=call.rows * call.classes * call.dtype.itemsize * (reads + writes + again * (strategy == "split")),
        predicted=_predicted(call),
        reason=f"{call.choice.reason}; {how[strategy]}{where}",
    )
