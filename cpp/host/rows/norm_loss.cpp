// SPDX-License-Identifier: Apache-2.0
// cross_entropy and its gradient: normalise, gather the logits of the target, then each logit through its formula.
//
// A target is a weight a_j for each class: a few classes that are looked up ("picks"), and what has a weight
// everywhere (probabilities, label smoothing), which is made block by block while the logits are in cache.  Every term
// a_j ((max - z_j) + log(sum / e^max)) is of one sign, so nothing cancels.
#include <vector>

#include "cpp/host/rows/norm_map_run.hpp"
#include "cpp/math/loss.hpp"

namespace vastmax {
namespace {

constexpr const char* op_name = "cross_entropy";

class NormLoss : NormMapRun {
 public:
  NormLoss(const ConstView& x, const CrossEntropy& loss, const Exec& exec)
      : NormMapRun(x.dtype, x.shape, exec), loss_(loss) {}
  LossSum run(const ConstView& x, const View* grad, const RowOptions& o);

 private:
  using Blocks = std::vector<Weighed>;

  // What the gradient needs of a row.
  struct RowTerms {
    double uniform = 0;  // what smoothing gives each class
    double factor = 0;   // of the row's loss in what is differentiated, over the temperature
    double at_target = 0;
  };

  // --- the target

  bool picks() const { return loss_.ids != nullptr; }
  bool one_class() const { return picks() && loss_.id_probabilities == nullptr; }
  std::int64_t id(std::size_t row, std::size_t k) const { return ids_[row * loss_.width + k]; }
  double class_weight(std::int64_t id) const { return loss_.class_weight == nullptr ? 1 : loss_.class_weight[id]; }
  double pick_weight(std::size_t row, std::size_t k) const {
    const double share = loss_.id_probabilities == nullptr ? 1 : loss_.id_probabilities[row * loss_.width + k];
    return (1 - loss_.label_smoothing) * share * (class_weight(id(row, k)) * mean_unit_);
  }
  template <class Fn>
  void each_pick(std::size_t row, const Fn& fn) const {
    for (std::size_t k = 0; picks() && k < loss_.width; ++k)
      if (const std::int64_t class_id = id(row, k); class_id != loss_.ignore_index)
        fn(static_cast<std::size_t>(class_id), pick_weight(row, k));
  }
  double row_weight(std::size_t row) const { return loss_.row_weight == nullptr ? 1 : loss_.row_weight[row]; }
  bool left_out(std::size_t row) const {
    bool any = !picks();
    for (std::size_t k = 0; !any && k < loss_.width; ++k) any = id(row, k) != loss_.ignore_index;
    return !any || row_weight(row) == 0;
  }
  bool reads(std::size_t row) const { return loss_.lse != nullptr || !left_out(row); }
  // What a mean divides by: the weights of the targets, or of the rows where targets are distributions.
  double total_weight() const {
    TwoSum sum;
    for (std::size_t r = 0; r < loop_.count(); ++r)
      if (!left_out(r)) sum.add(row_weight(r) * (one_class() ? class_weight(id(r, 0)) : 1));
    return value_of(sum);
  }
  double weight_unit() const {  // of class weights, which have any size in float64
    double most = 0;
    for (std::size_t i = 0; loss_.class_weight != nullptr && i < n_; ++i)
      if (std::isfinite(loss_.class_weight[i])) most = std::max(most, std::abs(loss_.class_weight[i]));
    return unit_of(most);
  }

  // --- weights of all classes, in weight units

  bool in(const Source& s, std::size_t index) const {
    return s.where == nullptr || s.where[static_cast<std::int64_t>(index) * where_.step] != 0;
  }
  double uniform(const Source& s) const {  // of label smoothing, over the classes that the mask leaves in
    if (loss_.label_smoothing == 0) return 0;
    std::size_t count = s.where == nullptr ? n_ : 0;
    for (std::size_t i = 0; s.where != nullptr && i < n_; ++i) count += in(s, i);
    return count == 0 ? 0 : loss_.label_smoothing / static_cast<double>(count);
  }
  double number(Bytes staged, std::size_t i) const {
    return load_number(staged + i * compute_size(dtype_), reduced(dtype_));
  }
  void put_number(std::byte* staged, std::size_t i, double value) const {
    store_number(staged + i * compute_size(dtype_), reduced(dtype_), value);
  }
  // Into scratch.second; scratch.out is used up.
  void weights(const Source& s, double uniform, std::size_t block, Scratch& scratch) const {
    const auto start = static_cast<std::int64_t>(block * block_);
    const std::size_t n = length(block);
    const double keep = 1 - loss_.label_smoothing;
    if (distribution_.data != nullptr)
      of(all_, loss_.probabilities->dtype)
          .stage({distribution_.row(loop_, s.row) + start * distribution_.step, distribution_.step, nullptr, 0, 1, 0},
                 n, scratch.out);
    const Bytes q = distribution_.data != nullptr ? scratch.out : nullptr,
                w = narrow_weight_.empty() ? nullptr : narrow_weight_.data() + block * scratch_bytes;
    k_.class_weights(q, w, n, keep, uniform, scratch.second);
    for (std::size_t i = 0; s.where != nullptr && i < n; ++i)
      if (!in(s, block * block_ + i))
        put_number(scratch.second, i,
                   q == nullptr
                       ? 0
                       : keep * number(q, i) * (class_weight(static_cast<std::int64_t>(block * block_ + i)) * unit_));
  }
  void weigh(const Source& s, double uniform, std::size_t block, const Partial& part, Scratch& scratch,
             Weighed& to) const {
    weights(s, uniform, block, scratch);
    stage(s, block, 0, scratch.in);
    to.base = std::isfinite(part.max) ? part.max : 0;
    k_.weigh(scratch.in, scratch.second, length(block), to.base, to.gaps, to.sum);
  }

  // --- a row

  RowTerms finish(const Source& s, const Norm& norm, const Blocks& blocks, double uniform, Scratch& scratch,
                  RowParams& row) const {
    const auto left = [&] { return rest(norm, s, scratch); };
    const double over = norm.special() ? 0 : over_max(math(), norm, left), log = all_.log1p(over),
                 lse = log_sum(norm, log);
    if (loss_.lse != nullptr) loss_.lse[s.row] = lse;
    loss_.loss[s.row] = 0;
    if (left_out(s.row)) {
      if (y_.data != nullptr && !norm.special()) row = params(norm, 0, left);
      return {};
    }
    RowLoss loss;
    if (!blocks.empty()) {
      WeighedRow weighed;
      for (const Weighed& block : blocks) weighed.add(block, norm.max);
      weighed.scale(mean_unit_ / unit_);
      loss.add(norm, log, weighed);
    }
    each_pick(s.row, [&](std::size_t index, double pick) { loss.add(norm, log, logit(s, index), pick); });
    loss.add_square(loss_.z_loss * mean_unit_, lse);
    loss_.loss[s.row] = row_weight(s.row) * loss.loss;
    if (y_.data == nullptr || norm.special()) return {};

    RowTerms terms;
    terms.uniform = uniform;
    terms.factor = factor(s);
    const double of_lse = 2 * (loss_.z_loss * mean_unit_) * lse, scale = terms.factor * (loss.weight + of_lse);
    row = params(norm, scale, left);
    if (one_class() && blocks.empty()) {
      const auto target = static_cast<std::size_t>(id(s.row, 0));
      terms.at_target = gradient_at_target(math(), norm, over, logit(s, target), terms.factor, loss.weight, of_lse);
      if (cap_ != 0) terms.at_target *= slope(s, target);
      if (!in(s, target)) terms.at_target = 0;
    }
    return terms;
  }
  template <class Rest>
  RowParams params(const Norm& norm, double scale, const Rest& left) const {
    return dtype_ == DType::float64 ? scaled_params<double>(math(), norm, scale, left)
                                    : scaled_params<float>(math(), norm, scale, left);
  }
  bool mean_of_nothing() const { return loss_.mean && total_ == 0; }  // NaN, and its gradient 0
  double factor(const Source& s) const {
    const double given = loss_.grad_output == nullptr ? 1 : loss_.grad_output[loss_.grad_output_per_row ? s.row : 0];
    return given * (loss_.mean ? 1 / total_ : 1) * row_weight(s.row) / s.divisor;
  }

  // --- the gradient

  double slope(const Source& s, std::size_t index) const {
    std::byte one[sizeof(double)];
    k_.softcap_slope(staging(s, static_cast<std::int64_t>(index), 0), 1, one);
    return number(one, 0);
  }
  void zero(std::size_t row, std::size_t block, std::size_t i) const {
    std::memset(target(row, block) + static_cast<std::int64_t>(i) * y_.step, 0, y_.item);
  }
  void grad_block(const Source& s, const Norm& norm, const RowParams& row, const RowTerms& terms, std::size_t block,
                  Scratch& scratch) const {
    if (left_out(s.row) || mean_of_nothing()) {
      for (std::size_t i = 0; i < length(block); ++i) zero(s.row, block, i);
    } else if (norm.special()) {
      map_special(Role::probability, norm, s, block, scratch);
    } else if (one_class() && !everywhere() && cap_ == 0) {
      map_block(Op::logsumexp_backward, norm, row, s, block, scratch);
      put_target(s.row, terms, block);
    } else {
      weighted_grad(s, norm, row, terms, block, scratch);
      if (one_class() && !everywhere()) put_target(s.row, terms, block);
      for (std::size_t i = 0; s.where != nullptr && i < length(block); ++i)
        if (!in(s, block * block_ + i)) zero(s.row, block, i);
    }
  }
  void put_target(std::size_t row, const RowTerms& terms, std::size_t block) const {
    const auto index = static_cast<std::size_t>(id(row, 0));
    if (index / block_ == block)
      k_.put(terms.at_target, target(row, block) + static_cast<std::int64_t>(index % block_) * y_.step);
  }
  void weighted_grad(const Source& s, const Norm& norm, const RowParams& row, const RowTerms& terms, std::size_t block,
                     Scratch& scratch) const {
    const std::size_t n = length(block);
    if (everywhere())
      weights(s, terms.uniform, block, scratch);
    else
      std::memset(scratch.second, 0, n * compute_size(dtype_));
    each_pick(s.row, [&](std::size_t index, double pick) {
      if (index / block_ == block)
        put_number(scratch.second, index % block_,
                   number(scratch.second, index % block_) + pick * (unit_ / mean_unit_));
    });
    stage(s, block, shifted(norm.max) ? norm.max : 0, scratch.in);
    alignas(64) std::byte slopes[scratch_bytes];
    if (cap_ != 0) k_.softcap_slope(staging(s, static_cast<std::int64_t>(block * block_), 0), n, slopes);
    const Bytes slope = cap_ == 0 ? nullptr : slopes;
    const double target_factor = terms.factor * (mean_unit_ / unit_);
    if (y_.plain()) {
      k_.loss_grad(scratch.in, scratch.second, slope, target(s.row, block), n, row, target_factor, stream_);
    } else {
      k_.loss_grad(scratch.in, scratch.second, slope, scratch.out, n, row, target_factor, false);
      Loop::copy(target(s.row, block), y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, n);
    }
  }

  // --- all rows

  bool everywhere() const { return distribution_.data != nullptr || loss_.label_smoothing != 0; }
  void rows_in_turn(const Plan& plan);
  void rows_in_parts(const Plan& plan);
  void columns_in_groups();

  const CrossEntropy& loss_;
  RowOperand distribution_;
  std::vector<std::int64_t> ids_;
  std::vector<std::byte> narrow_weight_;  // the class weights in the compute type
  // Powers of two: the narrow weights are in units, and for a mean, where only quotients count, all weights are.
  double total_ = 0, unit_ = 1, mean_unit_ = 1;
};

void NormLoss::rows_in_turn(const Plan& plan) {
  spread_runs(loop_.count(), rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    Blocks blocks(everywhere() ? blocks_ : 0);
    double max = NAN;
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      const double share = uniform(s);
      Norm norm;
      if (reads(r)) {
        const bool more = r + 1 < last && reads(r + 1);
        norm = everywhere() ? norm_row(s, more, max, scratch,
                                       [&](std::size_t b, const Partial& part, Scratch& own) {
                                         weigh(s, share, b, part, own, blocks[b]);
                                       })
                            : norm_row(s, more, max, scratch);
      }
      RowParams row;
      const RowTerms terms = finish(s, norm, blocks, share, scratch, row);
      for (std::size_t b = 0; y_.data != nullptr && b < blocks_; ++b) grad_block(s, norm, row, terms, b, scratch);
    }
  });
}

void NormLoss::rows_in_parts(const Plan& plan) {
  const KernelScope scope;
  const Lease<Scratch> lease;
  Scratch& scratch = *lease;
  Blocks blocks(everywhere() ? blocks_ : 0);
  for (std::size_t r = 0; r < loop_.count() && !interrupted_; ++r) {
    const Source s = source(r);
    const double share = uniform(s);
    Norm norm;
    if (reads(r)) {
      norm = everywhere() ? norm_parallel(s, plan.threads,
                                          [&](std::size_t b, const Partial& part, Scratch& own) {
                                            weigh(s, share, b, part, own, blocks[b]);
                                          })
                          : norm_parallel(s, plan.threads);
    }
    RowParams row;
    const RowTerms terms = finish(s, norm, blocks, share, scratch, row);
    if (y_.data != nullptr)
      each_block(plan.threads, [&](std::size_t b, Scratch& own) { grad_block(s, norm, row, terms, b, own); });
  }
}

void NormLoss::columns_in_groups() {
  std::vector<RowTerms> terms(loop_.count());
  each_group(
      [&](const Group& g, GroupState& state, Scratch& scratch) {
        for (std::size_t c = 0; c < g.width; ++c) {
          const Norm& norm = state.norm[c];
          terms[g.first + c] = finish(source(g.first + c), norm, {}, 0, scratch, state.row[c]);
          state.ordinary &= !norm.special() && !shifted(norm.max);
        }
      },
      [&](const Group& g, std::size_t b, const GroupState& state, Scratch& scratch) {
        if (y_.data == nullptr) return;
        if (state.ordinary) map_columns(Op::logsumexp_backward, g, b, state, scratch);
        for (std::size_t c = 0; c < g.width; ++c)
          if (const std::size_t r = g.first + c; state.ordinary)
            put_target(r, terms[r], b);
          else
            grad_block(source(r), state.norm[c], state.row[c], terms[r], b, scratch);
      });
}

LossSum NormLoss::run(const ConstView& x, const View* grad, const RowOptions& o) {
  x_ = operand(x);
  if (grad != nullptr) y_ = operand(*grad);
  if (loss_.probabilities != nullptr) distribution_ = operand(*loss_.probabilities);
  options(o);
  loop_.merge();
  cap_ = loss_.softcap;
  const std::size_t rows = loop_.count();
  if (picks()) ids_ = class_ids(op_name, "a target", {loss_.ids, rows * loss_.width}, n_, loss_.ignore_index);
  total_ = total_weight(), unit_ = weight_unit();
  if (loss_.mean) mean_unit_ = unit_of(total_), total_ *= mean_unit_;
  if (loss_.class_weight != nullptr && everywhere()) {
    narrow_weight_.resize(n_ * compute_size(dtype_));
    for (std::size_t i = 0; i < n_; ++i) put_number(narrow_weight_.data(), i, loss_.class_weight[i] * unit_);
  }
  stream_ = grad != nullptr && x.data != grad->data && rows * n_ * y_.item >= policy::stream_bytes;
  if (rows != 0) {
    const Plan plan = cut();
    const bool plain_target = !everywhere() && (grad == nullptr || one_class());
    if (plain_target && columns(grad != nullptr))
      columns_in_groups();
    else if (plan.strategy == Strategy::split)
      rows_in_parts(plan);
    else
      rows_in_turn(plan);
  }
  const LossSum sum = reduce_losses({loss_.loss, interrupted_ ? 0 : rows}, total_, loss_.mean);
  for (std::size_t r = 0; mean_unit_ != 1 && r < rows; ++r) loss_.loss[r] /= mean_unit_;
  return sum;
}

}  // namespace

LossSum reduce_losses(std::span<const double> losses, double weight, bool mean) {
  const auto total = [&](double unit) {
    TwoSum sum;
    for (const double loss : losses) sum.add(loss * unit);
    return value_of(sum);
  };
  const double sum = total(1);
  if (std::isfinite(sum) || !mean) return {sum, weight};
  constexpr double unit = 0x1p-64;  // more than there are losses: where a mean fits, so does what is divided
  return {total(unit), weight * unit};
}

LossSum cross_entropy(const ConstView& logits, const View* grad, const CrossEntropy& loss, const RowOptions& o,
                      const Exec& exec) {
  if (logits.shape.empty()) throw std::invalid_argument(std::string(op_name) + ": logits have no axis to reduce");
  if (grad != nullptr) expect_like(op_name, "out", *grad, logits);
  if ((loss.ids != nullptr) == (loss.probabilities != nullptr))
    throw std::invalid_argument(std::string(op_name) + ": the target must be classes or probabilities");
  if (loss.probabilities != nullptr) {
    expect_shape(op_name, "target", loss.probabilities->shape, logits.shape);
    if (reduced(loss.probabilities->dtype) != reduced(logits.dtype))
      expect_dtype(op_name, "target", loss.probabilities->dtype, logits.dtype);
  }
  return NormLoss(logits, loss, exec).run(logits, grad, o);
}

}  // namespace vastmax
