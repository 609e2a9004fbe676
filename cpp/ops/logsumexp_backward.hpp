// SPDX-License-Identifier: Apache-2.0
// logsumexp_backward: grad e^x / sum
#pragma once

#include "cpp/ops/softmax.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct LogSumExpBackward {
  Softmax<V, brief> softmax;
  V grad;
  VM_MEMBER explicit LogSumExpBackward(const RowValues<V>& row) : softmax(row), grad(row.grad) {}
  VM_MEMBER V operator()(V x) const { return softmax(x) * grad; }
};

}  // namespace vastmax::VM_ISA
