// SPDX-License-Identifier: Apache-2.0
// The reference exponent of a block and the terms of its sum, shared by rows and columns.
#pragma once

#include "simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class F>
VM_INLINE int reference(double max) {
  const double exponent = max * Number<double>::log2e;
  return static_cast<int>(exponent < 0 ? exponent - 0.5 : exponent + 0.5) - head_room<F>;
}

}  // namespace vastmax::VM_ISA
