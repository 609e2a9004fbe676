// SPDX-License-Identifier: Apache-2.0
#include "cpp/kernels/norm.hpp"

#include "cpp/kernels/fill.hpp"
#include "cpp/kernels/norm_block.hpp"

namespace vastmax::VM_ISA {

template <class In, Terms terms>
static void norm_block(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out) {
  NothingElse nothing;
  normalise<In, terms>(x, n, ahead, max, out, nothing);
}

template <class F>
static double rest(Bytes staged, std::size_t n, double max, int ref) {
  NothingElse nothing;
  return exp_sum<F, wide<F>, Terms::below_max>(staged, n, ref, max, nothing).value();
}

static double exp_scaled(double x, int ref) { return RowMath<double>::exp_scaled(x, ref); }
static double exp_difference(double x) { return RowMath<double>::exp_difference(x); }
static double log1p_one(double x) { return RowMath<double>::log1p(x); }
static double log_one(double x) { return RowMath<double>::log(x); }
static double log_of_pair(double x, double low) { return RowMath<double>::log_pair(x, low); }
static double above_tangent(double u) { return RowMath<double>::above_tangent(u); }
template <class F>
static Peak peak(double max, int ref) {
  return RowMath<F>::peak(max, ref);
}

void fill_norm(Kernels& k) {
  k.exp_scaled = exp_scaled;
  k.exp_difference = exp_difference;
  k.log1p = log1p_one;
  k.log = log_one;
  k.log_pair = log_of_pair;
  k.above_tangent = above_tangent;
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    constexpr Terms short_terms = sizeof(T) == 2 ? Terms::brief : Terms::exact;
    to.norm[0][0] = norm_block<T, Terms::exact>, to.norm[0][1] = norm_block<F, Terms::exact>;
    to.norm[1][0] = norm_block<T, short_terms>, to.norm[1][1] = norm_block<F, short_terms>;
    to.rest = rest<F>;
    to.peak = peak<F>;
  });
}

}  // namespace vastmax::VM_ISA
