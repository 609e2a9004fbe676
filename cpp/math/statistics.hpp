// SPDX-License-Identifier: Apache-2.0
// Entropy and divergence of a row from what its stretches leave: what both backends share.
#pragma once

#include "cpp/math/algebra.hpp"

namespace vastmax {

VM_SHARED Partial top_part(const Norm& norm) { return {norm.max, norm.top, norm.top_lost, norm.ref}; }
VM_SHARED Partial whole(const Norm& norm) { return {norm.max, norm.sum(), 0, norm.ref}; }

// Gaps are sum e^x (base - x), base the largest logit of a stretch.  From there to the row's largest, in the row's
// unit:
template <class Math>
VM_SHARED double gaps_in_row(const Math& math, const Norm& norm, const Partial& part, const TwoSum& gaps) {
  const double moved = gaps.value() + (part.sum + part.lost) * (norm.max - part.max);
  return moved * ratio(math, part, top_part(norm));
}
// Where the largest logit is nearly all of the sum, what is beside it has drowned: the stretch that holds it is summed
// again without it.
template <class Math>
VM_SHARED bool drowned(const Math& math, const Norm& norm) {
  return !(norm.sum() > 1.75 * top_of(math, norm.max, norm.ref));
}
// log(sum / e^max) + sum p (max - x): both of one sign.
VM_SHARED double entropy_of(const Norm& norm, double log, const TwoSum& gaps) {
  return norm.special() ? __builtin_nan("") : log + gaps.value() / norm.sum();
}

// The divergence of p from q, x and z their logits, is sum p u with u = log p - log q.  Where p and q are alike, that
// sum cancels; sum p (e^-u - 1 + u) does not, and is the same but for what q has where p has nothing: sum p e^-u is 1.
// Both normalisers, which u needs, are nearly known in a stretch: there u is x - z less those of the largest logits,
// less an offset.  Between stretches it is the difference of these, in turn (the chain rule of the divergence).
struct Differences {
  double offset = 0;
  TwoSum gaps, above;  // sums of terms of p times u, and times e^-u - 1 + u; 2^-500 of them
  double far = 0;  // below least_gap, where e^-u would grow the rounding of u, the terms of q are summed in its place
};
inline constexpr double least_gap = -4, unlifted = 0x1p-500;
static_assert(head_room<double> == 500);

// What a stretch is measured from: its largest logit, if that is finite.
VM_SHARED double base_of(double max) { return max - max == 0 ? max : 0; }
VM_SHARED double shift_of(double max) { return shifted(max) ? base_of(max) : 0; }

// About log (sum / e^max of p over that of q).  What u is off by alike for all classes comes out again, but for the
// rounding of its square: so 0 does where one class has most of both, and where the logarithm is a rounding.
template <class Math>
VM_SHARED double sum_over_max(const Math& math, const Partial& part) {
  return part.sum / top_of(math, part.max, part.ref);
}
template <class Math>
VM_SHARED double offset_of(const Math& math, const Partial& p, const Partial& q) {
  const double p_over = sum_over_max(math, p), q_over = sum_over_max(math, q);
  if (!(p_over > 0 && q_over > 0) || (p_over < 1.75 && q_over < 1.75)) return 0;
  const double offset = math.log(p_over / q_over);
  return offset > -0x1p-50 && offset < 0x1p-50 ? 0 : offset;
}

// What a stretch adds to the sums of its row, whose offset is given.
struct RowDifferences {
  double gaps, above, far;
};
template <class Math>
VM_SHARED RowDifferences in_row(const Math& math, const Norm& p, const Norm& q, double offset, const Partial& p_part,
                                const Partial& q_part, const Differences& own) {
  const double factor = ratio(math, p_part, top_part(p)), q_factor = ratio(math, q_part, top_part(q)),
               q_sum = (q_part.sum + q_part.lost) * q_factor;
  if (factor == 0) return {0, 0, q_sum};
  const double moves[] = {p_part.max, -p.max, -base_of(q_part.max), base_of(q.max), own.offset, -offset};
  TwoSum moved;
  for (const double each : moves) moved.add(each);
  const double u = value_of(moved), share = (p_part.sum + p_part.lost) * unlifted, gaps = value_of(own.gaps),
               all_gaps = gaps + share * u;
  if (u < least_gap) return {all_gaps * factor, (all_gaps - share) * factor, q_sum};
  const double above = math.above_tangent(u), slope = above - u, scale = u > 0 ? math.exp_difference(-u) : 1 + slope;
  return {all_gaps * factor, (share * above + (scale * value_of(own.above) - slope * gaps)) * factor,
          own.far * q_factor};
}

// y - log(1 + y), to full relative accuracy: that is e^w - 1 - w for w = log(1 + y).
template <class Math>
VM_SHARED double log_below_tangent(const Math& math, double y) {
  const double w = y > -0x1p-26 && y < 0x1p-26 ? y : math.log(1 + y), above = math.above_tangent(-w);
  return above + (y - (above + w)) * (y / (1 + y));  // a step of Newton's
}

template <class Math>
VM_SHARED double divergence_of(const Math& math, const Norm& p, const Norm& q, double offset, const TwoSum& gaps,
                               const TwoSum& above, double far) {
  if (p.special() || q.special()) return __builtin_nan("");
  const double sum = p.sum() * unlifted, mean = value_of(gaps) / sum, bent = value_of(above) / sum,
               far_share = far / q.sum();
  if (bent + far_share < 4 && far_share < 0.75) {
    // sum p e^-u of what is near, over what q has there, is off 1 as u is off
    const double excess = (bent - mean) + far_share, factor = excess / (1 - far_share);
    const double divergence = (bent + far_share) + (factor * far_share - log_below_tangent(math, factor));
    return divergence > 0 ? divergence : 0;
  }
  return mean + (offset - math.log(sum_over_max(math, whole(p)) / sum_over_max(math, whole(q))));
}

}  // namespace vastmax
