// SPDX-License-Identifier: Apache-2.0
// Rows that lie side by side in memory (a reduction over the first axis): a lane per row, every row in the order of
// norm.cpp, so the bits are those of the same row laid out alone.  Nothing is transposed: the accumulators of all rows
// live in first-level cache.
#include <utility>

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
  return width == V::lanes ? load<V>(at, type<T>)
                           : load_first<V>(at, width, -Number<typename V::scalar>::infinity, type<T>);
}

constexpr std::ptrdiff_t rows_ahead = 16;  // far enough for DRAM

// The terms of up to a vector of rows, each against its own reference.
template <class V>
class ColumnExp {
  using F = typename V::scalar;

 public:
  VM_MEMBER explicit ColumnExp(const Partial* rows, std::size_t width) : bias_(splat<V>(0)), lowest_(splat<V>(0)) {
    alignas(64) F ref[V::lanes] = {};
    for (std::size_t c = 0; c < width; ++c) ref[c] = static_cast<F>(rows[c].ref);
    for (int i = 0; i < V::K; ++i) {
      using One = Wide<typename V::piece_type, 1>;
      const F* const from = ref + i * One::lanes;
      const ScaledExp<One> exp(load<One>(reinterpret_cast<Bytes>(from), from));
      bias_.piece[i] = exp.bias.piece[0], lowest_.piece[i] = exp.lowest.piece[0];
    }
  }
  VM_MEMBER V operator()(V x) const {
    if constexpr (V::K <= 4) {
      return ScaledExp<V>(bias_, lowest_)(x);
    } else {
      using One = PerPiece<V>;
      for (int i = 0; i < V::K; ++i)
        x.piece[i] = ScaledExp<One>(One{{bias_.piece[i]}}, One{{lowest_.piece[i]}})(One{{x.piece[i]}}).piece[0];
      return x;
    }
  }

 private:
  V bias_, lowest_;
};

template <class T>
static void norm_columns(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Partial* out) {
  using V = wide<compute_t<T>>;
  using F = typename V::scalar;
  constexpr std::size_t most = most_columns / V::lanes;
  const std::size_t vectors = (width + V::lanes - 1) / V::lanes;
  const auto some = [&](std::size_t c) { return width - c * V::lanes < V::lanes ? width - c * V::lanes : V::lanes; };

  V top[most];
  for (auto& each : top) each = splat<V>(-Number<F>::infinity);
  Bytes row = x;
  for (std::size_t i = 0; i < n; ++i, row += pitch)
    for (std::size_t c = 0; c < vectors; ++c) {
      prefetch(row + c * V::lanes * sizeof(T) + rows_ahead * pitch);
      top[c] = max(load_row<T, V>(row + c * V::lanes * sizeof(T), some(c)), top[c]);
    }
  for (std::size_t c = 0; c < width; ++c) {
    out[c].max = static_cast<double>(Lanes<V>(top[c / V::lanes]).at[c % V::lanes]) + 0.0;
    out[c].ref = shifted(out[c].max) ? 0 : reference<F>(out[c].max);  // the caller does shifted rows again, one by one
  }

  // What is lane j of a row's vectors is class i = j mod lanes here: the lanes of a Sum, turned by a quarter.
  for (std::size_t c = 0; c < vectors; ++c) {
    const ColumnExp<V> exp(out + c * V::lanes, some(c));
    const Bytes first = x + c * V::lanes * sizeof(T);
    Column<V> sum[V::lanes];
    for (std::size_t i = 0; i < n; ++i)
      sum[i % V::lanes].add(exp(load_row<T, V>(first + static_cast<std::ptrdiff_t>(i) * pitch, some(c))));
    double lane[16][V::lanes];  // as Sum::total has them
    for (int j = 0; j < V::lanes; ++j) sum[j].store(lane + j);
    for (std::size_t k = 0; k < some(c); ++k) {
      double at[16];
      for (int j = 0; j < 16; ++j) at[j] = lane[j][k];
      const TwoSum all = Sum<V>::fold(at);
      out[c * V::lanes + k].sum = all.high, out[c * V::lanes + k].lost = all.low;
    }
  }
}

// How a row of columns falls into vectors: whole ones, but for a partial one that leads up to the first cache line and
// one at the end.
struct Cut {
  std::size_t lead, width;
  VM_MEMBER std::size_t start(std::size_t v, std::size_t lanes) const { return v == 0 ? 0 : lead + (v - 1) * lanes; }
  VM_MEMBER std::size_t some(std::size_t v, std::size_t lanes) const {
    const std::size_t from = start(v, lanes), whole = v == 0 ? lead : lanes;
    return from >= width ? 0 : width - from < whole ? width - from : whole;
  }
};

template <template <class, bool> class Formula, class T, std::size_t... v>
static void map_cut(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n, const Cut& cut,
                    const RowParams* rows, bool lines, std::index_sequence<v...>) {
  using V = vec<compute_t<T>>;
  constexpr std::size_t lanes = V::lanes;
  const Formula<V, sizeof(T) == 2> formula[] = {
      Formula<V, sizeof(T) == 2>{RowValues<V>(rows + cut.start(v, lanes), cut.some(v, lanes))}...};
  for (std::size_t i = 0; i < n; ++i, x += x_pitch, y += y_pitch)
    for (std::size_t k = 0; k < sizeof...(v); ++k) {
      const std::size_t some = cut.some(k, lanes), at = cut.start(k, lanes) * sizeof(T);
      if (some == 0) continue;
      prefetch(x + rows_ahead * x_pitch + at);
      const V result = formula[k](load_row<T, V>(x + at, some));
      if (some != lanes)
        store_first(y + at, some, result, to_type<T>);
      else if (lines)
        stream(y + at, result, to_type<T>);
      else
        store(y + at, result, to_type<T>);
    }
}

template <template <class, bool> class Formula, class T>
static void map_columns(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n,
                        std::size_t width, const RowParams* rows, bool streaming) {
  using V = vec<compute_t<T>>;
  constexpr std::size_t line = 64;
  const auto address = reinterpret_cast<std::uintptr_t>(y);
  const bool lines = streaming && V::lanes * sizeof(T) == line && y_pitch % static_cast<std::ptrdiff_t>(line) == 0 &&
                     address % sizeof(T) == 0;
  const std::size_t lead = lines && address % line != 0 ? (line - address % line) / sizeof(T) : V::lanes;
  map_cut<Formula, T>(x, x_pitch, y, y_pitch, n, Cut{lead, width}, rows, lines,
                      std::make_index_sequence<most_columns / V::lanes + 1>());
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
