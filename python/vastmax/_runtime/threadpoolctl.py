# SPDX-License-Identifier: Apache-2.0
"""The controller by which `threadpoolctl.threadpool_limits` reaches our threads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vastmax._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

_registered = False


def register_if_imported(get: Callable[[], int], put: Callable[[int], None]) -> None:
    """Show the process-wide number of threads to threadpoolctl, as ``user_api="vastmax"``, once a program has it."""
    global _registered
    if _registered or (threadpoolctl := sys.modules.get("threadpoolctl")) is None:
        return
    if not hasattr(threadpoolctl, "register"):  # older than 3.2, or half imported
        return
    _registered = True

    class VastmaxController(threadpoolctl.LibController):  # type: ignore[misc, name-defined]
        user_api = "vastmax"
        internal_api = "vastmax"
        filename_prefixes = ("_core",)
        # Other packages have a _core too: only ours exports these.
        check_symbols = ("vastmax_get_num_threads", "vastmax_set_num_threads")

        def get_num_threads(self) -> int:
            return get()

        def set_num_threads(self, num_threads: int) -> None:
            put(num_threads)

        def get_version(self) -> str:
            return __version__

    threadpoolctl.register(VastmaxController)
