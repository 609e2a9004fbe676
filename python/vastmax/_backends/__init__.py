# SPDX-License-Identifier: Apache-2.0
"""Where calls run: the kernels' declarations, the core, GPUs, and NumPy data on a GPU in chunks."""
