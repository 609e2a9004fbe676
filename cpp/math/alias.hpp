// SPDX-License-Identifier: Apache-2.0
// One of several levels of weight by Walker's alias method, then one of its classes.
#pragma once

#include "cpp/math/random.hpp"

namespace vastmax {

// The upper bits of the product choose a bucket, the lower ones are where in it: below the threshold or not.
VM_SHARED std::uint32_t chosen_level(const Level* levels, std::uint32_t count, std::uint64_t bits) {
  const auto bucket = static_cast<std::uint32_t>(multiply_high(bits, count));
  const Level at = levels[bucket];
  const std::uint32_t stay = -static_cast<std::uint32_t>(bits * count < at.threshold);  // a branch would be a coin toss
  return at.other ^ ((at.other ^ bucket) & stay);
}
VM_SHARED std::int64_t chosen_position(const Level* level, std::uint64_t bits) {
  return static_cast<std::int64_t>(level[0].first + multiply_high(bits, level[1].first - level[0].first));
}

// The level of a class.
VM_SHARED std::uint32_t level_of(const Sampler& s, std::uint32_t id) {
  if (s.level_of != nullptr) return s.level_of[id];
  std::uint32_t low = 0, high = s.level_count;  // levels[low].first <= id < levels[high].first
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (s.levels[middle].first <= id ? low : high) = middle;
  }
  return low;
}

}  // namespace vastmax
