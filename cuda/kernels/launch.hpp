// SPDX-License-Identifier: Apache-2.0
// What the kernel files offer the host, and how they start kernels.  Launches return at once; an error of the launch
// itself is thrown.
#pragma once

#include "cpp/kernels/kernel_table.hpp"
#include "cpp/math/loss.hpp"
#include "cuda/device/rows.hpp"
#include "cuda/device/team.hpp"
#include "cuda/runtime/stream.hpp"
#include "vastmax/sampled.hpp"
#include "vastmax/sampler.hpp"
#include "vastmax/vastmax.hpp"

namespace vastmax::VM_ISA {

// How many blocks, of how many threads, with how much shared memory.
struct Grid {
  std::int64_t blocks;
  unsigned threads;
  std::size_t shared_bytes = 0;
};

// Element-wise operands share `shape`, whose rows are the elements; `dense` where all are one stretch.
struct ElementOperands {
  Shape shape;
  Operand x, second, out;
  bool dense;
};
void unary(Op, DType, const ElementOperands&, double beta, const Stream&);
void binary(Op, DType, const ElementOperands&, double beta, const Stream&);

// Into another dtype; from one of `item` bytes into the same.
void convert(DType from_dtype, DType to_dtype, const ElementOperands&, const Stream&);
void copy(std::size_t item, const ElementOperands&, const Stream&);

struct BceOperands {
  Shape shape;
  Operand in[4];           // x, target, weight, pos_weight; data is null for none
  Operand loss, gradient;  // likewise
  double scale;            // of the gradient
};
void bce(DType, const BceOperands&, TwoSum* parts, const Stream&);  // parts: one for each tile, or null
void bce_total(std::int64_t tiles, const TwoSum* parts, double* sum, const Stream&);

// plain: classes side by side, no mask, no temperature
void norm_tiles(DType, bool plain, const RowOperands&, std::int64_t tiles, TilePart* parts, const Stream&);
void norm_reduce(DType, const RowOperands&, std::int64_t tiles, const TilePart* parts, const Stream&);
void norm_reduce_short(DType, bool plain, const RowOperands&, const Stream&);
void norm_finish(Op, DType, const RowOperands&, std::int64_t tiles, const TilePart* parts, RowResult* rows,
                 const Stream&);
void norm_map(Op, DType, bool plain, const RowOperands&, const RowResult* rows, const Stream&);
void norm_map_short(Op, DType, bool plain, const RowOperands&, const Stream&);
// keep: the row stays in shared memory, of which shared_for_row() is needed
void norm_map_block(Op, DType, const RowOperands&, bool keep, const Stream&);
std::size_t shared_for_row(std::int64_t classes, std::size_t item, bool keep);

struct WeightedOperands : RowOperands {  // second: the weights
  Operand signs;                         // of the sums; data is null for nowhere
};
struct WeightedScratch {
  double *of_tile, *top_of_row, *exponent_of_row;  // of_tile: the largest logit, then the exponent of the largest term
  TwoSum* parts;                                   // of each tile
};
void norm_weighted(DType, const WeightedOperands&, std::int64_t tiles, const WeightedScratch&, const Stream&);
void signs_of_sums(DType of_both, const ElementOperands&, const Stream&);

// What a target weighs: a class of each row, or `width` of them with their probabilities; or a probability of every
// class, in `second`, of the compute type.  What there is one of for each row is dense.
struct LossOperands : RowOperands {  // out: the gradient; data is null for none
  const std::int64_t* ids;
  std::int64_t width, ignore_index;
  const double *id_probabilities, *class_weight, *row_weight, *grad_output;
  bool grad_output_per_row, mean;
  double label_smoothing, z_loss;
  double *loss, *lse;  // of each row
  double* total;       // of all rows: loss, weight
  VM_SHARED bool everywhere() const { return second.data != nullptr || label_smoothing != 0; }
  VM_SHARED bool one_class() const { return ids != nullptr && id_probabilities == nullptr; }
};
// What the gradient needs of a row.
struct LossResult {
  RowResult row;
  double uniform, factor, at_target;
  bool left_out;
};
void loss_weight(const LossOperands&, const Stream&);
void loss_tiles(DType, bool plain, const LossOperands&, std::int64_t tiles, TilePart* parts, Weighed* weighed,
                const double* uniform, const Stream&);
void loss_uniform(const LossOperands&, double* uniform, const Stream&);
void loss_finish(DType, const LossOperands&, std::int64_t tiles, const TilePart* parts, const Weighed* weighed,
                 const double* uniform, LossResult* rows, const Stream&);
// plain: no weight but those of the picks, whose gradients go by way of `values` unless each row has a class
void loss_grad(DType, bool plain, const LossOperands&, const LossResult* rows, double* values, const Stream&);
void loss_total(const LossOperands&, const Stream&);

// What the logarithm of a probability is made from: log_probability(norm, log, logit).
struct RowLog {
  Norm norm;
  double log;
};
void norm_logs(DType, std::int64_t rows, std::int64_t tiles, const TilePart* parts, RowLog* logs, const Stream&);
// At `width` classes of each row.
void norm_pick(DType, const RowOperands&, const std::int64_t* ids, std::int64_t width, double* out, const RowLog* logs,
               const Stream&);

// What softmax_stats finds; arrays are dense, data is null for what is not wanted.
struct StatsOperands : RowOperands {
  RowStats to;
  VM_SHARED bool ordered() const { return to.argmax != nullptr || to.target_rank != nullptr || to.top_n != 0; }
};
struct StatsPart {  // of a tile; without its largest logit: `below`
  TwoSum gaps;
  double gaps_below;
  std::int64_t above;  // how many are above the target
};
// bests: of each tile, then of each row
void stats_tiles(DType, bool plain, const StatsOperands&, std::int64_t tiles, TilePart* parts, StatsPart* stats,
                 Entry* bests, const Stream&);
void stats_finish(DType, const StatsOperands&, std::int64_t tiles, const TilePart* parts, const StatsPart* stats,
                  Entry* bests, RowLog* logs, const Stream&);

// second: the logits of q
void divergence_tiles(DType, bool plain, const RowOperands&, std::int64_t tiles, TilePart* p, TilePart* q,
                      Differences* differences, const Stream&);
void divergence_finish(const Shape&, std::int64_t tiles, const TilePart* p, const TilePart* q,
                       const Differences* differences, double* out, const Stream&);

void dot_tiles(Op, DType, bool plain, const RowOperands&, std::int64_t tiles, TwoSum* parts, const Stream&);
void dot_finish(const RowOperands&, std::int64_t tiles, const TwoSum* parts, RowParams* rows, const Stream&);
void row_grad(Op, DType, bool plain, const RowOperands&, const RowParams* rows, const Stream&);
void row_grad_block(Op, DType, bool plain, const RowOperands&, const Stream&);

// ids [rows, n], dense; what the sampler points at is in device memory too.
struct DrawOperands {
  Sampler sampler;
  Draws draws;
  std::int64_t rows, n;
  std::int64_t* ids;
};
void draw(const DrawOperands&, const Stream&);
void log_prob(const Sampler&, const std::int64_t* ids, std::int64_t n, double* log_q, const Stream&);

// A table of classes and its biases; bias.data is null for none.
struct TableOperand {
  Bytes data;
  std::int64_t pitch, features;
  Bytes bias;
  DType bias_dtype;
  std::int64_t bias_step;
  VM_SHARED Bytes row(std::int64_t id) const { return data + id * pitch; }
};
// All plain arrays are dense.  slopes [rows, draws] and grad [rows, features], which may be null, are staged.
struct OwnOperands {
  SampledLoss loss;
  TableOperand table;
  const std::int64_t* ids;     // [rows, draws]
  const double* log_expected;  // likewise; null for 0
  double added;                // logits get this, less log_expected
  std::byte *slopes, *grad;
};
void sampled_own(DType, const OwnOperands&, const Stream&);
// As vastmax::SharedDraws, of device memory; biases [draws.n], staged, may be null.  logits [count, draws.n] become
// slopes where these are wanted.
struct SharedOperands {
  SampledLoss loss;
  TableOperand table;
  SharedDraws draws;
  Bytes biases;
  std::int64_t first, count;
  std::byte* logits;
  bool slopes;
};
void sampled_shared(DType, const SharedOperands&, const Stream&);
void add_targets(DType, const SampledLoss&, const TableOperand&, std::int64_t first, std::int64_t count,
                 std::byte* grad, const Stream&);

void gather_rows(DType, const TableOperand&, const std::int64_t* ids, std::int64_t count, std::byte* to, const Stream&);
// As vastmax::sum_groups.  A group of more entries than that is summed in pieces: pieces[g] is the number of its first
// one, which lies in `sums`; all others lie in `more`.
inline constexpr std::int64_t entries_of_piece = 256;
struct GroupOperands {
  Entries first, second;
  std::int64_t features, groups, piece_count;
  const std::int64_t *order, *starts, *pieces;  // both of these [groups + 1]
  std::byte *sums, *more;
};
void sum_groups(DType staged, const GroupOperands&, const Stream&);
struct UpdateOperands {
  std::byte* table;
  std::int64_t pitch, features, count;
  const std::int64_t* ids;
  Bytes changes;
  double rate, *state, eps;
};
void update_rows(DType, const UpdateOperands&, const Stream&);

// to[rows, columns] = a b, or that more; strides in elements.
struct Factor {
  Bytes data;
  std::int64_t across, along_depth;
};
struct ProductOperands {
  Factor a, b;
  std::int64_t rows, columns, depth;
  std::byte* to;
  bool add;
};
void product(DType staged, const ProductOperands&, const Stream&);

template <class Fn>
void with_dtype(DType dtype, const Fn& fn) {
  switch (dtype) {
    case DType::float16:
      return fn(Half{});
    case DType::bfloat16:
      return fn(BFloat16{});
    case DType::float32:
      return fn(float{});
    case DType::float64:
      return fn(double{});
  }
}

// So many blocks that each thread has work, up to what keeps the machine full; kernels stride over the rest.
inline Grid grid_for(std::int64_t items, std::int64_t items_per_block, unsigned threads, const Stream& stream,
                     std::size_t shared_bytes = 0) {
  const std::int64_t wanted = (items + items_per_block - 1) / items_per_block;
  const std::int64_t most = stream.processors() * (2048 / threads) * 4;
  return {wanted < 1 ? 1 : wanted < most ? wanted : most, threads, shared_bytes};
}

// fn(F, By<by_block>, grid) for a merge of the tiles of each row.
template <bool by_block>
struct By {};
template <class Fn>
void with_team(DType dtype, std::int64_t rows, std::int64_t tiles, const Stream& stream, const Fn& fn) {
  constexpr std::int64_t few_tiles = 256;  // up to here a warp merges a row, beyond a block
  const Grid by_warp = grid_for(rows, virtual_threads / lanes_of_warp, virtual_threads, stream),
             by_block = grid_for(rows, 1, virtual_threads, stream, sizeof(Team<true>::Scratch));
  const auto with = [&]<class F>(F type) {
    tiles <= few_tiles ? fn(type, By<false>{}, by_warp) : fn(type, By<true>{}, by_block);
  };
  dtype == DType::float64 ? with(double{}) : with(float{});
}

#ifdef __CUDACC__
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), const Grid& g, const Stream& stream, const Args&... args) {
  if (g.shared_bytes > 48 * 1024)  // more must be asked for
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(g.shared_bytes)));
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(g.blocks), config.blockDim = g.threads;
  config.dynamicSmemBytes = g.shared_bytes, config.stream = stream.handle();
  check(cudaLaunchKernelEx(&config, kernel, args...));  // its own status: cudaGetLastError tells of others' errors too
}
#else
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), const Grid& g, const Stream&, const Args&... args) {
  simt::run({static_cast<unsigned>(g.blocks), g.threads, g.shared_bytes}, simt::Kernel([&] { kernel(args...); }));
}
#endif

}  // namespace vastmax::VM_ISA
