# SPDX-License-Identifier: Apache-2.0
"""Show what this build has, what this machine runs and what is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import vastmax

from . import screen

if TYPE_CHECKING:
    import argparse


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Take nothing but what every command takes."""


def run(options: argparse.Namespace) -> int:
    """Print `vastmax.info()`."""
    if options.json:
        screen.print_json(vastmax.info())
    else:
        print(vastmax.info())
    return 0
