// SPDX-License-Identifier: Apache-2.0
// kl_divergence: both normalisers, and how far p and q differ between them, in one read of each.  In float64 for every
// dtype, as on the CPU.
#include "cpp/math/statistics.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128;
using Double = vec<double>;
constexpr int wide_length = tile_length<double>;  // whatever the logits are stored in

// A lane's logits of a tile, each widened when it is wanted.
template <class Tile>
class WideTile {
 public:
  VM_MEMBER explicit WideTile(const Tile& tile) : tile_(tile) {}
  VM_MEMBER Double operator[](int j) const { return splat<Double>(static_cast<double>(tile_[j].piece[0].v)); }

 private:
  const Tile& tile_;
};

// What a lane adds up of a tile of p and the same one of q.
class LaneDifferences {
 public:
  VM_MEMBER LaneDifferences(const TilePart& p, const TilePart& q, double offset)
      : p_exp_(splat<Double>(p.ref)),
        q_exp_(splat<Double>(q.ref)),
        p_shift_(splat<Double>(shift_of(p.max))),
        q_shift_(splat<Double>(shift_of(q.max))),
        base_(splat<Double>(base_of(p.max)) - p_shift_, splat<Double>(base_of(q.max)) - q_shift_),
        offset_(splat<Double>(offset)) {}
  VM_MEMBER void add(Double of_p, Double of_q) {
    const Double x = of_p - p_shift_, z = of_q - q_shift_, term = p_exp_(x);
    const Double u = Difference<Double>(x, z).less(base_) - offset_;
    const bool counts = term.piece[0].v > 0, near = counts && !(u.piece[0].v < least_gap),
               lacking = z.piece[0].v == -infinity;
    infinite_ |= counts && lacking;
    if (counts && !lacking) {
      const Double unit = splat<Double>(unlifted), height = near ? AboveTangent<Double>()(u) : u - splat<Double>(1);
      gaps_.add(term * (u * unit));
      above_.add(term * (height * unit));
    }
    if (!near) far_.add(q_exp_(z));
  }
  // Of the warp.
  VM_MEMBER Differences total(double offset) const {
    const TwoSum gaps = gaps_.total(), above = above_.total(), far = far_.total();
    return {offset, any(infinite_) ? TwoSum{infinity, 0} : gaps, above, far.value()};
  }

 private:
  ScaledExp<Double> p_exp_, q_exp_;
  Double p_shift_, q_shift_;
  Difference<Double> base_;
  Double offset_;
  LaneSum<Double> gaps_, above_, far_;
  bool infinite_ = false;
};

// The tile at `start` of the rows of an operand.
template <class T, bool plain>
VM_INLINE auto tile_at(const RowOperands& a, std::int64_t row, std::int64_t start) {
  if constexpr (plain) {
    return PlainTile<T, wide_length>(a.shape.row(a.x, row), a.shape.n, start, -Number<compute_t<T>>::infinity);
  } else {
    bool seen = false;
    return StagedTile<T, wide_length>(Staged<T>(a, row), a.shape.n, start, seen);
  }
}

template <class T, bool plain>
VM_KERNEL(tile_threads, 2)
tiles_kernel(VM_PARAMETER RowOperands a, VM_PARAMETER RowOperands b, std::int64_t tiles, TilePart* p, TilePart* q,
             Differences* differences) {
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const std::int64_t row = t / tiles, start = t % tiles * wide_length;
    const auto stored_z = tile_at<T, plain>(b, row, start);
    const WideTile z(stored_z);
    const auto stored_x = tile_at<T, plain>(a, row, start);
    const WideTile x(stored_x);
    NothingElse nothing;
    const TilePart q_part = norm_tile_with<double, per_lane<double>>(nothing, z, true),
                   p_part = norm_tile_with<double, per_lane<double>>(nothing, x, true);
    const double offset = offset_of(RowMath<double>{}, p_part, q_part);
    LaneDifferences lane_differences(p_part, q_part, offset);
    VM_UNROLL(4)
    for (int j = 0; j < per_lane<double>; ++j) lane_differences.add(x[j], z[j]);
    const Differences own = lane_differences.total(offset);
    if (lane() == 0) p[t] = p_part, q[t] = q_part, differences[t] = own;
  }
}

template <bool by_block>
VM_KERNEL(virtual_threads, 1)
finish_kernel(std::int64_t rows, bool empty, std::int64_t tiles, const TilePart* p_parts, const TilePart* q_parts,
              const Differences* differences, double* out) {
  using Merging = Team<by_block>;
  Merging::each_row(rows, [&](std::int64_t row) {
    const RowMath<double> math;
    const TilePart *const p_own = p_parts + row * tiles, *const q_own = q_parts + row * tiles;
    const Norm p = Merging::template norm<double>(p_own, tiles), q = Merging::template norm<double>(q_own, tiles);
    const double offset = Merging::told(offset_of(math, whole(p), whole(q)));
    const auto total = [&](double RowDifferences::* which) {
      return Merging::total(tiles, [&](TwoSum& sum, std::int64_t t) {
        sum.add(in_row(math, p, q, offset, p_own[t], q_own[t], differences[row * tiles + t]).*which);
      });
    };
    const TwoSum gaps = total(&RowDifferences::gaps), above = total(&RowDifferences::above),
                 far = total(&RowDifferences::far);
    if (Merging::first()) out[row] = empty ? 0 : divergence_of(math, p, q, offset, gaps, above, far.value());
  });
}

void divergence_tiles(DType dtype, bool plain, const RowOperands& a, std::int64_t tiles, TilePart* p, TilePart* q,
                      Differences* differences, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  RowOperands b = a;
  b.x = a.second;
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(tiles_kernel<T, true>, grid, stream, a, b, tiles, p, q, differences)
          : launch(tiles_kernel<T, false>, grid, stream, a, b, tiles, p, q, differences);
  });
}

void divergence_finish(const Shape& shape, std::int64_t tiles, const TilePart* p, const TilePart* q,
                       const Differences* differences, double* out, const Stream& stream) {
  with_team(DType::float64, shape.count, tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(finish_kernel<by_block>, grid, stream, shape.count, shape.n == 0, tiles, p, q, differences, out);
  });
}

}  // namespace vastmax::VM_ISA
