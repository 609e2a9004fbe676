// SPDX-License-Identifier: Apache-2.0
// x / divisor for a float64 divisor, rounded once.
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>  // of float64
struct Quotient {
  V divisor;
  VM_MEMBER explicit Quotient(double d) : divisor(splat<V>(d)) {}
  VM_MEMBER V operator()(V x) const { return x / divisor; }
};

// A float64 quotient that is rounded to float32 is rounded twice, and x / 0.1 is a tie but for the last bits of 0.1 for
// one float32 in eight.  So the first rounding is to odd.
template <int K>
struct Quotient<Wide<P32, K>> {
  using V = Wide<P32, K>;
  using D = in_float64<V>;
  V single;
  D divisor, inverse, inverse_low;
  bool exact;
  VM_MEMBER explicit Quotient(double d)
      : single(splat<V>(static_cast<float>(d))),
        divisor(splat<D>(within_reach(d))),
        inverse(splat<D>(1 / within_reach(d))),
        inverse_low(nfma(inverse, divisor, splat<D>(1)) * inverse),
        exact(static_cast<float>(d) == d) {}
  VM_MEMBER V operator()(V x) const {
    if (exact) return x / single;
    const D wide = widened<D>(x);
    const D quotient = fma(wide, inverse, wide * inverse_low);  // within an ulp, so what it leaves is exact
    const V y = narrowed<V>(round_to_odd(quotient, nfma(quotient, divisor, wide)));
    return select(abs(x) < splat<V>(Number<float>::infinity), y, x);
  }

 private:
  // Beyond, the quotient of any float32 is 0 or infinite as a float32, and float64 would overflow on the way.
  VM_MEMBER static double within_reach(double d) { return d < 0x1p-800 ? 0x1p-800 : d > 0x1p800 ? 0x1p800 : d; }
};

}  // namespace vastmax::VM_ISA
