// SPDX-License-Identifier: Apache-2.0
// The logarithms of the probabilities of a few classes of each row.
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned pick_threads = 256;

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 2)
finish_kernel(std::int64_t rows, std::int64_t tiles, const TilePart* parts, RowLog* logs) {
  using Merging = Team<by_block>;
  Merging::each_row(rows, [&](std::int64_t row) {
    const TilePart* const own = parts + row * tiles;
    const Norm norm = Merging::template norm<F>(own, tiles);
    if (Merging::first())
      logs[row] = {norm, log_over_max(RowMath<F>{}, norm, [rest = own[norm.where].rest] { return rest; })};
  });
}

template <class T>
VM_KERNEL(pick_threads, 4)
pick_kernel(VM_PARAMETER RowOperands a, const std::int64_t* ids, std::int64_t width, double* out, const RowLog* logs) {
  for (std::int64_t i = global_thread(); i < a.shape.count * width; i += global_threads()) {
    const RowLog& row = logs[i / width];
    const auto z = static_cast<double>(Staged<T>(a, i / width).number_at(ids[i]).piece[0].v);
    out[i] = log_probability(row.norm, row.log, z);
  }
}

void norm_logs(DType dtype, std::int64_t rows, std::int64_t tiles, const TilePart* parts, RowLog* logs,
               const Stream& stream) {
  with_team(dtype, rows, tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(finish_kernel<F, by_block>, grid, stream, rows, tiles, parts, logs);
  });
}

void norm_pick(DType dtype, const RowOperands& a, const std::int64_t* ids, std::int64_t width, double* out,
               const RowLog* logs, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * width, pick_threads, pick_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(pick_kernel<T>, grid, stream, a, ids, width, out, logs); });
}

}  // namespace vastmax::VM_ISA
