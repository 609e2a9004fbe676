// SPDX-License-Identifier: Apache-2.0
// softplus_backward: g sigmoid(beta x)
#pragma once

#include "ops/sigmoid.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct SoftplusBackward {
  V beta;
  VM_MEMBER explicit SoftplusBackward(double b) : beta(splat<V>(static_cast<typename V::scalar>(b))) {}
  VM_MEMBER V operator()(V g, V x) const { return g * Sigmoid<V, brief>(1)(beta * x); }
};

}  // namespace vastmax::VM_ISA
