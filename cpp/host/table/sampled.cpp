// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes: the logits of a row, what its draws add up to, and how rows are spread.
#include "vastmax/sampled.hpp"

#include <cmath>

#include "cpp/host/table/class_rows.hpp"
#include "cpp/math/sampled_row.hpp"

namespace vastmax {
namespace {

// Rows of the table that are multiplied before any is added: with them and the sum in first-level cache, a row comes
// from DRAM once.  Part of the order of sums, so of the bits.
constexpr std::size_t tile = 16;

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
  SampledRow<Kernels> row_of(std::size_t row) const { return {all_, o_, row}; }
  double logit(std::size_t row, std::int64_t id) const {
    double dot = k_.dot_row(at(id), input(row), features());
    if (bias_ != nullptr) dot += number(bias_->data + id * bias_->strides[0], bias_->dtype);
    return dot * o_.inverse_temperature;
  }

  void shared_row(const SharedDraws& draws, std::size_t row, OutBytes z) {
    Seen seen;
    fetch_targets(row);
    const std::int64_t* const end = draws.ids + draws.n;
    for (std::size_t t = begin(row); t < begin(row + 1); ++t) {
      const std::int64_t* const found = std::lower_bound(draws.ids, end, o_.targets.ids[t]);
      if (found == end || *found != o_.targets.ids[t]) continue;
      const auto at = static_cast<std::size_t>(found - draws.ids);
      seen.hits += static_cast<std::int64_t>(draws.counts[at]);
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
        const bool hit = row_of(row).is_target(ids[j]);
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
      o_.hits[row] = seen.hits, target_logits(row), row_of(row).ask(asked);
    else
      factor = slopes(row, seen, z, n, nullptr, nullptr);
    if (sum == nullptr) return;
    if (factor != 1) k_.scale_row(factor, features(), sum);
    target_rows(row, sum);
  }

  // Logits become slopes; returns what they add to the loss.
  double ask_tile(std::size_t row, const std::int64_t* ids, std::size_t n, OutBytes z, OutBytes sum) const {
    const double loss = k_.ask_draws(z, nullptr, n);
    k_.scale_row(row_of(row).scale(), n, z);
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
    k_.weigh_draws(e, nullptr, n, weighed_from(max));
    for (std::size_t j = 0; j < n; ++j)
      if (const double weight = load_staged(e + j * item(), table_.dtype); weight != 0)
        k_.add_row(at(ids[j]), weight, features(), sum);
  }

  // Corrected logits become slopes of the loss; returns what e^(z - max) was multiplied with.
  double slopes(std::size_t row, Seen& seen, OutBytes z, std::size_t n, Bytes counts, Bytes shares) {
    double factor;
    o_.hits[row] = seen.hits;
    target_logits(row);
    if (o_.kind == SampledKind::nce) {
      row_of(row).ask(k_.ask_draws(z, counts, n));
      factor = row_of(row).scale();
    } else {
      seen.nan = seen.max == infinity && has_nan(z, n);
      const DrawWeights weights = k_.weigh_draws(z, shares, n, weighed_from(seen.max));
      seen.sum = weights.sum, seen.squares = weights.squares;
      factor = row_of(row).weigh(seen);
    }
    k_.scale_row(factor, n, z);
    return factor;
  }

  bool has_nan(Bytes z, std::size_t n) const {
    for (std::size_t j = 0; j < n; ++j)
      if (std::isnan(load_staged(z + j * item(), table_.dtype))) return true;
    return false;
  }
  void target_logits(std::size_t row) const {  // into the place of their slopes
    for (std::size_t t = begin(row); t < begin(row + 1); ++t)
      o_.target_slope[t] = logit(row, o_.targets.ids[t]) + o_.targets.shift[t];
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
