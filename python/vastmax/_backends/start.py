# SPDX-License-Identifier: Apache-2.0
"""The backend of a call: where its arrays live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vastmax._operands import arrays
from vastmax._runtime import config
from vastmax.errors import BackendUnavailable

from .choose import require
from .host import HostCall, only_on_cpu
from .load import absent, cuda_module, cuda_reason

if TYPE_CHECKING:
    from vastmax._operands.arrays import Array

    from .device import DeviceCall


def start_call(op: str, *operands: object) -> HostCall | DeviceCall:
    """Start a call where its arrays live: on a GPU if one of them is there."""
    for a in operands:  # as `on_gpu` does, without a call
        if type(a) is not np.ndarray and arrays.device_kind(a) == "cuda":
            break
    else:
        return HostCall(op)
    require(op, "cuda", "the data lives on a GPU", absent())
    from .device import DeviceCall  # GPU arrays are rare, and this module loads the extension

    return DeviceCall(op, *operands)


def start_host_call(op: str, *operands: object) -> HostCall:
    """Start a call of an op that has no kernel on a GPU."""
    if on_gpu(*operands):
        require(op, "cuda", "the data lives on a GPU", absent())
        raise BackendUnavailable(only_on_cpu(op))
    call = HostCall(op)
    call.expect_cpu()
    return call


def on_gpu(*operands: object) -> bool:
    """Say whether one of some arrays lives on a GPU."""
    return any(type(a) is not np.ndarray and arrays.device_kind(a) == "cuda" for a in operands)


def plain_call(op: str, x: object, *arguments: object) -> Array | None:
    """Take the short road of dense GPU arrays whose library has DLPack's C exchange; None where it is closed."""
    if type(x) is np.ndarray or arrays.device_kind(x) != "cuda" or config.scope.get() is not None or cuda_reason():
        return None
    made: Array | None = getattr(cuda_module(), f"{op}_plain")(x, *arguments)
    return made
