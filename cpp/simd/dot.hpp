// SPDX-License-Identifier: Apache-2.0
// Sums of products in float64, where products of two floats are exact; for float64 the product's rounding error is
// carried along (Ogita, Rump and Oishi 2005, Dot2).
#pragma once

#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// A running sum of products and what rounding took from it.
struct Dot {
  F64 sum = splat<F64>(0), lost = splat<F64>(0);
  VM_MEMBER void add(F64 a, F64 b) {
    const F64 product = a * b, error = fma(a, b, negate(product));
    two_sum(sum, lost, product);
    lost = lost + error;
  }
};
VM_INLINE void add(Dot (&dot)[2], F64 a, F64 b) { dot[0].add(a, b); }
VM_INLINE void add(Dot (&dot)[2], F32 a, F32 b) {
  F64 low[2], high[2];
  widen(a, low[0], high[0]);
  widen(b, low[1], high[1]);
  dot[0].add(low[0], low[1]);
  dot[1].add(high[0], high[1]);
}
VM_INLINE TwoSum fold(const Dot (&dot)[2]) {
  TwoSum all = fold(dot[0].sum, dot[1].sum);
  all.low += fold(dot[0].lost, dot[1].lost).value();
  return all;
}

}  // namespace vastmax::VM_ISA
