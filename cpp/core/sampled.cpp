// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes: what the targets of a row and its draws come to, and how rows are spread.
#include "vastmax/sampled.hpp"

#include <cmath>
#include <limits>
#include <numbers>

#include "core/class_rows.hpp"

namespace vastmax {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();

// Rows of the table that are multiplied before any is added: with them and the sum in first-level cache, a row comes
// from DRAM once.  Part of the order of sums, so of the bits.
constexpr std::size_t tile = 16;

// What a row's draws add up to: e^max weights.sum.
struct Seen {
  double max = -infinity;
  DrawWeights weights{0, 0};
  std::size_t hits = 0;
};

class SampledRun : ClassRows {
 public:
  SampledRun(const SampledLoss& loss, const ClassTable& table, const ConstView* bias, const Exec& exec)
      : ClassRows(table, exec), o_(loss), bias_(bias) {}

  void shared(const SharedDraws& draws, std::size_t first, std::size_t count, OutBytes logits) {
    spread(count, draws.n + features(),
           [&](std::size_t i) { shared_row(draws, first + i, logits + i * draws.n * item()); });
  }
  void targets(std::size_t first, std::size_t count, OutBytes grad) {
    spread(count, features(), [&](std::size_t i) {
      fetch_targets(first + i);
      target_rows(first + i, grad + i * width());
    });
  }
  void own(const OwnDraws& draws, std::size_t first, std::size_t count, OutBytes slopes, OutBytes grad) {
    spread(count, o_.draws * features(), [&](std::size_t i) {
      const std::size_t from = i * o_.draws;
      own_row(first + i, draws.ids + from, draws.adjust + from, slopes + from * item(),
              grad == nullptr ? nullptr : grad + i * width());
    });
  }

 private:
  Bytes input(std::size_t row) const { return o_.input + row * width(); }
  std::size_t begin(std::size_t row) const { return static_cast<std::size_t>(o_.targets.offsets[row]); }
  double scale(std::size_t row) const {  // of slopes
    return o_.inverse_temperature * (o_.grad_output == nullptr ? 1 : o_.grad_output[row]);
  }
  double logit(std::size_t row, std::int64_t id) const {
    double dot = k_.dot_row(at(id), input(row), features());
    if (bias_ != nullptr) dot += number(bias_->data + id * bias_->strides[0], bias_->dtype);
    return dot * o_.inverse_temperature;
  }
  bool is_target(std::size_t row, std::int64_t id) const {
    const std::int64_t *first = o_.targets.ids + begin(row), *last = o_.targets.ids + begin(row + 1);
    return last - first == 1 ? *first == id : std::binary_search(first, last, id);
  }

  void shared_row(const SharedDraws& draws, std::size_t row, OutBytes z) {
    Seen seen;
    fetch_targets(row);
    const std::int64_t* const end = draws.ids + draws.n;
    for (std::size_t t = begin(row); t < begin(row + 1); ++t) {
      const std::int64_t* const found = std::lower_bound(draws.ids, end, o_.targets.ids[t]);
      if (found == end || *found != o_.targets.ids[t]) continue;
      const auto at = static_cast<std::size_t>(found - draws.ids);
      seen.hits += static_cast<std::size_t>(draws.counts[at]);
      if (o_.drop_hits) store_staged(z, at, -infinity);
    }
    seen.max = k_.correct_draws(z, draws.adjust, draws.n, o_.inverse_temperature);
    slopes(row, seen, z, draws.n, draws.staged_counts, draws.shares);
  }

  // Those that later rows will want, of about as many rows as there are prefetches for.
  void fetch_targets(std::size_t row) const {
    const std::size_t later = row + ahead();
    if (later >= o_.rows) return;
    for (std::size_t t = begin(later), end = std::min(begin(later + 1), t + ahead()); t < end; ++t)
      prefetch(o_.targets.ids[t]);
  }

  void own_row(std::size_t row, const std::int64_t* ids, const double* adjust, OutBytes z, OutBytes sum) {
    const std::size_t n = o_.draws;
    Seen seen;
    if (sum != nullptr) std::memset(sum, 0, width());
    double max = -infinity, asked = 0;
    for (std::size_t first = 0; first < n; first += tile) {
      const std::size_t some = std::min(tile, n - first);
      double most = max;
      for (std::size_t j = first; j < first + some; ++j) {
        if (j + ahead() < n) prefetch(ids[j + ahead()]);
        const bool hit = is_target(row, ids[j]);
        seen.hits += hit;
        const double x = hit && o_.drop_hits ? -infinity : logit(row, ids[j]) + adjust[j];
        store_staged(z, j, x);
        if (x > most) most = x;
      }
      if (o_.kind == SampledKind::nce)
        asked += ask_tile(row, ids + first, some, z + first * item(), sum);
      else if (sum != nullptr)
        add_tile(ids + first, some, z + first * item(), max, most, sum);
      max = most;
    }
    seen.max = max;
    double factor = 1;
    if (o_.kind == SampledKind::nce)
      o_.hits[row] = static_cast<std::int64_t>(seen.hits), ask(row, asked);
    else
      factor = slopes(row, seen, z, n, nullptr, nullptr);
    if (sum == nullptr) return;
    if (factor != 1) k_.scale_row(factor, features(), sum);
    target_rows(row, sum);
  }

  // Logits become slopes; returns what they add to the loss.
  double ask_tile(std::size_t row, const std::int64_t* ids, std::size_t n, OutBytes z, OutBytes sum) const {
    const double loss = k_.ask_draws(z, nullptr, n);
    k_.scale_row(scale(row), n, z);
    for (std::size_t j = 0; sum != nullptr && j < n; ++j)
      if (const double slope = load_staged(z + j * item(), table_.dtype); slope != 0)
        k_.add_row(at(ids[j]), slope, features(), sum);
    return loss;
  }

  // sum e^(z - max) w, where the sum so far is against a smaller maximum.
  void add_tile(const std::int64_t* ids, std::size_t n, Bytes z, double before, double max, OutBytes sum) const {
    if (max > before && before > -infinity) k_.scale_row(all_.exp_difference(before - max), features(), sum);
    alignas(64) std::byte e[tile * sizeof(double)];
    std::memcpy(e, z, n * item());
    k_.weigh_draws(e, nullptr, n, base(max));
    for (std::size_t j = 0; j < n; ++j)
      if (const double weight = load_staged(e + j * item(), table_.dtype); weight != 0)
        k_.add_row(at(ids[j]), weight, features(), sum);
  }

  // Corrected logits become slopes of the loss; returns what e^(z - max) was multiplied with.
  double slopes(std::size_t row, Seen& seen, OutBytes z, std::size_t n, Bytes counts, Bytes shares) {
    double factor = scale(row);
    o_.hits[row] = static_cast<std::int64_t>(seen.hits);
    if (o_.kind == SampledKind::nce) {
      ask(row, k_.ask_draws(z, counts, n));
    } else {
      const bool overflown = seen.max == infinity && !has_nan(z, n);
      seen.weights = k_.weigh_draws(z, shares, n, base(seen.max));
      factor *= weigh(row, seen, overflown);
    }
    k_.scale_row(factor, n, z);
    return factor;
  }

  bool has_nan(Bytes z, std::size_t n) const {
    for (std::size_t j = 0; j < n; ++j)
      if (std::isnan(load_staged(z + j * item(), table_.dtype))) return true;
    return false;
  }
  static double base(double max) { return max == -infinity ? 0 : max; }  // -inf less -inf would be NaN
  double softplus(double x) const { return std::max(x, 0.0) + all_.log1p(all_.exp_difference(-std::abs(x))); }
  double log_add(double a, double b) const {
    return a == b ? a + std::numbers::ln2 : std::max(a, b) + all_.log1p(all_.exp_difference(-std::abs(a - b)));
  }
  double sigmoid(double x) const {
    const double e = all_.exp_difference(-std::abs(x));
    return (x < 0 ? e : 1) / (1 + e);
  }

  double target_logits(std::size_t row) {  // into the place of their slopes; their sum by shares
    double mean = 0;
    for (std::size_t t = begin(row); t < begin(row + 1); ++t) {
      o_.target_slope[t] = logit(row, o_.targets.ids[t]) + o_.targets.shift[t];
      mean += o_.targets.share[t] * o_.target_slope[t];
    }
    return mean;
  }
  double log_sum(const double* first, const double* last) const {
    const double max = *std::max_element(first, last);
    double sum = 0;
    for (const double* s = first; s < last; ++s) sum += all_.exp_difference(*s - max);
    return last - first == 1 ? max : max + all_.log(sum);
  }

  // Each class is a question of its own.
  void ask(std::size_t row, double of_draws) {
    target_logits(row);
    double loss = of_draws;
    for (std::size_t t = begin(row); t < begin(row + 1); ++t) {
      double& s = o_.target_slope[t];
      const double share = o_.targets.share[t];
      loss += share * softplus(-s) + (1 - share) * softplus(s);
      s = (sigmoid(s) - share) * scale(row);
    }
    o_.loss[row] = loss, o_.lse[row] = nan, o_.effective[row] = nan;
  }

  // Softmax over targets and draws; returns what turns e^(z - max) into a probability.
  double weigh(std::size_t row, const Seen& seen, bool overflown) {
    const std::size_t first = begin(row), last = begin(row + 1), kept = o_.draws - (o_.drop_hits ? seen.hits : 0);
    const double mean = target_logits(row), sum = seen.weights.sum;
    double shift = o_.shift[row];
    if (o_.average && kept > 0) shift -= all_.log(static_cast<double>(kept));
    const bool real = std::isfinite(sum) && sum > 0;
    const double draws = real ? seen.max + all_.log(sum) + shift : sum == 0 ? -infinity : overflown ? infinity : nan;
    o_.effective[row] = sum == 0 ? 0 : sum * sum / seen.weights.squares;
    if (first == last) {  // a row without a target has no loss
      o_.loss[row] = 0, o_.lse[row] = draws;
      return 0;
    }
    double* const s = o_.target_slope;
    const double targets = log_sum(s + first, s + last), gap = draws - targets, part = sigmoid(gap);
    const double lse = log_add(targets, draws);
    o_.lse[row] = lse;
    if (o_.kind == SampledKind::refined)
      o_.loss[row] = part == 0 ? 0 : part * (draws - mean);
    else
      o_.loss[row] = last - first == 1 ? softplus(gap) : lse - mean;
    for (std::size_t t = first; t < last; ++t)
      s[t] = (last - first == 1 ? -part : all_.exp_difference(std::min(0.0, s[t] - lse)) - o_.targets.share[t]) *
             scale(row);
    return real ? all_.exp_difference(std::min(0.0, seen.max + shift - lse)) : sum;
  }

  void target_rows(std::size_t row, OutBytes sum) const {
    for (std::size_t t = begin(row); t < begin(row + 1); ++t)
      k_.add_row(at(o_.targets.ids[t]), o_.target_slope[t], features(), sum);
  }

  const SampledLoss& o_;
  const ConstView* bias_;
};

}  // namespace

void sampled_shared(const SampledLoss& loss, const ClassTable& table, const ConstView* bias, const SharedDraws& draws,
                    std::size_t first, std::size_t count, std::byte* logits, const Exec& exec) {
  SampledRun(loss, table, bias, exec).shared(draws, first, count, logits);
}
void add_targets(const SampledLoss& loss, const ClassTable& table, std::size_t first, std::size_t count,
                 std::byte* grad, const Exec& exec) {
  SampledRun(loss, table, nullptr, exec).targets(first, count, grad);
}
void sampled_own(const SampledLoss& loss, const ClassTable& table, const ConstView* bias, const OwnDraws& draws,
                 std::size_t first, std::size_t count, std::byte* slopes, std::byte* grad, const Exec& exec) {
  SampledRun(loss, table, bias, exec).own(draws, first, count, slopes, grad);
}

}  // namespace vastmax
