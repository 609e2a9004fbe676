// SPDX-License-Identifier: Apache-2.0
// The terms of a block's sum and how they are added up, for rows and columns.
#pragma once

#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// Brief terms are for results of 16 bits; what is below the maximum may be far below.
enum class Terms { exact, brief, below_max };

template <Terms terms, class V>
VM_INLINE V exp_terms(V x, V ref) {
  if constexpr (V::K <= 4) {
    const ScaledExp<V> exp(ref);
    if constexpr (terms == Terms::brief)
      return exp.brief(x);
    else
      return exp(x);
  } else {
    using One = PerPiece<V>;
    for (int i = 0; i < V::K; ++i) x.piece[i] = exp_terms<terms>(One{{x.piece[i]}}, One{{ref.piece[i]}}).piece[0];
    return x;
  }
}

template <class V, Terms terms>
struct SumOfTerms {
  using type = Sum<V>;
};
template <>
struct SumOfTerms<F32, Terms::brief> {
  using type = PlainSum;
};
template <>
struct SumOfTerms<F32, Terms::below_max> {
  using type = WideSum;
};
template <class V, Terms terms>
using SumOf = typename SumOfTerms<V, terms>::type;

}  // namespace vastmax::VM_ISA
