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

// The terms of up to a vector of rows, each against its own reference.
template <class V>
class ColumnExp {
  using F = typename V::scalar;
  using Step = PerPiece<V>;

 public:
  VM_MEMBER explicit ColumnExp(const Partial* rows, std::size_t width) {
    for (std::size_t c = 0; c < V::lanes; ++c) ref_[c] = c < width ? static_cast<F>(rows[c].ref) : F(0);
  }
  VM_MEMBER V operator()(V x) const {
    for (int i = 0; i < V::K; i += Step::K) {
      Step step;
      for (int k = 0; k < Step::K; ++k) step.piece[k] = x.piece[i + k];
      const F* const ref = ref_ + i * V::piece_type::lanes;
      step = ScaledExp<Step>(load<Step>(reinterpret_cast<Bytes>(ref), ref))(step);
      for (int k = 0; k < Step::K; ++k) x.piece[i + k] = step.piece[k];
    }
    return x;
  }

 private:
  alignas(64) F ref_[V::lanes];
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
    for (std::size_t c = 0; c < vectors; ++c) top[c] = max(load_row<T, V>(row + c * V::lanes * sizeof(T), some(c)), top[c]);
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

template <template <class, bool> class Formula, class T>
static void map_columns(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n, std::size_t width,
                        const RowParams* rows) {
  using V = vec<compute_t<T>>;
  constexpr std::size_t tile = 256;  // classes between two changes of columns: few enough to stay in first-level cache
  for (std::size_t start = 0; start < n; start += tile)
    for (std::size_t c = 0; c < width; c += V::lanes) {
      const std::size_t some = width - c < V::lanes ? width - c : V::lanes, end = n - start < tile ? n : start + tile;
      const Formula<V, sizeof(T) == 2> formula{RowValues<V>(rows + c, some)};
      for (std::size_t i = start; i < end; ++i) {
        const V v = formula(load_row<T, V>(x + static_cast<std::ptrdiff_t>(i) * x_pitch + c * sizeof(T), some));
        OutBytes to = y + static_cast<std::ptrdiff_t>(i) * y_pitch + c * sizeof(T);
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
