// SPDX-License-Identifier: Apache-2.0
// Classes in one tile: 4 KiB of the compute type, 32 registers of each lane.  Like block_length on the CPU it fixes the
// order of sums, hence the bits; it is no tuning parameter.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vastmax {

constexpr std::int64_t tile_of(std::size_t item) { return item == 8 ? 512 : 1024; }
constexpr std::int64_t tiles_of(std::int64_t classes, std::size_t item) {  // an empty row is one empty tile
  return classes == 0 ? 1 : (classes + tile_of(item) - 1) / tile_of(item);
}

}  // namespace vastmax
