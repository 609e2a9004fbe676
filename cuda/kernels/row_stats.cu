// SPDX-License-Identifier: Apache-2.0
// softmax_stats: with the normaliser of a tile its part of the entropy, its best logit and how many are above the
// target's.
#include "cpp/math/statistics.hpp"
#include "cuda/device/select.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128;

// The sum of terms times how far they are below the largest: what the entropy adds to logsumexp.
template <class V>
class Gaps {
  using F = typename V::scalar;

 public:
  VM_MEMBER void begin(V top) { top_ = top; }
  VM_MEMBER void add(int, V z, V term) { all_.add(gap(z, term)); }
  VM_MEMBER void add_below(int, V z, V term) { below_.add(gap(z, term)); }
  VM_MEMBER void end_below() { value_below = below_.total().value(); }
  VM_MEMBER TwoSum value() const { return all_.total(); }
  double value_below = 0;

 private:
  VM_MEMBER V gap(V z, V term) const {
    constexpr F least = static_cast<F>(sizeof(F) == 4 ? -0x1.fffffep127 : -0x1.fffffffffffffp1023);
    return term * (top_ - max(splat<V>(least), z));  // 0 times a finite gap, for -inf
  }
  V top_ = splat<V>(0);
  TermSum<V> all_;
  LaneSum<V> below_;
};

template <class T, class Tile>
VM_INLINE std::int64_t count_above(const Tile& x, compute_t<T> target) {
  const bool number = target == target;
  unsigned count = 0;  // padding is -inf, above nothing
  VM_UNROLL(64)
  for (int j = 0; j < per_lane<T>; ++j) {
    const auto v = x[j].piece[0].v;
    count += number && !(v <= target);
  }
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
  return count;
}

template <class T, class Tile>
VM_INLINE void look(const StatsOperands& a, std::int64_t row, std::int64_t start, const Tile& x, StatsPart& to,
                    Entry& best) {
  best = best_of<T>(x, start);
  if (a.to.target_rank == nullptr) return;
  const auto target = Staged<T>(a, row, true).number_at(a.to.target[row]).piece[0].v;
  to.above = count_above<T>(x, target);
}

template <class T, bool plain>
VM_KERNEL(tile_threads, sizeof(T) == 8 ? 2 : 3)
tiles_kernel(VM_PARAMETER StatsOperands a, std::int64_t tiles, TilePart* parts, StatsPart* stats, Entry* bests) {
  using F = compute_t<T>;
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const std::int64_t row = t / tiles, start = t % tiles * tile_length<T>;
    StatsPart part{};
    Entry best;
    Gaps<vec<F>> gaps;
    TilePart norm;
    if constexpr (plain) {
      const PlainTile<T> x(a.shape.row(a.x, row), a.shape.n, start, -Number<F>::infinity);
      norm = norm_tile_with<F, per_lane<T>>(gaps, x, true);
      if (a.ordered()) look<T>(a, row, start, x, part, best);
    } else {
      bool seen = false;
      if (a.ordered())
        look<T>(a, row, start, StagedTile<T>(Staged<T>(a, row, true), a.shape.n, start, seen), part, best);
      const StagedTile<T> x(Staged<T>(a, row), a.shape.n, start, seen);
      norm = norm_tile_with<F, per_lane<T>>(gaps, x, any(seen));
    }
    part.gaps = gaps.value(), part.gaps_below = gaps.value_below;
    if (lane() == 0) {
      parts[t] = norm, stats[t] = part;
      if (a.ordered()) bests[t] = best;
    }
  }
}

// By one thread: what is told of a row once its tiles are merged.
VM_INLINE void put(const StatsOperands& a, std::int64_t row, const Norm& norm, double log, const TwoSum& gaps) {
  if (a.to.lse != nullptr) a.to.lse[row] = log_sum(norm, log);
  if (a.to.max != nullptr) a.to.max[row] = norm.has_nan() ? __builtin_nan("") : norm.max;
  if (a.to.entropy != nullptr) a.to.entropy[row] = a.shape.n == 0 ? 0 : entropy_of(norm, log, gaps);
}

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 1)
finish_kernel(VM_PARAMETER StatsOperands a, std::int64_t tiles, const TilePart* parts, const StatsPart* stats,
              Entry* bests, RowLog* logs) {
  using Merging = Team<by_block>;
  Merging::each_row(a.shape.count, [&](std::int64_t row) {
    const RowMath<F> math;
    const TilePart* const own = parts + row * tiles;
    const StatsPart* const mine = stats + row * tiles;
    const Norm norm = Merging::template norm<F>(own, tiles);
    const auto top = static_cast<std::int64_t>(norm.where);
    TwoSum gaps = Merging::total(tiles, [&](TwoSum& sum, std::int64_t t) {
      if (t != top && own[t].sum != 0) sum.add(gaps_in_row(math, norm, own[t], mine[t].gaps));
    });
    Entry best;
    TwoSum above;
    if (a.ordered()) best = Merging::best(bests + row * tiles, tiles);
    if (a.to.target_rank != nullptr)
      above = Merging::total(tiles, [&](TwoSum& sum, std::int64_t t) { sum.add(static_cast<double>(mine[t].above)); });
    if (!Merging::first()) return;
    const double log = log_over_max(math, norm, [rest = own[top].rest] { return rest; });
    gaps.add(drowned(math, norm) ? mine[top].gaps_below : mine[top].gaps.value());
    put(a, row, norm, log, gaps);
    if (a.to.argmax != nullptr) a.to.argmax[row] = best.index;
    if (a.to.target_rank != nullptr) a.to.target_rank[row] = static_cast<std::int64_t>(above.high) + 1;
    if (a.ordered()) bests[a.shape.count * tiles + row] = best;
    if (logs != nullptr) logs[row] = {norm, log};
  });
}

void stats_tiles(DType dtype, bool plain, const StatsOperands& a, std::int64_t tiles, TilePart* parts, StatsPart* stats,
                 Entry* bests, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(tiles_kernel<T, true>, grid, stream, a, tiles, parts, stats, bests)
          : launch(tiles_kernel<T, false>, grid, stream, a, tiles, parts, stats, bests);
  });
}

void stats_finish(DType dtype, const StatsOperands& a, std::int64_t tiles, const TilePart* parts,
                  const StatsPart* stats, Entry* bests, RowLog* logs, const Stream& stream) {
  with_team(dtype, a.shape.count, tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(finish_kernel<F, by_block>, grid, stream, a, tiles, parts, stats, bests, logs);
  });
}

}  // namespace vastmax::VM_ISA
