// SPDX-License-Identifier: Apache-2.0
// sigmoid: 1 / (1 + e^-x), as e^x / (1 + e^x) for negative x
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
VM_INLINE V sigmoid_of(V x, const ExpPair<V, brief>& e) {
  const V one = splat<V>(1), zero = splat<V>(0);
  const auto negative = x < zero;
  const V above = select(negative, e.high, one);
  V y;
  if constexpr (brief) {
    y = above / fma(e.high, e.unit, one);
  } else {
    const V whole = e.high * e.unit, low = e.low * e.unit;
    const V divisor = one + whole, divisor_low = (whole - (divisor - one)) + low;
    const V quotient = above / divisor;
    // What the rounded quotient left over, times 1 / divisor to 12 %: one correction makes it good to 0.6 ULP.
    const V left = nfma(quotient, divisor, above) + nfma(quotient, divisor_low, keep(negative, e.low));
    y = fma(left, fma(splat<V>(static_cast<typename V::scalar>(-0.5)), whole, one), quotient);
  }
  return select(negative, e.scale(y), y);
}

template <class V, bool brief>
struct Sigmoid {
  VM_MEMBER explicit Sigmoid(double) {}
  VM_MEMBER V operator()(V x) const { return quiet(x, sigmoid_of(x, ExpPair<V, brief>(abs(x)))); }
};

}  // namespace vastmax::VM_ISA
