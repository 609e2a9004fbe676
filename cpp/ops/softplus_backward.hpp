// SPDX-License-Identifier: Apache-2.0
// softplus_backward: g sigmoid(beta x)
#pragma once

#include "cpp/ops/sigmoid.hpp"
#include "cpp/ops/softplus.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct SoftplusBackward {
  using W = typename Precise<V, brief>::type;
  bool unit;
  Scaled<W> scaled;
  VM_MEMBER explicit SoftplusBackward(double beta) : unit(beta == 1), scaled(beta) {}
  VM_MEMBER V operator()(V g, V x) const {
    if (unit) return g * Sigmoid<V, brief>(1)(x);
    const W z = widened<W>(x);
    return narrowed<V>(widened<W>(g) * quiet(z, sigmoid_of(z, scaled.exp(z))));
  }
};

}  // namespace vastmax::VM_ISA
