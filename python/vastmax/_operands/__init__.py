# SPDX-License-Identifier: Apache-2.0
"""What users pass, checked and brought to the form that kernels take: nothing here computes."""
