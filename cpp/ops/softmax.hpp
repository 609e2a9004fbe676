// SPDX-License-Identifier: Apache-2.0
// softmax: e^x / sum
#pragma once

#include "cpp/ops/row.hpp"

namespace vastmax::VM_ISA {

template <class V, bool brief>
struct Softmax {
  ScaledExp<V> exp;
  V scale, correction;
  VM_MEMBER explicit Softmax(const RowValues<V>& row) : exp(row.ref), scale(row.scale), correction(row.correction) {}
  VM_MEMBER V operator()(V x) const {
    if constexpr (brief)  // the result has 16 bits
      return exp.brief(x) * scale * splat<V>(Number<float>::unlift);
    else
      return exp.times(x, scale, correction);
  }
};

}  // namespace vastmax::VM_ISA
