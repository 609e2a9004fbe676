# SPDX-License-Identifier: Apache-2.0
"""One contract for every backend: equal inputs give equal results, and inputs that are refused equal errors.

The backends are the core, NumPy data that goes to a GPU in chunks, and arrays that live on a GPU. The last two run the
same kernels, so they must agree in every bit; between the core and the kernels the order of sums differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vastmax
from support.backends import Case, Refusal, backward, forward, logits, losses, numbers, outcome, wide

pytestmark = [
    pytest.mark.usefixtures("simulated"),
    pytest.mark.cuda,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]
NAN, INF = np.nan, np.inf


def agree(case: Case, ulps: float) -> None:
    host, offload, device = (outcome(backend, case) for backend in ("host", "offload", "device"))
    assert not isinstance(host, Refusal), (case, host)
    assert not isinstance(offload, Refusal), (case, offload)
    assert not isinstance(device, Refusal), (case, device)
    assert len(host) == len(offload) == len(device)
    for want, chunked, there in zip(host, offload, device, strict=True):
        same_numbers(there, chunked, case)
        near(there, want, ulps, case, case.terms if np.shape(case.terms) == want.shape else 0)


def same_numbers(got: Any, want: Any, case: Case) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape), case
    nan = np.isnan(wide(want))
    np.testing.assert_array_equal(np.isnan(wide(got)), nan, err_msg=str(case))
    assert got[~nan].tobytes() == want[~nan].tobytes(), case


def near(got: Any, want: Any, ulps: float, case: Case, terms: Any) -> None:
    """`got` within so many spacings of `want` or of its terms; NaN, infinities and integers as they are."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), case
    if got.dtype.kind in "iub":
        np.testing.assert_array_equal(got, want, err_msg=str(case))
        return
    a, b = wide(got), wide(want)
    for special in (np.isnan, np.isposinf, np.isneginf):
        np.testing.assert_array_equal(special(a), special(b), err_msg=str(case))
    finite = np.isfinite(b)
    largest = np.maximum(np.abs(b), np.nan_to_num(terms, posinf=0))[finite].astype(want.dtype)
    error = np.abs(a[finite] - b[finite]) / wide(np.spacing(largest))
    assert (error <= ulps).all(), (case, error.max())


# --- inputs that are accepted

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C order": lambda x: x,
    "columns": lambda x: np.asfortranarray(x),
    "reversed": lambda x: x[:, ::-1],
    "every second class": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "one row for all": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("n", [7, 2500])
@pytest.mark.parametrize("kind", [forward, backward, losses])
def test_equal_results(kind: Callable[[Any], list[Case]], n: int, dtype: Any) -> None:
    for case in kind(logits(n, dtype)):
        agree(case, 8 if dtype == np.float64 else 4)


@pytest.mark.conformance
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", [forward, backward, losses])
def test_equal_results_in_every_layout(kind: Callable[[Any], list[Case]], layout: str, dtype: Any) -> None:
    for case in kind(LAYOUTS[layout](logits(70, dtype))):
        agree(case, 8 if dtype == np.float64 else 4)


def along(x: Any, axis: Any) -> list[Case]:
    """Every op that takes one axis, and those that take several."""
    options = {"axis": axis}
    made = [
        *(Case(op, (x,), options) for op in ("softmax", "log_softmax", "logsumexp")),
        Case("logsumexp", (x,), {**options, "keepdims": True, "where": x > -1, "return_sign": True}),
        Case("softmax", (x,), {**options, "where": x > -1}),
    ]
    if isinstance(axis, tuple):
        return made
    shape = tuple(np.delete(x.shape, axis))
    ids = np.zeros(shape, np.int64)
    return [
        *made,
        *(Case(op, (x,), options) for op in ("entropy", "softmax_stats")),
        Case("kl_divergence", (x, numbers(x)), options),
        *(Case(f"{op}_mask_logits", (x,), {**options, name: value}) for op, name, value in MASKS),
        Case("selective_log_softmax", (x, ids), options),
        Case("cross_entropy", (x, ids), options),
        Case("cross_entropy_with_grad", (x, ids), {**options, "reduction": "none"}),
        Case("top_k", (x,), {**options, "k": 1}),
    ]


MASKS = (("top_k", "k", 2), ("top_p", "p", 0.8), ("min_p", "p", 0.1))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 1), (4, 0, 6), (0, 5, 6), (4, 5, 0)])
def test_equal_results_along_every_axis(shape: tuple[int, ...], axis: Any, dtype: Any) -> None:
    x = (np.random.default_rng(8).standard_normal(shape) * 4).astype(dtype)
    for case in along(x, axis):
        refused = outcome("host", case)
        if isinstance(refused, Refusal):  # no classes
            assert outcome("offload", case) == outcome("device", case) == refused
        else:
            agree(case, 8 if dtype == np.float64 else 4)


def test_equal_draws(dtype: Any) -> None:
    x = logits(300, dtype)
    results = {"seed": 5, "return_log_prob": True, "return_valid": True}
    options: tuple[dict[str, Any], ...] = (
        {},
        {"size": 4},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.8, "step": 3},
        {"min_p": 0.1, "row_offset": 9},
        {"size": 3, "replace": False},
        {"where": numbers(x) > 0},
    )
    for more in options:
        agree(Case("sample", (x,), {**results, **more}), 4)


def test_a_masked_target_under_a_softcap_has_no_gradient(dtype: Any) -> None:
    x = np.ones((3, 5), dtype)
    x[1, 2], x[2, 2] = NAN, INF
    mask = np.ones(x.shape, bool)
    mask[:, 2] = False
    case = Case("cross_entropy_with_grad", (x, np.full(3, 2)), {"where": mask, "softcap": 2.0})
    for backend in ("host", "offload", "device"):
        made = outcome(backend, case)
        assert not isinstance(made, Refusal)
        np.testing.assert_array_equal(wide(made[1][:, 2]), 0, err_msg=backend)


# --- inputs that are refused

X = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
IDS = np.array([0, 1, 4])
ROW_OPS = ("softmax", "log_softmax")
REFUSED = [
    *(
        Case(op, (X,), wrong)
        for op in (*ROW_OPS, "logsumexp")
        for wrong in (
            {"axis": 2},
            {"axis": 0.5},
            {"temperature": -1.0},
            {"temperature": "warm"},
            {"temperature": np.ones(4)},
            {"temperature": np.array([1.0, NAN, 1.0])},
            {"where": np.ones((3, 4), bool)},
            {"where": np.ones((3, 5))},
            {"dtype": np.int32},
        )
    ),
    Case("logsumexp", (X,), {"b": np.ones(4)}),
    Case("softmax_backward", (X, X[:2]), {}),
    Case("logsumexp_backward", (np.ones(4, np.float32), X), {"axis": -1}),
    *(Case(op, (X,), {"beta": beta}) for op in ("softplus",) for beta in (0, -1, "steep", INF)),
    Case("sigmoid", (X,), {"dtype": np.int8}),
    *(Case("sigmoid_backward", (X, X[:, :4]), {}) for _ in range(1)),
    Case("binary_cross_entropy_with_logits", (X, X[:2]), {}),
    Case("binary_cross_entropy_with_logits", (X, X), {"weight": np.ones(4)}),
    Case("binary_cross_entropy_with_logits", (X, X), {"reduction": "max"}),
    *(
        Case(op, (X, target), options)
        for op in ("cross_entropy", "cross_entropy_with_grad")
        for target, options in (
            (np.zeros(3, np.float32), {}),
            (np.zeros((2, 5), np.float32), {}),
            (np.zeros(4, np.int64), {}),
            (np.zeros((3, 5), np.int64), {}),
            (np.zeros(3, bool), {}),
            (np.array([0, 5, 1]), {}),
            (np.array([0, -1, 1]), {}),
            ((np.zeros((3, 2), np.int64), np.ones((3, 3))), {}),
            ((np.zeros((2, 2), np.int64), np.ones((2, 2))), {}),
            ((np.full((3, 2), 5), np.ones((3, 2))), {}),
            ((np.zeros((3, 2)), np.ones((3, 2))), {}),
            (IDS, {"weight": np.ones(4)}),
            (IDS, {"sample_weight": np.ones(4)}),
            (IDS, {"reduction": "max"}),
            (IDS, {"label_smoothing": 2.0}),
            (IDS, {"z_loss": -1.0}),
            (IDS, {"softcap": 0.0}),
            (IDS, {"axis": 2}),
            (IDS, {"temperature": 0.0}),
            (IDS, {"where": np.ones((3, 4), bool)}),
            (IDS, {"weight": np.ones(5, np.complex64)}),
        )
    ),
    Case("cross_entropy_with_grad", (X, IDS), {"grad_output": np.ones(3)}),
    Case("cross_entropy_with_grad", (X, IDS), {"grad_output": np.ones(4), "reduction": "none"}),
    *(
        Case("softmax_stats", (X,), wrong)
        for wrong in (
            {"target": np.array([0, 5, 1])},
            {"target": np.zeros(3)},
            {"target": np.zeros(4, np.int64)},
            {"top_n": 6},
            {"top_n": -1},
            {"top_n": 1.5},
            {"temperature": 0.0},
            {"axis": 3},
        )
    ),
    Case("entropy", (X,), {"axis": 2}),
    Case("entropy", (X,), {"temperature": np.ones(4)}),
    Case("kl_divergence", (X, X[:2]), {}),
    *(
        Case("selective_log_softmax", (X, wanted), {})
        for wanted in (np.array([0, 5, 1]), np.zeros(3), np.zeros(4, np.int64), np.zeros((3, 2, 2), np.int64))
    ),
    *(Case("top_k", (X,), {"k": k}) for k in (0, 6, 1.5)),
    *(Case("top_k_mask_logits", (X,), {"k": k}) for k in (-1, 1.5, np.array([1, 2]))),
    *(Case("top_p_mask_logits", (X,), {"p": p}) for p in (-0.1, 1.5, "some", np.ones(2))),
    *(Case("min_p_mask_logits", (X,), {"p": p}) for p in (-0.1, 1.5, np.array([0.1, NAN, 0.1]))),
    *(
        Case("sample", (X,), {"seed": 1, **wrong})
        for wrong in (
            {"size": -1},
            {"temperature": -1.0},
            {"top_k": -1},
            {"top_p": 2.0},
            {"min_p": -1.0},
            {"where": np.ones((3, 4), bool)},
            {"step": -1},
            {"row_offset": -1},
            {"seed": "x"},
            {"size": 6, "replace": False},
        )
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: f"{c.op}-{len(c.arguments)}-{','.join(c.options)}")
def test_equal_errors(case: Case) -> None:
    refused = {backend: outcome(backend, case) for backend in ("host", "offload", "device")}
    assert isinstance(refused["host"], Refusal), (case, refused["host"])
    assert refused["offload"] == refused["host"]
    assert without_dtypes(refused["device"]) == without_dtypes(refused["host"])


def without_dtypes(refusal: Any) -> Any:
    """A refusal without the dtypes that are accepted: a GPU converts no integers."""
    return refusal._replace(text=re.sub("; accepted: float16, .*", "", refusal.text))


OUT = [
    (Case("softmax", (X,), {}), X),
    (Case("log_softmax", (X,), {}), X),
    (Case("logsumexp", (X,), {"axis": -1}), X[:, 0].copy()),
    (Case("softmax_backward", (X, X), {}), X),
    (Case("log_softmax_backward", (X, X), {}), X),
    (Case("logsumexp_backward", (X[:, 0].copy(), X), {"axis": -1}), X),
    (Case("softplus", (X,), {}), X),
    (Case("sigmoid", (X,), {}), X),
    (Case("log_sigmoid", (X,), {}), X),
    (Case("softplus_backward", (X, X), {}), X),
    (Case("sigmoid_backward", (X, X), {}), X),
    (Case("log_sigmoid_backward", (X, X), {}), X),
    (Case("cross_entropy_with_grad", (X, IDS), {}), X),
]


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize(("case", "like"), OUT, ids=lambda c: c.op if isinstance(c, Case) else "")
def test_equal_errors_for_out(case: Case, like: Any, explain: bool) -> None:
    for wrong in (
        np.zeros((9, *like.shape), like.dtype),
        np.zeros(like.shape),
        np.broadcast_to(like.dtype.type(0), like.shape),
    ):
        asked = case._replace(options={**case.options, "out": wrong})
        refused = {backend: outcome(backend, asked, explain) for backend in ("host", "offload", "device")}
        assert isinstance(refused["host"], Refusal), case
        assert refused["offload"] == refused["host"]
        if not (wrong.size and 0 in wrong.strides):  # a guest on a GPU says that it is writable
            assert refused["device"] == refused["host"]
        assert not wrong.any()
