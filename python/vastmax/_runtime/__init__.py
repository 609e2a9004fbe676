# SPDX-License-Identifier: Apache-2.0
"""Settings of calls, progress, and the meeting with threadpoolctl."""
