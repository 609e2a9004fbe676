# SPDX-License-Identifier: Apache-2.0
"""Threads, instruction set and device: process defaults, environment, and the `config` context."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import AbstractContextManager, ContextDecorator
from contextvars import ContextVar
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import vastmax._core as _core
from vastmax._operands.numbers import check_int
from vastmax._runtime import threadpoolctl
from vastmax.errors import message

if TYPE_CHECKING:
    from types import TracebackType


DEVICES = ("cpu", "cuda", "auto")


class Options(NamedTuple):
    """The settings of a call. Zero threads and isa -1 mean the default of the process, which the core holds."""

    threads: int = 0
    isa: int = -1
    device: str | None = None
    explaining: bool = False
    stream: int | None = None
    outer: Options | None = None  # of the enclosing block, None outside of all


class Address(int):
    """That of a stream, which lives as long as this does: what works on it later may free memory in its order."""

    owner: object = None


scope: ContextVar[Options | None] = ContextVar("vastmax_config", default=None)
plain = False  # the environment has been read, and asks for nothing that the core's small entries cannot do

_defaults = Options()
_loaded = False
_lock = RLock()
_source: dict[str, str] = {}  # what set a process default, where the core did not


def current() -> Options:
    """Return the options of a call made here and now."""
    if not _loaded:
        load_environment()
    return scope.get() or _defaults


def load_environment() -> None:
    """Read the environment, once. A bad value is dropped with a warning."""
    global _loaded, plain
    complaints = []
    with _lock:
        if _loaded:
            return
        _meet_threadpoolctl()
        for name, apply in _ENVIRONMENT.items():
            text = os.environ.get(name, "").strip()
            try:
                if text:
                    apply(name, text)
            except ValueError as error:
                complaints.append(f"{error}. It is ignored.")
        plain = _defaults.device != "cuda"
        _loaded = True
    for complaint in complaints:  # after the flag: a warning turned into an error is raised once
        warnings.warn(complaint, RuntimeWarning, stacklevel=_depth())


def _depth() -> int:
    """Return how far above the caller the first frame outside of this package is, counted as `warnings.warn` does."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] == "vastmax" and frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _threads_from_environment(name: str, text: str) -> None:
    if not text.isdecimal() or len(text) > 4000:  # Python reads no longer ints
        raise ValueError(message("environment", name, f"is {text!r}", _ANY_THREADS))
    _core.set_num_threads(_threads("environment", name, int(text)))
    _source["threads"] = name


def _threads_from_openmp(name: str, text: str) -> None:
    # A list ("4,3,2") is one count per nesting level; what OpenMP itself would complain about is not ours to judge.
    first = text.split(",")[0].strip()
    if first.isdecimal() and 1 <= int(first) <= _MOST_OPENMP_THREADS:
        _core.set_num_threads(int(first))
        _source["threads"] = name


def _isa_from_environment(name: str, text: str) -> None:
    _core.set_isa(_isa("environment", name, text))
    _source["isa"] = name


def _device_from_environment(name: str, text: str) -> None:
    global _defaults
    _defaults = Options(device=_device("environment", name, text))
    _source["device"] = name


_MOST_OPENMP_THREADS = 1024  # a larger figure is a mistake
_ENVIRONMENT = {  # later ones win
    "OMP_NUM_THREADS": _threads_from_openmp,
    "VASTMAX_NUM_THREADS": _threads_from_environment,
    "VASTMAX_ISA": _isa_from_environment,
    "VASTMAX_DEVICE": _device_from_environment,
}
_MOST_THREADS = 2**31 - 1
_ANY_THREADS = "an int from 1 to 2**31 - 1; it may exceed the cores"


def config(
    *, threads: int | None = None, isa: str | None = None, device: str | None = None, stream: object = None
) -> AbstractContextManager[None]:
    """Run the calls in a `with` block with other settings; the bits of CPU results do not change.

    Settings belong to the current thread or asyncio task. Inner blocks override outer ones.

    Parameters
    ----------
    threads : int, optional
        Threads that a call may use, from 1 to 2**31 - 1. May exceed the number of cores.
    isa : str, optional
        Instruction set, one of `available_isas`.
    device : {"cpu", "cuda", "auto"}, optional
        Where to compute. By default data stays where it lives. "cuda" sends NumPy data to the current GPU and back, in
        chunks; "auto" does so where `python -m vastmax tune` has found that it pays, and stays on the CPU otherwise.
    stream : int or object, optional
        CUDA stream for calls on a GPU: its address, or an object with `__cuda_stream__`, `cuda_stream` or `ptr`. By
        default the current stream of the library that the arrays come from, else the legacy default stream.

    Returns
    -------
    context manager
        For `with` statements, one after the other, inside each other and in several threads; also a decorator.

    Raises
    ------
    ValueError
        If a setting is not one of those above. An absent backend is reported by the call that needs it.

    Examples
    --------
    >>> import vastmax
    >>> with vastmax.config(threads=2):
    ...     vastmax.get_num_threads()
    2
    """
    return using(
        threads=None if threads is None else _threads("config", "threads", threads),
        isa=None if isa is None else _isa("config", "isa", isa),
        device=None if device is None else _device("config", "device", device),
        stream=None if stream is None else _stream("config", "stream", stream),
    )


class using(AbstractContextManager[None], ContextDecorator):  # noqa: N801 - reads as a verb
    """Change options of the calls in a `with` block, whatever is given; the rest stays.

    What to go back to is kept in the context of the block, so that one object may serve several at once.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self._options = {name: value for name, value in options.items() if value is not None}

    def __enter__(self) -> None:
        scope.set(current()._replace(**self._options, outer=scope.get()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        inner = scope.get()
        scope.set(inner and inner.outer)


def get_num_threads() -> int:
    """Return the number of threads that a call made here may use.

    Returns
    -------
    int
        From the enclosing `config`, else `set_num_threads`, else the environment variables
        `VASTMAX_NUM_THREADS` and `OMP_NUM_THREADS`, else the CPU affinity and cgroup quota of the process.

    Notes
    -----
    `threadpoolctl.threadpool_limits` sets what `set_num_threads` does. A program that imports threadpoolctl
    after vastmax calls `get_num_threads` once in between, so that the two meet.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.get_num_threads() >= 1
    True
    """
    _meet_threadpoolctl()
    return current().threads or _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that a call may use, for the whole process.

    Parameters
    ----------
    n : int
        From 1 to 2**31 - 1; may exceed the number of cores. Results have the same bits for any `n`.

    Raises
    ------
    ValueError
        If `n` is out of range.
    TypeError
        If `n` is not an int.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.set_num_threads(vastmax.get_num_threads())
    """
    load_environment()  # else the environment would override this at the first call
    _core.set_num_threads(_threads("set_num_threads", "n", n))
    _source["threads"] = "set_num_threads"


def _default_num_threads() -> int:
    load_environment()
    return _core.get_num_threads()


def _meet_threadpoolctl() -> None:
    threadpoolctl.register_if_imported(_default_num_threads, set_num_threads)


def available_isas() -> tuple[str, ...]:
    """Return the instruction sets that this build has and this CPU runs, slowest first.

    Returns
    -------
    tuple of str
        Some of "scalar", "avx2", "avx512", "neon".

    Examples
    --------
    >>> import vastmax
    >>> vastmax.available_isas()[0]
    'scalar'
    """
    return tuple(name for i, name in enumerate(_core.isas()) if _core.isa_runnable(i))


def active_isa() -> str:
    """Return the instruction set that a call made here runs on.

    Returns
    -------
    str
        From the enclosing `config`, else `VASTMAX_ISA`, else the fastest of `available_isas`.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.active_isa() in vastmax.available_isas()
    True
    """
    chosen = current().isa
    return _core.isas()[_core.get_isa() if chosen < 0 else chosen]


def sources() -> dict[str, str]:
    """Say where the threads, isa and device of a call made here come from."""
    options = current()
    return {
        "threads": "config" if options.threads else _source.get("threads", _core.threads_source()),
        "isa": "config" if options.isa >= 0 else _source.get("isa", "fastest available"),
        "device": "config" if options.device != _defaults.device else _source.get("device", "default"),
    }


def _threads(op: str, argument: str, n: int) -> int:
    return check_int(op, argument, n, 1, _MOST_THREADS, _ANY_THREADS)


def _isa(op: str, argument: str, name: str) -> int:
    if name not in available_isas():
        built = ", ".join(_core.isas())
        accepted = f"{', '.join(available_isas())} (built: {built})"
        raise ValueError(message(op, argument, f"is {name!r}", accepted))
    return _core.isas().index(name)


def _device(op: str, argument: str, name: str) -> str:
    if name not in DEVICES:
        raise ValueError(message(op, argument, f"is {name!r}", ", ".join(DEVICES)))
    return name


def _stream(op: str, argument: str, stream: object) -> int:
    accepted = "an int >= 0, or an object with __cuda_stream__, cuda_stream or ptr"
    given = stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:  # (version, address)
        stream = (protocol() if callable(protocol) else protocol)[1]
    elif not isinstance(stream, int):
        stream = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if not isinstance(stream, int) or isinstance(stream, bool):
        raise TypeError(message(op, argument, f"is {stream!r}", accepted))
    if stream < 0:
        raise ValueError(message(op, argument, f"is {stream}", accepted))
    address = Address(stream)
    address.owner = given
    return address


_meet_threadpoolctl()
