// SPDX-License-Identifier: Apache-2.0
// softcap: c tanh(x / c), and its slope 4 e / (1 + e)^2 with e = e^(-2 |x| / c).  In float64 float32 logits are rounded
// once; in float32 it is good to 3 ULP.
#pragma once

#include "simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct Softcap {
  using F = typename V::scalar;
  static constexpr F most = sizeof(F) == 4 ? 87 : 700;  // beyond, tanh is 1 and its slope 0
  V cap, inverse, inverse_low, one = splat<V>(1);       // inverse: of c / 2, in two parts
  VM_MEMBER explicit Softcap(double c)
      : cap(splat<V>(static_cast<F>(c))),
        inverse(splat<V>(static_cast<F>(2 / c))),
        inverse_low(nfma(inverse, cap, splat<V>(2)) / cap) {}

  // e = unit (1 + p), where p is e^r - 1 to full relative accuracy
  struct Parts {
    V unit, p;
  };
  VM_MEMBER Parts parts(V x) const {
    const V a = abs(x), product = a * inverse, exponent = max(splat<V>(-most), negate(product));
    const auto e = ScaledExp<V>(splat<V>(0)).parts(exponent);
    const V lost = keep(product < splat<V>(most), fma(a, inverse_low, fma(a, inverse, negate(product))));
    const V p = e.r * e.slope;
    return {power_of_two(e.rounded), nfma(lost, one + p, p)};
  }
  VM_MEMBER V operator()(V x) const {
    const Parts e = parts(x);
    const V tanh = nfma(e.unit, e.p, one - e.unit) / fma(e.unit, e.p, one + e.unit);
    return quiet(x, cap * select(x < splat<V>(0), negate(tanh), tanh));
  }
  VM_MEMBER V slope(V x) const {
    const Parts e = parts(x);
    const V divisor = fma(e.unit, e.p, one + e.unit);
    const V y = splat<V>(4) * fma(e.unit, e.p, e.unit) / (divisor * divisor);
    return quiet(x, keep(abs(x) * inverse < splat<V>(most), y));
  }
};

}  // namespace vastmax::VM_ISA
