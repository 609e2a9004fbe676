// SPDX-License-Identifier: Apache-2.0
// vastmax from C++.  Views are strided like NumPy's: strides in bytes, of any sign, zero included; data needs no
// alignment.
//
// Row ops reduce the last axis.  The result for a row has the same bits whatever the batch around it, its strides, the
// number of threads and the instruction set.  Errors are std::invalid_argument, or std::out_of_range for a class that
// is none, before anything is written; std::bad_alloc passes through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vastmax/dtype.hpp"

namespace vastmax {

struct ConstView {
  const std::byte* data;
  DType dtype;
  std::span<const std::int64_t> shape, strides;
};
struct View {
  std::byte* data;
  DType dtype;
  std::span<const std::int64_t> shape, strides;
};

enum class Isa : std::uint8_t { scalar, avx2, avx512, neon };

struct Exec {
  int threads = 0;  // 0: get_num_threads()
  int isa = -1;     // -1: active_isa(), else an index into isas()
  // Called now and then from the calling thread; true ends the call early, with its outputs partly written.
  bool (*interrupted)() = nullptr;
};

// Options of the row ops, one per row: shapes are those of the rows (x without its last axis), `where` that of x.
struct RowOptions {
  const double* temperature = nullptr;
  std::span<const std::int64_t> temperature_strides;
  const std::uint8_t* where = nullptr;
  std::span<const std::int64_t> where_strides;
};

// e^x / sum e^x, and its logarithm
void softmax(const ConstView& x, const View& out, const RowOptions& = {}, const Exec& = {});
void log_softmax(const ConstView& x, const View& out, const RowOptions& = {}, const Exec& = {});
// log sum e^x; out has the shape of the rows and dtype reduced(x.dtype), as has `grad` below
void logsumexp(const ConstView& x, const View& out, const RowOptions& = {}, const Exec& = {});
void logsumexp_backward(const ConstView& grad, const ConstView& x, const View& out, const RowOptions& = {},
                        const Exec& = {});
// log |sum b e^a|; without `sign` a negative sum is NaN
void logsumexp_weighted(const ConstView& a, const ConstView& b, const View& out, const View* sign,
                        const RowOptions& = {}, const Exec& = {});
// The same in steps.  What is known of a row after some of its logits; the unit of `top` and `others` is e^max or
// 2^ref. Steps at multiples of block_length(dtype) leave the bits of one call.
struct RowState {
  double max = -std::numeric_limits<double>::infinity();
  double top = 0, top_lost = 0;  // the sum of the block that holds the largest logit, and what rounding took from it
  double others = 0, others_lost = 0;
  double rest = 0;  // top without the largest logit, where that is nearly all of the sum
  double ref = 0;
  double seen = 0;
};
// One state for each row, in index order.  An interrupted update leaves some of them behind.
void logsumexp_update(const ConstView& x, std::span<RowState> states, const Exec& = {});
void logsumexp_merge(std::span<RowState> states, std::span<const RowState> others, const Exec& = {});
// The result is max + log; both apart keep what their sum would round away.
void logsumexp_value(std::span<const RowState> states, double* max, double* log, const Exec& = {});
// e^x / sum, or without `grad` null, grad e^x / sum, where the sum is that of the states
void normalize(const ConstView& x, std::span<const RowState> states, const ConstView* grad, const View& out,
               const Exec& = {});
// y (g - <g, y>) and g - e^y sum(g), divided by the temperature
void softmax_backward(const ConstView& g, const ConstView& y, const View& out, const RowOptions& = {},
                      const Exec& = {});
void log_softmax_backward(const ConstView& g, const ConstView& y, const View& out, const RowOptions& = {},
                          const Exec& = {});

// Some classes of a linear layer: what a matrix product left of their logits z = cap tanh((x + bias) / cap).  Arrays
// are dense, in index order; those with one number for each class are of the dtype of x, float32 or float64.
struct HeadTile {
  const void* bias = nullptr;            // may be null
  double softcap = 0;                    // 0: none
  const void* shares = nullptr;          // the part of each class in a sum over all; may be null
  const std::int64_t* target = nullptr;  // a class of each row, in the tile if it is in [first, first + classes)
  std::int64_t first = 0;
  double earlier = 0;  // the sum of the shares of the tiles before
};
// What a row of a head knows beside its normaliser.
struct HeadRow {
  double target_logit = 0, gaps = 0, gaps_lost = 0;  // gaps: sum_j share_j (max - z_j), and what rounding took from it
};
// logsumexp_update, and the same for the rows of the head.  Tiles come in the order of their classes.
void head_update(const ConstView& x, const HeadTile&, std::span<RowState>, std::span<HeadRow>, const Exec& = {});
// cross_entropy of rows whose tiles have all been taken in: of the target's weight beside `even` times all shares,
// whose sum is `mass`.  Arrays have one number for each row.
struct HeadLoss {
  const double *own = nullptr, *share = nullptr;  // the target's weight without its share, and that share
  double even = 0, mass = 0, z_loss = 0;
  const double* factor = nullptr;  // of the loss in what is differentiated; null without slopes
  double *loss = nullptr, *lse = nullptr;
  double *every = nullptr, *at_target = nullptr;  // see HeadSlopes; written with `factor`
};
void head_losses(std::span<const RowState>, std::span<const HeadRow>, const HeadLoss&, const Exec& = {});
// What becomes of each logit: (every p_j - even share_j) dz_j/dx_j, and at_target dz_j/dx_j at the row's target.
struct HeadSlopes {
  const double *every, *even, *at_target;  // one for each row; `even` may be null without shares
};
void head_slopes(const ConstView& x, const HeadTile&, std::span<const RowState>, const HeadSlopes&, const View& out,
                 const Exec& = {});

// What cross_entropy compares the logits with, and how.  The plain arrays are dense, rows in index order.
struct CrossEntropy {
  // A class of each row, or `width` of them with their probabilities; or a probability of every class (the shape of the
  // logits, in any dtype of no wider compute type).  ignore_index stands for no class.
  const std::int64_t* ids = nullptr;
  std::size_t width = 1;
  const double* id_probabilities = nullptr;
  const ConstView* probabilities = nullptr;
  std::int64_t ignore_index = -100;

  const double* class_weight = nullptr;  // one for each class
  const double* row_weight = nullptr;    // one for each row; 0 leaves the row out
  double label_smoothing = 0, z_loss = 0;
  double softcap = 0;  // 0: none

  double* loss = nullptr;  // of each row; required
  double* lse = nullptr;   // of each row; may be null
  // The gradient is that of the losses times these: one for each row, or one for all.  `mean`: divided by the weight.
  const double* grad_output = nullptr;
  bool grad_output_per_row = false, mean = false;
};
struct LossSum {
  double loss, weight;  // of all rows that are not left out
};
// The sum of losses, compensated.  With `mean` only its quotient with the weight counts: where the sum does not fit,
// both are smaller by the same factor.
LossSum reduce_losses(std::span<const double> losses, double weight, bool mean);
// sum_j a_j (logsumexp(z) - z_j) + z_loss logsumexp(z)^2 with the target's weights a and z = softcap tanh(x / T /
// softcap).  `grad`, of the logits' shape and dtype, may be null, or the
// logits themselves.
LossSum cross_entropy(const ConstView& logits, const View* grad, const CrossEntropy&, const RowOptions& = {},
                      const Exec& = {});

// log_softmax at `width` classes of each row: ids and out are dense, [rows, width]
void selective_log_softmax(const ConstView& x, const std::int64_t* ids, std::size_t width, double* out,
                           const RowOptions& = {}, const Exec& = {});

// What softmax_stats finds about each row; arrays are dense, rows in index order, and may be null.
struct RowStats {
  double *lse = nullptr, *max = nullptr, *entropy = nullptr;
  std::int64_t* argmax = nullptr;
  const std::int64_t* target = nullptr;  // needed for the next two
  double* target_log_prob = nullptr;
  std::int64_t* target_rank = nullptr;  // 1 and how many logits are larger
  std::size_t top_n = 0;                // the largest logits, ties to the lower index: [rows, top_n]
  double* top_log_probs = nullptr;
  std::int64_t* top_indices = nullptr;
};
void softmax_stats(const ConstView& x, const RowStats&, const RowOptions& = {}, const Exec& = {});

// sum_j p_j (log p_j - log q_j) of the probabilities that two arrays of logits stand for; one for each row
void kl_divergence(const ConstView& p, const ConstView& q, double* out, const Exec& = {});

// Element-wise, any shape; beta belongs to softplus and is 1 elsewhere.
void softplus(const ConstView& x, const View& out, double beta = 1, const Exec& = {});
void sigmoid(const ConstView& x, const View& out, double beta = 1, const Exec& = {});
void log_sigmoid(const ConstView& x, const View& out, double beta = 1, const Exec& = {});
void logit(const ConstView& x, const View& out, double beta = 1, const Exec& = {});
void softplus_backward(const ConstView& g, const ConstView& x, const View& out, double beta = 1, const Exec& = {});
void sigmoid_backward(const ConstView& g, const ConstView& y, const View& out, double beta = 1, const Exec& = {});
void log_sigmoid_backward(const ConstView& g, const ConstView& x, const View& out, double beta = 1, const Exec& = {});

// Returns the sum of the losses; `weight`, `pos_weight`, `loss` and `grad` may be null.
double bce_with_logits(const ConstView& x, const ConstView& target, const ConstView* weight,
                       const ConstView* pos_weight, const View* loss, const View* grad, double grad_scale,
                       const Exec& = {});

// Instruction sets built into this library, slowest first.
std::span<const Isa> isas();
const char* name(Isa);
bool runnable(Isa);
Isa active_isa();
void set_active_isa(Isa);

int get_num_threads();
void set_num_threads(int);  // at least 1; may exceed the cores
// What the process may use: affinity and cgroup quota, and which of them decided.
std::pair<int, std::string> default_threads();

// How a call over rows would be cut up.
enum class Strategy : std::uint8_t { serial, rows, split };  // split: blocks of one row at a time
struct Plan {
  Strategy strategy;
  int threads;
  std::int64_t tasks;
};
Plan plan(std::int64_t rows, std::int64_t classes, int threads);

struct Caches {
  std::int64_t l1, l2, l3;  // bytes, 0 where unknown
};
Caches caches();

}  // namespace vastmax
