// SPDX-License-Identifier: Apache-2.0
// sigmoid_backward: g y (1 - y), y = sigmoid(x)
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct SigmoidBackward {
  VM_MEMBER explicit SigmoidBackward(double) {}
  VM_MEMBER V operator()(V g, V y) const { return g * ((splat<V>(1) - y) * y); }
};

}  // namespace vastmax::VM_ISA
