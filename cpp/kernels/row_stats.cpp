// SPDX-License-Identifier: Apache-2.0
// What else can be told of a block while it is in cache: its part of the entropy, how many logits are as large as a
// limit, which are, and its part of a divergence.
#include "kernels/fill.hpp"
#include "kernels/norm_block.hpp"
#include "simd/dot.hpp"

namespace vastmax::VM_ISA {

// How many elements are at least one limit, and which are at least another.
template <class V>
struct Limits {
  using F = typename V::scalar;
  F count_from, mark_from;
  std::uint64_t* marks;
  Batch<V> many = splat<Batch<V>>(0);
  V few = splat<V>(0);

  VM_MEMBER explicit Limits(Glance& glance)
      : count_from(static_cast<F>(glance.count_from)),
        mark_from(static_cast<F>(glance.mark_from)),
        marks(glance.marks) {}
  template <class W>
  VM_MEMBER void add(std::size_t i, std::size_t left, W x) {
    const W counted = keep(not_less(x, splat<W>(count_from)), splat<W>(1));
    if constexpr (static_cast<int>(W::lanes) == static_cast<int>(Batch<V>::lanes))
      many = many + counted;
    else
      few = few + counted;
    std::uint64_t in = bits(not_less(x, splat<W>(mark_from)));
    if constexpr (W::lanes == 64) {
      marks[i / 64] = in;
    } else {
      if (left < W::lanes) in &= (std::uint64_t{1} << left) - 1;
      marks[i / 64] = i % 64 == 0 ? in : marks[i / 64] | in << i % 64;
    }
  }
  VM_MEMBER std::size_t count() const {
    F total = 0;
    for (const F each : Lanes<Batch<V>>(many).at) total += each;
    for (const F each : Lanes<V>(few).at) total += each;
    return static_cast<std::size_t>(total);
  }
};

template <class V>
struct GapsAndLimits : Gaps<V, Sum<V>>, Limits<V> {
  VM_MEMBER explicit GapsAndLimits(Glance& glance) : Limits<V>(glance) {}
  template <class W>
  VM_MEMBER void add(std::size_t i, std::size_t left, W x, W term) {
    Gaps<V, Sum<V>>::add(i, left, x, term);
    Limits<V>::add(i, left, x);
  }
};

template <class In>
static void norm_gaps(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, Glance& glance) {
  using V = wide<compute_t<In>>;
  Gaps<V, Sum<V>> seen;
  normalise<In, Terms::exact>(x, n, ahead, max, out, seen);
  glance.gaps = seen.value();
}

template <class In>
static void norm_stats(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, Glance& glance) {
  using V = wide<compute_t<In>>;
  GapsAndLimits<V> seen(glance);
  normalise<In, Terms::exact>(x, n, ahead, max, out, seen);
  glance.gaps = seen.value(), glance.count = seen.count();
}

template <class In>
static void glance(Bytes x, std::size_t n, Glance& glance) {
  using V = wide<compute_t<In>>;
  Limits<V> seen(glance);
  const auto look = [&]<class W>(std::size_t i, std::size_t left, const W*) __attribute__((always_inline)) {
    seen.add(i, left, load_up_to<W>(x + i * sizeof(In), left, -Number<typename V::scalar>::infinity, type<In>));
  };
  std::size_t i = 0;
  for (; i + Batch<V>::lanes <= n; i += Batch<V>::lanes) look(i, std::size_t{Batch<V>::lanes}, type<Batch<V>>);
  for (; i < n; i += V::lanes) look(i, n - i < V::lanes ? n - i : std::size_t{V::lanes}, type<V>);
  glance.count = seen.count();
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
    to.norm_stats[0][0] = norm_gaps<T>, to.norm_stats[0][1] = norm_gaps<F>;
    to.norm_stats[1][0] = norm_stats<T>, to.norm_stats[1][1] = norm_stats<F>;
    to.rest_entropy = rest_entropy<F>;
    to.glance[0] = glance<T>, to.glance[1] = glance<F>;
    to.divergence = divergence<F>;
  });
}

}  // namespace vastmax::VM_ISA
