// SPDX-License-Identifier: Apache-2.0
// What else can be told of a block while it is in cache: its part of the entropy, how many logits are as large as a
// limit, which are, and its part of a divergence.
#include "cpp/kernels/fill.hpp"
#include "cpp/kernels/norm_block.hpp"

namespace vastmax::VM_ISA {

template <class In>
static void norm_gaps(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, TwoSum& gaps) {
  using V = wide<compute_t<In>>;
  Gaps<V, Sum<V>> seen;
  normalise<In, Terms::exact>(x, n, ahead, max, out, seen);
  gaps = seen.value();
}

// The 64 elements from i on, or those of them below n, that are at least a limit.
template <class In, class B>
VM_INLINE std::uint64_t at_least(Bytes x, std::size_t i, B limit) {
  std::uint64_t in = 0;
  VM_UNROLL(2)
  for (std::size_t j = 0; j < 64; j += B::lanes)
    in |= bits(not_less(load<B>(x + (i + j) * sizeof(In), type<In>), limit)) << j;
  return in;
}
template <class In>
static std::uint64_t at_least_of_few(Bytes x, std::size_t i, std::size_t n, double limit) {
  using V = wide<compute_t<In>>;
  using F = typename V::scalar;
  std::uint64_t in = 0;
  for (std::size_t j = 0; i + j < n; j += V::lanes) {
    const std::size_t left = n - i - j < V::lanes ? n - i - j : std::size_t{V::lanes};
    const V v = load_first<V>(x + (i + j) * sizeof(In), left, -Number<F>::infinity, type<In>);
    in |= bits(not_less(v, splat<V>(static_cast<F>(limit)))) << j;
  }
  return in & ((std::uint64_t{1} << (n - i)) - 1);
}

template <class In>
static std::size_t count_from(Bytes x, std::size_t n, double limit) {
  using B = Batch<wide<compute_t<In>>>;
  const B from = splat<B>(static_cast<typename B::scalar>(limit));
  std::size_t i = 0, count = 0;
  for (; i + 64 <= n; i += 64) count += static_cast<std::size_t>(__builtin_popcountll(at_least<In>(x, i, from)));
  return i == n ? count : count + static_cast<std::size_t>(__builtin_popcountll(at_least_of_few<In>(x, i, n, limit)));
}

// Where there is no NaN, stretches without any such element are passed over by their largest.
template <class In>
static std::size_t mark_from(Bytes x, std::size_t n, double limit, bool nans, std::uint64_t* marks) {
  using B = Batch<wide<compute_t<In>>>;
  constexpr std::size_t stretch = 256;
  const B from = splat<B>(static_cast<typename B::scalar>(limit));
  std::size_t i = 0, count = 0;
  const auto mark = [&](std::uint64_t in) __attribute__((always_inline)) {
    marks[i / 64] = in, count += static_cast<std::size_t>(__builtin_popcountll(in));
  };
  for (; i + stretch <= n;) {
    B largest = load<B>(x + i * sizeof(In), type<In>);
    VM_UNROLL(8)
    for (std::size_t j = B::lanes; j < stretch; j += B::lanes)
      largest = max(load<B>(x + (i + j) * sizeof(In), type<In>), largest);
    const bool any = nans || bits(not_less(largest, from)) != 0;
    for (std::size_t end = i + stretch; i < end; i += 64) mark(any ? at_least<In>(x, i, from) : 0);
  }
  for (; i + 64 <= n; i += 64) mark(at_least<In>(x, i, from));
  if (i < n) mark(at_least_of_few<In>(x, i, n, limit));
  return count;
}

template <class In>
static void lane_max(Bytes x, std::size_t n, std::size_t lanes, OutBytes largest) {
  using F = compute_t<In>;
  using V = wide<F>;
  constexpr F none = -Number<F>::infinity;
  for (std::size_t i = 0; i < lanes; i += V::lanes) store(largest + i * sizeof(F), splat<V>(none), to_type<F>);
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const OutBytes to = largest + i % lanes * sizeof(F);
    const V v = load_first<V>(x + i * sizeof(In), n - i < V::lanes ? n - i : V::lanes, none, type<In>);
    store(to, max(v, load<V>(to, type<F>)), to_type<F>);
  }
}

template <class F>
static double rest_entropy(Bytes staged, std::size_t n, double max, int ref, TwoSum& gaps) {
  using V = wide<F>;
  Gaps<V, SumOf<V, Terms::below_max>> sum;
  sum.begin(max);
  const double rest = exp_sum<F, V, Terms::below_max>(staged, n, ref, max, sum).value();
  gaps = sum.value();
  return rest;
}

static void differences(Bytes x, Bytes z, std::size_t n, const Partial& p, const Partial& q, Differences& out) {
  const double x_base = base_of(p.max) - shift_of(p.max), z_base = base_of(q.max) - shift_of(q.max);
  Sum<F64> gaps, far;
  const auto above = [&]<class W>(std::size_t i, std::size_t left, const W*) __attribute__((always_inline)) {
    const W none = splat<W>(-infinity), unit = splat<W>(unlifted);
    const W v = load_up_to<W>(x + i * sizeof(double), left, -infinity, type<double>),
            w = load_up_to<W>(z + i * sizeof(double), left, -infinity, type<double>);
    const W term = exp_terms<Terms::exact>(v, splat<W>(p.ref));
    const W apart = Difference<W>(v, w).less({splat<W>(x_base), splat<W>(z_base)}) - splat<W>(out.offset);
    const auto counts = splat<W>(0) < term, near = not_less(select(counts, apart, none), splat<W>(least_gap));
    const W gap = keep(counts, term * (apart * unit));
    VM_UNROLL(4)
    for (int j = 0; j < W::K / F64::K; ++j) gaps.add(part<F64>(gap, j));
    if (bits(near) != ~std::uint64_t{0} >> (64 - W::lanes)) {
      const W others = exp_terms<Terms::exact>(select(near, none, w), splat<W>(q.ref));
      VM_UNROLL(4)
      for (int j = 0; j < W::K / F64::K; ++j) far.add(part<F64>(others, j));
    }
    const W height = select(near, through(AboveTangent<PerPiece<W>>(), apart), apart - splat<W>(1));
    return keep(counts, term * (height * unit));
  };
  out.above = sum_of<F64>(n, above);
  out.gaps = fold(gaps.low, splat<F64>(0));
  out.gaps.low += fold(gaps.high, splat<F64>(0)).value();  // apart: not a number where a gap is infinite
  out.far = fold(far.low, far.high).value();
}

void fill_row_stats(Kernels& k) {
  k.differences = differences;
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.norm_gaps[0] = norm_gaps<T>, to.norm_gaps[1] = norm_gaps<F>;
    to.rest_entropy = rest_entropy<F>;
    to.count_from[0] = count_from<T>, to.count_from[1] = count_from<F>;
    to.mark_from[0] = mark_from<T>, to.mark_from[1] = mark_from<F>;
    to.lane_max[0] = lane_max<T>, to.lane_max[1] = lane_max<F>;
  });
}

}  // namespace vastmax::VM_ISA
