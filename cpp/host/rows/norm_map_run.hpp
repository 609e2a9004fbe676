// SPDX-License-Identifier: Apache-2.0
// The second read of rows that have been normalised: each logit through its formula.
#pragma once

#include "cpp/host/rows/norm_run.hpp"

namespace vastmax {

// Special numbers in the bits of a dtype.
inline std::uint64_t bits(DType d, Special s) {
  constexpr std::uint64_t table[dtype_count][3] = {{0, 0xfc00, 0x7e00},
                                                   {0, 0xff80, 0x7fc0},
                                                   {0, 0xff800000, 0x7fc00000},
                                                   {0, 0xfff0000000000000, 0x7ff8000000000000}};
  return table[static_cast<int>(d)][static_cast<int>(s)];
}

class NormMapRun : protected NormRun {
 public:
  using NormRun::NormRun;

 protected:
  std::byte* target(std::size_t row, std::size_t block) const {
    return y_.row(loop_, row) + static_cast<std::int64_t>(block * block_) * y_.step;
  }

  void map_special(Role role, const Norm& norm, const Source& s, std::size_t block, Scratch& scratch) const {
    stage(s, block, 0, scratch.in);
    std::byte* to = target(s.row, block);
    const std::size_t compute = compute_size(dtype_);
    for (std::size_t i = 0; i < length(block); ++i, to += y_.step) {
      const bool in = s.where == nullptr || s.where[static_cast<std::int64_t>(block * block_ + i) * where_.step] != 0;
      const bool at_infinity =
          load_number(scratch.in + i * compute, dtype_ == DType::float64 ? dtype_ : DType::float32) == INFINITY;
      const std::uint64_t b = bits(dtype_, special_value(role, norm.has_nan(), norm.max, in, at_infinity));
      std::memcpy(to, &b, y_.item);
    }
  }

  void map_block(Op op, const Norm& norm, const RowParams& row, const Source& s, std::size_t block,
                 Scratch& scratch) const {
    if (norm.special()) return map_special(role_of(op), norm, s, block, scratch);
    const int index = static_cast<int>(op);
    const bool staged = !plain() || shifted(norm.max);
    if (staged) stage(s, block, shifted(norm.max) ? norm.max : 0, scratch.in);
    Bytes from = staged ? scratch.in : at(s.x, x_, block);
    std::byte* to = target(s.row, block);
    if (y_.plain()) {
      k_.norm_map[index][staged](from, to, length(block), row, stream_);
    } else {
      k_.norm_map[index][staged](from, scratch.out, length(block), row, false);
      Loop::copy(to, y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, length(block));
    }
  }

  void map_columns(Op op, const Group& g, std::size_t block, const GroupState& state, Scratch& scratch) const {
    if (!state.ordinary) {
      for (std::size_t c = 0; c < g.width; ++c)
        map_block(op, state.norm[c], state.row[c], source(g.first + c), block, scratch);
      return;
    }
    std::byte* to = y_.row(loop_, g.first) + static_cast<std::int64_t>(block * block_) * y_.step;
    k_.map_columns[static_cast<int>(op)](at(x_.row(loop_, g.first), x_, block), x_.step, to, y_.step, length(block),
                                         g.width, state.row, stream_);
  }

  bool stream_ = false;
};

}  // namespace vastmax
