// SPDX-License-Identifier: Apache-2.0
// A tile: the stretch of a row that one warp reduces, and the unit of every sum.  Its length depends on the dtype only,
// and a lane's elements on their index only, so that the bits of a row do not depend on the batch, the launch, the
// alignment or the kernel that runs.
#pragma once

#include "cpp/math/algebra.hpp"
#include "cuda/device/rows.hpp"
#include "cuda/tile_length.hpp"

namespace vastmax::VM_ISA {

template <class T>
inline constexpr int tile_length = static_cast<int>(tile_of(sizeof(T)));
template <class T>
inline constexpr int per_lane = tile_length<T> / static_cast<int>(lanes_of_warp);

// Where lane l's element j lies in its tile: groups of 16 bytes of T, group after group over the lanes.
template <class T>
VM_INLINE int place_in_tile(int j) {
  constexpr int size = Group<T>::size;
  return (j / size * static_cast<int>(lanes_of_warp) + static_cast<int>(lane())) * size + j % size;
}

// A lane's share of a plain tile, as it lies in memory.
template <class T, int length = tile_length<T>>
class PlainTile {
  static constexpr int size = Group<T>::size, groups = length / static_cast<int>(lanes_of_warp) / size;

 public:
  VM_MEMBER PlainTile(Bytes row, std::int64_t n, std::int64_t start, compute_t<T> absent) {
    const Bytes tile = row + start * static_cast<std::int64_t>(sizeof(T));
    const bool whole = start + length <= n;
    if (whole && misaligned(tile) == 0) {
      VM_UNROLL(16)
      for (int g = 0; g < groups; ++g) group_[g] = load_aligned<T>(tile + offset(g));
    } else if (whole && start >= size && start + length + size <= n) {
      VM_UNROLL(16)
      for (int g = 0; g < groups; ++g) group_[g] = load_shifted<T>(tile + offset(g));
    } else {
      const T missing = rounded<T>(splat<vec<compute_t<T>>>(absent));
      VM_UNROLL(16)
      for (int g = 0; g < groups; ++g) {
        const std::int64_t i = start + place_in_tile<T>(g * size);
        group_[g] = i + size <= n && misaligned(tile) == 0 ? load_aligned<T>(tile + offset(g))
                                                           : load_some<T>(row, i, n, missing);
      }
    }
  }
  VM_MEMBER vec<compute_t<T>> operator[](int j) const { return number(group_[j / size].at[j % size]); }

  // Into shared memory, where element i of the row is then at index i.
  VM_MEMBER void keep(OutBytes row, std::int64_t n, std::int64_t start) const {
    VM_UNROLL(16)
    for (int g = 0; g < groups; ++g)
      if (start + place_in_tile<T>(g * size) < n)
        store_aligned<T>(row + start * static_cast<std::int64_t>(sizeof(T)) + offset(g), group_[g]);
  }

 private:
  VM_MEMBER static std::int64_t offset(int g) { return place_in_tile<T>(g * size) * static_cast<int>(sizeof(T)); }
  Group<T> group_[groups];
};

// The same share of a tile that is not plain.
template <class T, int length = tile_length<T>>
class StagedTile {
  static constexpr int count = length / static_cast<int>(lanes_of_warp);

 public:
  template <class Row>
  VM_MEMBER StagedTile(const Row& row, std::int64_t n, std::int64_t start, bool& seen) {
    VM_UNROLL(64)
    for (int j = 0; j < count; ++j) {
      const std::int64_t i = start + place_in_tile<T>(j);
      at_[j] = i < n ? row(i) : splat<vec<compute_t<T>>>(-Number<compute_t<T>>::infinity);
      seen |= i < n && row.in(i);
    }
  }
  VM_MEMBER vec<compute_t<T>> operator[](int j) const { return at_[j]; }

 private:
  vec<compute_t<T>> at_[count];
};

template <class V>
VM_INLINE V warp_max(V v) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) v = max(v, splat<V>(shuffle_xor(v.piece[0].v, mask)));
  return v;
}

// Sums of a warp.  Both steps of `plus` commute, so every lane gets the same bits.
VM_INLINE TwoSum plus(TwoSum a, TwoSum b) {
  const double sum = a.high + b.high, part = sum - a.high;
  return {sum, (a.low + b.low) + ((a.high - (sum - part)) + (b.high - part))};
}
VM_INLINE TwoSum warp_total(TwoSum sum) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2)
    sum = plus(sum, {shuffle_xor(sum.high, mask), shuffle_xor(sum.low, mask)});
  return sum;
}

// A running sum in the compute type and what its additions lost.  float64 would need one addition where this needs
// seven, but consumer GPUs do 64 float32 operations in the time of one in float64.
template <class V>
struct LaneSum {
  V sum = splat<V>(0), lost = splat<V>(0);
  VM_MEMBER void add(V v) { two_sum(sum, lost, v); }
  VM_MEMBER TwoSum total() const {  // of the warp; its steps commute too
    LaneSum all = *this;
    for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) {
      const V other = splat<V>(shuffle_xor(all.sum.piece[0].v, mask)),
              other_lost = splat<V>(shuffle_xor(all.lost.piece[0].v, mask));
      all.lost = all.lost + other_lost;
      all.add(other);
    }
    const double sum_of = all.sum.piece[0].v, lost_of = all.lost.piece[0].v, high = sum_of + lost_of;
    if (sum_of - sum_of != 0) return {sum_of, 0};  // what rounding took from an infinite sum is not a number
    return {high, lost_of - (high - sum_of)};
  }
};

// The same for a tile's terms against its own reference: they lie below 2^65, so counted from 2^66 the running sum is
// always the larger operand and four operations do (decision 0007).
template <class V>
struct TermSum : LaneSum<V> {};
template <>
struct TermSum<vec<float>> {
  using V = vec<float>;
  static constexpr float start = 0x1p66f;
  static_assert(head_room<float> == 64);
  V sum = splat<V>(start), lost = splat<V>(0);
  VM_MEMBER void add(V v) {
    const V next = sum + v;
    lost = lost + (v - (next - sum));
    sum = next;
  }
  VM_MEMBER TwoSum total() const { return LaneSum<V>{sum - splat<V>(start), lost}.total(); }
};

// A running sum of products, with what products and additions lost (Ogita, Rump and Oishi 2005, Dot2).
template <class V>
struct LaneDot {
  LaneSum<V> sum;
  VM_MEMBER void add(V a, V b) {
    const V product = a * b;
    sum.lost = sum.lost + fma(a, b, negate(product));
    sum.add(product);
  }
};

// What the tiles of a row add up to.  256 virtual threads take tile t by t mod 256 and are then summed by halves.  A
// warp plays eight of them a lane; a block of 256 or more plays one each: the same additions either way.
inline constexpr unsigned virtual_threads = 256, slots = virtual_threads / lanes_of_warp;

VM_INLINE TwoSum fold(TwoSum (&sum)[slots]) {
  VM_UNROLL(3)
  for (unsigned half = slots / 2; half > 0; half /= 2)
    for (unsigned s = 0; s < half; ++s) sum[s] = plus(sum[s], sum[s + half]);
  return warp_total(sum[0]);
}

// `add(sum, t)` for each tile t; in the first warp the total, which the other warps do not get.
template <class Add>
VM_INLINE TwoSum total_by_warp(std::int64_t tiles, const Add& add) {
  TwoSum sum[slots];
  for (std::int64_t base = 0; base < tiles; base += virtual_threads) {
    VM_UNROLL(8)
    for (unsigned s = 0; s < slots; ++s)
      if (const std::int64_t t = base + s * lanes_of_warp + lane(); t < tiles) add(sum[s], t);
  }
  return fold(sum);
}
template <class Add>
VM_INLINE TwoSum total_by_block(std::int64_t tiles, TwoSum (&shared)[virtual_threads], const Add& add) {
  const unsigned me = thread();
  if (me < virtual_threads) {
    TwoSum own;
    for (std::int64_t t = me; t < tiles; t += virtual_threads) add(own, t);
    shared[me] = own;
  }
  sync_block();
  if (me >= lanes_of_warp) return {};
  TwoSum sum[slots];
  VM_UNROLL(8)
  for (unsigned s = 0; s < slots; ++s) sum[s] = shared[s * lanes_of_warp + me];
  return fold(sum);
}

}  // namespace vastmax::VM_ISA
