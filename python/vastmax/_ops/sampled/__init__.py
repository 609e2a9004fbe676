# SPDX-License-Identifier: Apache-2.0
"""Losses over a sample of the classes."""
