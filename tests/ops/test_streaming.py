# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import functools
import itertools
import pickle
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import vastmax
from support import contracts, logit_rows, oracle, subprocesses
from vastmax import LogSumExp

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
NAN, INF = np.nan, np.inf


def streamed(x: Any, cuts: Any, dtype: Any = np.float64) -> LogSumExp:
    state = LogSumExp(x.shape[:-1], dtype)
    for chunk in np.split(x, cuts, axis=-1):
        assert state.update(chunk) is state
    return state


def kind(dtype: Any) -> Any:
    return contracts.FORMATS[contracts.reduced(contracts.name_of(dtype))].dtype


@functools.cache
def long_rows(dtype: Any) -> Any:
    """Near certainty, in the last and in the first block, and not."""
    x = logit_rows.integer_logits(50, (5, 30_011)).astype(dtype)
    x[1] -= dtype.type(60)
    x[1, -1] = x[2, 3] = x[3, 9000] = x[3, 20_000] = 40
    x[4] *= dtype.type(20)
    return x


@pytest.mark.parametrize("step", [4096, 8192, 20_480])
def test_bits_of_one_call_where_borders_fall_on_blocks(isa: str, dtype: Any, step: int) -> None:
    x = long_rows(dtype)
    cuts = range(step, x.shape[1], step)
    for rows in (x, x[:, ::-1], np.asfortranarray(x)):
        state = streamed(rows, cuts, kind(dtype))
        contracts.assert_equal(state.value, vastmax.logsumexp(rows, axis=1))
        if dtype.itemsize > 2:  # the normaliser of 16-bit results is a shorter one
            contracts.assert_equal(state.normalize(rows), vastmax.softmax(rows))


@pytest.mark.usefixtures("threads")
def test_bits_do_not_depend_on_threads_isa_or_batch(dtype: Any) -> None:
    x, cuts = long_rows(dtype), [7, 5000, 5001, 17_000]
    want = streamed(x, cuts)
    for threads, name in itertools.product((1, 3), vastmax.available_isas()):
        with vastmax.config(threads=threads, isa=name):
            contracts.assert_equal(streamed(x, cuts).value, want.value)
            contracts.assert_equal(streamed(x[2:4], cuts).value, want.value[2:4])
            contracts.assert_equal(want.normalize(x[:, 100:]), streamed(x, cuts).normalize(x)[:, 100:])


@pytest.mark.parametrize("name", logit_rows.NAMES)
@pytest.mark.usefixtures("isa")
def test_one_logit_at_a_time(dtype: Any, name: str) -> None:
    x = logit_rows.row(name, dtype)[None]
    state = streamed(x, range(1, x.shape[1]), kind(dtype))
    z = x.astype(np.float64)
    contracts.check_logsumexp(state.value, oracle.logsumexp(z), z, hint=name)
    contracts.check_softmax(state.normalize(x), oracle.softmax(z), hint=name)


@pytest.mark.conformance
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(contracts.DTYPES),
    isa=st.sampled_from(vastmax.available_isas()),
    offset=st.sampled_from([0.0, -5000.0, 1e4]),
    cuts=st.lists(st.integers(0, 3000), max_size=6).map(sorted),
    order=st.randoms(use_true_random=False),
)
def test_any_chunks_merged_in_any_order(name: str, isa: str, offset: float, cuts: list[int], order: Any) -> None:
    dtype = contracts.FORMATS[name].dtype
    x = (logit_rows.integer_logits(51, (3, 3000)) + offset).astype(dtype)
    x[0, 1234] = offset + 30  # all but certain
    z = x.astype(np.float64)
    with vastmax.config(isa=isa):
        parts = [LogSumExp(3, kind(dtype)).update(chunk) for chunk in np.split(x, cuts, axis=1)]
        order.shuffle(parts)
        while len(parts) > 1:  # a random tree
            left, right = parts.pop(order.randrange(len(parts))), parts.pop()
            parts.append(left.merge(right))
        contracts.check_logsumexp(parts[0].value, oracle.logsumexp(z), z, hint=cuts)
        contracts.check_softmax(parts[0].normalize(x), oracle.softmax(z), hint=cuts)


def test_near_certainty_survives_merging(wide_dtype: Any) -> None:
    """The largest logit is 0, so the result is what all the others add to it."""
    gaps = np.linspace(1.0, 90.0, 5000).astype(wide_dtype)
    zero = np.zeros(gaps.shape, wide_dtype)
    z = np.stack([-gaps, zero, -gaps - 1], -1)
    others = LogSumExp(5000, wide_dtype).update(z[:, ::2])
    for state in (
        copy.deepcopy(others).merge(LogSumExp(5000, wide_dtype).update(zero[:, None])),
        LogSumExp(5000, wide_dtype).update(zero[:, None]).merge(others),
        LogSumExp(5000, wide_dtype).update(z[:, :2]).update(z[:, 2:]),
    ):
        contracts.check_logsumexp(state.value, oracle.logsumexp(z.astype(np.float64)), z)


SPECIAL = [
    ([[]], -INF),
    ([[-INF], []], -INF),
    ([[-INF, -INF], [-INF]], -INF),
    ([[-INF], [3.0]], 3.0),
    ([[3.0], [-INF]], 3.0),
    ([[INF], [3.0]], INF),
    ([[3.0], [INF, -INF]], INF),
    ([[INF], [INF]], INF),
    ([[NAN], [3.0]], NAN),
    ([[3.0], [1.0, NAN]], NAN),
    ([[NAN], [INF]], NAN),
    ([[INF], [NAN]], NAN),
    ([[NAN], [-INF]], NAN),
    ([[-INF], [NAN]], NAN),
    ([[1e5], [NAN]], NAN),
    ([[-0.0], []], 0.0),
]


@pytest.mark.parametrize(("chunks", "want"), SPECIAL)
@pytest.mark.usefixtures("isa")
def test_special_values(wide_dtype: Any, chunks: list[list[float]], want: float) -> None:
    arrays = [np.array(chunk, wide_dtype) for chunk in chunks]
    one, merged = LogSumExp(dtype=wide_dtype), LogSumExp(dtype=wide_dtype)
    for a in arrays:
        one.update(a)
        merged.merge(LogSumExp(dtype=wide_dtype).update(a))
    for state in (one, merged):
        assert isinstance(state.value, wide_dtype.type)
        np.testing.assert_array_equal(state.value, wide_dtype.type(want))
        whole = np.concatenate(arrays)
        np.testing.assert_array_equal(state.normalize(whole), vastmax.softmax(whole))


def test_nothing_seen() -> None:
    assert LogSumExp().value == -np.inf
    assert isinstance(LogSumExp().value, np.float32)
    assert LogSumExp((2, 0)).value.shape == (2, 0)
    assert LogSumExp((0,)).update(np.ones((0, 5))).normalize(np.ones((0, 5))).shape == (0, 5)
    np.testing.assert_array_equal(LogSumExp(3).merge(LogSumExp(3)).value, [-np.inf] * 3)


def test_dtype_is_that_of_the_value() -> None:
    x = logit_rows.integer_logits(52, (2, 50))
    state = LogSumExp(2, np.float64).update(x.astype(np.float16)).update(x.astype("f4")).update(x.astype(">f8"))
    z = np.concatenate([x, x, x], 1)
    assert state.dtype == state.value.dtype == np.float64
    np.testing.assert_allclose(state.value, oracle.logsumexp(z).float(), rtol=1e-7)
    exact = LogSumExp(2, np.float64).update(x[:, :20]).update(x[:, 20:])
    contracts.check_logsumexp(exact.value, oracle.logsumexp(x), x)
    assert LogSumExp(2).update(x).value.dtype == np.float32
    np.testing.assert_array_equal(LogSumExp(2).update(np.int64([[1], [2]])).value, np.float32([1, 2]))
    assert LogSumExp().update([True, False]).normalize([True, False]).dtype == np.float64


@pytest.mark.parametrize("axis", [0, 1, -1, 2, (0, 2), None])
def test_axis(wide_dtype: Any, axis: Any) -> None:
    x = logit_rows.integer_logits(53, (6, 41, 8)).astype(wide_dtype)
    want = vastmax.logsumexp(x, axis=axis)
    state = LogSumExp(np.shape(want), wide_dtype).update(x, axis)
    np.testing.assert_array_equal(state.value, want)
    out = np.empty_like(x)
    assert state.normalize(x, out, axis=axis) is out
    np.testing.assert_array_equal(out, vastmax.softmax(x, axis=axis))
    out = x.copy()
    assert state.normalize(out, out, axis=axis) is out
    np.testing.assert_array_equal(out, vastmax.softmax(x, axis=axis))


def test_columns_and_rows_give_the_same_bits(dtype: Any) -> None:
    """Many rows side by side have kernels of their own."""
    x = long_rows(dtype)[:, :9000].T.copy()
    x = np.concatenate([x] * 15, axis=1)
    one = LogSumExp(x.shape[1], np.float64).update(x[:4096], 0).update(x[4096:], 0)
    other = LogSumExp(x.shape[1], np.float64).update(x[:4096].T.copy()).update(x[4096:].T.copy())
    np.testing.assert_array_equal(one.value, other.value)
    contracts.assert_equal(one.normalize(x, axis=0).T, other.normalize(x.T.copy()))


def test_pickle_and_copy_are_independent() -> None:
    x = logit_rows.integer_logits(54, (2, 3, 500))
    state = LogSumExp((2, 3), np.float64).update(x)
    before = state.value
    for twin in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), copy.copy(state)):
        assert (twin.shape, twin.dtype, repr(twin)) == (state.shape, state.dtype, repr(state))
        np.testing.assert_array_equal(twin.value, before)
        twin.update(x + 1)
        np.testing.assert_array_equal(state.value, before)
        np.testing.assert_array_equal(twin.value, state.__class__((2, 3), np.float64).update(x).update(x + 1).value)


def test_pickled_into_a_message() -> None:
    """Protocol 5 leaves the numbers where the message has them: read-only, at any address."""
    x = logit_rows.integer_logits(56, (3, 500))
    state = LogSumExp(3, np.float64).update(x)
    buffers: list[Any] = []
    head = pickle.dumps(state, protocol=5, buffer_callback=buffers.append)
    message = b"." + b"".join(bytes(b.raw()) for b in buffers)
    twin = pickle.loads(head, buffers=[memoryview(message)[1:]])
    np.testing.assert_array_equal(twin.normalize(x), state.normalize(x))
    merged = LogSumExp(3, np.float64).update(x).merge(twin)
    np.testing.assert_array_equal(merged.value, LogSumExp(3, np.float64).update(x).merge(state).value)
    np.testing.assert_array_equal(twin.update(x).value, LogSumExp(3, np.float64).update(x).update(x).value)


def test_numbers_of_a_state() -> None:
    x = logit_rows.integer_logits(57, (2, 3, 500))
    x[0, 0] = NAN
    x[0, 1] = -INF
    x[0, 2, 7] = INF
    state = LogSumExp((2, 3), np.float64).update(x)
    numbers = state.states
    assert (numbers.shape, numbers.dtype) == ((2, 3, 8), np.float64)
    twin = LogSumExp.from_states(numbers, np.float64)
    numbers[...] = 0
    for one in (state, twin):
        assert (one.shape, one.dtype) == ((2, 3), np.float64)
        np.testing.assert_array_equal(one.value, vastmax.logsumexp(x, axis=-1))
    np.testing.assert_array_equal(twin.update(x).value, state.update(x).value)
    assert LogSumExp.from_states(LogSumExp().states).value == -INF
    assert LogSumExp.from_states(np.asfortranarray(state.states)[:, ::-1]).merge(LogSumExp((2, 3))).dtype == np.float32


@pytest.mark.parametrize(
    "numbers", [np.zeros(7), np.zeros((8, 2)), np.zeros(8, "f4"), 1.0, np.full(8, 1e300), np.full(8, NAN)]
)
def test_numbers_that_are_no_state(numbers: Any) -> None:
    with pytest.raises(ValueError, match=r"LogSumExp.from_states: states .*; accepted: "):
        LogSumExp.from_states(numbers)


def test_merging_leaves_the_other_alone() -> None:
    a, b = LogSumExp().update([1.0, 2.0]), LogSumExp().update([5.0])
    before = b.value
    assert a.merge(b) is a
    assert b.value == before
    assert a.merge(a).value == pytest.approx(float(vastmax.logsumexp([1.0, 2.0, 5.0])) + np.log(2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: s.update(np.ones((3, 4))), ValueError, ["chunk", "(3,)", "(2,)"]),
        (lambda s: s.update(np.ones((4, 2))), ValueError, ["chunk", "(4,)", "(2,)"]),
        (lambda s: s.update([1.0]), ValueError, ["chunk", "()", "(2,)"]),
        (lambda s: s.update(np.ones((2, 4)), 5), np.exceptions.AxisError, ["axis"]),
        (lambda s: s.update(np.ones((2, 4), complex)), TypeError, ["chunk", "complex128", "float32"]),
        (lambda s: s.update(np.ma.ones((2, 4))), TypeError, ["chunk", "masked"]),
        (lambda s: s.update([["a"], ["b"]]), TypeError, ["chunk"]),
        (lambda s: s.merge(LogSumExp(3)), ValueError, ["other", "(3,)", "(2,)"]),
        (lambda s: s.merge(1.0), TypeError, ["other", "float", "LogSumExp"]),
        (lambda s: s.normalize(np.ones((3, 4))), ValueError, ["chunk", "(3,)", "(2,)"]),
        (lambda s: s.normalize(np.ones((2, 4)), np.ones((2, 4), "f4")), ValueError, ["out", "float32", "float64"]),
        (lambda _: LogSumExp(-1), ValueError, ["shape", "-1"]),
        (lambda _: LogSumExp(1.5), TypeError, ["shape", "1.5"]),
        (lambda _: LogSumExp(dtype="f2"), TypeError, ["dtype", "float16", "float32, float64"]),
        (lambda _: LogSumExp(dtype="no"), TypeError, ["dtype", "'no'"]),
    ],
)
def test_errors_come_before_any_change(call: Any, error: Any, words: list[str]) -> None:
    state = LogSumExp(2).update(np.ones((2, 3)))
    before = state.value
    with pytest.raises(error) as caught:
        call(state)
    assert all(word in str(caught.value) for word in words), caught.value
    np.testing.assert_array_equal(state.value, before)


def test_absent_gpu() -> None:
    with vastmax.config(device="cuda"), pytest.raises(vastmax.BackendUnavailable):
        LogSumExp(2).update(np.ones((2, 3)))


def test_explain() -> None:
    plan = vastmax.explain(LogSumExp(3).update, np.ones((3, 5), np.float32))
    assert (plan.op, plan.rows, plan.classes) == ("logsumexp", 3, 5)


def test_progress_goes_to_standard_error(capsys: Any) -> None:
    x = np.ones((2, 10), np.float32)
    LogSumExp(2).update(x, progress=True).normalize(x, progress=True)
    assert capsys.readouterr().out == ""


def test_progress_without_rich(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    LogSumExp(2).update(np.ones((2, 10), np.float32), progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("\rlogsumexp [")
    assert shown.err.endswith("#]\n")


def test_pieces_do_not_change_bits(monkeypatch: Any) -> None:
    """A chunk is cut at blocks, in the order of its memory."""
    x = logit_rows.integer_logits(55, (3, 4, 20_000)).astype(np.float32)
    for view, axis in ((x, -1), (np.moveaxis(x, 2, 0).copy(), 0), (x.astype(">f4"), -1), (x[:1], -1)):
        shape = np.delete(view.shape, axis)
        want = LogSumExp(tuple(shape)).update(view, axis)
        for most in (1000, 50_000, 100_000):
            monkeypatch.setattr("vastmax._backends.policy.PIECE", most)
            state = LogSumExp(tuple(shape)).update(view, axis)
            np.testing.assert_array_equal(state.value, want.value)
            np.testing.assert_array_equal(
                state.normalize(view, axis=axis), vastmax.softmax(view, axis=axis), err_msg=str(most)
            )
            monkeypatch.undo()


@pytest.mark.conformance
@linux
def test_logits_on_disk_need_little_memory(tmp_path: Path) -> None:
    """1.2 GB of big-endian integers, converted on the way, and 200 MB into a file; anonymous memory counts."""
    out = subprocesses.run(
        """
        import sys, threading, time
        import numpy as np, vastmax
        folder, n = sys.argv[1], 150_000_000
        def anonymous():
            with open("/proc/self/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:")) >> 10
        x = np.memmap(folder + "/x", ">i8", "w+", shape=(2, n // 2))  # a hole in the file: zeros, no disk
        y = np.memmap(folder + "/y", "f4", "w+", shape=(1, n // 3))
        vastmax.LogSumExp(1).update(np.ones((1, 1 << 21), "f4"))
        before, most, going = anonymous(), 0, True
        def watch():
            global most
            while going:
                most = max(most, anonymous())
                time.sleep(0.01)
        watcher = threading.Thread(target=watch)
        watcher.start()
        value = vastmax.LogSumExp(2, np.float64).update(x).value
        state = vastmax.LogSumExp(1).update(y)
        assert state.normalize(y, y) is y
        going = False
        watcher.join()
        assert abs(value - np.log(n // 2)).max() < 1e-12, value
        assert y[0, -1] == np.float32(1 / (n // 3))
        print(most - before)
        """,
        args=(str(tmp_path),),
    )
    assert int(out) < 400, "MB"


INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np, vastmax
    shape = eval(sys.argv[1])
    x = np.broadcast_to(np.dtype(sys.argv[2]).type(1), shape)  # zero strides: endless work, no memory
    state = vastmax.LogSumExp(shape[:-1]).update(np.ones((*shape[:-1], 3), "f4"))
    before = state.value
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sent = []
    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        state.update(x)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    else:
        raise AssertionError("ended before the interrupt")
    assert state.value.tobytes() == before.tobytes()
"""


@linux
@pytest.mark.parametrize(("shape", "name"), [("(1, 2**36)", "f4"), ("(2**18, 2**18)", "f4"), ("(1, 2**36)", "i4")])
def test_keyboard_interrupt_leaves_the_state(shape: str, name: str) -> None:
    assert float(subprocesses.run(INTERRUPTED, args=(shape, name), timeout=60)) < 5.0  # of minutes
