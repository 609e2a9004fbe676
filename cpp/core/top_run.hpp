// SPDX-License-Identifier: Apache-2.0
// The first k of a row's order.
//
// A few: one read finds the largest of every stretch of the row.  The k stretches with the largest of these hold the
// first k, whatever the order of the logits.  Many: radix select on keys (core/radix_select.hpp), and a sort.
#pragma once

#include <bit>

#include "core/cut.hpp"
#include "core/radix_select.hpp"

namespace vastmax {

class TopRun : protected RadixSelect {
 public:
  using RadixSelect::RadixSelect;

 protected:
  bool few(std::size_t k) const { return k <= most_few && k * 128 <= n_; }

  // The first k classes of a row, in order; 1 <= k <= n.  More than a few are found by `border` and `kept`.
  void first_few(const Source& s, std::size_t k, int threads, std::vector<Entry>& top, Scratch& scratch) {
    const std::size_t stretch = std::min(block_, std::max(least_stretch, std::bit_floor(n_ / (4 * k))));
    std::vector<double> largest;
    maxima(s, stretch, threads, largest, scratch);
    std::vector<Entry> order(largest.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = {largest[i], static_cast<std::int64_t>(i)};
    std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k - 1), order.end(), precedes);
    order.resize(k);
    std::sort(order.begin(), order.end(), precedes);
    top.clear();
    double limit = order.back().value;
    for (const Entry& e : order) {
      if (e.value < limit) break;
      const std::size_t first = static_cast<std::size_t>(e.index) * stretch;
      look(s, first, std::min(stretch, n_ - first), limit, top, scratch);
      if (top.size() >= 2 * k + 64) limit = shortened(top, k);
    }
    shortened(top, k);
    std::sort(top.begin(), top.end(), precedes);
  }

  // The largest logit of every stretch: at most a block, and a divisor of it.
  void maxima(const Source& s, std::size_t stretch, int threads, std::vector<double>& to, Scratch& scratch) {
    to.resize((n_ + stretch - 1) / stretch);
    each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      for (std::size_t b = first; b < last; ++b) {
        const Piece p = piece(s, b * block_, length(b), own);
        k_.stretch_max[p.staged](p.x, length(b), stretch, &to[b * block_ / stretch]);
      }
    });
  }

  // Adds what a cut keeps, by index.
  void list(const Source& s, const Cut& cut, std::vector<Entry>& to, Scratch& scratch) const {
    Marks marks;
    for (std::size_t b = 0; b < blocks_; ++b) {
      const Piece p = piece(s, b * block_, length(b), scratch);
      each_marked(p, length(b), cut.least, marks, [&](std::size_t i) {
        const Entry e{number(p, i), static_cast<std::int64_t>(b * block_ + i)};
        if (!precedes({cut.least, cut.last}, e)) to.push_back(e);
      });
    }
  }

 private:
  static constexpr std::size_t most_few = 4096, least_stretch = 64;

  void look(const Source& s, std::size_t first, std::size_t n, double limit, std::vector<Entry>& top,
            Scratch& scratch) const {
    const Piece p = piece(s, first, n, scratch);
    Marks marks;
    each_marked(p, n, limit, marks,
                [&](std::size_t i) { top.push_back({number(p, i), static_cast<std::int64_t>(first + i)}); });
  }
  // Leaves the first k, and returns what another one must be at least.
  static double shortened(std::vector<Entry>& top, std::size_t k) {
    const auto kth = top.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(top.begin(), kth, top.end(), precedes);
    top.resize(k);
    return top.back().value;
  }
};

}  // namespace vastmax
