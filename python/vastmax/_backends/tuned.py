# SPDX-License-Identifier: Apache-2.0
"""The measured policy of device="auto": seconds that a call takes here, and on the GPU with its copies.

`python -m vastmax tune` writes it; it holds for one CPU, device, driver and version of vastmax. The file is
`VASTMAX_POLICY`, else one in `$XDG_CACHE_HOME/vastmax`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import warnings
from functools import cache
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vastmax._backends.load import cuda_module, cuda_reason
from vastmax._version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BACKENDS = ("cpu", "cuda")
_FORMAT = 1


class Line(NamedTuple):
    """Seconds of a call as a function of the bytes of its arrays."""

    fixed: float
    per_byte: float

    def at(self, nbytes: int) -> float:
        """Evaluate."""
        return self.fixed + self.per_byte * nbytes


class Policy(NamedTuple):
    """Lines by op, dtype and backend."""

    lines: Mapping[str, Mapping[str, Mapping[str, Line]]]

    def predict(self, op: str, dtype: str, nbytes: int) -> dict[str, float] | None:
        """Return seconds by backend, if the op was measured in this dtype."""
        found = self.lines.get(op, {}).get(dtype)
        return None if found is None else {name: found[name].at(nbytes) for name in BACKENDS}


class Found(NamedTuple):
    """A policy, or why there is none; `broken` if that is worth a warning."""

    policy: Policy | None
    status: str
    broken: bool = False


def measured() -> Policy | None:
    """Return the policy of this machine. A file that cannot be used is named in a warning, once."""
    global _warned
    found = read()
    if found.broken and not _warned:
        _warned = True  # before it: a warning turned into an error is raised once
        warnings.warn(f"{found.status}. It is ignored.", RuntimeWarning, stacklevel=2)
    return found.policy


_warned = False


@cache
def read() -> Found:
    """Read the policy of this machine, once."""
    if reason := unmeasurable():
        return Found(None, f"none: {reason}")
    file, named = path(), bool(os.environ.get("VASTMAX_POLICY"))
    try:
        return Found(parsed(file.read_text(encoding="utf-8"), machine()), str(file))
    except FileNotFoundError:
        if not named:
            return Found(None, "none: python -m vastmax tune measures one")
        return Found(None, f"VASTMAX_POLICY: {file} does not exist", broken=True)
    except (OSError, ValueError) as error:
        return Found(None, f"the policy {file} is no use here: {error}", broken=True)


def forget() -> None:
    """Read the file again when it is next needed."""
    global _warned
    _warned = False
    read.cache_clear()


def unmeasurable() -> str | None:
    """Say why there can be no policy."""
    if reason := cuda_reason():
        return reason
    return "the device is simulated" if cuda_module().simulated else None


@cache
def machine() -> dict[str, Any]:
    """Return what a policy holds for."""
    module = cuda_module()
    device = module.device_info(module.current_device())
    return {"vastmax": __version__, "cpu": cpu_name(), "device": device["name"], "driver": device["driver"]}


def path() -> Path:
    """Return the file that holds the policy of this machine, whether it exists or not."""
    if named := os.environ.get("VASTMAX_POLICY"):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".cache"  # as XDG says
    key = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:16]
    return folder / "vastmax" / f"policy-{key}.json"


def parsed(text: str, here: Mapping[str, Any]) -> Policy:
    """Read a policy that was measured `here`; a ValueError says what is wrong with it."""
    try:
        content = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"it has format {content['format']}; accepted: {_FORMAT}")
        there = content["machine"]
        for key, value in here.items():
            if there[key] != value:
                raise ValueError(f"it was measured with {key} {there[key]}; accepted: {value}")
        lines = {
            op: {dtype: {name: _line(each[name]) for name in BACKENDS} for dtype, each in by_dtype.items()}
            for op, by_dtype in content["seconds"].items()
        }
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is not what tune writes ({type(error).__name__}: {error})") from None
    return Policy(lines)


def fitted(sizes: Sequence[int], seconds: Sequence[float]) -> Line:
    """Return the line through measured times that errs least in proportion, neither of its numbers below 0."""
    n, t = np.array(sizes, float), np.array(seconds, float)
    ones = np.ones_like(n)
    columns = np.stack([ones, n], axis=1)[:, : len(set(sizes))]  # one size alone tells a fixed cost, no slope
    fixed, per_byte = (*np.linalg.lstsq(columns / t[:, None], ones, rcond=None)[0], 0.0)[:2]
    if fixed < 0:
        fixed, per_byte = 0.0, (n / t).sum() / ((n / t) ** 2).sum()
    elif per_byte < 0:
        fixed, per_byte = (1 / t).sum() / (1 / t**2).sum(), 0.0
    return Line(float(fixed), float(per_byte))


def _line(numbers: list[float]) -> Line:
    fixed, per_byte = map(float, numbers)
    if not (isfinite(fixed) and isfinite(per_byte) and fixed >= 0 and per_byte >= 0):
        raise ValueError(f"{numbers} are not a time and a time per byte")
    return Line(fixed, per_byte)


def written(policy: Policy, threads: int) -> Path:
    """Store a policy of this machine, all of it or nothing, and return the file."""
    if reason := unmeasurable():
        raise ValueError(reason)
    file = path()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"format": _FORMAT, "machine": machine(), "threads": threads, "seconds": policy.lines}
    handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(content, out, indent=1)
        os.replace(part, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    forget()
    return file


def cpu_name() -> str:
    """Return the model, and where a hypervisor hides its name, the numbers that tell it."""
    wanted = ("model name", "cpu family", "model", "stepping")
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                found.setdefault(key.strip(), value.strip())
    name = found.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {found[key]}" for key in wanted[1:] if key in found]
    return f"{name} ({', '.join(numbers)})" if numbers else name
