// SPDX-License-Identifier: Apache-2.0
// logsumexp with weights: the largest logit of any weight, then the signed terms in its unit.  Two reads: against one
// unit for the whole row, terms that cancel do so exactly.
#include "cpp/ops/logsumexp_weighted.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 128;

// Logits and weights of a row as float64; a masked term has no weight.
template <class T>
class WeightedRow {
 public:
  VM_MEMBER WeightedRow(const RowOperands& a, std::int64_t row)
      : x_(a, row), weights_(a.shape.row(a.second, row)), step_(a.second.step) {}
  VM_MEMBER double logit(std::int64_t i) const { return static_cast<double>(x_.number_at(i).piece[0].v); }
  VM_MEMBER double weight(std::int64_t i) const {
    return x_.in(i) ? static_cast<double>(number(load_one<T>(weights_ + i * step_)).piece[0].v) : 0;
  }

 private:
  Staged<T> x_;
  Bytes weights_;
  std::int64_t step_;
};

VM_INLINE double larger(double a, double b) { return b > a ? b : a; }
VM_INLINE double warp_largest(double v) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) v = larger(v, shuffle_xor(v, mask));
  return v;
}

// fn(row, i) for this lane's share of tile t.
template <class T, class Fn>
VM_INLINE void each_in_tile(const RowOperands& a, std::int64_t tiles, std::int64_t t, const Fn& fn) {
  const WeightedRow<T> row(a, t / tiles);
  for (int j = 0; j < per_lane<T>; ++j)
    if (const std::int64_t i = t % tiles * tile_length<T> + place_in_tile<T>(j); i < a.shape.n) fn(row, i);
}

template <class T>
VM_KERNEL(block_threads, 4)
tops_kernel(RowOperands a, std::int64_t tiles, double* tops) {
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    double top = -infinity;
    each_in_tile<T>(a, tiles, t, [&](const WeightedRow<T>& row, std::int64_t i) {
      if (row.weight(i) != 0) top = larger(top, row.logit(i));
    });
    top = warp_largest(top);
    if (lane() == 0) tops[t] = top;
  }
}

// The largest of a row's tiles; they may be logits or exponents.
VM_KERNEL(block_threads, 4) top_kernel(std::int64_t rows, std::int64_t tiles, const double* tops, double* top_of_row) {
  for (std::int64_t row = global_warp(); row < rows; row += global_warps()) {
    double top = -infinity;
    for (std::int64_t t = lane(); t < tiles; t += lanes_of_warp) top = larger(top, tops[row * tiles + t]);
    top = warp_largest(top);
    if (lane() == 0) top_of_row[row] = top + 0.0;  // -0 becomes +0
  }
}

using Term = WeightedTerm<vec<double>>;

template <class T>
VM_KERNEL(block_threads, 4)
sums_kernel(RowOperands a, std::int64_t tiles, const double* top_of_row, TwoSum* parts, double* exponents) {
  using V = vec<double>;
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const Term term(top_of_row[t / tiles]);
    const auto logit = [](const WeightedRow<T>& row, std::int64_t i) { return splat<V>(row.logit(i)); };
    const auto weight = [](const WeightedRow<T>& row, std::int64_t i) { return splat<V>(row.weight(i)); };
    double exponent = -infinity;
    each_in_tile<T>(a, tiles, t, [&](const WeightedRow<T>& row, std::int64_t i) {
      exponent = larger(exponent, term.exponent(logit(row, i), weight(row, i)).piece[0].v);
    });
    exponent = warp_largest(exponent);
    TwoSum sum;
    each_in_tile<T>(a, tiles, t, [&](const WeightedRow<T>& row, std::int64_t i) {
      sum.add(term(logit(row, i), weight(row, i), term.unit(exponent)).piece[0].v);
    });
    sum = warp_total(sum);
    if (lane() == 0) parts[t] = sum, exponents[t] = exponent;
  }
}

template <class F>
VM_KERNEL(virtual_threads, 2)
finish_kernel(WeightedOperands a, std::int64_t tiles, WeightedScratch from) {
  auto& scratch = *reinterpret_cast<TwoSum(*)[virtual_threads]>(shared_memory());
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const TwoSum* const own = from.parts + row * tiles;
    const double* const exponents = from.of_tile + row * tiles;
    const int unit = Term::unit(from.exponent_of_row[row]);
    const TwoSum sum = total_by_block(tiles, scratch, [&](TwoSum& to, std::int64_t t) {
      const TwoSum part = ScaledSum::in_unit(own[t], Term::unit(exponents[t]), unit);
      to.add(part.high);
      to.low += part.low;
    });
    if (thread() == 0) {
      const SignedLog result =
          signed_log(from.top_of_row[row], {sum, unit}, a.signs.data != nullptr, &RowMath<F>::log_pair);
      store_one<F>(a.shape.row(a.out, row), static_cast<F>(result.value));
      if (a.signs.data != nullptr) store_one<F>(a.shape.row(a.signs, row), static_cast<F>(result.sign));
    }
    sync_block();
  }
}

// A sum of positive terms is positive, or of no terms, or unknown.
template <class F>
VM_KERNEL(block_threads, 4)
signs_kernel(ElementOperands e) {
  for (std::int64_t i = global_thread(); i < e.shape.count; i += global_threads()) {
    const F sum = load_one<F>(e.shape.row(e.x, i));
    store_one<F>(e.shape.row(e.out, i), sum != sum ? sum : static_cast<F>(sum > -Number<F>::infinity));
  }
}

void signs_of_sums(DType dtype, const ElementOperands& e, const Stream& stream) {
  const Grid grid = grid_for(e.shape.count, block_threads, block_threads, stream);
  const auto start = [&]<class F>(F) { launch(signs_kernel<F>, grid, stream, e); };
  dtype == DType::float64 ? start(double{}) : start(float{});
}

void norm_weighted(DType dtype, const WeightedOperands& a, std::int64_t tiles, const WeightedScratch& to,
                   const Stream& stream) {
  const Grid by_tile = grid_for(a.shape.count * tiles, block_threads / lanes_of_warp, block_threads, stream);
  const Grid by_warp = grid_for(a.shape.count, block_threads / lanes_of_warp, block_threads, stream);
  const RowOperands& rows = a;
  with_dtype(dtype, [&]<class T>(T) { launch(tops_kernel<T>, by_tile, stream, rows, tiles, to.of_tile); });
  launch(top_kernel, by_warp, stream, a.shape.count, tiles, to.of_tile, to.top_of_row);
  with_dtype(dtype, [&]<class T>(T) {
    launch(sums_kernel<T>, by_tile, stream, rows, tiles, to.top_of_row, to.parts, to.of_tile);
  });
  launch(top_kernel, by_warp, stream, a.shape.count, tiles, to.of_tile, to.exponent_of_row);
  const Grid by_block = grid_for(a.shape.count, 1, virtual_threads, stream, virtual_threads * sizeof(TwoSum));
  const auto finish = [&]<class F>(F) { launch(finish_kernel<F>, by_block, stream, a, tiles, to); };
  dtype == DType::float64 ? finish(double{}) : finish(float{});
}

}  // namespace vastmax::VM_ISA
