// SPDX-License-Identifier: Apache-2.0
// x / divisor for a float64 divisor, rounded once: what the division by its nearest F left over is divided again.
#pragma once

#include "simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct Quotient {
  using F = typename V::scalar;
  V divisor, divisor_low, inverse;
  bool exact;
  VM_MEMBER explicit Quotient(double d)
      : divisor(splat<V>(static_cast<F>(d))),
        divisor_low(splat<V>(static_cast<F>(d - static_cast<F>(d)))),
        inverse(splat<V>(static_cast<F>(1 / d))),
        exact(static_cast<F>(d) == d) {}
  VM_MEMBER V operator()(V x) const {
    const V quotient = x / divisor;
    if (exact) return quotient;
    const V better = fma(nfma(quotient, divisor_low, nfma(quotient, divisor, x)), inverse, quotient);
    return select(is_nan(better), quotient, better);  // infinite logits
  }
};

}  // namespace vastmax::VM_ISA
