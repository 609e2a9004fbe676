// SPDX-License-Identifier: Apache-2.0
// What else can be told of a block while it is in cache: its part of the entropy, how many logits are as large as a
// limit, which are, and its part of a divergence.
#include "kernels/fill.hpp"
#include "kernels/norm_block.hpp"
#include "simd/dot.hpp"

namespace vastmax::VM_ISA {

template <class In>
static void norm_entropy(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, TwoSum& gaps) {
  using V = wide<compute_t<In>>;
  Gaps<V, Sum<V>> sum;
  normalise<In, Terms::exact>(x, n, ahead, max, out, sum);
  gaps = sum.value();
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

// These passes run over cached blocks between two that wait for memory; so they ask for what comes after the next one.
template <class In, class W>
VM_INLINE void prefetch_after_next(Bytes at) {
  prefetch_later(at + 2 * block_length(sizeof(In) == 8 ? DType::float64 : DType::float32) * sizeof(In),
                 W::lanes * sizeof(In));
}

template <class In>
static std::size_t count_from(Bytes x, std::size_t n, double least) {
  using V = wide<compute_t<In>>;
  using B = Batch<V>;
  using F = typename V::scalar;
  const auto counted = [least]<class W>(W v) __attribute__((always_inline)) {
    return keep(not_less(v, splat<W>(static_cast<F>(least))), splat<W>(1));
  };
  B many = splat<B>(0);
  V few = splat<V>(0);
  std::size_t i = 0;
  for (; i + B::lanes <= n; i += B::lanes) {
    prefetch_after_next<In, B>(x + i * sizeof(In));
    many = many + counted(load<B>(x + i * sizeof(In), type<In>));
  }
  for (; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    few = few + counted(load_first<V>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>));
  }
  F total = 0;
  for (const F each : Lanes<B>(many).at) total += each;
  for (const F each : Lanes<V>(few).at) total += each;
  return static_cast<std::size_t>(total);
}

template <class In>
static std::size_t find_from(Bytes x, std::size_t n, double least, std::size_t& next, std::uint32_t* found,
                             std::size_t room) {
  using V = wide<compute_t<In>>;
  using B = Batch<V>;
  using F = typename V::scalar;
  static_assert(B::lanes <= 64);
  std::size_t i = next, count = 0;
  while (i < n) {
    std::uint64_t in;
    std::size_t step = B::lanes;
    if (i + step <= n) {
      prefetch_after_next<In, B>(x + i * sizeof(In));
      in = bits(not_less(load<B>(x + i * sizeof(In), type<In>), splat<B>(static_cast<F>(least))));
    } else {
      step = n - i < V::lanes ? n - i : V::lanes;
      const V v = load_first<V>(x + i * sizeof(In), step, -Number<F>::infinity, type<In>);
      in = bits(not_less(v, splat<V>(static_cast<F>(least)))) & ((std::uint64_t{1} << step) - 1);
    }
    if (in != 0) {
      if (count + static_cast<std::size_t>(__builtin_popcountll(in)) > room) break;
      for (; in != 0; in &= in - 1)
        found[count++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctzll(in));
    }
    i += step;
  }
  next = i;
  return count;
}

VM_INLINE void add_gaps(Dot (&sum)[2], int half, F64 term, F64 x, F64 z, F64 x_base, F64 z_base) {
  const F64 zero = splat<F64>(0);
  sum[half].add(term, select(term == zero, zero, (x - x_base) - (z - z_base)));
}
VM_INLINE void add_gaps(Dot (&sum)[2], F64 term, F64 x, F64 z, F64 x_base, F64 z_base) {
  add_gaps(sum, 0, term, x, z, x_base, z_base);
}
VM_INLINE void add_gaps(Dot (&sum)[2], F32 term, F32 x, F32 z, F64 x_base, F64 z_base) {
  F64 terms[2], xs[2], zs[2];
  widen(term, terms[0], terms[1]);
  widen(x, xs[0], xs[1]);
  widen(z, zs[0], zs[1]);
  for (int half = 0; half < 2; ++half) add_gaps(sum, half, terms[half], xs[half], zs[half], x_base, z_base);
}

template <class F>
static void divergence(Bytes x, Bytes z, std::size_t n, double x_base, double z_base, int ref, TwoSum& sum) {
  using V = wide<F>;
  const V refs = splat<V>(static_cast<F>(ref));
  Dot dot[2];
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes, at = i * sizeof(F);
    const V v = load_first<V>(x + at, left, -Number<F>::infinity, type<F>);
    add_gaps(dot, exp_terms<Terms::exact>(v, refs), v, load_first<V>(z + at, left, 0, type<F>), splat<F64>(x_base),
             splat<F64>(z_base));
  }
  sum = fold(dot);
}

void fill_row_stats(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.norm_entropy[0] = norm_entropy<T>, to.norm_entropy[1] = norm_entropy<F>;
    to.rest_entropy = rest_entropy<F>;
    to.count_from[0] = count_from<T>, to.count_from[1] = count_from<F>;
    to.find_from[0] = find_from<T>, to.find_from[1] = find_from<F>;
    to.divergence = divergence<F>;
  });
}

}  // namespace vastmax::VM_ISA
