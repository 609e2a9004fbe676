# SPDX-License-Identifier: Apache-2.0
"""Microseconds of calls on arrays of 16 numbers, where the time is that of the Python layers.

python bench/small_calls.py                                  # of the installed package
python bench/small_calls.py --against ../other/python        # beside another checkout with its extension
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import timeit
from collections.abc import Callable

import numpy as np

ROUNDS, CALLS = 7, 2000  # the fastest round counts: others only add what else the machine did
PASSES = 3  # of each package in turn


def calls() -> dict[str, Callable[[], object]]:
    """Return the calls by name."""
    import vastmax as vm

    vm.set_num_threads(1)
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    p, ids, ones = vm.softmax(x), np.array([1, 2]), np.ones(2, np.float32)
    return {
        "softmax": lambda: vm.softmax(x),
        "softmax, temperature": lambda: vm.softmax(x, temperature=2.0),
        "softmax, where": lambda: vm.softmax(x, where=x > 3),
        "softmax, axis=0": lambda: vm.softmax(x, axis=0),
        "softmax, out and temperature": lambda: vm.softmax(x, temperature=2.0, out=p),
        "softmax of integers": lambda: vm.softmax(ids),
        "logsumexp": lambda: vm.logsumexp(x, -1),
        "logsumexp, keepdims": lambda: vm.logsumexp(x, -1, keepdims=True),
        "logsumexp, weights": lambda: vm.logsumexp(x, -1, b=x),
        "logsumexp_backward": lambda: vm.logsumexp_backward(ones, x, -1),
        "softmax_backward": lambda: vm.softmax_backward(x, p),
        "softplus": lambda: vm.softplus(x),
        "softplus, beta": lambda: vm.softplus(x, 2.0),
        "binary cross-entropy": lambda: vm.binary_cross_entropy_with_logits(x, p),
        "cross_entropy": lambda: vm.cross_entropy(x, ids),
        "cross_entropy_with_grad": lambda: vm.cross_entropy_with_grad(x, ids),
        "softmax_stats": lambda: vm.softmax_stats(x, ids),
        "entropy": lambda: vm.entropy(x),
        "kl_divergence": lambda: vm.kl_divergence(x, p),
        "sample": lambda: vm.sample(x, seed=1),
        "top_k": lambda: vm.top_k(x, 2),
        "top_k_mask_logits": lambda: vm.top_k_mask_logits(x, 2),
    }


def measured() -> dict[str, float]:
    """Return the microseconds of each call, here."""
    return {name: min(timeit.repeat(f, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6 for name, f in calls().items()}


def of(python_path: str) -> dict[str, float]:
    """Measure the package of a folder in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--json"],
        env={**os.environ, "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--against", metavar="FOLDER", help="the folder that holds another package vastmax")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(measured()))
    elif options.against is None:
        for name, microseconds in measured().items():
            print(f"{name:32}{microseconds:8.2f} us")
    else:
        here, there = {}, {}
        for _ in range(PASSES):
            for best, path in ((here, os.environ.get("PYTHONPATH", "")), (there, options.against)):
                for name, microseconds in of(path).items():
                    best[name] = min(microseconds, best.get(name, microseconds))
        for name in here:
            print(f"{name:32}{here[name]:8.2f} us{there[name]:8.2f} us{here[name] / there[name]:7.2f}")


if __name__ == "__main__":
    main()
