# SPDX-License-Identifier: Apache-2.0
"""ONNX's node test data, for semantics: its references are float32 NumPy, so the tolerance is theirs (rtol 1e-3).

onnx 1.22.0 is the last release whose wheel ships the data. Accuracy is tested elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vastmax

onnx = pytest.importorskip("onnx")

NODES = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
OPS = {
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "ReduceLogSumExp": "logsumexp",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
}
PREFIXES = ("softmax", "logsoftmax", "reduce_log_sum_exp", "softplus", "sigmoid")


def cases() -> list[Path]:
    """The base cases; `_expanded` ones state the same op as a subgraph of others."""
    named = (p for prefix in PREFIXES for p in NODES.glob(f"test_{prefix}*"))
    return sorted({p for p in named if "_expanded" not in p.name})


def load(path: Path) -> Any:
    return onnx.numpy_helper.to_array(onnx.load_tensor(str(path)))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", cases(), ids=lambda p: p.name)
def test_node(case: Path) -> None:
    (node,) = onnx.load(str(case / "model.onnx")).graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    data = case / "test_data_set_0"
    given = [load(data / f"input_{i}.pb") for i in range(len(list(data.glob("input_*.pb"))))]
    want = load(data / "output_0.pb")
    options: dict[str, Any] = {}
    if node.op_type in ("Softmax", "LogSoftmax"):
        options["axis"] = attributes.get("axis", -1)
    if node.op_type == "ReduceLogSumExp":
        axes = tuple(int(a) for a in given[1]) if len(given) > 1 else ()
        options = {"axis": axes or None, "keepdims": bool(attributes.get("keepdims", 1))}
    got = getattr(vastmax, OPS[node.op_type])(given[0], **options)
    assert got.shape == want.shape
    if got.dtype == want.dtype == np.float64 or want.dtype == np.float32:
        assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-7)


def test_all_cases_are_there() -> None:
    assert len(cases()) == 7 + 7 + 9 + 2 + 2, [p.name for p in cases()]
    assert [len(losses(prefix)) for prefix in LOSSES] == [34, 18]


LOSSES = ("sce", "nllloss")  # SoftmaxCrossEntropyLoss, NegativeLogLikelihoodLoss


def losses(prefix: str) -> list[Path]:
    return sorted(p for p in NODES.glob(f"test_{prefix}_*") if "_expanded" not in p.name)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", [p for prefix in LOSSES for p in losses(prefix)], ids=lambda p: p.name)
def test_loss_node(case: Path) -> None:
    (node,) = onnx.load(str(case / "model.onnx")).graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    data = case / "test_data_set_0"
    x, target, *weight = [load(data / f"input_{i}.pb") for i in range(len(list(data.glob("input_*.pb"))))]
    reduction = attributes.get("reduction", b"mean").decode()
    options = {"axis": 1, "ignore_index": attributes.get("ignore_index", -100)}
    want = load(data / "output_0.pb")
    if node.op_type == "SoftmaxCrossEntropyLoss":
        got = vastmax.cross_entropy(x, target, *weight, reduction=reduction, **options)
        if (data / "output_1.pb").exists():
            log_p = vastmax.log_softmax(x, axis=1)
            np.testing.assert_allclose(log_p, load(data / "output_1.pb"), rtol=1e-3, atol=1e-7)
    else:  # of logits taken for log-probabilities: without the normaliser
        loss, lse = vastmax.cross_entropy(x, target, reduction="none", return_lse=True, **options)
        counts = target != options["ignore_index"]
        scale = np.where(counts, (weight[0] if weight else np.ones(x.shape[1]))[np.where(counts, target, 0)], 0)
        each = (loss - lse) * scale
        got = each if reduction == "none" else each.sum() / (scale.sum() if reduction == "mean" else 1)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)
