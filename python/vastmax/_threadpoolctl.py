# SPDX-License-Identifier: Apache-2.0
"""The controller by which `threadpoolctl.threadpool_limits` reaches our threads."""

from __future__ import annotations

from . import _config, _core
from ._version import __version__

_registered = False


def register_threadpoolctl() -> None:
    """Let threadpoolctl see and limit the threads of vastmax, as ``user_api="vastmax"``.

    `import vastmax` does this by itself if threadpoolctl has been imported before it. Call it if the order is the other
    way round. Calling it twice does no harm.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed.

    Examples
    --------
    >>> import threadpoolctl
    >>> import vastmax
    >>> vastmax.register_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(1, user_api="vastmax"):
    ...     vastmax.get_num_threads()
    1
    """
    global _registered
    if _registered:
        return
    import threadpoolctl

    class VastmaxController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "vastmax"
        internal_api = "vastmax"
        filename_prefixes = ("_core",)
        # Other packages have a _core too: only ours exports these.
        check_symbols = ("vastmax_get_num_threads", "vastmax_set_num_threads")

        def get_num_threads(self) -> int:
            _config.settle()
            return _core.get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            _config.set_num_threads(num_threads)

        def get_version(self) -> str:
            return __version__

    threadpoolctl.register(VastmaxController)
    _registered = True
