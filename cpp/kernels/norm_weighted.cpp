// SPDX-License-Identifier: Apache-2.0
// The sum of a block for logsumexp with weights: its largest logit of any weight, then the signed terms.
#include "kernels/fill.hpp"
#include "ops/logsumexp_weighted.hpp"
#include "simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class F>
static double weighted_max(Bytes a, Bytes b, std::size_t n) {
  const F *x = reinterpret_cast<const F*>(a), *w = reinterpret_cast<const F*>(b);
  F top = -Number<F>::infinity;
  for (std::size_t i = 0; i < n; ++i)
    if (w[i] != 0 && x[i] > top) top = x[i];
  return static_cast<double>(top) + 0.0;
}

template <class F>
static void weighted(Bytes a, Bytes b, std::size_t n, double max, TwoSum& out) {
  const WeightedTerm<F64> term(max);
  double sum = 0, lost = 0;  // lanes in index order: the terms of a cancelling sum must meet exactly
  for (std::size_t i = 0; i < n; i += F64::lanes) {
    const std::size_t left = n - i < F64::lanes ? n - i : F64::lanes;
    const Lanes<F64> terms(term(load_first<F64>(a + i * sizeof(F), left, 0, type<F>),
                                load_first<F64>(b + i * sizeof(F), left, 0, type<F>)));
    for (std::size_t j = 0; j < left; ++j) {
      const double next = sum + terms.at[j], part = next - sum;
      lost += term.infinite() ? 0 : (sum - (next - part)) + (terms.at[j] - part);
      sum = next;
    }
  }
  out.add(sum);
  out.low += lost;
}

void fill_norm_weighted(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    to.weighted_max = weighted_max<compute_t<T>>;
    to.weighted = weighted<compute_t<T>>;
  });
}

}  // namespace vastmax::VM_ISA
