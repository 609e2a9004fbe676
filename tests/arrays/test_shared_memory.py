# SPDX-License-Identifier: Apache-2.0
"""Operands that lie in the memory that is written: results are those of copies, whatever the operand and the offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pytest

import vastmax
from support.fake_gpu_arrays import ByDlpack

ROWS, CLASSES = 4, 6
RNG = np.random.default_rng(5)
X = RNG.normal(size=(ROWS, CLASSES))
MASK = RNG.random((ROWS, CLASSES)) < 0.8
MASK[:, 1] = True
T = np.array([0.5, 1.0, 2.0, 3.0])
IDS = np.array([1, 0, 5, 3])
PAIR = np.array([[1, 0], [2, 5], [5, 5], [3, 1]])
SHARES = RNG.random((ROWS, 2))
PROBABILITIES = vastmax.softmax(X + 1)
W = RNG.random(CLASSES) + 0.1
ROW_W = RNG.random(ROWS) + 0.1
SIMULATED = vastmax.cuda.is_available() and pytest.importorskip("vastmax._cuda").simulated


class Case(NamedTuple):
    """A function that writes: what it is called with, and an array like its `out`."""

    call: Callable[..., Any]
    operands: dict[str, Any]
    out: Any


def loss(**operands: Any) -> Any:
    """cross_entropy_with_grad, with pairs as two operands."""
    if "shares" in operands:
        operands["target"] = operands["target"], operands.pop("shares")
    result = vastmax.cross_entropy_with_grad(**operands)
    return result.grad, result.loss, result.lse


def normalised(chunk: Any, out: Any) -> Any:
    return vastmax.LogSumExp(ROWS, np.float64).update(X).normalize(chunk, out)


OPTIONS = {"temperature": T, "where": MASK}
WEIGHTS = {"weight": W, "sample_weight": ROW_W, "grad_output": ROW_W, "reduction": "none"}
CASES = {
    **{op: Case(getattr(vastmax, op), {"x": X, **OPTIONS}, X) for op in ("softmax", "log_softmax")},
    "logsumexp": Case(vastmax.logsumexp, {"a": X, "axis": 1, **OPTIONS}, T),
    "logsumexp, weights": Case(vastmax.logsumexp, {"a": X, "b": PROBABILITIES, "axis": 1, **OPTIONS}, T),
    "logsumexp_backward": Case(vastmax.logsumexp_backward, {"grad_output": ROW_W, "a": X, "axis": 1, **OPTIONS}, X),
    **{
        op: Case(getattr(vastmax, op), {"grad_output": X, "output": PROBABILITIES, "temperature": T}, X)
        for op in ("softmax_backward", "log_softmax_backward")
    },
    **{op: Case(getattr(vastmax, op), {"x": X}, X) for op in ("softplus", "sigmoid", "log_sigmoid")},
    **{
        op: Case(getattr(vastmax, op), {"grad_output": X, argument: PROBABILITIES}, X)
        for op, argument in (("softplus_backward", "x"), ("sigmoid_backward", "output"), ("log_sigmoid_backward", "x"))
    },
    "classes": Case(loss, {"logits": X, "target": IDS, **WEIGHTS, **OPTIONS, "label_smoothing": 0.1}, X),
    "one class": Case(loss, {"logits": X, "target": IDS, "weight": W}, X),
    "pairs": Case(loss, {"logits": X, "target": PAIR, "shares": SHARES, **WEIGHTS, **OPTIONS}, X),
    "probabilities": Case(loss, {"logits": X, "target": PROBABILITIES, **WEIGHTS, **OPTIONS}, X),
    "one row": Case(loss, {"logits": X[0], "target": np.array(2), "weight": W, "label_smoothing": 0.3}, X[0]),
    "LogSumExp.normalize": Case(normalised, {"chunk": X}, X),
    **{f"special.{op}": Case(getattr(vastmax.special, op), {"where": MASK}, X) for op in ("expit", "softplus")},
}


def arrays(operands: dict[str, Any]) -> Iterator[str]:
    return (name for name, value in operands.items() if isinstance(value, np.ndarray))


def called(case: Case, operands: dict[str, Any], out: Any) -> list[Any]:
    """The results, as copies."""
    first = (X,) if case.call in (vastmax.special.expit, vastmax.special.softplus) else ()
    found = case.call(*first, **operands, out=out)
    return [np.array(part) for part in (found if isinstance(found, tuple) else (found,))]


def laid(memory: Any, offset: int, like: Any) -> Any:
    return memory[offset : offset + like.nbytes].view(like.dtype).reshape(like.shape)


def layouts(like: Any, out: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs (operand, out) that share memory: from the same place, and shifted to either side."""
    for shift in (0, 8, -8, out.nbytes // 2 // 8 * 8, -(like.nbytes // 2 // 8 * 8)):
        memory = np.zeros(3 * max(out.nbytes, like.nbytes), np.uint8)
        start = max(out.nbytes, like.nbytes)
        yield laid(memory, start + shift, like), laid(memory, start, out)


def check(case: Case, names: tuple[str, ...], put: Callable[[Any], Any] = lambda a: a) -> None:
    for name in names:
        given = case.operands[name]
        for operand, out in layouts(given, case.out):
            out[...] = 0.25
            operand[...] = given
            options = {**case.operands, name: operand}
            start = np.full_like(case.out, 0.25) if name != "where" else out.copy()
            want = called(case, {k: np.copy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}, start)
            for got, right in zip(called(case, options, out), want, strict=True):
                np.testing.assert_array_equal(got, right, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_as_if_copied(name: str, isa: str) -> None:
    case = CASES[name]
    check(case, tuple(arrays(case.operands)))


@pytest.mark.cuda
@pytest.mark.skipif(not SIMULATED, reason="needs the SIMT build, whose device memory is that of the host")
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("special", "LogSumExp"))])
@pytest.mark.parametrize("road", ["there and back", "arrays on the GPU"])
def test_as_if_copied_on_the_gpu(name: str, road: str) -> None:
    case = CASES[name]
    if road == "there and back":
        with vastmax.config(device="cuda"):
            check(case, tuple(arrays(case.operands)))
        return

    def lent(**options: Any) -> Any:
        out = options["out"]
        on_gpu = {k: ByDlpack(v) if isinstance(v, np.ndarray) and v.ndim else v for k, v in options.items()}
        found = case.call(**on_gpu)
        parts = found if isinstance(found, tuple) else (found,)
        home = tuple(p.copy_to_host() if isinstance(p, vastmax.cuda.DeviceArray) else p for p in parts)
        return tuple(out if isinstance(p, ByDlpack) else p for p in home)

    check(case._replace(call=lent), tuple(arrays(case.operands)))


@pytest.mark.any_isa
@pytest.mark.parametrize("factored", [False, True])
@pytest.mark.parametrize("method", ["apply_sgd_", "apply_adagrad_"])
def test_gradients_of_tables(method: str, factored: bool) -> None:
    """Rows, ids or coefficients of a gradient that lie in the table, or in the state, that it updates."""

    def gradient(width: int) -> Any:
        if not factored:
            return vastmax.SparseRows(np.array([7, 2, 5]), RNG.normal(size=(3, 4)), (9, 4))
        sampler = vastmax.UniformSampler(9)
        x, w = RNG.normal(size=(3, 4)), RNG.normal(size=(9, 4))
        loss = vastmax.sampled_softmax(x, w, [7, 2, 5], sampler=sampler, num_sampled=6, share="row", seed=1)
        return loss.grad_weight

    for shift, kept in product((0, 3, 8, 20), ("rows", "ids") if not factored else ("input", "coefficients")):
        made, table, state = gradient(4), RNG.normal(size=(9, 4)), RNG.random(9)
        fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
        memory = np.zeros(200)
        inside = memory[shift : shift + fields[kept].size].view(fields[kept].dtype).reshape(fields[kept].shape)
        for destination in ("table", "state") if method == "apply_adagrad_" else ("table",):
            to = {"table": table.copy(), "state": state.copy()}
            to[destination] = memory[: to[destination].size].reshape(to[destination].shape)
            to[destination][...] = {"table": table, "state": state}[destination]
            inside[...] = fields[kept]
            start = to[destination].copy()
            build = type(made)
            arguments = (0.5,) if method == "apply_sgd_" else (None, 0.5)
            results = []
            for part, target in ((inside.copy(), start), (inside, to[destination])):
                both = {**to, destination: target}
                both = {k: v if k == destination else v.copy() for k, v in both.items()}
                given = [both["state"] if a is None else a for a in arguments]
                getattr(build(**{**fields, kept: part}), method)(both["table"], *given)
                results.append(both)
            for a, b in zip(results[0].values(), results[1].values(), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=f"{kept} {shift} {destination}")


def overlapping_views() -> Iterator[Any]:
    strided = np.lib.stride_tricks.as_strided
    memory = np.full(400, 7.0)
    yield strided(memory, (4, 6), (8, 8))
    yield strided(memory, (4, 6), (40, 8))  # rows share their ends
    yield strided(memory, (4, 6), (0, 8))
    yield strided(memory, (4, 6), (48, 0))
    yield strided(memory, (4, 6), (48, 4))  # half an element
    yield strided(memory[20:], (4, 6), (-40, 8))
    yield strided(memory, (4, 6), (24, 16))  # 3 i + 2 j, where (2, 0) meets (0, 3)


def separate_views() -> Iterator[Any]:
    strided = np.lib.stride_tricks.as_strided
    memory = np.full((40, 40), 7.0)
    yield memory[:4, :6]
    yield memory[:6, :4].T
    yield memory[3::-1, :6]
    yield memory[:8:2, 10:4:-1]
    yield np.full((4, 2, 6), 7.0)[:, 1]
    yield strided(np.full(100, 7.0), (4, 6), (56, 8))
    yield strided(np.full(100, 7.0), (4, 6), (8, 40))  # columns of 5 elements
    yield strided(np.full(100, 7.0), (4, 6), (24 * 8 // 4, 8))
    yield strided(np.full(100, 7.0), (4, 6), (56, 72))  # 7 i + 9 j is different for each


WRITERS = {name: case for name, case in CASES.items() if case.out is X}


@pytest.mark.any_isa
@pytest.mark.parametrize("name", WRITERS)
def test_out_that_overlaps_itself(name: str) -> None:
    case = WRITERS[name]
    for out in overlapping_views():
        before = out.tolist()
        with pytest.raises(ValueError, match=r"out overlaps itself"):
            called(case, case.operands, out)
        assert out.tolist() == before
    want = called(case, case.operands, np.full_like(X, 7.0))
    for out in separate_views():
        out[...] = 7
        for got, right in zip(called(case, case.operands, out), want, strict=True):
            np.testing.assert_array_equal(got, right)


@pytest.mark.any_isa
def test_results_that_overlap_themselves() -> None:
    strided = np.lib.stride_tricks.as_strided
    for step in (0, 4):
        out = strided(np.full(9, 7.0), (ROWS,), (step,))
        before = out.tolist()
        with pytest.raises(ValueError, match=r"logsumexp: out overlaps itself"):
            vastmax.logsumexp(X, axis=1, out=out)
        assert out.tolist() == before
    assert vastmax.logsumexp(X, out=strided(np.zeros(1), (1, 1), (0, 0)), keepdims=True).shape == (1, 1)
    empty = strided(np.zeros(0), (0, 6), (0, 8))
    assert vastmax.softmax(np.zeros((0, 6)), out=empty) is empty


@pytest.mark.any_isa
def test_tables_that_overlap_themselves() -> None:
    gradient = vastmax.SparseRows(np.array([0, 2]), np.ones((2, 3)), (4, 3))
    memory = np.full(60, 7.0)
    for rows in (8, 16, 0):
        table = np.lib.stride_tricks.as_strided(memory, (4, 3), (rows, 8))
        with pytest.raises(ValueError, match=r"apply_sgd_: weight overlaps itself"):
            gradient.apply_sgd_(table, 0.1)
        with pytest.raises(ValueError, match=r"apply_adagrad_: weight overlaps itself"):
            gradient.apply_adagrad_(table, np.zeros(4), 0.1)
    with pytest.raises(ValueError, match=r"apply_adagrad_: state shares memory with weight"):
        gradient.apply_adagrad_(memory[:12].reshape(4, 3), memory[8:12], 0.1)
    assert (memory == 7).all()
    gradient.apply_sgd_(memory[:12].reshape(4, 3)[::-1], 1.0)
    np.testing.assert_array_equal(memory[:12].reshape(4, 3)[:, 0], [7, 6, 7, 6])


def lent(a: Any) -> Any:
    return ByDlpack(a) if isinstance(a, np.ndarray) and a.ndim else a


@pytest.mark.any_isa
@pytest.mark.parametrize("road", ["cpu", "there and back", "arrays on the GPU"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.call not in (normalised, loss)])
def test_explain_checks_out_as_the_call_does(name: str, road: str) -> None:
    if road != "cpu" and not SIMULATED:
        pytest.skip("needs the SIMT build, whose device memory is that of the host")
    if road != "cpu" and name.startswith("special"):
        pytest.skip("where= of these is for NumPy arrays")
    case = CASES[name]
    first = (X,) if name.startswith("special") else ()
    put = lent if road == "arrays on the GPU" else lambda a: a
    operands = {k: put(v) for k, v in case.operands.items()}
    shape = case.out.shape
    broken = [np.zeros((*shape, 2)), np.zeros(shape, np.float32)]
    if case.out is X:
        broken.append(next(overlapping_views()))
    with vastmax.config(device="cuda" if road == "there and back" else None):
        for out in (*map(put, broken), "out"):
            with pytest.raises((TypeError, ValueError)) as of_call:
                case.call(*first, **operands, out=out)
            with pytest.raises(type(of_call.value)) as of_explain:
                vastmax.explain(case.call, *first, **operands, out=out)
            assert str(of_explain.value) == str(of_call.value)
        out = np.full(shape, 7.0)
        assert vastmax.explain(case.call, *first, **operands, out=put(out)).rows > 0
        assert (out == 7).all()
