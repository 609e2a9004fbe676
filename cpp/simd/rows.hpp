// SPDX-License-Identifier: Apache-2.0
// Loops over a contiguous stretch, with their tails.
#pragma once

#include "cpp/math/bytes.hpp"
#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class T>
inline constexpr const T* type = nullptr;  // names a storage type in a call
template <class T>
inline constexpr T* to_type = nullptr;

// A line wanted soon, into first-level cache; a stretch wanted later, into second-level cache.
VM_INLINE void prefetch_later(const std::byte* at, std::size_t bytes) {
  for (std::size_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b, 0, 2);
}
template <std::size_t bytes>
VM_INLINE void prefetch(const std::byte* at) {
  VM_UNROLL(8)
  for (std::size_t b = 0; b < bytes; b += 64) __builtin_prefetch(at + b, 0, 3);
}

// How far ahead of a read its line is asked for: the processor's own prefetching depends on where the loads of a loop
// happen to lie, and loses half of DRAM's speed where that is unlucky (docs/development/measured.md).
inline constexpr std::size_t fetch_ahead = 2048;

// Elements [i, i + lanes) of an input, or the first `left` of them.
template <class In>
struct Input {
  Bytes at;
  template <class V>
  VM_MEMBER V whole(std::size_t i) const {
    if constexpr (V::lanes > 1) prefetch<V::lanes * sizeof(In)>(at + i * sizeof(In) + fetch_ahead);
    return load<V>(at + i * sizeof(In), type<In>);
  }
  template <class V>
  VM_MEMBER V some(std::size_t i, std::size_t left) const {
    return load_first<V>(at + i * sizeof(In), left, typename V::scalar(0), type<In>);
  }
};

// y[i] = op(inputs[i]...) for i < n, where `many` is op on a Batch.  Partial vectors lead up to the first whole cache
// line, which streaming stores need and others like: a store across two lines takes twice as long.
template <class Out, class V, class Many, class Op, class... Ins>
VM_INLINE void map_inputs(OutBytes y, std::size_t n, bool streaming, const Many& many, const Op& op, Ins... in) {
  using B = Batch<V>;
  constexpr std::size_t lanes = V::lanes, whole = B::lanes, line = 64, worth_it = 8 * whole;
  std::size_t i = 0;
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(y) % line;
  const bool can_align = misaligned % sizeof(Out) == 0;
  if (can_align && misaligned != 0 && (streaming || n >= worth_it)) {
    const std::size_t lead = (line - misaligned) / sizeof(Out), end = lead < n ? lead : n;
    for (; i < end; i += lanes) {
      const std::size_t some = end - i < lanes ? end - i : lanes;
      store_first(y + i * sizeof(Out), some, op(in.template some<V>(i, some)...), to_type<Out>);
    }
    i = end;
  }
  if (streaming && can_align)
    for (; i + whole <= n; i += whole) stream(y + i * sizeof(Out), many(in.template whole<B>(i)...), to_type<Out>);
  for (; i + whole <= n; i += whole) store(y + i * sizeof(Out), many(in.template whole<B>(i)...), to_type<Out>);
  for (; i + lanes <= n; i += lanes) store(y + i * sizeof(Out), op(in.template whole<V>(i)...), to_type<Out>);
  if (i < n) store_first(y + i * sizeof(Out), n - i, op(in.template some<V>(i, n - i)...), to_type<Out>);
}

// Sixteen lanes onto one: halves onto halves.
VM_INLINE TwoSum fold(double (&at)[16]) {
  double lost[16] = {};
  VM_UNROLL(4)
  for (int n = 8; n >= 1; n /= 2)
    for (int i = 0; i < n; ++i) {
      const double next = at[i] + at[i + n], part = next - at[i];
      lost[i] += lost[i + n] + ((at[i] - (next - part)) + (at[i + n] - part));
      at[i] = next;
    }
  return {at[0], lost[0]};
}
VM_INLINE TwoSum fold(F64 low, F64 high) {
  alignas(64) double at[16];
  store(reinterpret_cast<OutBytes>(at), low, at);
  store(reinterpret_cast<OutBytes>(at + 8), high, at);
  return fold(at);
}

// A sum over a block: vectors in index order into lanes, the same lanes on every instruction set.  A plain float32
// addition could round a dominating term by half an ULP of the result, so what it rounds away is kept.  `low` and
// `high` are the sixteen lanes in float64.
template <class V>
struct Sum;

// Knuth's TwoSum; the second half of the lanes is what the first one's additions rounded away.
template <>
struct Sum<F64> {
  F64 low = splat<F64>(0), high = splat<F64>(0);
  VM_MEMBER void add(F64 v) { two_sum(low, high, v); }
  VM_MEMBER void finish() {}
};

// Terms below 2^65, the largest of them 2^63 and more, as a block's are against its own reference.  Counted from a
// number beyond all of them, the running sum is always the larger operand, and three operations say what it lost
// (Dekker's FastTwoSum): 2^-30 of the block's sum over the 256 terms of a lane, in 4 operations where widening takes 7.
template <>
struct Sum<F32> {
  static constexpr float start = 0x1p66f;
  static_assert(head_room<float> == 64);
  F32 sum = splat<F32>(start), lost = splat<F32>(0);
  F64 low, high;
  VM_MEMBER void add(F32 v) {
    const F32 next = sum + v;
    lost = lost + (v - (next - sum));
    sum = next;
  }
  VM_MEMBER void finish() {
    F64 lost_low, lost_high;
    widen(sum, low, high);
    widen(lost, lost_low, lost_high);
    low = (low - splat<F64>(start)) + lost_low, high = (high - splat<F64>(start)) + lost_high;
  }
};

// For float32 terms of any size.
struct WideSum {
  F64 low = splat<F64>(0), high = splat<F64>(0);
  VM_MEMBER void add(F32 v) {
    F64 l, h;
    widen(v, l, h);
    low = low + l, high = high + h;
  }
  VM_MEMBER void finish() {}
};

// For terms of 2^-13.
struct PlainSum {
  F32 sum = splat<F32>(0);
  F64 low, high;
  VM_MEMBER void add(F32 v) { sum = sum + v; }
  VM_MEMBER void finish() { widen(sum, low, high); }
};

// term(i, left, type): the terms from element i on, a V or a Batch of them, of which `left` are inside the block.
template <class V, class Total = Sum<V>, class Term>
VM_INLINE TwoSum sum_of(std::size_t n, const Term& term) {
  using B = Batch<V>;
  constexpr std::size_t lanes = V::lanes, whole = B::lanes;
  Total sum;
  std::size_t i = 0;
  for (; i + whole <= n; i += whole) {
    const B terms = term(i, whole, type<B>);
    VM_UNROLL(4)
    for (int j = 0; j < B::K / V::K; ++j) sum.add(part<V>(terms, j));
  }
  for (; i + lanes <= n; i += lanes) sum.add(term(i, lanes, type<V>));
  if (i < n) sum.add(term(i, n - i, type<V>));
  sum.finish();
  return fold(sum.low, sum.high);
}

// The largest element, -inf for none; NaN does not count.
template <class In, class V>
VM_INLINE V max_lanes(Bytes x, std::size_t n) {
  using F = typename V::scalar;
  constexpr std::size_t lanes = V::lanes, stripe = 4 * lanes;
  V m[4];
  VM_UNROLL(4)
  for (auto& each : m) each = splat<V>(-Number<F>::infinity);
  std::size_t i = 0;
  for (; i + stripe <= n; i += stripe) {
    VM_UNROLL(4)
    for (std::size_t j = 0; j < 4; ++j) m[j] = max(load<V>(x + (i + j * lanes) * sizeof(In), type<In>), m[j]);
  }
  for (; i + lanes <= n; i += lanes) m[0] = max(load<V>(x + i * sizeof(In), type<In>), m[0]);
  if (i < n) m[0] = max(load_first<V>(x + i * sizeof(In), n - i, -Number<F>::infinity, type<In>), m[0]);
  return max(max(m[0], m[1]), max(m[2], m[3]));
}
template <class P, int K>
VM_INLINE double largest(Wide<P, K> m) {  // short: who waits for it reads no memory (docs/development/measured.md)
  VM_UNROLL(16)
  for (int i = 1; i < K; ++i) m.piece[0] = max_piece(m.piece[i], m.piece[0]);
  Lanes<Wide<P, 1>> lane(Wide<P, 1>{{m.piece[0]}});
  VM_UNROLL(4)
  for (int n = P::lanes / 2; n >= 1; n /= 2) VM_UNROLL(8)
  for (int i = 0; i < n; ++i) lane.at[i] = lane.at[i + n] > lane.at[i] ? lane.at[i + n] : lane.at[i];
  return static_cast<double>(lane.at[0]) + 0.0;  // -0 becomes +0
}

}  // namespace vastmax::VM_ISA
