# SPDX-License-Identifier: Apache-2.0
"""The ops: one body for each, on every backend."""
