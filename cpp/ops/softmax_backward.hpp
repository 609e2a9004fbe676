// SPDX-License-Identifier: Apache-2.0
// softmax_backward: y (g - <g, y>) / temperature
#pragma once

#include "cpp/ops/row.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct SoftmaxBackward {
  static constexpr bool weighted = true;  // the row's sum is over g y
  V dot, scale;
  VM_MEMBER explicit SoftmaxBackward(const RowValues<V>& row) : dot(row.grad), scale(row.scale) {}
  VM_MEMBER V operator()(V g, V y) const { return y * (g - dot) * scale; }
};

}  // namespace vastmax::VM_ISA
