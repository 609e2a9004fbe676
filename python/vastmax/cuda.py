# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs: what is there, and the array that holds results where no other library does.

Functions of vastmax run on the GPU when their arrays live there. This module loads the CUDA extension when it is first
asked something, never at import.
"""

from __future__ import annotations

from typing import Any

from ._backends.device_array import DeviceArray
from ._backends.load import cuda_module, cuda_reason

__all__ = ["DeviceArray", "device_info", "is_available", "reason"]


def is_available() -> bool:
    """Say whether calls can run on a GPU here.

    Returns
    -------
    bool
        False without the CUDA extension, without a driver, or without a device; `reason` says which.

    Examples
    --------
    >>> import vastmax
    >>> vastmax.cuda.is_available() == (vastmax.cuda.reason() is None)
    True
    """
    return cuda_reason() is None


def reason() -> str | None:
    """Say why no GPU can be used.

    Returns
    -------
    str or None
        None where one can.

    Examples
    --------
    >>> import vastmax
    >>> isinstance(vastmax.cuda.reason(), str | None)
    True
    """
    return cuda_reason()


def device_info() -> list[dict[str, Any]]:
    """Describe the devices.

    Returns
    -------
    list of dict
        For each device its `name`, `capability`, `memory` in bytes, `processors`, and the CUDA versions of `driver` and
        `runtime`. Empty without a GPU.

    Examples
    --------
    >>> import vastmax
    >>> isinstance(vastmax.cuda.device_info(), list)
    True
    """
    if not is_available():
        return []
    module = cuda_module()
    return [module.device_info(i) for i in range(module.device_count())]
