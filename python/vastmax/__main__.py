# SPDX-License-Identifier: Apache-2.0
"""The command line: what this machine offers, whether the kernels are right, how fast they are, and why."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from . import __version__
from .cli import bench, demo, info, report, selftest, tune

if TYPE_CHECKING:
    from collections.abc import Sequence

# Summaries are no docstrings, which python -OO leaves out.
_COMMANDS = {
    "info": (info, "Show what this build has, what this machine runs, and which settings are in force."),
    "selftest": (selftest, "Check every kernel of this machine against a wider reference, in seconds."),
    "bench": (bench, "Measure every op beside SciPy, PyTorch and onnxruntime on this machine."),
    "demo": (demo, "Train a model of the next word of Python's source files by sampled softmax, and judge it exactly."),
    "report": (report, "Summarize a file of logits: loss, perplexity, accuracy, entropy, confidence."),
    "tune": (tune, 'Measure from which size a GPU pays for its copies, for config(device="auto").'),
}
_TRY = """Try:
  python -m vastmax demo --beside-scipy    # probabilities over a large vocabulary, and where SciPy's are wrong
  python -m vastmax selftest               # are the kernels right on this machine?
  python -m vastmax info                   # instruction sets, threads, GPU, settings
  python -m vastmax report LOGITS.npy --labels LABELS.npy
"""
_CLOSED_PIPE = 128 + 13  # what a shell reports for SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vastmax",
        description="Softmax, cross-entropy and sampling over very large vocabularies: commands.",
        epilog=_TRY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command")
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--json", action="store_true", help="print one JSON document instead of text")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status is returned."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if not hasattr(options, "run"):
            parser.print_help()
            status = 0
        else:
            status = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as of `| head`; the interpreter would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    return status


if __name__ == "__main__":
    sys.exit(main())
