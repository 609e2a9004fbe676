// SPDX-License-Identifier: Apache-2.0
// Thresholds that change speed and never a bit.  Each was measured: docs/measured.md.
#pragma once

#include <cstddef>

namespace vastmax::policy {

// Elements of work that pay for waking another thread: about 10 us.
inline constexpr std::size_t grain = 32768;

// An output of this many bytes is written past the caches, when it is not the input itself.
inline constexpr std::size_t stream_bytes = std::size_t{4} << 20;

// Rows side by side that are worth the column kernels.
inline constexpr std::size_t least_columns = 4;

}  // namespace vastmax::policy
