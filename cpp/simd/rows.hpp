// SPDX-License-Identifier: Apache-2.0
// Loops over a contiguous stretch, with their tails.
#pragma once

#include "core/table.hpp"
#include "simd/math.hpp"

namespace vastmax::VM_ISA {

template <class T>
inline constexpr const T* type = nullptr;  // names a storage type in a call
template <class T>
inline constexpr T* to_type = nullptr;

// How far ahead of a read its line is asked for, into second-level cache: hardware alone kept DRAM half idle here
// (docs/measured.md).
inline constexpr std::size_t fetch_ahead = 4096;

// Elements [i, i + lanes) of an input, or the first `left` of them.
template <class In, class V>
struct Input {
  Bytes at;
  VM_MEMBER V whole(std::size_t i) const {
    if constexpr (V::lanes > 1) prefetch(at + i * sizeof(In) + fetch_ahead);
    return load<V>(at + i * sizeof(In), type<In>);
  }
  VM_MEMBER V some(std::size_t i, std::size_t left) const {
    return load_first<V>(at + i * sizeof(In), left, typename V::scalar(0), type<In>);
  }
};

// y[i] = op(inputs[i]...) for i < n.  Streaming stores want whole aligned vectors, so a partial one leads up to the
// first.
template <class Out, class V, class Op, class... Ins>
VM_INLINE void map_inputs(OutBytes y, std::size_t n, bool streaming, const Op& op, Ins... in) {
  constexpr std::size_t lanes = V::lanes, bytes = lanes * sizeof(Out);
  std::size_t i = 0;
  const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(y) % bytes;
  if (streaming && misaligned % sizeof(Out) == 0) {
    if (misaligned != 0) {
      const std::size_t lead = (bytes - misaligned) / sizeof(Out);
      i = lead < n ? lead : n;
      store_first(y, i, op(in.some(0, i)...), to_type<Out>);
    }
    for (; i + lanes <= n; i += lanes) stream(y + i * sizeof(Out), op(in.whole(i)...), to_type<Out>);
  } else {
    for (; i + lanes <= n; i += lanes) store(y + i * sizeof(Out), op(in.whole(i)...), to_type<Out>);
  }
  if (i < n) store_first(y + i * sizeof(Out), n - i, op(in.some(i, n - i)...), to_type<Out>);
}

VM_INLINE void two_sum(F64& sum, F64& lost, F64 v) {
  const F64 next = sum + v, part = next - sum;
  lost = lost + ((sum - (next - part)) + (v - part));
  sum = next;
}

// A sum over a block: vectors in index order into lanes of float64, the same lanes on every instruction set.  A single
// addition in float32 could round a dominating term by half an ULP of the result.  For float64 itself the second half
// holds what the first one's additions rounded away (Knuth's TwoSum).
template <class V>
class Sum {
 public:
  VM_MEMBER Sum() : lanes_{splat<F64>(0), splat<F64>(0)} {}
  VM_MEMBER Sum(F64 low, F64 high) : lanes_{low, high} {}
  VM_MEMBER void add(F64 v) { two_sum(lanes_[0], lanes_[1], v); }
  VM_MEMBER void add(F32 v) {
    F64 low, high;
    widen(v, low, high);
    lanes_[0] = lanes_[0] + low;
    lanes_[1] = lanes_[1] + high;
  }
  VM_MEMBER TwoSum total() const {
    alignas(64) double at[16];
    store(reinterpret_cast<OutBytes>(at), lanes_[0], at);
    store(reinterpret_cast<OutBytes>(at + 8), lanes_[1], at);
    return fold(at);
  }
  VM_MEMBER static TwoSum fold(double (&at)[16]) {  // halves onto halves
    double lost[16] = {};
#pragma GCC unroll 4
    for (int n = 8; n >= 1; n /= 2)
      for (int i = 0; i < n; ++i) {
        const double next = at[i] + at[i + n], part = next - at[i];
        lost[i] += lost[i + n] + ((at[i] - (next - part)) + (at[i + n] - part));
        at[i] = next;
      }
    return {at[0], lost[0]};
  }

 private:
  F64 lanes_[2];
};
// term(i, left): the vector of terms from element i on, of which `left` are inside the block.
template <class V, class Term>
VM_INLINE TwoSum sum_of(std::size_t n, const Term& term) {
  constexpr std::size_t lanes = V::lanes;
  Sum<V> sum;
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    sum.add(term(i, lanes));
    sum.add(term(i + lanes, lanes));
  }
  if (i + lanes <= n) {
    sum.add(term(i, lanes));
    i += lanes;
  }
  if (i < n) sum.add(term(i, n - i));
  return sum.total();
}

// The largest element, -inf for none; NaN does not count.
template <class In, class V>
VM_INLINE V max_lanes(Bytes x, std::size_t n) {
  using F = typename V::scalar;
  constexpr std::size_t lanes = V::lanes, stripe = 4 * lanes;
  V m[4];
#pragma GCC unroll 4
  for (auto& each : m) each = splat<V>(-Number<F>::infinity);
  std::size_t i = 0;
  for (; i + stripe <= n; i += stripe) {
#pragma GCC unroll 4
    for (std::size_t j = 0; j < 4; ++j) m[j] = max(load<V>(x + (i + j * lanes) * sizeof(In), type<In>), m[j]);
  }
  for (; i + lanes <= n; i += lanes) m[0] = max(load<V>(x + i * sizeof(In), type<In>), m[0]);
  if (i < n) m[0] = max(load_first<V>(x + i * sizeof(In), n - i, -Number<F>::infinity, type<In>), m[0]);
  return max(max(m[0], m[1]), max(m[2], m[3]));
}
template <class V>
VM_INLINE double largest(V m) {
  const Lanes<V> lanes(m);
  auto top = lanes.at[0];
  for (int i = 1; i < V::lanes; ++i) top = lanes.at[i] > top ? lanes.at[i] : top;
  return static_cast<double>(top) + 0.0;  // -0 becomes +0
}

}  // namespace vastmax::VM_ISA
