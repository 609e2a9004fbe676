// SPDX-License-Identifier: Apache-2.0
// The first k of a row's order.
//
// The k largest of the maxima of k groups or more bound the k largest of the row from below, whatever its order.  Few:
// groups are stretches, one read finds their maxima, and only k of them are looked at again.  Several: they are lanes
// of blocks.  Most of a row: radix select.
#pragma once

#include <functional>

#include "cpp/host/select/radix_select.hpp"
#include "cpp/host/select/top.hpp"

namespace vastmax {

class TopRun : protected RadixSelect {
 public:
  using RadixSelect::RadixSelect;

 protected:
  // Whether `first_of` finds so many; else `border` and `list` do.
  bool few(std::size_t k) const { return k <= most_few && 8 * k <= n_; }

  // The first k classes of a row, in order; k >= 1.
  void first_of(const Source& s, std::size_t k, int threads, std::vector<Entry>& top, Scratch& scratch) {
    top.clear();
    if (128 * k <= n_)
      look_into_stretches(s, k, threads, top, scratch);
    else
      look_into_blocks(s, k, threads, top, scratch);
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
    const Entry last{cut.least, cut.last};
    for (std::size_t b = 0; b < blocks_ && !stopped(); ++b)
      each_from(s, b * block_, length(b), cut.least, scratch, [&](const Entry& e) {
        if (!precedes(last, e)) to.push_back(e);
      });
  }

  static constexpr std::size_t most_few = 4096;

 private:
  static constexpr std::size_t least_stretch = 64, least_lanes = 64;

  void look_into_stretches(const Source& s, std::size_t k, int threads, std::vector<Entry>& top, Scratch& scratch) {
    const std::size_t stretch = std::min(block_, std::max(least_stretch, std::bit_floor(n_ / (4 * k))));
    std::vector<double> largest;
    maxima(s, stretch, threads, largest, scratch);
    std::vector<Entry> order(largest.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = {largest[i], static_cast<std::int64_t>(i * stretch)};
    shortened(order, k);
    std::sort(order.begin(), order.end(), precedes);
    Entry worst = order.back();
    for (const Entry& e : order) {
      if (precedes(worst, e)) break;
      const auto first = static_cast<std::size_t>(e.index);
      each_from(s, first, std::min(stretch, n_ - first), worst.value, scratch,
                [&](const Entry& found) { top.push_back(found); });
      if (top.size() >= 2 * k + 64) worst = shortened(top, k);
    }
  }

  void look_into_blocks(const Source& s, std::size_t k, int threads, std::vector<Entry>& top, Scratch& scratch) {
    double limit = bound_by_lanes(s, k, threads, scratch);
    for (std::size_t b = 0; b < blocks_ && !stopped(); ++b) {
      each_from(s, b * block_, length(b), limit, scratch, [&](const Entry& found) { top.push_back(found); });
      if (top.size() >= 2 * k + 64)
        if (limit = shortened(top, k).value; !std::isnan(limit)) limit = Top::next_above(dtype_, limit);
    }
  }
  double bound_by_lanes(const Source& s, std::size_t k, int threads, Scratch& scratch) {
    const std::size_t lanes = std::max(least_lanes, std::bit_ceil(4 * k / blocks_));
    if (lanes > block_) return -infinity;
    std::vector<double> largest(blocks_ * lanes);
    each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      for (std::size_t b = first; b < last; ++b) {
        const Piece p = piece(s, b * block_, length(b), own);
        k_.lane_max[p.staged](p.x, length(b), lanes, own.out);
        for (std::size_t i = 0; i < lanes; ++i)
          largest[b * lanes + i] = load_number(own.out + i * compute_size(dtype_), reduced(dtype_));
      }
    });
    const auto kth = largest.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(largest.begin(), kth, largest.end(), std::greater<>());
    return *kth;
  }

  // Leaves the first k, the last of them at the end, and returns that one.
  static Entry shortened(std::vector<Entry>& top, std::size_t k) {
    const auto kth = top.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(top.begin(), kth, top.end(), precedes);
    top.resize(k);
    return top.back();
  }
};

}  // namespace vastmax
