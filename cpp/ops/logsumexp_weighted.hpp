// SPDX-License-Identifier: Apache-2.0
// A term of logsumexp with weights: w e^(x - max) in float64 whatever the dtype, because signed terms may cancel.
#pragma once

#include "cpp/math/algebra.hpp"
#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>  // of float64
class WeightedTerm {
  using N = Number<double>;

 public:
  VM_MEMBER explicit WeightedTerm(double max)
      : infinite_(max == N::infinity || max == -N::infinity),
        base_(splat<V>(infinite_ ? 0 : max)),
        top_(splat<V>(max)),
        unit_(splat<V>(max < 0 ? 0 : max)) {}

  // The exponent of a term, or one next to it; -inf for what is no finite number other than 0.
  VM_MEMBER V exponent(V x, V w) const {
    const V none = splat<V>(-N::infinity);
    if (infinite_) return none;
    const V apart = max(splat<V>(-4096), x - base_), power = reduce(apart, splat<V>(N::integer)).k;
    return select(countable(x, w), power + Parts(w).exponent, none);
  }
  // The unit of terms of which the largest has that exponent; 1 where none is a finite number.
  VM_MEMBER static int unit(double exponent) {
    return exponent < -5000 ? 0 : static_cast<int>(exponent) - ScaledSum::largest;
  }
  // The term in the unit 2^reference.  One of weight 0 is nothing, even where x is infinite or
  // NaN.
  VM_MEMBER V operator()(V x, V w, int reference) const {
    const V zero = splat<V>(0);
    // Beside an infinite logit the finite ones are nothing: e^inf w is w inf.
    if (infinite_) return select(w == zero, zero, select(x == top_, w * unit_, keep(is_nan(x), x)));
    const Parts weight(w);
    const V term =
        weight.mantissa * ScaledExp<V>(splat<V>(static_cast<double>(reference)) - weight.exponent)(x - base_);
    const V endless = w * ScaledExp<V>(zero)(x - base_);  // infinite weights, NaN
    return select(w == zero, zero, select(abs(w) < splat<V>(N::infinity), term, endless));
  }
  VM_MEMBER bool infinite() const { return infinite_; }

 private:
  // w = mantissa 2^exponent for finite w other than 0, subnormal ones included.
  struct Parts {
    V exponent, mantissa;
    VM_MEMBER explicit Parts(V w) {
      const V tiny = keep(abs(w) < splat<V>(0x1p-1000), splat<V>(54));
      const V normal = w * select(splat<V>(0) < tiny, splat<V>(0x1p54), splat<V>(1));
      const V of_normal = exponent_sqrt2(abs(normal));
      exponent = of_normal - tiny, mantissa = shift_exponent(normal, splat<V>(N::integer) - of_normal);
    }
  };
  VM_MEMBER static auto countable(V x, V w) {
    const V zero = splat<V>(0), one = splat<V>(1), inf = splat<V>(N::infinity);
    const V usable = keep(zero < abs(w), keep(abs(w) < inf, one)), seen = keep(abs(x) < inf, one);
    return zero < usable * seen;
  }

  bool infinite_;
  V base_, top_, unit_;
};

}  // namespace vastmax::VM_ISA
