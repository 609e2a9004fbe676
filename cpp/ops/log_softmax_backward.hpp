// SPDX-License-Identifier: Apache-2.0
// log_softmax_backward: (g - e^y sum(g)) / temperature, y = log_softmax(x) <= 0
#pragma once

#include "cpp/ops/row.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct LogSoftmaxBackward {
  static constexpr bool weighted = false;  // the row's sum is over g
  V sum, scale;
  VM_MEMBER explicit LogSoftmaxBackward(const RowValues<V>& row) : sum(row.grad), scale(row.scale) {}
  VM_MEMBER V operator()(V g, V y) const {
    const ExpPair<V> e(negate(y));
    return (g - quiet(y, e.scale(e.high + e.low)) * sum) * scale;
  }
};

}  // namespace vastmax::VM_ISA
