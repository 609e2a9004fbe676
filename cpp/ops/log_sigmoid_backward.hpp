// SPDX-License-Identifier: Apache-2.0
// log_sigmoid_backward: g sigmoid(-x)
#pragma once

#include "cpp/ops/sigmoid.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct LogSigmoidBackward {
  VM_MEMBER explicit LogSigmoidBackward(double) {}
  VM_MEMBER V operator()(V g, V x) const { return g * Sigmoid<V, brief>(1)(negate(x)); }
};

}  // namespace vastmax::VM_ISA
