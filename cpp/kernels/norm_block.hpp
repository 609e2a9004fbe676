// SPDX-License-Identifier: Apache-2.0
// The normaliser of a block: its largest element while it comes into first-level cache, then the sum of e^x against
// that, then the next.  Other sums over the same terms can come along.
#pragma once

#include "cpp/kernels/norm.hpp"
#include "cpp/kernels/terms.hpp"

namespace vastmax::VM_ISA {

template <class In, class V>
static bool has_nan(Bytes x, std::size_t n) {
  return sum_of<V>(n, [&]<class W>(std::size_t i, std::size_t left, const W*) {
           return keep(is_nan(load_up_to<W>(x + i * sizeof(In), left, 0, type<In>)), splat<W>(1));
         }).high != 0;
}

// What comes along: told the block's largest element, then all elements with their terms, in index order; `left` of W
// from element i on are inside the block, the others -inf.
struct NothingElse {
  VM_MEMBER void begin(double) {}
  template <class W>
  VM_MEMBER void add(std::size_t, std::size_t, W, W) {}
};

// The sum of terms times how far they are below the largest: what the entropy adds to logsumexp.
template <class V, class Total>
struct Gaps {
  using F = typename V::scalar;
  F base = 0;
  Total sum;
  VM_MEMBER void begin(double max) { base = static_cast<F>(max); }
  template <class W>
  VM_MEMBER void add(std::size_t, std::size_t, W x, W term) {
    constexpr F least = static_cast<F>(sizeof(F) == 4 ? -0x1.fffffep127 : -0x1.fffffffffffffp1023);
    const W gap = term * (splat<W>(base) - max(splat<W>(least), x));  // 0 times a finite gap, for -inf
    VM_UNROLL(4)
    for (int j = 0; j < W::K / V::K; ++j) sum.add(part<V>(gap, j));
  }
  VM_MEMBER TwoSum value() {
    sum.finish();
    return fold(sum.low, sum.high);
  }
};

// Sum of e^x 2^-ref over the block, or over what is below max only.  `seen(i)` is called along the way.
template <class In, class V, Terms terms, class Also, class Seen>
VM_INLINE TwoSum exp_sum(Bytes x, std::size_t n, int ref, double max, Also& also, const Seen& seen) {
  using F = typename V::scalar;
  return sum_of<V, SumOf<V, terms>>(
      n, [&]<class W>(std::size_t i, std::size_t left, const W*) __attribute__((always_inline)) {
        if (left == W::lanes) seen(i, type<W>);
        const W v = load_up_to<W>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>);
        W term = exp_terms<terms>(v, splat<W>(static_cast<F>(ref)));
        if (terms == Terms::below_max) term = keep(v < splat<W>(static_cast<F>(max)), term);
        also.add(i, left, v, term);
        return term;
      });
}
template <class In, class V, Terms terms, class Also>
VM_INLINE TwoSum exp_sum(Bytes x, std::size_t n, int ref, double max, Also& also) {
  return exp_sum<In, V, terms>(x, n, ref, max, also, [](std::size_t, const auto*) {});
}

template <class In, Terms terms, class Also>
VM_INLINE void normalise(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, Also& also) {
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
  also.begin(out.max);
  const Bytes later = ahead != nullptr ? ahead : x;  // a block without one takes a needless look at itself
  Batch<V> next = splat<Batch<V>>(-Number<F>::infinity);
  const TwoSum sum = exp_sum<In, V, terms>(x, n, out.ref, 0, also,
                                           [&]<class W>(std::size_t i, const W*) __attribute__((always_inline)) {
                                             prefetch<W::lanes * sizeof(In)>(later + i * sizeof(In) + fetch_ahead);
                                             const W v = load<W>(later + i * sizeof(In), type<In>);
                                             VM_UNROLL(4)
                                             for (int j = 0; j < W::K; ++j)
                                               next.piece[j] = max_piece(v.piece[j], next.piece[j]);
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

}  // namespace vastmax::VM_ISA
