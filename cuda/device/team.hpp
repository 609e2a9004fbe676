// SPDX-License-Identifier: Apache-2.0
// Who merges the parts of a row: a warp, or where they are many a block of 256.  The same additions, hence the same
// bits.
#pragma once

#include "cuda/device/norm.hpp"
#include "cuda/device/order.hpp"

namespace vastmax::VM_ISA {

template <bool by_block>
class Team {
 public:
  // fn(row) for every row of the launch.
  template <class Fn>
  VM_MEMBER static void each_row(std::int64_t rows, const Fn& fn) {
    const std::int64_t step = by_block ? blocks() : global_warps();
    for (std::int64_t row = by_block ? block() : global_warp(); row < rows; row += step) {
      fn(row);
      if (by_block) sync_block();
    }
  }
  VM_MEMBER static bool first() { return (by_block ? thread() : lane()) == 0; }

  // Its `others` are known to the first warp only.
  template <class F>
  VM_MEMBER static Norm norm(const TilePart* parts, std::int64_t tiles) {
    if constexpr (by_block) {
      sync_block();
      return merge_by_block<F>(parts, tiles, scratch().merge);
    } else {
      return merge_by_warp<F>(parts, tiles);
    }
  }
  VM_MEMBER static Best best(const TilePart* parts, std::int64_t tiles) {
    if constexpr (by_block) {
      sync_block();
      return best_by_block(parts, tiles, scratch().merge);
    } else {
      return best_by_warp(parts, tiles);
    }
  }
  // Of `add(sum, t)` for each tile t, in the first warp.
  template <class Add>
  VM_MEMBER static TwoSum total(std::int64_t tiles, const Add& add) {
    if constexpr (by_block) {
      sync_block();
      return total_by_block(tiles, scratch().merge.sum, add);
    } else {
      return total_by_warp(tiles, add);
    }
  }
  VM_MEMBER static Entry best(const Entry* entries, std::int64_t tiles) {
    Entry best;
    const unsigned me = by_block ? thread() : lane(), team = by_block ? threads() : lanes_of_warp;
    for (std::int64_t t = me; t < tiles; t += team) best.join(entries[t]);
    best = warp_best(best);
    if constexpr (by_block) {
      sync_block();
      if (lane() == 0) scratch().best[me / lanes_of_warp] = best;
      sync_block();
      for (const Entry& each : scratch().best) best.join(each);
    }
    return best;
  }

  // What the first thread has, for all of them.
  VM_MEMBER static double told(double value) {
    if constexpr (by_block) {
      sync_block();
      if (first()) scratch().told = value;
      sync_block();
      value = scratch().told;
    }
    return value;
  }

  struct Scratch {
    MergeScratch merge;
    double told;
    Entry best[slots];
  };

 private:
  VM_MEMBER static Scratch& scratch() { return *reinterpret_cast<Scratch*>(shared_memory()); }
};

}  // namespace vastmax::VM_ISA
