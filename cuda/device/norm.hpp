// SPDX-License-Identifier: Apache-2.0
// The normaliser of a tile, and of a row from its tiles.
#pragma once

#include "cpp/kernels/norm.hpp"
#include "cuda/device/tile.hpp"

namespace vastmax::VM_ISA {

struct TilePart : Partial {
  int seen;     // whether the mask left anything in
  double rest;  // the sum without the largest logit, where that one is most of it
};

// What comes along with the terms of a tile: told the largest logit, then every logit, both less what the tile is
// shifted by, with its term; where the largest is most of the sum, then all below it.
struct NothingElse {
  template <class V>
  VM_MEMBER void begin(V) {}
  template <class V>
  VM_MEMBER void add(int, V, V) {}
  template <class V>
  VM_MEMBER void add_below(int, V, V) {}
  VM_MEMBER void end_below() {}
};

// `count` logits a lane, of the type F; one warp; every lane returns the same.
template <class F, int count, class Tile, class Also>
VM_INLINE TilePart norm_tile_with(Also& also, const Tile& x, bool seen) {
  using V = vec<F>;
  V top = splat<V>(-Number<F>::infinity);
  VM_UNROLL(64)
  for (int j = 0; j < count; ++j) top = max(x[j], top);
  top = warp_max(top);

  TilePart part{};
  part.max = static_cast<double>(top.piece[0].v) + 0.0;  // -0 becomes +0
  part.seen = seen;
  if (!(part.max > -infinity && part.max < infinity)) {
    bool nan = false;
    VM_UNROLL(64)
    for (int j = 0; j < count; ++j) nan |= is_nan(x[j]).piece[0];
    part.sum = any(nan) ? __builtin_nan("") : 0;
    return part;
  }
  const bool shift = shifted(part.max);
  V base = shift ? top : splat<V>(0);
  part.ref = reference<F>(shift ? 0 : part.max);
  const ScaledExp<V> exp(splat<V>(static_cast<F>(part.ref)));
  also.begin(top - base);
  TermSum<V> all;
  VM_UNROLL(64)
  for (int j = 0; j < count; ++j) {
    const V z = x[j] - base, term = exp(z);
    all.add(term);
    also.add(j, z, term);
  }
  const TwoSum sum = all.total();
  part.sum = sum.high, part.lost = sum.low;

  // over_max in algebra.hpp asks for `rest` up to 1.75 times the largest term.
  if (sum.value() < 1.8 * static_cast<double>(exp(top - base).piece[0].v)) {
    renew(base.piece[0].v);  // the terms again: kept, they would take as many registers as the logits
    LaneSum<V> others;
    VM_UNROLL(64)
    for (int j = 0; j < count; ++j) {
      const V z = x[j] - base, term = keep(x[j] < top, exp(z));
      others.add(term);
      also.add_below(j, z, term);
    }
    part.rest = others.total().value();
    also.end_below();
  }
  return part;
}
template <class T, class Tile>
VM_INLINE TilePart norm_tile(const Tile& x, bool seen) {
  NothingElse nothing;
  return norm_tile_with<compute_t<T>, per_lane<T>>(nothing, x, seen);
}

// The tile whose logit is largest; the first one of several.
struct Best {
  double max = -infinity;
  std::int64_t where = 0;
  int seen = 0;
  VM_MEMBER void join(double m, std::int64_t w, int s) {
    if (m > max || (m == max && w < where)) max = m, where = w;
    seen |= s;
  }
};
VM_INLINE Best warp_best(Best best) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2)
    best.join(shuffle_xor(best.max, mask), shuffle_xor(best.where, mask), shuffle_xor(best.seen, mask));
  return best;
}

template <class F>
VM_INLINE void add_tile(TwoSum& sum, const TilePart& part, const TilePart& top) {
  if (part.sum == 0) return;
  const double factor = ratio(RowMath<F>{}, part, top);
  sum.add(part.sum * factor);
  sum.low += part.lost * factor;
}

VM_INLINE Norm norm_of(const Best& best, const TilePart& top, TwoSum others) {
  Norm norm;
  norm.max = best.max, norm.top = top.sum, norm.top_lost = top.lost, norm.others = others;
  norm.ref = top.ref, norm.where = static_cast<std::size_t>(best.where), norm.seen = best.seen != 0;
  return norm;
}

VM_INLINE Best best_by_warp(const TilePart* parts, std::int64_t tiles) {
  Best best;
  for (std::int64_t t = lane(); t < tiles; t += lanes_of_warp) best.join(parts[t].max, t, parts[t].seen);
  return warp_best(best);
}
template <class F>
VM_INLINE Norm merge_by_warp(const TilePart* parts, std::int64_t tiles) {
  const Best best = best_by_warp(parts, tiles);
  const TilePart top = parts[best.where];
  return norm_of(best, top, total_by_warp(tiles, [&](TwoSum& sum, std::int64_t t) {
                   if (t != best.where) add_tile<F>(sum, parts[t], top);
                 }));
}

// By a block of at least 256 threads; its first warp gets the result, the others all but the sum.
struct MergeScratch {
  Best best[slots];
  TwoSum sum[virtual_threads];
};
VM_INLINE Best best_by_block(const TilePart* parts, std::int64_t tiles, MergeScratch& scratch) {
  Best best;
  if (const unsigned me = thread(); me < virtual_threads) {
    for (std::int64_t t = me; t < tiles; t += virtual_threads) best.join(parts[t].max, t, parts[t].seen);
    best = warp_best(best);
    if (lane() == 0) scratch.best[me / lanes_of_warp] = best;
  }
  sync_block();
  for (const Best& each : scratch.best) best.join(each.max, each.where, each.seen);
  return best;
}
template <class F>
VM_INLINE Norm merge_by_block(const TilePart* parts, std::int64_t tiles, MergeScratch& scratch) {
  const Best best = best_by_block(parts, tiles, scratch);
  const TilePart top = parts[best.where];
  return norm_of(best, top, total_by_block(tiles, scratch.sum, [&](TwoSum& sum, std::int64_t t) {
                   if (t != best.where) add_tile<F>(sum, parts[t], top);
                 }));
}

// What the second pass needs of a row.
struct RowResult {
  RowParams params;
  double max, shift;  // shift: what logits are moved by before the formula, 0 where the exponent reduction reaches
  bool special, has_nan;
};
template <class F>
VM_INLINE RowResult finish(Role role, const Norm& norm, double rest) {
  return {row_params<F>(RowMath<F>{}, role == Role::log_probability, norm, [rest] { return rest; }), norm.max,
          shifted(norm.max) ? norm.max : 0, norm.special(), norm.has_nan()};
}
// d result / d logit of the row: what came in, over the temperature.
template <class F>
VM_INLINE double gradient_of(const RowOperands& a, std::int64_t row) {
  if (a.second.data == nullptr) return 0;
  const double divisor = a.temperature.data == nullptr ? 1 : load_one<double>(a.shape.row(a.temperature, row));
  return static_cast<double>(load_one<F>(a.shape.row(a.second, row))) / divisor;
}
template <class F>
VM_INLINE double finish_sum(const Norm& norm, double rest) {
  return log_sum(RowMath<F>{}, norm, [rest] { return rest; });
}

}  // namespace vastmax::VM_ISA
