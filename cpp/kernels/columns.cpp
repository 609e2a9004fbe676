// SPDX-License-Identifier: Apache-2.0
// Rows that lie side by side in memory (a reduction over the first axis): a lane per row, every row in the order of
// norm.cpp, so the bits are those of the same row laid out alone.  Nothing is transposed: the accumulators of all rows
// live in first-level cache.
#include "cpp/kernels/fill.hpp"
#include "cpp/kernels/norm.hpp"
#include "cpp/kernels/terms.hpp"
#include "cpp/ops/formulas.hpp"

namespace vastmax::VM_ISA {

template <class T, class V>
VM_INLINE V load_row(Bytes at, std::size_t width) {
  return load_up_to<V>(at, width, -Number<typename V::scalar>::infinity, type<T>);
}

// How far down a column a line is asked for: far enough for DRAM.
constexpr std::ptrdiff_t rows_ahead = 16;

// fn(first column, columns, type) for a row's columns: what leads up to the first cache line, if anything, then a Batch
// at a time, then vectors, the last of them in part.
template <class V, class Fn>
VM_INLINE void each_vector(std::size_t lead, std::size_t width, const Fn& fn) {
  using B = Batch<V>;
  std::size_t c = 0;
  for (; c < lead; c += V::lanes) fn(c, lead - c < V::lanes ? lead - c : V::lanes, type<V>);
  c = lead;
  for (; c + B::lanes <= width; c += B::lanes) fn(c, std::size_t{B::lanes}, type<B>);
  for (; c + V::lanes <= width; c += V::lanes) fn(c, std::size_t{V::lanes}, type<V>);
  if (c < width) fn(c, width - c, type<V>);
}

template <class T, class V>
static void max_columns(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width,
                        typename V::scalar (&top)[most_columns]) {
  using F = typename V::scalar;
  each_vector<V>(0, width, [&]<class W>(std::size_t c, std::size_t some, const W*) __attribute__((always_inline)) {
    W most = splat<W>(-Number<F>::infinity);
    Bytes at = x + c * sizeof(T);
    for (std::size_t i = 0; i < n; ++i, at += pitch) {
      prefetch<W::lanes * sizeof(T)>(at + rows_ahead * pitch);
      most = max(load_row<T, W>(at, some), most);
    }
    store_first(reinterpret_cast<OutBytes>(top + c), some, most, top);
  });
}

// What a class modulo the lanes has summed up to, for each of the rows of a vector.
VM_INLINE void put_lanes(Sum<F64>& sum, double (*lane)[8]) {
  store(reinterpret_cast<OutBytes>(lane[0]), sum.low, lane[0]);
  store(reinterpret_cast<OutBytes>(lane[8]), sum.high, lane[8]);
}
template <class Total>
VM_INLINE void put_lanes(Total& sum, double (*lane)[16]) {
  sum.finish();
  store(reinterpret_cast<OutBytes>(lane[0]), sum.low, lane[0]);
  store(reinterpret_cast<OutBytes>(lane[0] + 8), sum.high, lane[0]);
}

// The terms of each row go to one of as many sums as a vector has lanes, in turn, so that they meet as in a row that
// lies alone.
template <class T, class V, Terms terms>
static void sum_columns(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Bytes ahead,
                        const typename V::scalar (&ref)[most_columns], Partial* out) {
  each_vector<V>(0, width, [&]<class W>(std::size_t c, std::size_t some, const W*) __attribute__((always_inline)) {
    constexpr int vectors = W::K / V::K;
    const W refs = load<W>(reinterpret_cast<Bytes>(ref + c), ref);
    SumOf<V, terms> sum[V::lanes][vectors];
    Bytes at = x + c * sizeof(T), later = (ahead != nullptr ? ahead : x) + c * sizeof(T);
    for (std::size_t i = 0; i < n; ++i, at += pitch, later += pitch) {
      prefetch_later(later, W::lanes * sizeof(T));
      const W term = exp_terms<terms>(load_row<T, W>(at, some), refs);
      VM_UNROLL(4)
      for (int v = 0; v < vectors; ++v) sum[i % V::lanes][v].add(part<V>(term, v));
    }
    for (int v = 0; v < vectors; ++v) {
      double lane[16][V::lanes];
      for (int j = 0; j < V::lanes; ++j) put_lanes(sum[j][v], lane + j);
      const std::size_t first = static_cast<std::size_t>(v * V::lanes);
      for (std::size_t k = 0; k < V::lanes && first + k < some; ++k) {
        double all[16];
        for (int j = 0; j < 16; ++j) all[j] = lane[j][k];
        const TwoSum total = fold(all);
        out[c + first + k].sum = total.high, out[c + first + k].lost = total.low;
      }
    }
  });
}

template <class T, Terms terms>
static void norm_columns(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Bytes ahead, Partial* out) {
  using V = wide<compute_t<T>>;
  using F = typename V::scalar;
  alignas(64) F top[most_columns], ref[most_columns] = {};
  max_columns<T, V>(x, pitch, n, width, top);
  for (std::size_t c = 0; c < width; ++c) {
    out[c].max = static_cast<double>(top[c]) + 0.0;
    out[c].ref = shifted(out[c].max) ? 0 : reference<F>(out[c].max);  // the caller does shifted rows again, one by one
    ref[c] = static_cast<F>(out[c].ref);
  }
  sum_columns<T, V, terms>(x, pitch, n, width, ahead, ref, out);
}

template <template <class, bool> class Formula, class T>
static void map_rows(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n,
                     std::size_t lead, std::size_t width, const RowParams* rows, bool lines) {
  constexpr std::size_t tile = 512;  // rows of which a narrow instruction set comes back to the next columns in cache
  for (; n > 0; n -= n < tile ? n : tile, x += tile * x_pitch, y += tile * y_pitch)
    each_vector<vec<compute_t<T>>>(
        lead, width, [&]<class W>(std::size_t c, std::size_t some, const W*) __attribute__((always_inline)) {
          const Formula<W, sizeof(T) == 2> formula{RowValues<W>(rows + c, some)};
          Bytes from = x + c * sizeof(T);
          OutBytes to = y + c * sizeof(T);
          for (std::size_t i = 0; i < n && i < tile; ++i, from += x_pitch, to += y_pitch) {
            prefetch<W::lanes * sizeof(T)>(from + rows_ahead * x_pitch);
            const W result = formula(load_row<T, W>(from, some));
            if (some != W::lanes)
              store_first(to, some, result, to_type<T>);
            else if (lines && c >= lead)
              stream(to, result, to_type<T>);
            else
              store(to, result, to_type<T>);
          }
        });
}

// Streaming stores want whole cache lines, and rows seldom begin with one.  Where they follow each other without a gap,
// each can end in the next: only the first and the last one have a part of a line.
template <template <class, bool> class Formula, class T>
static void map_columns(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n,
                        std::size_t width, const RowParams* rows, bool streaming) {
  constexpr std::size_t line = 64;
  const auto address = reinterpret_cast<std::uintptr_t>(y);
  const auto dense = static_cast<std::ptrdiff_t>(width * sizeof(T));
  const std::size_t lead = (line - address % line) % line / sizeof(T);
  const bool lines = streaming && y_pitch % static_cast<std::ptrdiff_t>(line) == 0 && address % sizeof(T) == 0 &&
                     lead < width && vec<compute_t<T>>::lanes > 1;
  if (!lines || lead == 0 || x_pitch != dense || y_pitch != dense)
    return map_rows<Formula, T>(x, x_pitch, y, y_pitch, n, lines ? lead : 0, width, rows, lines);
  RowParams turned[most_columns];
  for (std::size_t c = 0; c < width; ++c) turned[c] = rows[c + lead < width ? c + lead : c + lead - width];
  const std::size_t begin = lead * sizeof(T), last = (n - 1) * width * sizeof(T) + begin;
  map_rows<Formula, T>(x, dense, y, dense, 1, 0, lead, rows, false);
  map_rows<Formula, T>(x + begin, dense, y + begin, dense, n - 1, 0, width, turned, true);
  map_rows<Formula, T>(x + last, dense, y + last, dense, 1, 0, width - lead, rows + lead, false);
}

template <template <class, bool> class Formula>
static void fill_op(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) { to.map_columns[static_cast<int>(op)] = map_columns<Formula, T>; });
}

void fill_columns(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    to.norm_columns[0] = norm_columns<T, Terms::exact>;
    to.norm_columns[1] = norm_columns < T, sizeof(T) == 2 ? Terms::brief : Terms::exact > ;
  });
#define VM_OP(shape, name, Formula) VM_FILL_##shape(name, Formula)
#define VM_FILL_norm_map(name, Formula) fill_op<Formula>(k, Op::name);
#define VM_FILL_row_grad(name, Formula)
#define VM_FILL_unary(name, Formula)
#define VM_FILL_binary(name, Formula)
#include "cpp/ops.def"
}

}  // namespace vastmax::VM_ISA
