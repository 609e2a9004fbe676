// SPDX-License-Identifier: Apache-2.0
// What a sample of a row's masses, in bins from the least logit to the largest, says about where they reach a share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace vastmax {

struct MassSample {
  static constexpr std::size_t bins = 1024;
  struct Bin {
    double mass = 0, square = 0;
    std::size_t count = 0;
  };
  std::vector<Bin> bin = std::vector<Bin>(bins);

  void add(std::size_t at, double mass) {
    Bin& to = bin[at];
    to.mass += mass, to.square += mass * mass, ++to.count;
  }
  double share_from(std::size_t first) const {
    std::size_t from = 0, all = 0;
    for (std::size_t i = 0; i < bins; ++i) all += bin[i].count, from += i >= first ? bin[i].count : 0;
    return static_cast<double>(from) / static_cast<double>(std::max<std::size_t>(all, 1));
  }
  // Bins between which the border lies, and from which on twice as many are as it should need.
  struct Bounds {
    std::size_t low, high, start, border;
  };
  Bounds around(double p) const {
    double total = 0, squares = 0, through = 0, above = 0, heads = 0;
    for (const Bin& each : bin) total += each.mass, squares += each.square;
    const auto spread = [&] {
      return 2.5 * std::sqrt((1 - p) * (1 - p) * above + p * p * std::max(0.0, squares - above));
    };
    std::size_t at = bins, high = bins, start = bins;
    const auto down = [&] {
      const Bin& next = bin[--at];
      through += next.mass, above += next.square, heads += static_cast<double>(next.count);
    };
    while (at > 0 && through + bin[at - 1].mass < p * total - spread()) down();
    high = at;
    while (at > 0 && through < p * total) down();
    const std::size_t border = at;
    start = at;
    for (double more = 0; start > 0 && more <= heads; more += static_cast<double>(bin[start].count)) --start;
    while (at > 0 && through < p * total + spread()) down();
    return {at, high, start, border};
  }
};

}  // namespace vastmax
