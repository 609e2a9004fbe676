# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments, and their conversion to the form that kernels take. Nothing here computes."""
