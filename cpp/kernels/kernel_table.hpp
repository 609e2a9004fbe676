// SPDX-License-Identifier: Apache-2.0
// The functions of one instruction set, over contiguous stretches.  cpp/host decides what to call, kernels decide
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpp/math/algebra.hpp"
#include "cpp/math/bytes.hpp"
#include "cpp/math/statistics.hpp"
#include "vastmax/dtype.hpp"

namespace vastmax {

#define VM_OP(shape, name, Formula) name,
enum class Op : std::uint8_t {
#include "cpp/ops.def"
};
#undef VM_OP
#define VM_OP(shape, name, Formula) +1
inline constexpr int op_count = 0
#include "cpp/ops.def"
    ;
#undef VM_OP

constexpr Role role_of(Op op) {
  return op == Op::softmax ? Role::probability : op == Op::log_softmax ? Role::log_probability : Role::gradient;
}

// How a stretch that is not plain becomes one: strides, a mask, a temperature, a bias, a softcap, a shift.  Order:
// x / divisor or x + bias, cap tanh(that / cap), less the shift, then the mask.
struct Staging {
  Bytes x;
  std::ptrdiff_t stride;
  const std::uint8_t* where;  // null: all in
  std::ptrdiff_t where_stride;
  double divisor, shift;
  double cap = 0;        // 0: none
  bool head = false;     // what a product left of a layer's logits: adjacent, of the compute type, neither divided nor
                         // masked; their softcap is good to 3 ULP, others' are rounded once
  Bytes bias = nullptr;  // of the head; null: none
};

inline constexpr std::size_t most_columns = 64;

// Classes whose sum a draw finds ready, so that it makes no more terms again than these.
inline constexpr std::size_t stretch_length = 512;

// The sum of sampled terms e^(z - max), and of their squares, each over how often it was drawn.
struct DrawWeights {
  double sum, squares;
};

struct MassSums {
  double all, above;
};
struct MassFrom {
  double mass;
  std::size_t count;
};

// For the elements of one dtype.  "Staged" inputs are of the compute type (float32 for the 16-bit types), outputs
// always of the dtype. `ahead` is what will be read next; null for nothing.
// `stream` writes past the caches.
struct DTypeKernels {
  // `max` is the block's largest logit where the last call found it, else NaN; it leaves that of the n logits `ahead`,
  // if there are any.
  using NormBlock = void (*)(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out);
  using MapBlock = void (*)(Bytes x, OutBytes y, std::size_t n, const RowParams&, bool stream);
  using GradBlock = void (*)(Bytes g, Bytes y, OutBytes out, std::size_t n, const RowParams&, bool stream);
  using DotBlock = double (*)(Bytes g, Bytes y, std::size_t n);
  using UnaryBlock = void (*)(Bytes x, OutBytes y, std::size_t n, double beta, bool stream);
  using BinaryBlock = void (*)(Bytes g, Bytes x, OutBytes out, std::size_t n, double beta, bool stream);

  // rows, [0] from the dtype itself, [1] from a staged block; the first index of a normaliser is whether its result
  // serves only to make 16-bit numbers
  NormBlock norm[2][2];
  MapBlock norm_map[op_count][2];
  DotBlock row_dot[op_count][2];
  GradBlock row_grad[op_count][2];
  double (*rest)(Bytes staged, std::size_t n, double max, int ref);  // the block's sum without what equals max
  Peak (*peak)(double max, int ref);
  // Into `sum`, in the unit 2^(what it returns).
  int (*weighted)(Bytes a, Bytes b, std::size_t n, double max, TwoSum& sum);
  double (*weighted_max)(Bytes a, Bytes b, std::size_t n);
  bool (*stage)(const Staging&, std::size_t n, OutBytes staged);      // whether the mask left anything in
  void (*widened)(Bytes x, std::size_t n, double shift, OutBytes y);  // to float64, less the shift; not of float64
  void (*softcap_slope)(const Staging&, std::size_t n, OutBytes staged);

  // What a target weighs of each class, staged: w (keep q + uniform); q and w may be null, for 0 and 1.
  void (*class_weights)(Bytes q, Bytes w, std::size_t n, double keep, double uniform, OutBytes weights);
  // Adds weights * (base - z), 0 where the weight is, and the weights; both staged.
  void (*weigh)(Bytes z, Bytes weights, std::size_t n, double base, TwoSum& gaps, TwoSum& sum);
  // Sum of weights * (base - z) in plain products; 0 where the weight is.
  TwoSum (*gaps)(Bytes z, Bytes weights, std::size_t n, double base);
  // (e^z / sum * row.grad - weights * target) * slope; all inputs staged, slope may be null
  void (*loss_grad)(Bytes z, Bytes weights, Bytes slope, OutBytes y, std::size_t n, const RowParams& row, double target,
                    bool stream);
  // row statistics: a normaliser and the sum of terms times how far they are below the block's largest logit, unless
  // the block is shifted or special; `rest` with that sum
  void (*norm_gaps[2])(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, TwoSum& gaps);
  double (*rest_entropy)(Bytes staged, std::size_t n, double max, int ref, TwoSum& gaps);
  // How many elements are at least a limit, and a bit for each.  NaN is; `nans`: there may be some.
  std::size_t (*count_from[2])(Bytes x, std::size_t n, double limit);
  std::size_t (*mark_from[2])(Bytes x, std::size_t n, double limit, bool nans, std::uint64_t* marks);
  // The largest of every `lanes`-th element, a multiple of 64 at most a block, in the compute type; NaN does not count.
  void (*lane_max[2])(Bytes x, std::size_t n, std::size_t lanes, OutBytes largest);
  // draws: a normaliser and, 64 bytes a stretch, the lanes of the sum of each (stretch_sum folds them), unless the
  // block is shifted or special
  void (*norm_stretches[2])(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, OutBytes lanes);
  double (*stretch_sum)(Bytes lanes);
  // Of a stretch: where the running sum of e^x 2^-ref passes each share, in [0, 1), of the whole.
  void (*find_shares[2])(Bytes x, std::size_t n, int ref, const double* shares, std::size_t count, std::uint32_t* at);
  double (*block_max[2])(Bytes x, std::size_t n);  // -inf for none; NaN does not count
  void (*temper[2])(Bytes x, std::size_t n, double base, double inverse,
                    OutBytes staged);  // (x - base) inverse; in place
  void (*add_gumbel)(OutBytes staged, const std::uint64_t* bits, std::size_t n);

  // The largest of every `stretch` elements, a divisor of a block and multiple of 64; NaN where there is one.
  void (*stretch_max[2])(Bytes x, std::size_t n, std::size_t stretch, double* to);
  std::size_t (*mark_between[2])(Bytes x, std::size_t n, double least, double below, std::uint64_t* marks);
  // Masses e^((z - max) rate) 2^62; what those of elements from a limit up sum to.
  void (*masses)(Bytes staged, std::size_t n, double max, double rate, double* to);
  MassFrom (*mass_from)(Bytes staged, const double* mass, std::size_t n, double least);
  // Sums of masses, of all and from a limit up: of float32 good to 2^-34 + |max rate| 2^-53.
  MassSums (*mass_sums[2])(Bytes x, std::size_t n, double max, double rate, double limit);
  // Sum of e^((x - max) rate) of elements from a finite limit up, to 2^-11.
  double (*mass_about[2])(Bytes x, std::size_t n, double max, double rate, double limit);
  void (*keep_from[2])(Bytes x, std::size_t n, double limit, OutBytes y, bool stream);  // below the limit -inf
  void (*put)(double value, OutBytes y);  // one element, rounded to the dtype

  // A row of a table of classes, of the dtype; what it meets is staged.
  double (*dot_row)(Bytes w, Bytes x, std::size_t n);
  void (*add_row)(Bytes w, double scale, std::size_t n, OutBytes sum);
  void (*copy_row)(Bytes w, std::size_t n, OutBytes staged);
  void (*subtract_row)(Bytes change, double scale, std::size_t n, OutBytes w);  // w - scale change
  void (*scale_row)(double factor, std::size_t n, OutBytes staged);

  // The logits of sampled classes, staged.  `shares` and `counts` may be null, for 1.
  double (*correct_draws)(OutBytes z, Bytes adjust, std::size_t n, double scale);   // scale z + adjust; the largest
  DrawWeights (*weigh_draws)(OutBytes z, Bytes shares, std::size_t n, double max);  // e^(z - max); squares by shares
  double (*ask_draws)(OutBytes z, Bytes counts, std::size_t n);  // counts sigmoid(z); sum of counts softplus(z)

  // columns: `width` <= most_columns adjacent rows side by side, `pitch` bytes from one class to the next
  void (*norm_columns[2])(Bytes x, std::ptrdiff_t pitch, std::size_t n, std::size_t width, Bytes ahead, Partial* out);
  void (*map_columns[op_count])(Bytes x, std::ptrdiff_t x_pitch, OutBytes y, std::ptrdiff_t y_pitch, std::size_t n,
                                std::size_t width, const RowParams*, bool stream);

  UnaryBlock unary[op_count];
  BinaryBlock binary[op_count];
  // binary cross-entropy: returns the sum of the losses; weight, pos_weight, loss and grad may be null
  TwoSum (*bce)(Bytes x, Bytes target, Bytes weight, Bytes pos_weight, OutBytes loss, OutBytes grad, double grad_scale,
                std::size_t n);
};

struct Sampler;
struct Draws;

struct Kernels {
  DTypeKernels dtype[dtype_count];
  void (*stream_copy)(Bytes x, OutBytes y, std::size_t n);  // of float32
  double (*exp_scaled)(double x, int ref);                  // e^x 2^-ref, |x| <= reducible
  double (*exp_difference)(double x);                       // e^x, x <= 0
  double (*log1p)(double x);                                // x >= 0
  double (*log)(double x);                                  // x finite, normal, > 0
  double (*log_pair)(double x, double low);                 // log(x + low), |low| up to an ulp of x
  double (*above_tangent)(double u);                        // e^-u - 1 + u, u > -700
  // of float64 logits, staged, and what their normalisers have found; leaves the offset as it is
  void (*differences)(Bytes x, Bytes z, std::size_t n, const Partial& p, const Partial& q, Differences& out);
  // draws [first, first + n) of a row; log q of one draw of each class
  void (*draw)(const Sampler&, const Draws&, std::size_t first, std::size_t n, std::int64_t* ids);
  void (*log_prob)(const Sampler&, const std::int64_t* ids, std::size_t n, double* log_q);
  // when each of classes [first, first + n) is first drawn, if draws come at rate 1
  void (*clocks)(const Sampler&, const Draws&, std::size_t first, std::size_t n, double* times);
  // Which of n elements are marked; room for n + 8.
  std::size_t (*places)(const std::uint64_t* marks, std::size_t n, std::uint16_t* at);
  // Of the bits of classes [first, first + n) of a row, those up to `most`, and at which class, from `first` on.
  // Both have room for n.
  std::size_t (*noise)(const Draws&, std::size_t first, std::size_t n, std::uint64_t most, std::uint32_t* at,
                       std::uint64_t* bits);
  void (*gumbel)(const std::uint64_t* bits, std::size_t n, double* g);  // the smaller the bits, the larger
};

}  // namespace vastmax
