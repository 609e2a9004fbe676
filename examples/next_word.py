# SPDX-License-Identifier: Apache-2.0
"""Learn the next word of Python's own source files with sampled softmax, in NumPy and vastmax alone.

python examples/next_word.py
"""

import argparse
import re
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np

import vastmax

parser = argparse.ArgumentParser()
parser.add_argument("--files", default="[a-m]*.py", help="of the standard library; '**/*.py' for all")
parser.add_argument("--features", type=int, default=64)
parser.add_argument("--batch", type=int, default=1024)
parser.add_argument("--negatives", type=int, default=1000)
parser.add_argument("--rate", type=float, default=0.1)
options = parser.parse_args()

# Data: words that occur twice or more, by number, most frequent first. Any other word has the number `classes`.
files = sorted(Path(sysconfig.get_path("stdlib")).glob(options.files))
text = [word for file in files for word in re.findall(r"[A-Za-z_]\w*", file.read_text("utf-8", "ignore"))]
counts = {word: count for word, count in Counter(text).most_common() if count > 1}
words, classes = [*counts], len(counts)
number = {word: i for i, word in enumerate(words)}
stream = np.array([number.get(word, classes) for word in text])
places = 8 + np.flatnonzero(stream[8:] < classes)
held_out = places[places > 0.95 * len(stream)]  # the end: training never sees it
order = np.random.default_rng(0).permutation(places[: -len(held_out)])
frequencies = np.array([*counts.values()]) / sum(counts.values())

# Model: x is the sum of the vectors of the eight words before, weighted by 1 / distance; the score of a word is x W.
rng = np.random.default_rng(0)
words_in = rng.normal(0, options.features**-0.5, (classes + 1, options.features)).astype(np.float32)
words_out = rng.normal(0, 0.01, (classes, options.features)).astype(np.float32)
words_out[:, 0] = np.log(frequencies)  # a bias, as the first feature is 1
state_in, state_out = np.zeros(classes + 1), np.zeros(classes)
distances = np.arange(1, 9)
weights = (1 / distances).astype(np.float32)


def features(context: np.ndarray) -> np.ndarray:
    """Return x of each row, given the numbers of the words before."""
    x = weights @ words_in[context]
    x[:, 0] = 1
    return x


# Training: one epoch, negatives by frequency to the power 0.75.
sampler = vastmax.UnigramSampler(frequencies, power=0.75)
for step, start in enumerate(range(0, len(order), options.batch)):
    batch = order[start : start + options.batch]
    context = stream[batch[:, None] - distances]
    result = vastmax.sampled_softmax(
        features(context), words_out, stream[batch],
        sampler=sampler, num_sampled=options.negatives, unique=True, seed=0, step=step,
    )  # fmt: skip
    result.grad_weight.apply_adagrad_(words_out, state_out, options.rate)
    result.grad_input[:, 0] = 0
    gradient = (weights[:, None] * result.grad_input[:, None]).reshape(-1, options.features)
    vastmax.SparseRows(context.ravel(), gradient, words_in.shape).apply_adagrad_(words_in, state_in, options.rate)
    if step % 50 == 0:
        print(f"step {step}: estimated loss {result.loss.mean():.3f}", flush=True)

# The exact loss over all classes on the text held out, and likely words.
exact = vastmax.linear_cross_entropy(features(stream[held_out[:, None] - distances]), words_out, stream[held_out])
baseline = -np.log(frequencies[stream[held_out]]).mean()
print(f"{classes:,} words; held-out loss {exact:.3f}, of frequencies alone {baseline:.3f}")
for prompt in ("for i in range len", "raise ValueError", "if __name__ __main__"):
    context = [classes] * 8 + [number.get(word, classes) for word in prompt.split()]
    best = vastmax.softmax_stats(features(np.array([context])[:, -distances]) @ words_out.T, top_n=4)
    shown = zip(best.top_indices[0], np.exp(best.top_log_probs[0]), strict=True)
    print(prompt, "->", *(f"{words[i]} {p:.1%}" for i, p in shown))
