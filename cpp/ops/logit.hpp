// SPDX-License-Identifier: Apache-2.0
// logit: log(p / (1 - p)), as 2 atanh(2p - 1) near one half where the quotient would round the answer away
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct Logit {
  using F = typename V::scalar;
  VM_MEMBER explicit Logit(double) {}
  VM_MEMBER V operator()(V p) const {
    using N = Number<F>;
    const V zero = splat<V>(0), one = splat<V>(1);
    const V s = (p + p) - one, z = s * s;
    const V near_half = fma(s * z, polynomial<typename Coefficients<F>::atanh_tail>(z), s + s);
    const auto tiny = p < splat<V>(N::unlift);  // lifted by a power of two, subnormals among them become normal
    const V odds = select(tiny, p * splat<V>(N::lift), p / (one - p));
    const V lifted = keep(tiny, splat<V>(static_cast<F>(sizeof(F) == 4 ? 64 : 500)));
    const V far = nfma(lifted, splat<V>(N::ln2_high), nfma(lifted, splat<V>(N::ln2_low), log_pair(odds, zero)));
    V y = select(abs(s) < splat<V>(static_cast<F>(0.17)), near_half, far);
    y = select(p == zero, splat<V>(-N::infinity), select(p == one, splat<V>(N::infinity), y));
    return select(not_less(p, zero), select(one < p, splat<V>(N::nan), quiet(p, y)), splat<V>(N::nan));
  }
};

}  // namespace vastmax::VM_ISA
