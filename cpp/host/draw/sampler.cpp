// SPDX-License-Identifier: Apache-2.0
// What a sampler knows of its classes.  Equal counts are one level, so the table of a unigram law has as many buckets
// as there are different counts: a few hundred for a vocabulary of words, which stay in the first-level cache.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpp/host/run/huge_pages.hpp"
#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/threads.hpp"
#include "cpp/math/alias.hpp"

namespace vastmax {
namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument("sampler: " + why); }

void check_classes(std::int64_t classes) {
  if (classes < 1 || classes > most_classes) refuse(std::to_string(classes) + " classes; it must be 1 to 2^40");
}

SharedSampler plain(Law law, std::int64_t classes) {
  check_classes(classes);
  return std::make_shared<const Sampler>(Sampler{law, classes, classes});
}

// log x, x > 0, close to either end of the exponents too
double log_of(const Kernels& k, double x) {
  const int exponent = std::ilogb(x);
  if (std::abs(exponent) <= 1000) return k.log(x);
  return k.log(std::ldexp(x, -exponent)) + exponent * 0x1.62e42fefa39efp-1;
}

// Sorts by count, descending; equal ones stay in order.  Radix: 11 bits at a time, and most counts have few that
// differ.
struct Ranked {
  Table<std::uint64_t> keys;
  Table<std::uint32_t> order;

  explicit Ranked(std::span<const double> counts) : keys(counts.size()), order(counts.size()) {
    for (std::size_t i = 0; i < counts.size(); ++i)
      keys[i] = ~std::bit_cast<std::uint64_t>(counts[i] + 0.0), order[i] = static_cast<std::uint32_t>(i);
    std::uint64_t varying = 0;
    for (const std::uint64_t key : keys) varying |= key ^ keys[0];
    Table<std::uint64_t> other_keys(counts.size());
    Table<std::uint32_t> other(counts.size());
    for (int shift = 0; shift < 64; shift += bits) {
      if ((varying >> shift & mask) == 0) continue;
      scatter(shift, other_keys, other);
      keys.swap(other_keys), order.swap(other);
    }
  }
  double count(std::size_t position) const { return std::bit_cast<double>(~keys[position]); }

 private:
  static constexpr int bits = 11;
  static constexpr std::uint64_t mask = (1 << bits) - 1;
  void scatter(int shift, Table<std::uint64_t>& to_keys, Table<std::uint32_t>& to) const {
    const auto digit = [shift](std::uint64_t key) { return key >> shift & mask; };
    std::array<std::size_t, 1 << bits> place{};
    for (const std::uint64_t key : keys) ++place[digit(key)];
    std::size_t before = 0;
    for (std::size_t& p : place) before += std::exchange(p, before);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      const std::size_t at = place[digit(keys[i])]++;
      to_keys[at] = keys[i], to[at] = order[i];
    }
  }
};

struct Unigram {
  Sampler sampler{Law::unigram, 0, 0};
  Table<Level> levels;
  Table<double> log_q, level_counts;
  Table<std::uint32_t> order, level_of;

  Unigram(std::span<const double> counts, double power) {
    level_counts = find_levels(counts);
    Table<double> weights = level_counts;
    raise(weights, power);
    fill_table(weights);
    sampler.classes = static_cast<std::int64_t>(counts.size());
    sampler.level_count = static_cast<std::uint32_t>(weights.size());
    sampler.levels = levels.data(), sampler.level_log_q = log_q.data();
    sampler.level_counts = level_counts.data();
    if (!order.empty()) sampler.order = order.data(), sampler.level_of = level_of.data();
  }

 private:
  std::uint32_t size(std::size_t level) const { return levels[level + 1].first - levels[level].first; }

  // The levels' counts.
  Table<double> find_levels(std::span<const double> counts) {
    if (std::ranges::is_sorted(counts) || std::ranges::is_sorted(counts, std::greater()))
      return split(counts.size(), [&](std::size_t i) { return counts[i]; });
    Ranked ranked(counts);
    Table<double> found = split(counts.size(), [&](std::size_t i) { return ranked.count(i); });
    order = std::move(ranked.order);
    level_of.resize(order.size());
    for (std::size_t level = 0; level < found.size(); ++level)
      for (std::uint32_t i = levels[level].first; i < levels[level + 1].first; ++i)
        level_of[order[i]] = static_cast<std::uint32_t>(level);
    return found;
  }
  template <class Count>
  Table<double> split(std::size_t n, const Count& count) {
    Table<double> found;
    for (std::size_t i = 0; i < n; ++i)
      if (const double c = count(i); found.empty() || c != found.back())
        found.push_back(c), levels.push_back({0, 0, static_cast<std::uint32_t>(i)});
    levels.push_back({0, 0, static_cast<std::uint32_t>(n)});
    return found;
  }

  // Counts become weights: the power of what they are of the count whose weight is largest, so that none overflows.
  static void raise(Table<double>& counts, double power) {
    const Kernels& k = kernels({});
    double unit = 0;
    for (const double c : counts)
      if (c > 0 && (unit == 0 || (power >= 0) == (c > unit))) unit = c;
    const int exponent = std::ilogb(unit);
    const double log_unit = log_of(k, unit);
    for (double& c : counts) {
      if (c == 0) continue;
      if (power == 1)
        c = std::ldexp(c, -exponent);  // exact
      else
        c = std::ldexp(k.exp_scaled(std::max(power * (log_of(k, c) - log_unit), -reducible), -500), -500);
    }
  }

  void fill_table(const Table<double>& weights) {
    const Kernels& k = kernels({});
    const std::size_t n = weights.size();
    TwoSum total;
    for (std::size_t i = 0; i < n; ++i) {
      total.add(weights[i] * size(i));
      if (weights[i] > 0) sampler.drawable += size(i);
    }
    log_q.resize(n);
    const double log_total = k.log(total.value());
    Table<double> share(n);  // of a level, in buckets
    for (std::size_t i = 0; i < n; ++i) {
      log_q[i] = weights[i] > 0 ? log_of(k, weights[i]) - log_total : -infinity;
      share[i] = weights[i] * size(i) / total.value() * static_cast<double>(n);
    }
    pair_up(share);
  }

  // Vose 1991: what a small level leaves of its bucket, a large one takes.
  void pair_up(Table<double>& share) {
    const std::size_t n = share.size();
    Table<std::uint32_t> stack(n);  // small ones from the front, large ones from the back
    std::size_t small = 0, large = n;
    for (std::size_t i = 0; i < n; ++i) stack[share[i] < 1 ? small++ : --large] = static_cast<std::uint32_t>(i);
    const auto heaviest = static_cast<std::uint32_t>(std::ranges::max_element(share) - share.begin());
    while (small > 0 && large < n) {
      const std::uint32_t less = stack[--small], more = stack[large];
      levels[less].threshold = static_cast<std::uint64_t>(share[less] * 0x1p64), levels[less].other = more;
      share[more] -= 1 - share[less];
      if (share[more] < 1) ++large, stack[small++] = more;
    }
    // What rounding left over owns its bucket, unless it is never drawn.
    const auto keep = [&](std::uint32_t i) {
      levels[i].threshold = share[i] > 0 ? ~std::uint64_t{0} : 0, levels[i].other = share[i] > 0 ? i : heaviest;
    };
    while (small > 0) keep(stack[--small]);
    while (large < n) keep(stack[large++]);
  }
};

struct Mixture {
  Sampler sampler{Law::mixture, 0, 0};
  std::vector<SharedSampler> owned;
  std::vector<Sampler> parts;
  std::vector<std::uint64_t> ends;
  std::vector<double> log_weight;

  Mixture(std::span<const SharedSampler> given, std::span<const double> weights) : owned(given.begin(), given.end()) {
    const Kernels& k = kernels({});
    TwoSum total, part;
    for (const double w : weights) total.add(w);
    for (std::size_t i = 0; i < given.size(); ++i) {
      parts.push_back(*given[i]);
      part.add(weights[i]);
      log_weight.push_back(log_of(k, weights[i]) - log_of(k, total.value()));
      if (i + 1 < given.size())
        ends.push_back(
            static_cast<std::uint64_t>(std::min(part.value() / total.value() * 0x1p64, 0x1.fffffffffffffp63)));
    }
    sampler.classes = parts[0].classes, sampler.drawable = drawable();
    sampler.part_count = static_cast<std::uint32_t>(parts.size());
    sampler.parts = parts.data(), sampler.part_ends = ends.data(), sampler.part_log_weight = log_weight.data();
  }

 private:
  std::int64_t drawable() const {
    std::int64_t most = 0;
    for (const Sampler& s : parts) most = std::max(most, s.drawable);
    if (most == sampler.classes || parts.size() == 1) return most;
    std::int64_t count = 0;  // all parts are unigrams
    for (std::uint32_t id = 0; id < static_cast<std::uint32_t>(sampler.classes); ++id)
      count += std::ranges::any_of(parts, [&](const Sampler& s) { return s.level_log_q[level_of(s, id)] > -infinity; });
    return count;
  }
};

template <class Owner>
SharedSampler shared(std::shared_ptr<const Owner> owner) {
  return {owner, &owner->sampler};
}

}  // namespace

SharedSampler uniform_sampler(std::int64_t classes) { return plain(Law::uniform, classes); }
SharedSampler log_uniform_sampler(std::int64_t classes) { return plain(Law::log_uniform, classes); }

SharedSampler unigram_sampler(std::span<const double> counts, double power) {
  if (counts.empty() || counts.size() >= std::size_t{1} << 32)
    refuse(std::to_string(counts.size()) + " counts; it must be 1 to 2^32 - 1");
  if (!std::isfinite(power)) refuse("power is not finite");
  if (!std::ranges::all_of(counts, [](double c) { return c >= 0 && std::isfinite(c); }))
    refuse("a count is negative or not finite");
  if (std::ranges::all_of(counts, [](double c) { return c == 0; })) refuse("all counts are 0");
  const KernelScope scope;
  return shared(std::make_shared<const Unigram>(counts, power));
}

SharedSampler mixture_sampler(std::span<const SharedSampler> parts, std::span<const double> weights) {
  if (parts.empty() || parts.size() != weights.size()) refuse("a mixture needs a weight for each part");
  for (const SharedSampler& s : parts)
    if (s->law == Law::mixture || s->classes != parts[0]->classes) refuse("parts are mixtures, or of other classes");
  if (!std::ranges::all_of(weights, [](double w) { return w > 0 && std::isfinite(w); }))
    refuse("a weight is not a finite number > 0");
  const KernelScope scope;
  return shared(std::make_shared<const Mixture>(parts, weights));
}

}  // namespace vastmax
