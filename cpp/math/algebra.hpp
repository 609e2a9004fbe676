// SPDX-License-Identifier: Apache-2.0
// The normaliser of a stretch of logits, how two of them merge and what a row's formula needs of it: what lanes,
// threads, backends and shards of a vocabulary share.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

// Kernels include this too: nothing here may become a function that two sets of compiler flags share (simd/isa.hpp).
#ifdef __CUDACC__
#define VM_SHARED [[gnu::always_inline]] inline __host__ __device__
#else
#define VM_SHARED [[gnu::always_inline]] inline
#endif

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

inline constexpr double infinity = __builtin_inf();

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
// Where the sum is infinite, what rounding took from it is not a number.
VM_SHARED double value_of(const TwoSum& sum) { return sum.high - sum.high == 0 ? sum.value() : sum.high; }

// The normaliser of the blocks seen so far, in the unit of the block that holds the largest logit.  That block's own
// sum is kept apart: where it is nearly all the largest logit, it is summed again without it (core/norm_run.hpp), and
// log1p keeps what is left.
class Norm {
 public:
  double max = -infinity, top = 0, top_lost = 0;
  TwoSum others;
  int ref = 0;
  std::size_t where = 0;  // the block that holds max; the first one of several
  bool seen = false;      // any entry that `where=` leaves in

  // `ratio(from, to)` is e^(base_from - base_to) 2^(ref_from - ref_to).
  template <class Ratio>
  VM_SHARED void merge(const Partial& part, std::size_t block, Ratio ratio) {
    if (part.max > max) {
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
  // Another stretch of the row, which brings several blocks; `where` means nothing then.
  template <class Ratio>
  VM_SHARED void merge(Norm other, Ratio ratio) {
    if (other.max > max) {
      const Norm mine = *this;
      *this = other;
      other = mine;
    }
    seen = seen || other.seen;
    if (other.sum() == 0) return;
    const double factor =
        ratio(Partial{other.max, other.top, other.top_lost, other.ref}, Partial{max, top, top_lost, ref});
    others.add(other.top * factor);
    others.add(other.others.high * factor);
    others.low += (other.top_lost + other.others.low) * factor;
  }
  VM_SHARED double sum() const { return (others.low + top_lost) + (others.high + top); }

  // A row with a NaN, a +inf, nothing but -inf, or everything masked.
  VM_SHARED bool special() const { return !(max > -infinity && max < infinity) || sum() != sum(); }
  VM_SHARED bool has_nan() const { return sum() != sum() && seen; }
};

// What a formula knows of its row besides the logits.
struct RowParams {
  double ref = 0;         // exponent that ScaledExp divides by
  double max = 0;         // largest logit
  double scale = 0;       // 1 / sum, in the unit of the largest term
  double correction = 0;  // what rounding took from scale: 1 / sum = scale (1 + correction)
  double log = 0;         // -log(sum / e^max), never -0
  double grad = 0;        // gradient of the row's result, or the row's dot product
};

// Below, `math` has exp_scaled, exp_difference, log1p and peak (kernels/norm.hpp), and `rest()` is the sum of the
// block that holds the row's largest logit, without it.

// e^(max - base) 2^-ref
template <class Math>
VM_SHARED double top_of(const Math& math, double max, int ref) {
  return math.exp_scaled(shifted(max) ? 0 : max, ref);
}

template <class Math>
VM_SHARED double ratio(const Math& math, const Partial& from, const Partial& to) {
  if (from.max == -infinity) return 0;
  if (to.max == infinity || to.max == -infinity) return 0;  // the row is special; its sum does not matter
  if (!shifted(from.max) && !shifted(to.max)) return ldexp(1.0, from.ref - to.ref);
  return math.exp_difference(from.max - to.max) * top_of(math, to.max, to.ref) / top_of(math, from.max, from.ref);
}

// sum / e^max - 1, to full relative accuracy: below 1 the largest logit is left out of the sum rather than subtracted
// from it.
template <class Math, class Rest>
VM_SHARED double over_max(const Math& math, const Norm& norm, const Rest& rest) {
  const double top = top_of(math, norm.max, norm.ref), sum = norm.sum();
  if (sum > 1.75 * top) return (sum - top) / top;  // two equal logits make 2, give or take a rounding
  return (norm.others.value() + rest()) / top;
}

// log(sum / e^max), 0 for a special row
template <class Math, class Rest>
VM_SHARED double log_over_max(const Math& math, const Norm& norm, const Rest& rest) {
  return norm.special() ? 0 : math.log1p(over_max(math, norm, rest));
}

// With that logarithm: the one of the sum, and the one of the probability of a logit z.
VM_SHARED double log_sum(const Norm& norm, double log) {
  if (norm.has_nan()) return __builtin_nan("");
  if (!norm.seen) return -infinity;
  return norm.special() ? norm.max : norm.max + log;
}
VM_SHARED double log_probability(const Norm& norm, double log, double z) {
  if (norm.has_nan() || (norm.seen && norm.max == -infinity)) return __builtin_nan("");
  if (!norm.seen) return -infinity;
  if (norm.max == infinity) return z == infinity ? __builtin_nan("") : -infinity;
  return (z - norm.max) - log;
}
template <class Math, class Rest>
VM_SHARED double log_sum(const Math& math, const Norm& norm, const Rest& rest) {
  return log_sum(norm, log_over_max(math, norm, rest));
}

// A sum of signed terms in the unit 2^exponent.  Weights are of any size, so the largest term of a sum is brought to
// 2^largest: sums of many do not overflow, and what is left when such terms cancel does not underflow.
struct ScaledSum {
  static constexpr int largest = 900;
  TwoSum sum;
  int exponent = 0;
  VM_SHARED static TwoSum in_unit(const TwoSum& sum, int from, int to) {
    return {ldexp(sum.high, from - to), ldexp(sum.low, from - to)};
  }
  VM_SHARED void add(const TwoSum& part, int part_exponent) {
    if (part.high == 0 && part.low == 0) return;
    const bool first = sum.high == 0 && sum.low == 0;
    const int unit = first || part_exponent > exponent ? part_exponent : exponent;
    const TwoSum scaled = in_unit(part, part_exponent, unit);
    sum = in_unit(sum, exponent, unit), exponent = unit;
    sum.add(scaled.high);
    sum.low += scaled.low;
  }
};

// The logarithm of such a sum in the unit e^max, and its sign.  `log(x, low)` is that of x + low, for normal x and what
// rounding took from it: close to 1 that is what the result is made of.
struct SignedLog {
  double value, sign;
};
template <class Log>
VM_SHARED SignedLog signed_log(double max, const ScaledSum& scaled, bool negative_allowed, const Log& log) {
  const TwoSum& sum = scaled.sum;
  const bool infinite = sum.high == infinity || sum.high == -infinity;
  const double total = infinite ? sum.high : sum.value();
  if (total != total) return {total, total};
  const double sign = total > 0 ? 1 : total < 0 ? -1 : 0;
  if (total < 0 && !negative_allowed) return {__builtin_nan(""), sign};
  if (total == 0) return {-infinity, 0};
  if (infinite) return {infinity, sign};
  const double size = sign * total, low = sign * ((sum.high - total) + sum.low);
  const int own = ilogb(size), exponent = scaled.exponent + own;
  const bool usual = exponent > -900 && exponent < 900;
  const int shift = usual ? scaled.exponent : -own;
  const double value = log(ldexp(size, shift), ldexp(low, shift));
  return {max + (usual ? value : value + exponent * 0.693147180559945309417), sign};
}

// numerator / sum as scale (1 + correction), in a type that holds neither exactly.
template <class F>
VM_SHARED void quotient(double numerator, const TwoSum& sum, RowParams& row) {
  row.scale = static_cast<F>(numerator / sum.value());
  row.correction = (fma(-row.scale, sum.high, numerator) - row.scale * sum.low) / numerator;
}

// The largest term of a row as the map pass knows it, unit (1 + q): a sum holds `sum`, which is 1 + q - error.
struct Peak {
  double unit, sum, error;
};

// `numerator`, of magnitude 1 to 2^30, takes the place of the 1 in 1 / sum.
template <class F, class Math, class Rest>
VM_SHARED RowParams row_params(const Math& math, bool logarithm, const Norm& norm, const Rest& rest,
                               double numerator = 1) {
  RowParams row;
  if (norm.special()) return row;
  row.ref = norm.ref;
  row.max = shifted(norm.max) ? 0 : norm.max;
  if (logarithm) {
    row.log = 0.0 - math.log1p(over_max(math, norm, rest));
  } else {
    const Peak peak = math.peak(row.max, norm.ref);
    TwoSum sum = norm.others;
    sum.add(norm.top);
    sum.add(peak.unit * peak.error);
    sum.scale(ldexp(1.0, -head_room<F>));  // to the unit of the largest term, so that a scale stays a normal number
    quotient<F>(numerator, sum, row);
    // The map pass drops the product of q and the correction: what is alone in its row shows that, and gives exactly 1.
    if (norm.others.value() == 0 && norm.top == peak.unit * peak.sum) row.correction *= peak.sum;
  }
  return row;
}

// What a special row holds at each entry: see the table of special values.
enum class Special : std::uint8_t { zero, minus_infinity, nan };
enum class Role : std::uint8_t { probability, log_probability, gradient };
VM_SHARED Special special_value(Role role, bool row_has_nan, double max, bool in, bool at_infinity) {
  if (!in) return role == Role::log_probability ? Special::minus_infinity : Special::zero;
  if (row_has_nan) return Special::nan;
  if (role == Role::log_probability && max == infinity && !at_infinity) return Special::minus_infinity;
  return role == Role::gradient && max == -infinity ? Special::zero : Special::nan;
}

}  // namespace vastmax
