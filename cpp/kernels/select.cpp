// SPDX-License-Identifier: Apache-2.0
// The order of a row's logits: the largest of each stretch, masses in float64, and what a cut leaves.
#include "kernels/fill.hpp"
#include "simd/rows.hpp"

namespace vastmax::VM_ISA {

// Along the way it adds everything up: NaN stays in a sum.
template <class V, class In>
VM_INLINE double largest_of(Bytes x, std::size_t n, V& sum) {
  using B = Batch<V>;
  using F = typename V::scalar;
  B max_of = splat<B>(-Number<F>::infinity), sums = splat<B>(0);
  std::size_t i = 0;
  for (; i + B::lanes <= n; i += B::lanes) {
    prefetch<B::lanes * sizeof(In)>(x + i * sizeof(In) + fetch_ahead);
    const B v = load<B>(x + i * sizeof(In), type<In>);
    max_of = max(v, max_of), sums = sums + v;
  }
  V top = part<V>(max_of, 0);
  VM_UNROLL(4)
  for (int j = 0; j < B::K / V::K; ++j) top = max(part<V>(max_of, j), top), sum = sum + part<V>(sums, j);
  for (; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : std::size_t{V::lanes};
    const V v = load_up_to<V>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>);
    top = max(v, top), sum = sum + v;
  }
  return largest(top);
}

template <class In>
static bool any_nan(Bytes x, std::size_t n) {
  using V = wide<compute_t<In>>;
  std::uint64_t in = 0;
  for (std::size_t i = 0; i < n; i += V::lanes)
    in |= bits(is_nan(load_up_to<V>(x + i * sizeof(In), n - i < V::lanes ? n - i : V::lanes, 0, type<In>)));
  return in != 0;
}

template <class In>
static void stretch_max(Bytes x, std::size_t n, std::size_t stretch, double* to) {
  using V = wide<compute_t<In>>;
  V sum = splat<V>(0);
  const auto each = [&](const auto& fn) __attribute__((always_inline)) {
    for (std::size_t i = 0; i < n; i += stretch)
      fn(x + i * sizeof(In), n - i < stretch ? n - i : stretch, to[i / stretch]);
  };
  each([&](Bytes at, std::size_t length, double& max) { max = largest_of<V, In>(at, length, sum); });
  if (bits(is_nan(sum)) != 0)  // or infinities of both signs
    each([](Bytes at, std::size_t length, double& max) {
      if (any_nan<In>(at, length)) max = Number<double>::nan;
    });
}

// e^((z - max) rate) 2^62
template <class F>
static void masses(Bytes staged, std::size_t n, double max, double rate, double* to) {
  const auto many = [&]<class V>(V z) __attribute__((always_inline)) {
    return ScaledExp<V>(splat<V>(-62))((z - splat<V>(max)) * splat<V>(rate));
  };
  map_inputs<double, vec<double>>(reinterpret_cast<OutBytes>(to), n, false, many, many, Input<F>{staged});
}

template <class In, class T>
static void keep_from(Bytes x, std::size_t n, double limit, OutBytes y, bool stream) {
  using F = compute_t<In>;
  const auto op = [&]<class V>(V z) __attribute__((always_inline)) {
    return select(not_less(z, splat<V>(static_cast<F>(limit))), z, splat<V>(-Number<F>::infinity));
  };
  map_inputs<T, vec<F>>(y, n, stream, op, op, Input<In>{x});
}

void fill_select(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.stretch_max[0] = stretch_max<T>, to.stretch_max[1] = stretch_max<F>;
    to.masses = masses<F>;
    to.keep_from[0] = keep_from<T, T>, to.keep_from[1] = keep_from<F, T>;
  });
}

}  // namespace vastmax::VM_ISA
