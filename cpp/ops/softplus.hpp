// SPDX-License-Identifier: Apache-2.0
// softplus: max(x, 0) + log(1 + e^(-beta |x|)) / beta, without a threshold
#pragma once

#include "simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct Softplus {
  V beta, inverse;
  VM_MEMBER explicit Softplus(double b)
      : beta(splat<V>(static_cast<typename V::scalar>(b))), inverse(splat<V>(static_cast<typename V::scalar>(1 / b))) {}
  VM_MEMBER V operator()(V x) const {
    return quiet(x, LogOnePlusExp<V, brief>(ExpPair<V, brief>(abs(beta * x))).added_to(max(x, splat<V>(0)), inverse));
  }
};

}  // namespace vastmax::VM_ISA
