// SPDX-License-Identifier: Apache-2.0
// Where a filter cuts the order of a row.
#pragma once

#include "cpp/host/select/nucleus.hpp"

namespace vastmax {

class CutRun : protected Nucleus {
 public:
  using Nucleus::Nucleus;

 protected:
  // What the filter keeps of a row, for masses e^((z - max) / temperature), temperature in [0, inf]; `s.divisor` does
  // not matter.  `largest`: the largest logit of each block where the caller knows them, NaN for a block with NaN, else
  // empty.  `total`: the sum of the masses as a normaliser has it, if known, else 0.  With threads > 1 the row is split
  // among them, and the caller is not inside a task.
  void find(const Source& s, const Filter& filter, double temperature, std::span<const double> largest, int threads,
            Kept& kept, Scratch& scratch, double total = 0) {
    std::vector<double> found;
    if (largest.empty()) maxima(s, block_, threads, found, scratch), largest = found;
    kept.cut = {}, kept.listed = false, kept.entries.clear(), kept.sums.clear();
    kept.max = max_of(largest);
    if (!(kept.max > -infinity)) return;
    const auto k = temperature == 0 || filter.top_p == 0 ? 1 : static_cast<std::size_t>(filter.top_k);
    if (k > 0 && k < n_) cut_count(s, k, threads, kept, scratch);
    if (filter.top_p < 1 && k != 1) cut_mass({s, filter.top_p, temperature, largest, total, threads, scratch}, kept);
    if (filter.min_p > 0) tighten(kept, {least_of(kept.max, filter.min_p, temperature)});
    if (kept.listed) list_by_index(kept);
  }

  // The least number with e^((z - max) / temperature) >= min_p.
  double least_of(double max, double min_p, double temperature) const {
    if (max == infinity) return max;
    const double gap = temperature * signed_log(0, {{min_p, 0}, 0}, false, all_.log_pair).value;
    if (!(gap > -infinity)) return least_possible(max, temperature);
    return dtype_ == DType::float64 ? least_above<double>(max, gap) : least_above<float>(max, gap);
  }

 private:
  static double max_of(std::span<const double> largest) {
    double max = -infinity;
    for (const double m : largest) max = m > max || std::isnan(m) ? m : max;
    return max;
  }

  static void tighten(Kept& kept, const Cut& other) {
    if (kept.cut.keeps(other.least, other.last)) kept.sums.clear();
    kept.cut = Cut::tighter(kept.cut, other);
  }

  void cut_count(const Source& s, std::size_t k, int threads, Kept& kept, Scratch& scratch) {
    if (few(k)) {
      first_of(s, k, threads, kept.entries, scratch);
      kept.cut = {kept.entries.back().value, kept.entries.back().index}, kept.listed = true;
    } else {
      kept.cut = border(s, {}, kept.max, {}, {k, 0}, threads, scratch).cut;
    }
  }

  struct Shared {
    const Source& s;
    double p, temperature;
    std::span<const double> largest;
    double total;
    int threads;
    Scratch& scratch;
  };
  void cut_mass(const Shared& of, Kept& kept) {
    const Weigh weigh = weigh_of(kept.max, of.temperature);
    if (kept.listed) return cut_list(of.p, weigh, least_possible(kept.max, of.temperature), kept);
    const Cut within = Cut::tighter(kept.cut, {least_possible(kept.max, of.temperature)});
    if (within.least == -infinity)
      nucleus(of.s, of.p, weigh, of.total, of.largest, of.threads, kept, of.scratch);
    else
      kept.cut = border(of.s, within, kept.max, weigh, {0, of.p}, of.threads, of.scratch).cut;
  }
  // Entries are in order.
  void cut_list(double p, const Weigh& weigh, double least, Kept& kept) const {
    while (kept.entries.back().value < least) kept.entries.pop_back();
    const std::vector<std::uint64_t> mass = weights_of(weigh, kept.entries);
    Mass total = 0;
    for (const auto m : mass) total += m;
    Mass left = Wanted{0, p}.of(total);
    std::size_t last = 0;
    for (; last + 1 < mass.size() && mass[last] < left; ++last) left -= mass[last];
    kept.cut = {kept.entries[last].value, kept.entries[last].index};
  }
  std::vector<std::uint64_t> weights_of(const Weigh& weigh, std::span<const Entry> entries) const {
    std::vector<std::byte> numbers(entries.size() * compute_size(dtype_));
    for (std::size_t i = 0; i < entries.size(); ++i)
      store_number(numbers.data() + i * compute_size(dtype_), reduced(dtype_), entries[i].value);
    std::vector<std::uint64_t> to(entries.size());
    weights(weigh, numbers.data(), entries.size(), to.data());
    return to;
  }

  double least_possible(double max, double temperature) const {
    if (max == infinity) return max;
    return temperature == infinity ? Top::next_above(dtype_, -infinity) : -infinity;
  }

  // Between neighbours of 0 there are more numbers than can be tried one by one.
  template <class F>
  static double least_above(double max, double gap) {
    using Keys = Ordinal<F>;
    const auto number = [](std::uint64_t key) {
      return static_cast<double>(Keys::number(static_cast<typename Keys::Key>(key)));
    };
    return number(first_that([&](std::uint64_t key) { return number(key) - max >= gap; },
                             Keys::of(-std::numeric_limits<F>::infinity()), Keys::of(static_cast<F>(max))));
  }

  static void list_by_index(Kept& kept) {
    std::erase_if(kept.entries, [&](const Entry& e) { return !kept.cut.keeps(e.value, e.index); });
    const auto by_index = [](const Entry& a, const Entry& b) { return a.index < b.index; };
    if (!std::ranges::is_sorted(kept.entries, by_index)) std::ranges::sort(kept.entries, by_index);
  }
};

}  // namespace vastmax
