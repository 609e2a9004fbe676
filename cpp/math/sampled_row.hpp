// SPDX-License-Identifier: Apache-2.0
// What the targets of a row and its draws come to, once the draws have been added up: the losses over sampled classes
// as every backend finishes them.  `math` has exp_difference, log1p and log (kernels/norm.hpp).
#pragma once

#include "cpp/math/algebra.hpp"
#include "vastmax/sampled.hpp"

namespace vastmax {

// What a row's draws add up to: sums of e^(z - max) and of their squares, by shares.  nan: whether any logit is, where
// the largest is infinite.
struct Seen {
  double max = -infinity, sum = 0, squares = 0;
  std::int64_t hits = 0;
  bool nan = false;
};

// -inf less -inf would be NaN.
VM_SHARED double weighed_from(double max) { return max == -infinity ? 0 : max; }

template <class Math>
class SampledRow {
 public:
  VM_SHARED SampledRow(const Math& math, const SampledLoss& o, std::size_t row)
      : math_(math),
        o_(o),
        row_(row),
        first_(static_cast<std::size_t>(o.targets.offsets[row])),
        last_(static_cast<std::size_t>(o.targets.offsets[row + 1])) {}

  VM_SHARED bool is_target(std::int64_t id) const {
    if (last_ - first_ == 1) return o_.targets.ids[first_] == id;
    std::size_t low = first_, high = last_;
    while (low < high) {
      const std::size_t middle = low + (high - low) / 2;
      if (o_.targets.ids[middle] == id) return true;
      o_.targets.ids[middle] < id ? low = middle + 1 : high = middle;
    }
    return false;
  }
  VM_SHARED double scale() const {  // of slopes
    return o_.inverse_temperature * (o_.grad_output == nullptr ? 1 : o_.grad_output[row_]);
  }

  // Both turn the logits of the targets in target_slope into slopes.  Each class is a question of its own; of_draws is
  // the loss of those that were drawn:
  VM_SHARED void ask(double of_draws) const {
    double loss = of_draws;
    for (std::size_t t = first_; t < last_; ++t) {
      double& s = o_.target_slope[t];
      const double share = o_.targets.share[t];
      loss += share * softplus(-s) + (1 - share) * softplus(s);
      s = (sigmoid(s) - share) * scale();
    }
    o_.loss[row_] = loss, o_.lse[row_] = o_.effective[row_] = __builtin_nan("");
  }
  // Softmax over targets and draws; returns what turns e^(z - max) into a slope:
  VM_SHARED double weigh(const Seen& seen) const {
    const auto draws_kept = static_cast<std::int64_t>(o_.draws) - (o_.drop_hits ? seen.hits : 0);
    double shift = o_.shift[row_];
    if (o_.average && draws_kept > 0) shift -= math_.log(static_cast<double>(draws_kept));
    const double sum = seen.sum;
    const bool real = sum > 0 && sum < infinity;
    const bool overflown = seen.max == infinity && !seen.nan;
    const double draws = real        ? seen.max + math_.log(sum) + shift
                         : sum == 0  ? -infinity
                         : overflown ? infinity
                                     : __builtin_nan("");
    o_.effective[row_] = sum == 0 ? 0 : sum * sum / seen.squares;
    if (first_ == last_) {  // a row without a target has no loss
      o_.loss[row_] = 0, o_.lse[row_] = draws;
      return 0;
    }
    double* const s = o_.target_slope;
    double mean = 0;
    for (std::size_t t = first_; t < last_; ++t) mean += o_.targets.share[t] * s[t];
    const bool alone = last_ - first_ == 1;
    const double targets = log_sum(), gap = draws - targets, lse = log_add(targets, draws),
                 part = targets == infinity ? __builtin_nan("") : sigmoid(gap);  // as a softmax of +inf
    o_.lse[row_] = lse;
    if (o_.kind == SampledKind::refined)
      o_.loss[row_] = part == 0 ? 0 : part * (draws - mean);
    else
      o_.loss[row_] = alone && targets < infinity ? softplus(gap) : lse - mean;
    for (std::size_t t = first_; t < last_; ++t)
      s[t] = (alone ? -part : math_.exp_difference(up_to_0(s[t] - lse)) - o_.targets.share[t]) * scale();
    return (real ? math_.exp_difference(up_to_0(seen.max + shift - lse)) : sum) * scale();
  }

 private:
  VM_SHARED static double up_to_0(double x) { return x < 0 ? x : 0; }  // 0 for NaN
  VM_SHARED double softplus(double x) const {
    return (x < 0 ? 0 : x) + math_.log1p(math_.exp_difference(-__builtin_fabs(x)));
  }
  VM_SHARED double log_add(double a, double b) const {
    constexpr double ln2 = 0x1.62e42fefa39efp-1;
    return a == b ? a + ln2 : (a < b ? b : a) + math_.log1p(math_.exp_difference(-__builtin_fabs(a - b)));
  }
  VM_SHARED double sigmoid(double x) const {
    const double e = math_.exp_difference(-__builtin_fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
  }
  VM_SHARED double log_sum() const {  // of the targets
    const double* const s = o_.target_slope;
    double max = s[first_], sum = 0;
    for (std::size_t t = first_ + 1; t < last_; ++t) max = max < s[t] ? s[t] : max;
    if (last_ - first_ == 1) return max;
    for (std::size_t t = first_; t < last_; ++t) sum += math_.exp_difference(s[t] - max);
    return max + math_.log(sum);
  }

  const Math& math_;
  const SampledLoss& o_;
  std::size_t row_, first_, last_;
};

}  // namespace vastmax
