// SPDX-License-Identifier: Apache-2.0
// Loads and stores of 16 bytes a lane, whatever the alignment of a row.
#pragma once

#include "cpp/simd/math.hpp"
#include "cuda/device/machine.hpp"

namespace vastmax::VM_ISA {

template <class T>
VM_INLINE vec<compute_t<T>> number(T stored) {
  vec<compute_t<T>> v;
  load_piece(v.piece[0], &stored);
  return v;
}
template <class T>
VM_INLINE T rounded(vec<compute_t<T>> v) {
  T stored;
  store_piece(&stored, v.piece[0]);
  return stored;
}

template <class T>
VM_INLINE unsigned misaligned(const T* at) {  // bytes past a 16-byte boundary
  return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(at) % 16);
}

template <class T>
VM_INLINE Group<T> load_aligned(Bytes at) {
  return bit_cast<Group<T>>(load_words(at));
}
template <class T>
VM_INLINE void store_aligned(OutBytes at, const Group<T>& g) {
  store_words(at, bit_cast<Words>(g));
}

// 16 bytes from two aligned loads around them: where a row starts off a boundary, so do all its groups.  The second
// load of a lane is the first of its neighbour, so DRAM is read once.
template <class T>
VM_INLINE Group<T> load_shifted(Bytes at) {
  const unsigned off = misaligned(at);
  const Words low = load_words(at - off), high = load_words(at - off + 16);
  std::uint32_t w[8];
  VM_UNROLL(4)
  for (int i = 0; i < 4; ++i) w[i] = low.at[i], w[i + 4] = high.at[i];
  VM_UNROLL(6)
  for (int i = 0; i < 6; ++i) w[i] = (off & 8) != 0 ? w[i + 2] : w[i];
  VM_UNROLL(5)
  for (int i = 0; i < 5; ++i) w[i] = (off & 4) != 0 ? w[i + 1] : w[i];
  Words out;
  VM_UNROLL(4)
  for (int i = 0; i < 4; ++i) out.at[i] = funnel(w[i], w[i + 1], off % 4 * 8);
  return bit_cast<Group<T>>(out);
}

// Elements one by one; those from n on are `missing`.
template <class T>
VM_INLINE Group<T> load_some(Bytes row, std::int64_t i, std::int64_t n, T missing) {
  Group<T> g;
  VM_UNROLL(8)
  for (int e = 0; e < Group<T>::size; ++e)
    g.at[e] = i + e < n ? load_one<T>(row + (i + e) * static_cast<std::int64_t>(sizeof(T))) : missing;
  return g;
}

// The group at index i of a row of n, none of it beyond the row, without touching what is not the row's.
template <class T>
VM_INLINE Group<T> load_whole(Bytes row, std::int64_t i, std::int64_t n) {
  constexpr int size = Group<T>::size;
  const Bytes at = row + i * static_cast<std::int64_t>(sizeof(T));
  if (misaligned(at) == 0) return load_aligned<T>(at);
  if (i >= size && i + 2 * size <= n) return load_shifted<T>(at);
  return load_some<T>(row, i, n, T{});
}

// y[i] = op(inputs[i]...) for i < n, by thread `me` of `team`: elements up to the first boundary of y, then groups,
// then what is left.
template <class T, class Op, class... Rows>
VM_INLINE void map_dense(OutBytes y, std::int64_t n, std::int64_t me, std::int64_t team, const Op& op, Rows... x) {
  constexpr int size = Group<T>::size;
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t before = (16 - misaligned(y)) % 16 / item, lead = before < n ? before : n;
  const std::int64_t groups = (n - lead) / size, tail = lead + groups * size;
  const auto one = [&](std::int64_t i) {
    store_one<T>(y + i * item, rounded<T>(op(number(load_one<T>(x + i * item))...)));
  };
  for (std::int64_t i = me; i < lead; i += team) one(i);
  for (std::int64_t g = me; g < groups; g += team) {
    const std::int64_t i = lead + g * size;
    const auto apply = [&](const auto&... in) {
      Group<T> out;
      VM_UNROLL(8)
      for (int e = 0; e < size; ++e) out.at[e] = rounded<T>(op(number(in.at[e])...));
      store_aligned<T>(y + i * item, out);
    };
    apply(load_whole<T>(x, i, n)...);
  }
  for (std::int64_t i = tail + me; i < n; i += team) one(i);
}

}  // namespace vastmax::VM_ISA
