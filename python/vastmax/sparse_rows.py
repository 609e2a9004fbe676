# SPDX-License-Identifier: Apache-2.0
"""Gradients of a table of classes that are zero in all rows but a few."""

from ._ops.sampled.gradients import FactoredGrad, SparseRows

__all__ = ["FactoredGrad", "SparseRows"]
