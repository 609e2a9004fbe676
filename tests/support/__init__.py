# SPDX-License-Identifier: Apache-2.0
"""What tests share: the oracle, the contracts, rows of logits, and stand-ins for other libraries."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
