// SPDX-License-Identifier: Apache-2.0
// Gradient of the cross-entropy with target weights a_j: (p_j grad - a_j target) slope, where `slope` is that of a
// softcap.
#pragma once

#include "cpp/ops/softmax.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct CrossEntropyGrad {
  Softmax<V, brief> softmax;
  V grad, target;
  VM_MEMBER CrossEntropyGrad(const RowParams& row, double t)
      : softmax(RowValues<V>(row)),
        grad(splat<V>(static_cast<typename V::scalar>(row.grad))),
        target(splat<V>(static_cast<typename V::scalar>(t))) {}
  VM_MEMBER V operator()(V z, V weight) const { return nfma(weight, target, softmax(z) * grad); }
  VM_MEMBER V operator()(V z, V weight, V slope) const { return (*this)(z, weight) * slope; }
};

}  // namespace vastmax::VM_ISA
