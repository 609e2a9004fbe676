// SPDX-License-Identifier: Apache-2.0
// The order of logits: NaN first, then descending, ties to the lower index.  Every two differ, so exactly n are the n
// best whatever repeats itself.
#pragma once

#include "cuda/device/memory.hpp"

namespace vastmax::VM_ISA {

// Larger for larger numbers, largest for NaN, never 0; -0 is +0.
VM_INLINE std::uint64_t key_of(float v) {
  if (v != v) return 0xFFFFFFFFu;
  const auto bits = bit_cast<std::uint32_t>(v + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
VM_INLINE std::uint64_t key_of(double v) {
  if (v != v) return ~std::uint64_t{0};
  const auto bits = bit_cast<std::uint64_t>(v + 0.0);
  return (bits >> 63) != 0 ? ~bits : bits | std::uint64_t{1} << 63;
}

// The number of a key that is not that of NaN.
template <class F>
VM_INLINE F number_of(std::uint64_t key) {
  if constexpr (sizeof(F) == 4) {
    const auto bits = static_cast<std::uint32_t>(key);
    return bit_cast<float>((bits >> 31) != 0 ? bits ^ 0x80000000u : ~bits);
  } else {
    return bit_cast<double>((key >> 63) != 0 ? key ^ std::uint64_t{1} << 63 : ~key);
  }
}
template <class F>
VM_INLINE bool is_nan_key(std::uint64_t key) {
  return key == (sizeof(F) == 4 ? 0xFFFFFFFFu : ~std::uint64_t{0});
}

inline constexpr std::int64_t no_index = INT64_MAX;

// By default worse than any logit.
struct Entry {
  std::uint64_t key = 0;
  std::int64_t index = no_index;
  VM_MEMBER bool reaches(const Entry& other) const {  // is as good or better
    return key > other.key || (key == other.key && index <= other.index);
  }
  VM_MEMBER void join(const Entry& other) {
    if (other.reaches(*this)) *this = other;
  }
};
VM_INLINE Entry warp_best(Entry best) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2)
    best.join({shuffle_xor(best.key, mask), shuffle_xor(best.index, mask)});
  return best;
}

// An entry that at least `wanted` entries reach and at most `most`, where more than that reach `low`; `count(entry)`
// says how many.  At most one count for each bit of a key and of an index.
template <class Count>
VM_INLINE Entry edge_between(Entry low, std::uint64_t highest, std::int64_t n, std::int64_t wanted, std::int64_t most,
                             const Count& count) {
  std::uint64_t least = low.key, last = highest;  // the key that leaves too few with the next is between the two
  while (least < last) {
    const std::uint64_t middle = last - (last - least) / 2;
    const std::int64_t found = count(Entry{middle, no_index});
    if (found >= wanted && found <= most) return {middle, no_index};
    found < wanted ? last = middle - 1 : least = middle;
  }
  std::int64_t first = 0, end = n - 1;  // too many have this key: up to which index?
  while (first < end) {
    const std::int64_t middle = first + (end - first) / 2, found = count(Entry{least, middle});
    if (found >= wanted && found <= most) return {least, middle};
    found < wanted ? first = middle + 1 : end = middle;
  }
  return {least, end};
}

}  // namespace vastmax::VM_ISA
