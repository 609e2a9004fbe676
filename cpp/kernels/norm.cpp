// SPDX-License-Identifier: Apache-2.0
// The normaliser of a block: its largest element while it comes into first-level cache, then the sum of e^x against
// that, then the next.
#include "kernels/norm.hpp"

#include "kernels/fill.hpp"
#include "kernels/terms.hpp"

namespace vastmax::VM_ISA {

template <class In, class V>
static bool has_nan(Bytes x, std::size_t n) {
  return sum_of<V>(n, [&]<class W>(std::size_t i, std::size_t left, const W*) {
           return keep(is_nan(load_up_to<W>(x + i * sizeof(In), left, 0, type<In>)), splat<W>(1));
         }).high != 0;
}

// Sum of e^x 2^-ref over the block, or over what is below max only.  `seen(i)` is called along the way.
template <class In, class V, Terms terms, class Seen>
VM_INLINE TwoSum exp_sum(Bytes x, std::size_t n, int ref, double max, const Seen& seen) {
  using F = typename V::scalar;
  return sum_of<V, SumOf<V, terms>>(
      n, [&]<class W>(std::size_t i, std::size_t left, const W*) __attribute__((always_inline)) {
        if (left == W::lanes) seen(i, type<W>);
        const W v = load_up_to<W>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>);
        const W term = exp_terms<terms>(v, splat<W>(static_cast<F>(ref)));
        return terms == Terms::below_max ? keep(v < splat<W>(static_cast<F>(max)), term) : term;
      });
}

template <class In, Terms terms>
static void norm_block(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out) {
  using V = wide<compute_t<In>>;
  using F = typename V::scalar;
  out.max = max == max ? max : largest(max_lanes<In, V>(x, n));
  max = Number<double>::nan;
  if (shifted(out.max)) {  // the caller shifts a finite max; infinities need only a look for NaN
    out.ref = 0;
    out.sum = has_nan<In, V>(x, n) ? Number<double>::nan : 0;
    out.lost = 0;
    return;
  }
  out.ref = reference<typename V::scalar>(out.max);
  const Bytes later = ahead != nullptr ? ahead : x;  // a block without one takes a needless look at itself
  Batch<V> next = splat<Batch<V>>(-Number<F>::infinity);
  const TwoSum sum =
      exp_sum<In, V, terms>(x, n, out.ref, 0, [&]<class W>(std::size_t i, const W*) __attribute__((always_inline)) {
        prefetch<W::lanes * sizeof(In)>(later + i * sizeof(In) + fetch_ahead);
        const W v = load<W>(later + i * sizeof(In), type<In>);
        VM_UNROLL(4)
        for (int j = 0; j < W::K; ++j) next.piece[j] = max_piece(v.piece[j], next.piece[j]);
      });
  if (ahead != nullptr) {
    max = largest(next);
    if (const std::size_t whole = n - n % V::lanes; whole < n) {
      const double last = largest(load_first<V>(ahead + whole * sizeof(In), n - whole, -Number<F>::infinity, type<In>));
      if (last > max) max = last;
    }
  }
  out.sum = sum.high, out.lost = sum.low;
}

template <class F>
static double rest(Bytes staged, std::size_t n, double max, int ref) {
  return exp_sum<F, wide<F>, Terms::below_max>(staged, n, ref, max, [](std::size_t, const auto*) {}).value();
}

static double exp_scaled(double x, int ref) { return RowMath<double>::exp_scaled(x, ref); }
static double exp_difference(double x) { return RowMath<double>::exp_difference(x); }
static double log1p_one(double x) { return RowMath<double>::log1p(x); }
static double log_one(double x) { return RowMath<double>::log(x); }
template <class F>
static double peak_error(double max, int ref) {
  return RowMath<F>::peak_error(max, ref);
}

void fill_norm(Kernels& k) {
  k.exp_scaled = exp_scaled;
  k.exp_difference = exp_difference;
  k.log1p = log1p_one;
  k.log = log_one;
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    constexpr Terms short_terms = sizeof(T) == 2 ? Terms::brief : Terms::exact;
    to.norm[0][0] = norm_block<T, Terms::exact>, to.norm[0][1] = norm_block<F, Terms::exact>;
    to.norm[1][0] = norm_block<T, short_terms>, to.norm[1][1] = norm_block<F, short_terms>;
    to.rest = rest<F>;
    to.peak_error = peak_error<F>;
  });
}

}  // namespace vastmax::VM_ISA
