// SPDX-License-Identifier: Apache-2.0
// The normaliser of a stretch of logits and how two of them merge: what lanes, threads and shards of a vocabulary
// share.
#pragma once

#include <cstddef>
#include <limits>

// Kernels include this too: nothing here may become a function that two sets of compiler flags share (simd/isa.hpp).
#define VM_SHARED [[gnu::always_inline]] inline

namespace vastmax {

// A block's part: sum of e^(x - base) 2^-ref over its logits, where base is 0, or `max` when max is too large for the
// exponent reduction (|max| > reducible).  `max` is -inf for a block of -inf; `sum` is NaN if any logit is.
struct Partial {
  double max, sum, lost;  // lost: what rounding took from sum
  int ref;
};

// Terms are e^x 2^-ref with ref this far below the exponent of the largest: with `span` in simd/math.hpp everything
// that can show in a result is a normal number, and so is a scale of 2^-33 or more times it.
template <class F>
inline constexpr int head_room = sizeof(F) == 4 ? 64 : 500;

// Up to here k ln2 in simd/math.hpp stays exact and k - ref fits the exponent arithmetic.  Beyond, x - max is exact
// wherever e^(x - max) is not 0 (Sterbenz), so the stretch is shifted by max first.
inline constexpr double reducible = 4096;
VM_SHARED bool shifted(double max) { return !(max >= -reducible && max <= reducible); }

// Sums are kept as an unevaluated pair: 10^7 logits are thousands of blocks, whose rounding would show in float64.
struct TwoSum {
  double high = 0, low = 0;
  VM_SHARED void add(double value) {
    const double sum = high + value, part = sum - high;
    low += (high - (sum - part)) + (value - part);
    high = sum;
  }
  VM_SHARED void scale(double factor) {
    high *= factor;
    low *= factor;
  }
  VM_SHARED double value() const { return high + low; }
};

// The normaliser of the blocks seen so far, in the unit of the block that holds the largest logit.  That block's own
// sum is kept apart: where it is nearly all the largest logit, it is summed again without it (core/norm_run.hpp), and
// log1p keeps what is left.
class Norm {
 public:
  double max = -std::numeric_limits<double>::infinity(), top = 0, top_lost = 0;
  TwoSum others;
  int ref = 0;
  std::size_t where = 0;  // the block that holds max; the first one of several
  bool seen = false;      // any entry that `where=` leaves in

  // `ratio(from, to)` is e^(base_from - base_to) 2^(ref_from - ref_to).
  template <class Ratio>
  void merge(const Partial& part, std::size_t block, Ratio ratio) {
    if (part.max > max || block == 0) {
      const Partial before{max, top, top_lost, ref};
      const double factor = top == 0 && others.high == 0 ? 0 : ratio(before, part);
      others.scale(factor);
      others.add(top * factor);
      others.low += top_lost * factor;
      max = part.max, top = part.sum, top_lost = part.lost, ref = part.ref, where = block;
    } else if (part.sum != 0) {  // NaN too
      const double factor = ratio(part, Partial{max, top, top_lost, ref});
      others.add(part.sum * factor);
      others.low += part.lost * factor;
    }
  }
  double sum() const { return (others.low + top_lost) + (others.high + top); }
};

}  // namespace vastmax
