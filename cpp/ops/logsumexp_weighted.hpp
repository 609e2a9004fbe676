// SPDX-License-Identifier: Apache-2.0
// A term of logsumexp with weights: w e^(x - max) in float64 whatever the dtype, because signed terms may cancel.
#pragma once

#include "simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>  // of float64
class WeightedTerm {
 public:
  VM_MEMBER explicit WeightedTerm(double max)
      : infinite_(shifted_away(max)),
        base_(splat<V>(infinite_ ? 0 : max)),
        top_(splat<V>(max)),
        unit_(splat<V>(max < 0 ? 0 : max)),
        exp_(splat<vec<double>>(0)) {}

  // A term of weight 0 is nothing, even where x is infinite or NaN.
  VM_MEMBER V operator()(V x, V w) const {
    const V zero = splat<V>(0);
    // Beside an infinite logit the finite ones are nothing: e^inf w is w inf.
    const V term = infinite_ ? select(x == top_, w * unit_, keep(is_nan(x), x)) : w * through(exp_, x - base_);
    return select(w == zero, zero, term);
  }
  VM_MEMBER bool infinite() const { return infinite_; }

 private:
  VM_MEMBER static bool shifted_away(double max) {
    return max == Number<double>::infinity || max == -Number<double>::infinity;
  }
  bool infinite_;
  V base_, top_, unit_;
  ScaledExp<vec<double>> exp_;
};

}  // namespace vastmax::VM_ISA
