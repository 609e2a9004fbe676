// SPDX-License-Identifier: Apache-2.0
// The sum of a block for logsumexp with weights: its largest logit of any weight, then the signed terms.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/logsumexp_weighted.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class F>
static double weighted_max(Bytes a, Bytes b, std::size_t n) {
  const F *x = reinterpret_cast<const F*>(a), *w = reinterpret_cast<const F*>(b);
  F top = -Number<F>::infinity;
  for (std::size_t i = 0; i < n; ++i)
    if (w[i] != 0 && x[i] > top) top = x[i];
  return static_cast<double>(top) + 0.0;
}

// fn(x, w, left) along a block in float64.
template <class F, class Fn>
VM_INLINE void each_pair(Bytes a, Bytes b, std::size_t n, const Fn& fn) {
  for (std::size_t i = 0; i < n; i += F64::lanes) {
    const std::size_t left = n - i < F64::lanes ? n - i : F64::lanes;
    fn(load_first<F64>(a + i * sizeof(F), left, 0, type<F>), load_first<F64>(b + i * sizeof(F), left, 0, type<F>),
       left);
  }
}

template <class F>
static int weighted(Bytes a, Bytes b, std::size_t n, double max, TwoSum& out) {
  const WeightedTerm<F64> term(max);
  F64 exponents = splat<F64>(-Number<double>::infinity);
  each_pair<F>(a, b, n,
               [&](F64 x, F64 w, std::size_t) { exponents = vastmax::VM_ISA::max(term.exponent(x, w), exponents); });
  const int unit = term.unit(largest(exponents));
  double sum = 0, lost = 0;  // lanes in index order: the terms of a cancelling sum must meet exactly
  each_pair<F>(a, b, n, [&](F64 x, F64 w, std::size_t left) {
    const Lanes<F64> terms(term(x, w, unit));
    for (std::size_t j = 0; j < left; ++j) {
      const double next = sum + terms.at[j], part = next - sum;
      lost += term.infinite() ? 0 : (sum - (next - part)) + (terms.at[j] - part);
      sum = next;
    }
  });
  out = {sum, lost};
  return unit;
}

void fill_norm_weighted(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    to.weighted_max = weighted_max<compute_t<T>>;
    to.weighted = weighted<compute_t<T>>;
  });
}

}  // namespace vastmax::VM_ISA
