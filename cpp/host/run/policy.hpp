// SPDX-License-Identifier: Apache-2.0
// Thresholds that change speed and never a bit.  Each was measured: docs/development/measured.md.
#pragma once

#include <cstddef>

namespace vastmax::policy {

// Elements of a task, and half of what a second thread is asked for: 10 to 20 us.
inline constexpr std::size_t grain = 32768;

// A row that is always split: it fits no cache, and Ctrl-C is looked at between tasks.
inline constexpr std::size_t vast = 128 * grain;

// An output of this many bytes is written past the caches, when it is not the input itself.
inline constexpr std::size_t stream_bytes = std::size_t{4} << 20;

// A walk through a table of classes asks for this many bytes ahead of what it reads.
inline constexpr std::size_t prefetch_bytes = 8192;

// Rows side by side that are worth the column kernels.
inline constexpr std::size_t least_columns = 6;

}  // namespace vastmax::policy
