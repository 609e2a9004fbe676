// SPDX-License-Identifier: Apache-2.0
// Radix select by a block: the key at which integer weights, added up from the largest key down, reach an amount.  Sums
// of integers have one value in any order, so the result does not depend on which thread comes first.
#pragma once

#include "cpp/math/mass.hpp"
#include "cuda/device/select.hpp"

namespace vastmax::VM_ISA {

inline constexpr int bin_bits = 10;
inline constexpr unsigned bin_count = 1u << bin_bits, most_listed = 256;

// 64-bit counters of both halves of a weight: they hold the weights of 2^32 classes.
struct alignas(16) Bin {
  std::uint64_t low, high, count;
  VM_MEMBER Mass mass() const { return (Mass{high} << 32) + low; }
};

struct RadixScratch {
  Tally tally;
  Mass of_warp[slots];
  Bin bins[bin_count];
  Entry entries[most_listed];
  std::uint64_t weights[most_listed];
  // what one thread found for all
  Mass left;
  std::uint64_t low, high, count;
  bool reached;
};

VM_INLINE Mass shuffle_mass(Mass m, unsigned mask) {
  const auto low = shuffle_xor(static_cast<std::uint64_t>(m), mask),
             high = shuffle_xor(static_cast<std::uint64_t>(m >> 64), mask);
  return (Mass{high} << 64) + low;
}
VM_INLINE Mass total_mass(Mass own, RadixScratch& scratch) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) own += shuffle_mass(own, mask);
  sync_block();
  if (lane() == 0) scratch.of_warp[thread() / lanes_of_warp] = own;
  sync_block();
  Mass sum = 0;
  for (const Mass each : scratch.of_warp) sum += each;
  return sum;
}

// Keys from `low` on that matter, of which the first pass looks at those from `first` on; `left` of their weight is
// wanted.
struct Range {
  std::uint64_t low, first, high;
  Mass left;
};

// By the first warp: the bin in which what is wanted is reached.  The bins are those of keys from `low` to `high`.
VM_INLINE void settle_bin(RadixScratch& scratch, std::uint64_t low, std::uint64_t high, int shift, Mass left) {
  constexpr unsigned each = bin_count / lanes_of_warp;
  const unsigned top = bin_count - 1 - lane() * each;  // this lane's bins go down from here
  Mass own = 0;
  for (unsigned i = 0; i < each; ++i) own += scratch.bins[top - i].mass();
  Mass above = 0, all = own;
  for (unsigned mask = 1; mask < lanes_of_warp; mask *= 2) {
    const Mass other = shuffle_mass(all, mask);
    if ((lane() & mask) != 0) above += other;
    all += other;
  }
  if (all < left && lane() == 0) scratch.reached = false, scratch.left = left - all;
  if (!(above < left && left <= above + own)) return;
  unsigned bin = top;
  for (unsigned i = 0; i < each; ++i, --bin) {
    const Mass here = scratch.bins[bin].mass();
    if (above + here >= left) break;
    above += here;
  }
  scratch.reached = true, scratch.left = left - above, scratch.count = scratch.bins[bin].count;
  scratch.low = low + (std::uint64_t{bin} << shift);
  const std::uint64_t width = (std::uint64_t{1} << shift) - 1;
  scratch.high = high - scratch.low < width ? high : scratch.low + width;
}

VM_INLINE int bits_of_range(std::uint64_t range) {
  int bits = 0;
  for (int half = 32; half > 0; half /= 2)
    if ((range >> half) != 0) bits += half, range >>= half;
  return bits + (range != 0);
}

// `each(low, fn)` calls fn(key, weight) by any threads for all there is, at least from `low` on.  Returns a range of
// one key, or of few entries, and what is left to be reached in it.
template <class Each>
VM_INLINE Range radix_select(Range range, RadixScratch& scratch, std::uint64_t& count, const Each& each) {
  std::uint64_t low = range.first;
  while (true) {
    const int bits = bits_of_range(range.high - low), shift = bits > bin_bits ? bits - bin_bits : 0;
    sync_block();
    for (unsigned i = thread(); i < bin_count; i += threads()) scratch.bins[i] = {};
    sync_block();
    each(low, [&](std::uint64_t key, std::uint64_t weight) {
      if (key < low || key > range.high) return;
      Bin& bin = scratch.bins[(key - low) >> shift];
      add(bin.low, weight & 0xffffffff), add(bin.high, weight >> 32), add(bin.count, std::uint64_t{1});
    });
    sync_block();
    if (thread() < lanes_of_warp) settle_bin(scratch, low, range.high, shift, range.left);
    sync_block();
    range.left = scratch.left;
    if (!scratch.reached) {
      range.high = low - 1, low = range.low;
      continue;
    }
    range.low = low = scratch.low, range.high = scratch.high, count = scratch.count;
    if (low == range.high || count <= most_listed) return range;
  }
}

}  // namespace vastmax::VM_ISA
