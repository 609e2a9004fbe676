// SPDX-License-Identifier: Apache-2.0
// One row of a table of classes: its dot product with features, its share of a sum of rows, and its update.  The table
// is of any dtype, everything else staged.
#include "cpp/kernels/fill.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// Lanes onto one, halves onto halves.
template <class V>
VM_INLINE double fold_lanes(V v) {
  Lanes<V> lane(v);
  VM_UNROLL(4)
  for (int n = V::lanes / 2; n >= 1; n /= 2)
    for (int i = 0; i < n; ++i) lane.at[i] += lane.at[i + n];
  return static_cast<double>(lane.at[0]);
}

// Four sums in flight, in one order everywhere.
template <class T>
static double dot_row(Bytes w, Bytes x, std::size_t n) {
  using F = compute_t<T>;
  using V = wide<F>;
  constexpr std::size_t lanes = V::lanes, stripe = 4 * lanes;
  V sum[4];
  VM_UNROLL(4)
  for (auto& each : sum) each = splat<V>(0);
  std::size_t i = 0;
  for (; i + stripe <= n; i += stripe) {
    VM_UNROLL(4)
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t at = i + j * lanes;
      sum[j] = fma(load<V>(w + at * sizeof(T), type<T>), load<V>(x + at * sizeof(F), type<F>), sum[j]);
    }
  }
  for (; i < n; i += lanes) {
    const std::size_t left = n - i < lanes ? n - i : lanes;
    sum[0] = fma(load_up_to<V>(w + i * sizeof(T), left, 0, type<T>), load_up_to<V>(x + i * sizeof(F), left, 0, type<F>),
                 sum[0]);
  }
  return fold_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

// to[i] = step(row i, to i), where `to` is stored as Out and the row as In.
template <class In, class Out, class Step>
VM_INLINE void along(Bytes row, std::size_t n, OutBytes to, const Step& step) {
  using V = wide<compute_t<Out>>;
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes)
    store(to + i * sizeof(Out), step(load<V>(row + i * sizeof(In), type<In>), load<V>(to + i * sizeof(Out), type<Out>)),
          to_type<Out>);
  if (i < n)
    store_first(to + i * sizeof(Out), n - i,
                step(load_first<V>(row + i * sizeof(In), n - i, 0, type<In>),
                     load_first<V>(to + i * sizeof(Out), n - i, 0, type<Out>)),
                to_type<Out>);
}

template <class T>
static void add_row(Bytes w, double scale, std::size_t n, OutBytes sum) {
  using F = compute_t<T>;
  using V = wide<F>;
  const V factor = splat<V>(static_cast<F>(scale));
  along<T, F>(w, n, sum, [factor](V row, V so_far) { return fma(factor, row, so_far); });
}

template <class T>
static void copy_row(Bytes w, std::size_t n, OutBytes staged) {
  using F = compute_t<T>;
  using V = wide<F>;
  std::size_t i = 0;
  for (; i + V::lanes <= n; i += V::lanes)
    store(staged + i * sizeof(F), load<V>(w + i * sizeof(T), type<T>), to_type<F>);
  if (i < n)
    store_first(staged + i * sizeof(F), n - i, load_first<V>(w + i * sizeof(T), n - i, 0, type<T>), to_type<F>);
}

// w - scale change, rounded once
template <class T>
static void subtract_row(Bytes change, double scale, std::size_t n, OutBytes w) {
  using F = compute_t<T>;
  using V = wide<F>;
  const V factor = splat<V>(static_cast<F>(scale));
  along<F, T>(change, n, w, [factor](V row, V so_far) { return nfma(factor, row, so_far); });
}

template <class F>
static void scale_row(double factor, std::size_t n, OutBytes x) {
  using V = wide<F>;
  const V by = splat<V>(static_cast<F>(factor));
  along<F, F>(x, n, x, [by](V row, V) { return row * by; });
}

void fill_class_rows(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    to.dot_row = dot_row<T>, to.add_row = add_row<T>, to.copy_row = copy_row<T>, to.subtract_row = subtract_row<T>;
    to.scale_row = scale_row<compute_t<T>>;
  });
}

}  // namespace vastmax::VM_ISA
