// SPDX-License-Identifier: Apache-2.0
// log_sigmoid: -softplus(-x)
#pragma once

#include "cpp/ops/softplus.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct LogSigmoid {
  VM_MEMBER explicit LogSigmoid(double) {}
  VM_MEMBER V operator()(V x) const { return quiet(x, negate(Softplus<V, brief>(1)(negate(x)))); }
};

}  // namespace vastmax::VM_ISA
