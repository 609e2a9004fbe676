# SPDX-License-Identifier: Apache-2.0
"""The version, in its one place; the build reads this file too."""

__version__ = "0.1.0"
