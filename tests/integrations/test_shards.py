# SPDX-License-Identifier: Apache-2.0
"""What holds with and without Dask and MPI."""

from __future__ import annotations

import re

import numpy as np
import pytest

from support import ROOT, subprocesses

pytestmark = pytest.mark.any_isa

CALLS = {
    "dask": ["logsumexp(x)", "softmax(x)", "log_softmax(x)", "cross_entropy(x, [0])", "top_k(x, 1)"],
    "mpi": ["logsumexp(x, None)", "softmax(x, None)", "cross_entropy(x, [0], None, vocab_start=0)"],
}


@pytest.mark.parametrize("name", CALLS)
def test_modules_cost_nothing_before_the_first_call(name: str) -> None:
    subprocesses.run(
        """
        import sys, vastmax
        assert not {"vastmax.dask", "vastmax.mpi"} & set(sys.modules)
        module = getattr(vastmax, sys.argv[1])
        assert module.__name__ == "vastmax." + sys.argv[1]
        assert sys.argv[1] in dir(vastmax)
        assert not {"dask", "mpi4py"} & set(sys.modules)
        """,
        args=(name,),
    )


@pytest.mark.parametrize(("name", "call"), [(name, call) for name, calls in CALLS.items() for call in calls])
def test_without_the_package_the_first_call_names_the_extra(name: str, call: str) -> None:
    subprocesses.run(
        """
        import sys
        sys.modules["dask"] = sys.modules["mpi4py"] = None
        import vastmax
        name, call = sys.argv[1:]
        x = [[1.0]]
        try:
            eval(f"vastmax.{name}.{call}")
        except ImportError as error:
            assert f'pip install ".[{name}]"' in str(error), error
        else:
            raise AssertionError("no error")
        """,
        args=(name, call),
    )


def test_last_example_of_the_document() -> None:
    """It needs neither."""
    text = (ROOT / "docs/how-to/vocabulary_shards.md").read_text()
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1], names)
    np.testing.assert_array_equal(names["probabilities"], np.full((2, 4096), 1 / 8192, np.float32))
