# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import ROOT, subprocesses

# Beside the interpreter, where the wheels of MPI libraries put it, or the system's.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
WHY = 'without mpi4py or mpiexec: pip install ".[shards]"'
pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(MPIEXEC is None or find_spec("mpi4py") is None, reason=WHY),
]

PRELUDE = """
import doctest, re, sys
import numpy as np, pytest
import vastmax
from support import contracts, logit_rows, oracle
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank, ranks = comm.rank, comm.size
NAN, INF = np.nan, np.inf

def shards(x, *cuts):  # where each rank begins; the rest is cut evenly
    cuts = cuts or range(0, x.shape[-1], -(-x.shape[-1] // ranks))
    ends = [*cuts, *[x.shape[-1]] * ranks]
    return x[..., ends[rank]:ends[rank + 1]], ends[rank]

def same_everywhere(y):
    y = np.asarray(y)
    assert len(set(comm.allgather((y.shape, y.dtype.str, y.tobytes())))) == 1

def whole(part):
    return np.concatenate(comm.allgather(part), -1)

def dtype_of(name):
    return contracts.FORMATS[name].dtype
"""


def on_ranks(count: int, script: str, *args: str) -> str:
    """Run a script on each rank; an error on one of them ends all."""
    python = (str(MPIEXEC), "-n", str(count), sys.executable, "-m", "mpi4py")
    return subprocesses.run(PRELUDE + textwrap.dedent(script), python=python, args=args)


both = pytest.mark.parametrize("ranks", [2, 3])


@both
def test_bits_of_numpy_where_borders_fall_on_blocks(ranks: int) -> None:
    on_ranks(
        ranks,
        """
        for dtype in map(dtype_of, contracts.DTYPES):
            x = logit_rows.integer_logits(70, (2, 3, 30_011)).astype(dtype)
            x[0, 1] -= dtype.type(60)
            x[0, 1, -1] = x[0, 2, 3] = x[1, 0, 9000] = x[1, 0, 20_000] = 40
            shard, start = shards(x, *(0, 8192, 20_480)[:ranks])
            ids = np.array([[1, -100, 3], [20_000, 30_010, 8192]])
            lse, p = vastmax.mpi.logsumexp(shard, comm), whole(vastmax.mpi.softmax(shard, comm))
            loss = vastmax.mpi.cross_entropy(shard, ids, comm, vocab_start=start)
            same_everywhere(lse)
            same_everywhere(loss)
            if dtype.itemsize < 8:  # the last bit of float64 is that of a merge
                contracts.assert_equal(lse, vastmax.logsumexp(x, axis=-1))
                contracts.assert_equal(loss, vastmax.mpi.cross_entropy(x, ids, MPI.COMM_SELF, vocab_start=0))
            if dtype.itemsize > 2:  # the normaliser of 16-bit results is a shorter one
                contracts.assert_equal(p, vastmax.softmax(x))
        """,
    )


@both
def test_accuracy(ranks: int) -> None:
    """Every row with teeth, in every dtype."""
    on_ranks(
        ranks,
        """
        for dtype in map(dtype_of, contracts.DTYPES):
            for name in logit_rows.NAMES:
                x = logit_rows.row(name, dtype)[None]
                z = x.astype(np.float64)
                shard, start = shards(x)
                contracts.check_logsumexp(vastmax.mpi.logsumexp(shard, comm), oracle.logsumexp(z), z, hint=name)
                contracts.check_softmax(whole(vastmax.mpi.softmax(shard, comm)), oracle.softmax(z), hint=name)
                log = oracle.log_softmax(z)
                for target in (int(z.argmax()), x.shape[1] // 2):
                    loss = vastmax.mpi.cross_entropy(shard, [target], comm, vocab_start=start)
                    same_everywhere(loss)
                    assert loss.dtype == dtype_of(contracts.reduced(contracts.name_of(dtype)))
                    want = log[:, target]
                    contracts.check("log_softmax", loss, oracle.Exact(-want.hi, -want.lo, want.exp), hint=name)
        """,
    )


@both
def test_special_values(ranks: int) -> None:
    on_ranks(
        ranks,
        """
        rows = [[-INF] * 6, [3.0, -INF] + [-INF] * 4, [-INF] * 4 + [3.0, -INF], [INF] + [1.0] * 5, [1.0] * 5 + [INF],
                [INF, 0, 0, 0, INF, -INF], [NAN] + [1.0] * 5, [INF] * 5 + [NAN], [-INF] * 3 + [NAN] * 3, [-0.0] * 6]
        for dtype in map(dtype_of, contracts.DTYPES):
            x = np.array(rows, dtype)
            for cuts in ((0,) + (6,) * (ranks - 1), (0,) * (ranks - 1) + (3,), (0, 3, 6)[:ranks]):  # some have none
                shard, start = shards(x, *cuts)
                contracts.assert_equal(vastmax.mpi.logsumexp(shard, comm), vastmax.logsumexp(x, axis=-1))
                contracts.assert_equal(whole(vastmax.mpi.softmax(shard, comm)), vastmax.softmax(x))
                want = vastmax.log_softmax(x.astype(np.float64))
                for target in range(6):
                    ids = np.full(len(x), target)
                    loss = vastmax.mpi.cross_entropy(shard, ids, comm, vocab_start=start)
                    np.testing.assert_allclose(loss, -want[:, target], rtol=1e-6)
                ignored = vastmax.mpi.cross_entropy(shard, np.full(len(x), -100), comm, vocab_start=start)
                np.testing.assert_array_equal(ignored, np.zeros(len(x)))
        empty = np.ones((4, 0), np.float32)
        np.testing.assert_array_equal(vastmax.mpi.logsumexp(empty, comm), [-INF] * 4)
        assert vastmax.mpi.softmax(empty, comm).shape == (4, 0)
        assert vastmax.mpi.cross_entropy(np.ones((0, 5)), np.empty(0, int), comm, vocab_start=5 * rank).shape == (0,)
        """,
    )


@both
def test_shards_in_any_order_and_lists(ranks: int) -> None:
    on_ranks(
        ranks,
        """
        start = 2 * (ranks - 1 - rank)  # the last rank has the first classes
        x = np.arange(2.0 * ranks)
        loss = vastmax.mpi.cross_entropy(x[start:start + 2].tolist(), 1, comm, vocab_start=start)
        assert isinstance(loss, np.float64)
        np.testing.assert_allclose(loss, np.log(np.exp(x).sum()) - 1, rtol=1e-14)
        certain = [0.0, 40.0] if start == 2 else [-INF, -INF] if start else [0.0, -INF]
        assert vastmax.mpi.cross_entropy(certain, 3, comm, vocab_start=start) == 2 * 4.248354255291589e-18
        part = vastmax.mpi.softmax(np.int8([start, start]), comm)
        assert part.dtype == np.float64
        assert abs(comm.allreduce(part.sum()) - 1) < 1e-15
        """,
    )


@both
def test_two_collectives_for_each_call(ranks: int) -> None:
    on_ranks(
        ranks,
        """
        calls = []
        class Counting(MPI.Intracomm):
            def Allgather(self, send, receive):
                calls.append(send.nbytes)
                super().Allgather(send, receive)
        counting = Counting(comm)
        x = np.zeros((50, 10_000), np.float32)
        vastmax.mpi.logsumexp(x, counting)
        vastmax.mpi.softmax(x, counting)
        vastmax.mpi.cross_entropy(x, np.zeros(50, int), counting, vocab_start=10_000 * rank)
        assert len(calls) == 6
        assert set(calls[::2]) == {7 * 8}  # what the ranks agree by
        assert max(calls) < 50 * 80, calls
        """,
    )


# Each raises on every rank, whichever gave the bad argument, and the communicator still works.
WRONG_ON_ALL = [
    ("logsumexp(1.0, comm)", "ValueError", ["mpi.logsumexp", "shard", "scalar"]),
    ("softmax(x, 'comm')", "TypeError", ["mpi.softmax", "comm", "str", "intracommunicator"]),
    ("cross_entropy(x, [0], comm, vocab_start=start)", "ValueError", ["target", "(1,)", "(2,)"]),
    ("cross_entropy(x, [0.0, 1.0], comm, vocab_start=start)", "TypeError", ["target", "float64", "integers"]),
    ("cross_entropy(x, [0, total], comm, vocab_start=start)", "IndexError", ["at row 1", "classes", "-100"]),
    ("cross_entropy(x, [-1, 0], comm, vocab_start=start)", "IndexError", ["is -1 at row 0", "-100"]),
    (
        "cross_entropy(x, np.uint64([2**64 - 100, 0]), comm, vocab_start=start)",
        "IndexError",
        ["is 18446744073709551516"],
    ),
    ("cross_entropy(x, [0, 1], comm, vocab_start=0)", "ValueError", ["vocab_start", "0 to 2, 0 to 2", "gaps"]),
    ("cross_entropy(x, [0, 1], comm, vocab_start=start + 1)", "ValueError", ["vocab_start", "1 to 3, 4 to 6", "gaps"]),
    ("cross_entropy(x, [0, 1], comm, vocab_start=-1)", "ValueError", ["vocab_start is -1", ">= 0"]),
    ("cross_entropy(x, [0, 1], comm, vocab_start=1.5)", "TypeError", ["vocab_start is 1.5", "int"]),
    ("logsumexp(x if rank else x.astype('f4'), comm)", "ValueError", ["rank 1", "rank 0", "equal dtypes"]),
    ("softmax(x if rank else x.reshape(3, 2).T.reshape(1, 2, 3), comm)", "ValueError", ["equal shapes of the rows"]),
    ("cross_entropy(x, [rank, 1], comm, vocab_start=start)", "ValueError", ["target of rank 1", "equal targets"]),
    ("logsumexp(x if rank else x[0], comm)", "ValueError", ["rank 1", "equal shapes of the rows"]),
    ("logsumexp(x if rank else np.zeros((5, 3)), comm)", "ValueError", ["equal shapes of the rows"]),
    ("softmax(np.zeros((rank + 1, 3)), comm)", "ValueError", ["equal shapes of the rows"]),
    ("softmax(np.zeros((2,) * (rank + 2)), comm)", "ValueError", ["equal shapes of the rows"]),
    ("logsumexp(np.zeros((100_000 * rank, 3)), comm)", "ValueError", ["equal shapes of the rows"]),
    (
        "cross_entropy(x[:2 - rank % 2], [0, 1][:2 - rank % 2], comm, vocab_start=start)",
        "ValueError",
        ["equal shapes of the rows"],
    ),
    ("cross_entropy(x.astype('f4') if rank else x, [0, 1], comm, vocab_start=start)", "ValueError", ["equal dtypes"]),
    (
        "cross_entropy(x, np.uint64([2**64 - 100, 0]) if rank else [-100, 0], comm, vocab_start=start)",
        "ValueError",
        ["equal targets"],
    ),
    ("__getattribute__('softmax' if rank else 'logsumexp')(x, comm)", "ValueError", ["equal functions called"]),
]
WRONG_ON_ONE = [
    ("logsumexp(x.astype(complex) if rank == 1 else x, comm)", "TypeError", ["complex128"]),
    ("softmax(np.ma.array(x) if rank == 1 else x, comm)", "TypeError", ["masked"]),
    ("softmax([[1.0], [2.0, 3.0]] if rank == 1 else x, comm)", "ValueError", ["makes no array"]),
    ("logsumexp(1.0 if rank == 1 else x, comm)", "ValueError", ["scalar"]),
    ("cross_entropy(x, [0.0, 1.0] if rank == 1 else [0, 1], comm, vocab_start=start)", "TypeError", ["target"]),
    ("cross_entropy(x, [0, 1], comm, vocab_start='a' if rank == 1 else start)", "TypeError", ["vocab_start"]),
]


@both
def test_errors(ranks: int) -> None:
    script = f"""
cases = [(*case, False) for case in {WRONG_ON_ALL!r}] + [(*case, True) for case in {WRONG_ON_ONE!r}]
x, start, total = np.arange(6.0).reshape(2, 3), 3 * rank, 3 * ranks
for call, error, words, by_one in cases:
    if by_one and rank != 1:
        error, words = "RuntimeError", ["rank 1 raised an error"]
    try:
        eval("vastmax.mpi." + call)
    except Exception as caught:
        assert type(caught).__name__ == error, (call, rank, repr(caught))
        assert all(word in str(caught) for word in words), (call, rank, str(caught))
    else:
        raise AssertionError(call)
    np.testing.assert_allclose(vastmax.mpi.logsumexp(x, comm), vastmax.logsumexp(x, axis=1) + np.log(ranks))
"""
    on_ranks(ranks, script)


@both
def test_an_interrupt_on_one_rank(ranks: int) -> None:
    on_ranks(
        ranks,
        """
        class Interrupting:
            def __array__(self, *args, **options):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt if rank == 1 else RuntimeError):
            vastmax.mpi.softmax(Interrupting() if rank == 1 else np.zeros((2, 3)), comm)
        """,
    )


DOCUMENT = ROOT / "docs/how-to/vocabulary_shards.md"


def test_examples_run() -> None:
    on_ranks(1, "assert doctest.testmod(vastmax.mpi) == (0, 9), doctest.testmod(vastmax.mpi)")


@both
@pytest.mark.skipif(not DOCUMENT.exists(), reason="tests without the source tree")
def test_example_of_the_document(ranks: int) -> None:
    """Its gradient sums to 0 over all classes, and its loss is that of the probability at the target."""
    on_ranks(
        ranks,
        """
        exec(re.findall(r"```python\\n(.*?)```", open(sys.argv[1]).read(), re.DOTALL)[1])
        z = whole(shard).astype(np.float64)
        log_p = z[rows, target] - np.log(np.exp(z).sum(axis=1))
        np.testing.assert_allclose(loss, -log_p, rtol=1e-6)
        gradient = whole(gradient)
        assert abs(gradient.sum(axis=1, dtype=np.float64)).max() < 1e-6
        np.testing.assert_allclose(gradient[rows, target], np.expm1(log_p), rtol=1e-6)
        """,
        str(DOCUMENT),
    )
