# SPDX-License-Identifier: Apache-2.0
"""Linear layers over many classes, whose logits are made and read tile by tile."""
