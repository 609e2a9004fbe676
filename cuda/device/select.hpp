// SPDX-License-Identifier: Apache-2.0
// What a search along the order of a row is made of: the best logit of a tile, and how a block counts, gathers and
// sorts together.
#pragma once

#include "cuda/device/order.hpp"
#include "cuda/device/tile.hpp"

namespace vastmax::VM_ISA {

// By one warp, whose lanes all return it.
template <class T, class Tile>
VM_INLINE Entry best_of(const Tile& x, std::int64_t start) {
  using V = vec<compute_t<T>>;
  V top = splat<V>(-Number<compute_t<T>>::infinity);
  bool nan = false;
  VM_UNROLL(64)
  for (int j = 0; j < per_lane<T>; ++j) {
    top = max(x[j], top);
    nan |= is_nan(x[j]).piece[0];
  }
  top = any(nan) ? splat<V>(Number<compute_t<T>>::nan) : warp_max(top);
  Entry best;
  VM_UNROLL(64)
  for (int j = per_lane<T> - 1; j >= 0; --j)
    if (x[j].piece[0].v == top.piece[0].v || (x[j].piece[0].v != x[j].piece[0].v))
      best.index = start + place_in_tile<T>(j);
  if (best.index != no_index) best.key = key_of(top.piece[0].v);
  return warp_best(best);
}

// How a block counts together.
struct alignas(16) Tally {
  std::int64_t of_warp[slots];
  unsigned filled;
};
VM_INLINE std::int64_t total(std::int64_t own, Tally& tally) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) own += shuffle_xor(own, mask);
  sync_block();
  if (lane() == 0) tally.of_warp[thread() / lanes_of_warp] = own;
  sync_block();
  std::int64_t sum = 0;
  for (const std::int64_t each : tally.of_warp) sum += each;
  return sum;
}
// fill(tally), then how many places it claimed.
template <class Fill>
VM_INLINE unsigned filled(Tally& tally, const Fill& fill) {
  sync_block();
  if (thread() == 0) tally.filled = 0;
  sync_block();
  fill();
  sync_block();
  return tally.filled;
}

// The best first (Batcher's bitonic network).
VM_INLINE void sort(Entry* entries, unsigned count) {
  unsigned size = 1;
  while (size < count) size *= 2;
  for (unsigned i = count + thread(); i < size; i += threads()) entries[i] = {};
  for (unsigned run = 2; run <= size; run *= 2)
    for (unsigned step = run / 2; step > 0; step /= 2) {
      sync_block();
      for (unsigned i = thread(); i < size / 2; i += threads()) {
        const unsigned low = i / step * step * 2 + i % step, high = low + step;
        const Entry a = entries[low], b = entries[high];
        if (b.reaches(a) == ((low & run) == 0)) entries[low] = b, entries[high] = a;
      }
    }
  sync_block();
}

}  // namespace vastmax::VM_ISA
