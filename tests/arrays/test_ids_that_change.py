# SPDX-License-Identifier: Apache-2.0
"""Class numbers that another thread changes during a call never make native code read or write outside its buffers."""

from __future__ import annotations

import pytest

from support import subprocesses

pytestmark = pytest.mark.any_isa

FLIPPING = """
import itertools, threading, time
import numpy as np, vastmax
rows, classes, features = 64, 4096, 8
rng = np.random.default_rng(0)
logits, table = rng.normal(size=(rows, classes)), rng.normal(size=(classes, features))
x, p = rng.normal(size=(rows, features)), np.full((rows, 3), 1 / 3)
ids, several, offsets = np.zeros(rows, np.int64), np.zeros((rows, 3), np.int64), np.arange(rows + 1)
sampler = vastmax.LogUniformSampler(classes)
sampled = {"sampler": sampler, "num_sampled": 256, "seed": 0}
changed, state = [ids, several], np.zeros(classes)
draws = vastmax.PresetSampler(ids, np.zeros(rows))
gradient = vastmax.SparseRows(ids, rng.normal(size=(rows, features)), table.shape)

def flip():
    valid = [a.copy() for a in (*changed, offsets)]
    for value in itertools.cycle([1 << 40, 7, -(1 << 40), 0]):
        if stopped: return
        for a in changed: a[...] = value
        offsets[1:] += value
        offsets[:] = valid[-1]

stopped = False
thread = threading.Thread(target=flip)
thread.start()
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    try:
        CALL
    except (IndexError, ValueError):
        pass
stopped = True
thread.join()
"""
CALLS = {
    "cross_entropy": "vastmax.cross_entropy_with_grad(logits, ids)",
    "cross_entropy of pairs": "vastmax.cross_entropy_with_grad(logits, (several, p), np.ones(classes))",
    "cross_entropy, first axis": "vastmax.cross_entropy_with_grad(logits.T.copy(), ids, axis=0)",
    "selective_log_softmax": "vastmax.selective_log_softmax(logits, several)",
    "softmax_stats": "vastmax.softmax_stats(logits, ids)",
    "linear_cross_entropy": "vastmax.linear_cross_entropy_with_grad(x, table, ids, label_smoothing=0.1)",
    "sampled_softmax, batch": "vastmax.sampled_softmax(x, table, ids, **sampled)",
    "sampled_softmax, row": "vastmax.sampled_softmax(x, table, several, share='row', **sampled)",
    "sampled_softmax, ragged": "vastmax.sampled_softmax(x, table, (ids, offsets), **sampled)",
    "sampled_softmax, preset": "vastmax.sampled_softmax(x, table, np.arange(rows), sampler=draws)",
    "nce_loss": "vastmax.nce_loss(x, table, ids, **sampled)",
    "tf.sampled_softmax_loss": "vastmax.tf.sampled_softmax_loss(table, state, several, x, 256, classes, 3, seed=0)",
    "log_prob": "sampler.log_prob(ids)",
    "SparseRows.apply_sgd_": "gradient.apply_sgd_(table, 1e-9)",
    "SparseRows.apply_adagrad_": "gradient.apply_adagrad_(table, state, 1e-9)",
    "SparseRows.coalesce": "gradient.coalesce()",
}


@pytest.mark.parametrize("call", CALLS)
def test_no_signal(call: str) -> None:
    subprocesses.run(FLIPPING.replace("CALL", CALLS[call]).replace("SECONDS", "0.4"))
