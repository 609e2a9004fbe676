// SPDX-License-Identifier: Apache-2.0
// Losses of logits against a weight for each class: what the target weighs, its sum over the row, and the gradient.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/cross_entropy_grad.hpp"
#include "cpp/simd/dot.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class F>
static void class_weights(Bytes q, Bytes w, std::size_t n, double keep, double uniform, OutBytes weights) {
  using V = wide<F>;
  const V share = splat<V>(static_cast<F>(keep)), rest = splat<V>(static_cast<F>(uniform));
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes, at = i * sizeof(F);
    V v = rest;
    if (q != nullptr) v = fma(load_first<V>(q + at, left, 0, type<F>), share, rest);
    if (w != nullptr) v = v * load_first<V>(w + at, left, 0, type<F>);
    store_first(weights + at, left, v, to_type<F>);
  }
}

// Half of each gap, which fits where the gap itself does not.
VM_INLINE void add_gaps(Dot (&gaps)[2], int half, F64 weight, F64 z, F64 half_base) {
  const F64 zero = splat<F64>(0);
  gaps[half].add(weight, select(weight == zero, zero, nfma(z, splat<F64>(0.5), half_base)));
}
VM_INLINE void add_gaps(Dot (&gaps)[2], F64 weight, F64 z, F64 half_base) { add_gaps(gaps, 0, weight, z, half_base); }
VM_INLINE void add_gaps(Dot (&gaps)[2], F32 weight, F32 z, F64 half_base) {
  F64 w[2], x[2];
  widen(weight, w[0], w[1]);
  widen(z, x[0], x[1]);
  for (int half = 0; half < 2; ++half) add_gaps(gaps, half, w[half], x[half], half_base);
}

template <class F>
static void weigh(Bytes z, Bytes weights, std::size_t n, double base, TwoSum& gaps, TwoSum& sum) {
  using V = wide<F>;
  Dot gap[2], weight[2];
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes, at = i * sizeof(F);
    const V w = load_first<V>(weights + at, left, 0, type<F>);
    add_gaps(gap, w, load_first<V>(z + at, left, 0, type<F>), splat<F64>(0.5 * base));
    add(weight, w, splat<V>(1));
  }
  gaps = fold(gap), sum = fold(weight);
  gaps.scale(2);
}

template <class F>
static TwoSum gaps(Bytes z, Bytes weights, std::size_t n, double base) {
  using V = wide<F>;
  Dot gap[2];
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes, at = i * sizeof(F);
    add_gaps(gap, load_first<V>(weights + at, left, 0, type<F>), load_first<V>(z + at, left, 0, type<F>),
             splat<F64>(0.5 * base));
  }
  TwoSum all = fold(gap);
  all.scale(2);
  return all;
}

template <class T>
static void loss_grad(Bytes z, Bytes weights, Bytes slope, OutBytes y, std::size_t n, const RowParams& row,
                      double target, bool streaming) {
  using F = compute_t<T>;
  using V = vec<F>;
  using B = Batch<V>;
  constexpr bool brief = sizeof(T) == 2;
  const CrossEntropyGrad<B, brief> many(row, target);
  const CrossEntropyGrad<V, brief> one(row, target);
  if (slope == nullptr)
    map_inputs<T, V>(y, n, streaming, many, one, Input<F>{z}, Input<F>{weights});
  else
    map_inputs<T, V>(y, n, streaming, many, one, Input<F>{z}, Input<F>{weights}, Input<F>{slope});
}

template <class T>
static void put(double value, OutBytes y) {
  using F = compute_t<T>;
  store_first(y, 1, splat<vec<F>>(static_cast<F>(value)), to_type<T>);
}

void fill_norm_loss(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.class_weights = class_weights<F>;
    to.weigh = weigh<F>;
    to.gaps = gaps<F>;
    to.loss_grad = loss_grad<T>;
    to.put = put<T>;
  });
}

}  // namespace vastmax::VM_ISA
