// SPDX-License-Identifier: Apache-2.0
// The logits of one row's sampled classes: corrected, weighed against their largest, or each a yes-no question (NCE).
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/sigmoid.hpp"
#include "cpp/ops/softplus.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// each(i, left, type): z, and what is stored in its place.
template <class V, class Each>
VM_INLINE void rewrite(OutBytes z, std::size_t n, const Each& each) {
  using F = typename V::scalar;
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    const V v = each(i, left, load_up_to<V>(z + i * sizeof(F), left, -Number<F>::infinity, type<F>));
    if (left == V::lanes)
      store(z + i * sizeof(F), v, to_type<F>);
    else
      store_first(z + i * sizeof(F), left, v, to_type<F>);
  }
}

template <class F>
static double correct_draws(OutBytes z, Bytes adjust, std::size_t n, double scale) {
  using V = wide<F>;
  const V by = splat<V>(static_cast<F>(scale));
  const V out = splat<V>(-Number<F>::infinity);  // a hit stays out, whatever it is adjusted by
  V most = out;
  rewrite<V>(z, n, [&](std::size_t i, std::size_t left, V v) {
    v = select(v == out, v, fma(v, by, load_up_to<V>(adjust + i * sizeof(F), left, 0, type<F>)));
    most = max(v, most);
    return v;
  });
  return largest(most);
}

// Sums in float64, whatever the terms.
struct DrawSum {
  F64 low = splat<F64>(0), high = splat<F64>(0);
  VM_MEMBER void add(F32 v) {
    F64 l, h;
    widen(v, l, h);
    low = low + l, high = high + h;
  }
  VM_MEMBER void add(F64 v) { low = low + v; }
  VM_MEMBER double value() { return value_of(fold(low, high)); }
};

// Terms of at most 1, as weighed ones are: four in their own type before they join the float64 sum, which costs a
// rounding of 2^-24 each and saves most of the widening.
template <class V>
struct WeightSum {
  DrawSum sum;
  V some = splat<V>(0);
  int count = 0;
  VM_MEMBER void add(V v) {
    some = some + v;
    if (++count % 4 == 0) flush();
  }
  VM_MEMBER void flush() {
    sum.add(some);
    some = splat<V>(0);
  }
  VM_MEMBER double value() {
    flush();
    return sum.value();
  }
};

template <class F>
static DrawWeights weigh_draws(OutBytes z, Bytes shares, std::size_t n, double max) {
  using V = wide<F>;
  using One = vec<F>;
  const V base = splat<V>(static_cast<F>(max));
  const ScaledExp<One> exp(splat<One>(0));
  WeightSum<V> sum, squares;
  rewrite<V>(z, n, [&](std::size_t i, std::size_t left, V v) {
    const V e = through(exp, v - base);
    sum.add(e);
    squares.add(shares == nullptr ? e * e : e * e * load_up_to<V>(shares + i * sizeof(F), left, 0, type<F>));
    return e;
  });
  return {sum.value(), squares.value()};
}

template <class F>
static double ask_draws(OutBytes z, Bytes counts, std::size_t n) {
  using V = wide<F>;
  using One = vec<F>;
  const Softplus<One, false> softplus(1);
  const Sigmoid<One, false> sigmoid(1);
  DrawSum sum;
  rewrite<V>(z, n, [&](std::size_t i, std::size_t left, V v) {
    const V times = counts == nullptr ? splat<V>(1) : load_up_to<V>(counts + i * sizeof(F), left, 0, type<F>);
    sum.add(times * through(softplus, v));
    return times * through(sigmoid, v);
  });
  return sum.value();
}

void fill_sampled(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.correct_draws = correct_draws<F>, to.weigh_draws = weigh_draws<F>, to.ask_draws = ask_draws<F>;
  });
}

}  // namespace vastmax::VM_ISA
