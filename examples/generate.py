# SPDX-License-Identifier: Apache-2.0
"""Write text a word at a time, each drawn from 333,213 words: trains the table of `python -m vastmax demo` first.

pip install vastmax wordsegment && python examples/generate.py thank happy --temperature 0.8 --top-p 0.9
"""

import argparse

import numpy as np

import vastmax
from vastmax.cli.language_model import Model, Task
from vastmax.cli.words import load

parser = argparse.ArgumentParser()
parser.add_argument("prompts", nargs="*", default=["thank", "happy", "credit"], help="words to begin with")
parser.add_argument("--steps", type=int, default=2000, help="of training")
parser.add_argument("--words", type=int, default=10, help="to write after each prompt")
parser.add_argument("--texts", type=int, default=3, help="for each prompt")
parser.add_argument("--temperature", type=float, default=0.8)
parser.add_argument("--top-p", type=float, default=0.9)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

corpus = load()
task = Task(corpus)
model = Model(task.classes)
for step in range(options.steps):
    loss = model.sampled_step(task, step)
    if step % 200 == 0 or step == options.steps - 1:
        print(f"step {step}: estimated loss {loss:.3f}", flush=True)

# A row for each text. The model knows pairs of words, so a word depends on the one before it alone.
text = np.repeat([[corpus.index[word]] for word in options.prompts], options.texts, axis=0)
surprise = np.zeros(len(text))
for step in range(options.words):
    logits = model.words[text[:, -1]] @ model.next.T
    drawn, log_prob = vastmax.sample(
        logits,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        step=step,  # other draws for each word
        return_log_prob=True,
    )
    text = np.column_stack([text, drawn])
    surprise -= log_prob
for row, nats in zip(text, surprise, strict=True):
    print(f"{nats / max(options.words, 1):5.2f} nats a word:", *(corpus.words[i] for i in row))
