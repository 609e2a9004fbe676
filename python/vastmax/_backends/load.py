# SPDX-License-Identifier: Apache-2.0
"""Backends that load when first needed, and why one is not there."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


_NO_DRIVER = "no NVIDIA driver on this machine"


def _driver_loads() -> bool:
    import ctypes  # needed here only

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        module = importlib.import_module("vastmax._cuda")
    except ModuleNotFoundError:
        built = "vastmax was built without CUDA"
        return None, built if _driver_loads() else f"{_NO_DRIVER}, and {built}"
    except ImportError as error:
        return None, f"the CUDA extension does not load ({error})"
    reason: str = module.reason()
    if "driver version is insufficient" in reason and not _driver_loads():  # the runtime does not tell the two apart
        reason = _NO_DRIVER
    return module, reason or None


def cuda_reason() -> str | None:
    """Return why CUDA cannot be used, or None if it can."""
    return _load()[1]


def cuda_module() -> ModuleType:
    """Return the extension; only for callers that have seen `cuda_reason` to be None."""
    module = _load()[0]
    assert module is not None
    return module


def absent() -> dict[str, str]:
    """Return the backends that cannot be used, with the reason."""
    reason = cuda_reason()
    return {} if reason is None else {"cuda": reason}
