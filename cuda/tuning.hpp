// SPDX-License-Identifier: Apache-2.0
// Thresholds that change speed and never a bit.  None has been measured on a GPU yet: they follow from the sizes of
// caches and the number of processors, as said at each.
#pragma once

#include <cstdint>

namespace vastmax::cuda::tuning {

// A block per row needs so many rows for each processor; with fewer, rows are split.
inline constexpr std::int64_t rows_per_processor = 2;

// Rows of up to so many bytes are read twice by their block when they are too long to be kept: what the blocks in
// flight hold together then still fits a second-level cache of 50 MB (H100, H200: 132 processors).
inline constexpr std::int64_t cached_row_bytes = 256 << 10;

}  // namespace vastmax::cuda::tuning
