# SPDX-License-Identifier: Apache-2.0
"""The commands of `python -m vastmax`: one module each, with `add_arguments` and `run`, and what they share."""
