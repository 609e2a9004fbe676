// SPDX-License-Identifier: Apache-2.0
// softplus: max(x, 0) + log(1 + e^(-beta |x|)) / beta, without a threshold
#pragma once

#include <cmath>

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

// What beta asks for more precision than its result has: 1 / beta alone would take half of the error that there may be.
// Float32 has that for results of 16 bits.
template <class V, bool brief>
struct Precise {
  using type = in_float64<V>;
};
template <class V>
struct Precise<V, true> {
  using type = V;
};

// beta |x| and what rounding takes from it: an error of half an ulp there is one of |beta x| / 2 ulp of e^-(beta |x|).
template <class V>
class Scaled {
  using F = typename V::scalar;
  V beta_, beta_low_;

 public:
  VM_MEMBER explicit Scaled(double beta)
      : beta_(splat<V>(static_cast<F>(beta))), beta_low_(splat<V>(static_cast<F>(beta - static_cast<F>(beta)))) {}
  VM_MEMBER ExpPair<V> exp(V x) const {
    const V magnitude = abs(x), a = beta_ * magnitude;
    return ExpPair<V>(a, fma(beta_low_, magnitude, fma(beta_, magnitude, negate(a))));
  }
};

template <class V>
class SoftplusOfBeta {
  using F = typename V::scalar;
  using N = Number<F>;
  Scaled<V> scaled_;
  V exponent_, inverse_, inverse_low_;  // beta is 2^exponent / inverse

 public:
  VM_MEMBER explicit SoftplusOfBeta(double beta) : scaled_(beta), exponent_(splat<V>(static_cast<F>(ilogb(beta)))) {
    const double mantissa = ldexp(beta, -ilogb(beta)), inverse = static_cast<F>(1 / mantissa);
    inverse_ = splat<V>(static_cast<F>(inverse));
    inverse_low_ = splat<V>(static_cast<F>(__builtin_fma(-inverse, mantissa, 1.0) / mantissa));
  }
  VM_MEMBER V operator()(V x) const {
    const ExpPair<V> e = scaled_.exp(x);
    const auto log = LogOnePlusExp<V>(e).parts(e);
    const V high = log.high * inverse_, low = fma(log.low, inverse_, log.high * inverse_low_);
    const V left = low + fma(log.high, inverse_, negate(high));
    // 25 binary places below the smallest subnormal all is 0, as far as the exponents of F reach.
    const V power = max(log.rounded - exponent_, splat<V>(N::integer - 25 + N::least * N::log2e));
    V sum = max(x, splat<V>(0)), lost = times_power(left, power);
    two_sum(sum, lost, times_power(high, power));
    return quiet(x, select(sum < splat<V>(N::infinity), sum + lost, sum));
  }

 private:
  // y 2^k, where `rounded` carries k
  VM_MEMBER static V times_power(V y, V rounded) {
    constexpr F lifts = sizeof(F) == 4 ? 64 : 500;  // the exponent of `lift`
    const V lifted = y * shift_exponent(splat<V>(N::lift), rounded) * splat<V>(N::unlift);
    return select(not_less(rounded, splat<V>(N::integer - lifts)), y * shift_exponent(splat<V>(1), rounded), lifted);
  }
};

template <class V, bool brief>
struct Softplus {
  using W = typename Precise<V, brief>::type;
  bool unit;
  SoftplusOfBeta<W> of_beta;
  VM_MEMBER explicit Softplus(double beta) : unit(beta == 1), of_beta(beta) {}
  VM_MEMBER V operator()(V x) const {
    if (!unit) return narrowed<V>(of_beta(widened<W>(x)));
    return quiet(x, LogOnePlusExp<V, brief>(ExpPair<V, brief>(abs(x))).added_to(max(x, splat<V>(0))));
  }
};

}  // namespace vastmax::VM_ISA
