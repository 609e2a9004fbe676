// SPDX-License-Identifier: Apache-2.0
// What a formula knows of its row, as vectors: one row in all lanes, or sixteen neighbouring rows, a lane each.
#pragma once

#include "cpp/math/algebra.hpp"
#include "cpp/math/bytes.hpp"
#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct RowValues {
  V ref, max, scale, correction, log, grad;

  VM_MEMBER explicit RowValues(const RowParams& row) {
    using F = typename V::scalar;
    ref = splat<V>(static_cast<F>(row.ref)), max = splat<V>(static_cast<F>(row.max)),
    scale = splat<V>(static_cast<F>(row.scale));
    correction = splat<V>(static_cast<F>(row.correction)), log = splat<V>(static_cast<F>(row.log)),
    grad = splat<V>(static_cast<F>(row.grad));
  }
  VM_MEMBER RowValues(const RowParams* rows, std::size_t n) {
    using F = typename V::scalar;
    F at[6][V::lanes] = {};
    for (std::size_t i = 0; i < n; ++i) {
      at[0][i] = static_cast<F>(rows[i].ref), at[1][i] = static_cast<F>(rows[i].max),
      at[2][i] = static_cast<F>(rows[i].scale);
      at[3][i] = static_cast<F>(rows[i].log), at[4][i] = static_cast<F>(rows[i].grad);
      at[5][i] = static_cast<F>(rows[i].correction);
    }
    V* const to[6] = {&ref, &max, &scale, &log, &grad, &correction};
    for (int field = 0; field < 6; ++field) *to[field] = load<V>(reinterpret_cast<Bytes>(at[field]), at[field]);
  }
};

}  // namespace vastmax::VM_ISA
