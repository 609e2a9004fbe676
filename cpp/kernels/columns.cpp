// SPDX-License-Identifier: Apache-2.0
// Rows that lie side by side in memory (a reduction over the first axis): a lane per row, every row in the order of norm.cpp, so the
// bits are those of the same row laid out alone.  Nothing is transposed: the accumulators of all rows live in first-level cache.
#include "kernels/fill.hpp"
#include "kernels/norm.hpp"
#include "ops/log_softmax.hpp"
#include "ops/logsumexp_backward.hpp"
#include "ops/softmax.hpp"

namespace vastmax::VM_ISA {

// One float64 accumulator for each of the rows of a vector.
template <class V>
struct Column;
template <>
struct Column<F64> {
  F64 sum = splat<F64>(0), lost = splat<F64>(0);
  VM_MEMBER void add(F64 v) { two_sum(sum, lost, v); }
  VM_MEMBER void store(double (*lane)[8]) const {
    vastmax::VM_ISA::store(reinterpret_cast<OutBytes>(lane[0]), sum, lane[0]);
    vastmax::VM_ISA::store(reinterpret_cast<OutBytes>(lane[8]), lost, lane[8]);
  }
};
template <>
struct Column<F32> {
  F64 low = splat<F64>(0), high = splat<F64>(0);
  VM_MEMBER void add(F32 v) {
    F64 l, h;
    widen(v, l, h);
    low = low + l, high = high + h;
  }
  VM_MEMBER void store(double (*lane)[16]) const {
    vastmax::VM_ISA::store(reinterpret_cast<OutBytes>(lane[0]), low, lane[0]);
    vastmax::VM_ISA::store(reinterpret_cast<OutBytes>(lane[0] + 8), high, lane[0]);
  }
};

template <class T, class V>
VM_INLINE V load_row(Bytes at, std::size_t width) {
  return width == V::lanes ? load<V>(at, type<T>) : load_first<V>(at, width, -Number<typename V::scalar>::infinity, type<T>);
}

template <class T, class V>
static void norm_lanes(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Partial* out) {
  using F = typename V::scalar;
  const auto row = [&](std::size_t i) __attribute__((always_inline)) { return load_row<T, V>(x + static_cast<std::ptrdiff_t>(i) * pitch, width); };
  V top[group];
  for (auto& each : top) each = splat<V>(-Number<F>::infinity);
  for (std::size_t i = 0; i < n; ++i) top[i % group] = max(row(i), top[i % group]);
  const Lanes<V> tops(max(max(top[0], top[1]), max(top[2], top[3])));

  alignas(64) F refs[V::lanes] = {};
  for (std::size_t c = 0; c < width; ++c) {
    out[c].max = static_cast<double>(tops.at[c]) + 0.0;
    out[c].ref = shifted(out[c].max) ? 0 : reference<F>(out[c].max);  // the caller does shifted rows again, one by one
    refs[c] = static_cast<F>(out[c].ref);
  }
  const auto exp = [&] {
    if constexpr (V::K <= 4) {
      return ScaledExp<V>(load<V>(reinterpret_cast<Bytes>(refs), type<F>));
    } else {
      return [&refs](V v) {
        for (int c = 0; c < V::K; ++c) {
          using One = PerPiece<V>;
          v.piece[c] = ScaledExp<One>(splat<One>(refs[c]))(One{{v.piece[c]}}).piece[0];
        }
        return v;
      };
    }
  }();

  // What would be lane j of a row's vectors is class j of a stripe here: a Sum's lanes, turned by a quarter.
  constexpr std::size_t stripe = group * V::lanes;
  Column<V> sum[V::lanes];
  for (std::size_t i = 0; i < n; i += stripe)
    for (std::size_t j = 0; j < V::lanes; ++j) {
      const auto term = [&](std::size_t at) __attribute__((always_inline)) { return at < n ? exp(row(at)) : splat<V>(0); };
      sum[j].add((term(i + j) + term(i + j + V::lanes)) + (term(i + j + 2 * V::lanes) + term(i + j + 3 * V::lanes)));
    }
  double lane[16][V::lanes];  // as Sum::total has them
  for (int j = 0; j < V::lanes; ++j) sum[j].store(lane + j);
  for (std::size_t c = 0; c < width; ++c) {
    double at[16];
    for (int j = 0; j < 16; ++j) at[j] = lane[j][c];
    const TwoSum all = Sum<V>::fold(at);
    out[c].sum = all.high, out[c].lost = all.low;
  }
}

template <class T>
static void norm_columns(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Partial* out) {
  using V = wide<compute_t<T>>;
  for (std::size_t c = 0; c < width; c += V::lanes)
    norm_lanes<T, V>(x + c * sizeof(T), pitch, n, width - c < V::lanes ? width - c : V::lanes, out + c);
}

template <template <class, bool> class Formula, class T>
static void map_columns(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n, std::size_t width,
                        const RowParams* rows) {
  using V = vec<compute_t<T>>;
  for (std::size_t c = 0; c < width; c += V::lanes) {
    const std::size_t some = width - c < V::lanes ? width - c : V::lanes;
    const Formula<V, sizeof(T) == 2> formula{RowValues<V>(rows + c, some)};
    Bytes from = x + c * sizeof(T);
    OutBytes to = y + c * sizeof(T);
    for (std::size_t i = 0; i < n; ++i, from += x_pitch, to += y_pitch) {
      const V v = formula(load_row<T, V>(from, some));
      if (some == V::lanes)
        store(to, v, to_type<T>);
      else
        store_first(to, some, v, to_type<T>);
    }
  }
}

template <template <class, bool> class Formula>
static void fill_op(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) { to.map_columns[static_cast<int>(op)] = map_columns<Formula, T>; });
}

void fill_columns(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) { to.norm_columns = norm_columns<T>; });
#define VM_OP(shape, name, Formula) VM_FILL_##shape(name, Formula)
#define VM_FILL_norm_map(name, Formula) fill_op<Formula>(k, Op::name);
#define VM_FILL_row_grad(name, Formula)
#define VM_FILL_unary(name, Formula)
#define VM_FILL_binary(name, Formula)
#include "ops.def"
}

}  // namespace vastmax::VM_ISA
