// SPDX-License-Identifier: Apache-2.0
// Where masses reach a share, along the order of some classes of a row that are listed.
//
// Sums are plain ones in float64, with a bound; a border is certain where it lies there whatever they are off by.
#pragma once

#include <span>

#include "cpp/host/select/kept.hpp"
#include "cpp/host/select/top_run.hpp"

namespace vastmax {

class ListSearch : protected TopRun {
 public:
  using TopRun::TopRun;

 protected:
  struct Total {
    double value, error;  // relative
  };
  struct Range {
    double least, below;
  };
  static constexpr double list_error = 0x1p-44;  // of a list's sum in lanes

  template <class F>
  void weigh(const Weigh& weigh, ClassList<F>& list) const {
    list.mass.resize(list.size());
    k_.masses(reinterpret_cast<Bytes>(list.number.data()), list.size(), weigh.max, weigh.rate, list.mass.data());
  }
  template <class F>
  MassFrom mass_from(const ClassList<F>& list, std::size_t first, std::size_t end, double least) const {
    return k_.mass_from(reinterpret_cast<Bytes>(list.number.data() + first), list.mass.data() + first, end - first,
                        least);
  }
  template <class F>
  MassFrom mass_from(const ClassList<F>& list, double least) const {
    return mass_from(list, 0, list.size(), least);
  }

  struct Share {
    const Weigh& weigh;
    double p;
  };
  // The border in a list of that range, and whether it lies there whatever the sums are off by; else: among `near`, if
  // that is more than nothing.
  struct Reached {
    bool possible = false, certain = false;
    Cut at{};
    Range near{INFINITY, INFINITY};
  };
  template <class F>
  Reached reached(const Share& of, const ClassList<F>& list, const Range& range, double above,
                  const Total& total) const {
    const double wanted = of.p * total.value - above, off = total.value * std::max(total.error, list_error);
    if (list.size() == 0 || !(wanted + off > 0)) return {};
    double low = range.least, high = std::min(range.below, Top::next_above(dtype_, of.weigh.max));
    MassFrom at_low = mass_from(list, low), at_high{0, 0};
    if (!(at_low.mass + off >= wanted)) return {};
    // Each pass takes one of two sides of a number near which the border should be; every third halves the range.
    for (int pass = 0; at_low.count - at_high.count > most_sorted; ++pass) {
      const double z = between<F>(low, high, (at_low.mass - wanted) / (at_low.mass - at_high.mass), pass);
      if (!(z > low)) break;  // all are equal
      const MassFrom at = mass_from(list, z);
      (at.mass >= wanted ? (low = z, at_low) : (high = z, at_high)) = at;
    }
    const std::vector<std::size_t> order = ordered(list, low, high);
    double before = 0, through = at_high.mass;
    std::size_t last = 0;
    for (std::size_t i = 0; i < order.size() && (i == 0 || through < wanted); ++i)
      before = through, through += list.mass[last = order[i]];
    const bool first = before == 0 && above == 0;
    return {true,
            !order.empty() && through - off >= wanted && (first || before + off < wanted),
            order.empty() ? Cut{} : Cut{list.entry(last).value, list.index[last]},
            {low, high}};
  }

 private:
  static constexpr std::size_t most_sorted = 32;
  template <class F>
  static double between(double low, double high, double share, int pass) {
    using Keys = Ordinal<F>;
    const auto least = Keys::of(static_cast<F>(low)), most = Keys::of(static_cast<F>(high));
    if (most - least < 2) return low;
    double z = low + (high - low) * std::clamp(share + (pass % 2 == 0 ? 0.03 : -0.03), 0.0, 1.0);
    if (pass % 3 == 2 || !std::isfinite(z)) z = Keys::number(least + (most - least) / 2);
    return Keys::number(std::clamp<typename Keys::Key>(Keys::of(static_cast<F>(z)), least + 1, most - 1));
  }
  // Places in a list, in the order of the row.
  template <class F>
  std::vector<std::size_t> ordered(const ClassList<F>& list, double low, double high) const {
    std::vector<std::size_t> order;
    Marks marks;
    for (std::size_t first = 0; first < list.size(); first += block_) {
      const std::size_t n = std::min(block_, list.size() - first);
      if (k_.mark_between[1](reinterpret_cast<Bytes>(list.number.data() + first), n, low, high, marks) > 0)
        each_mark(marks, n, [&](std::size_t i) { order.push_back(first + i); });
    }
    if (order.size() <= most_sorted)
      std::ranges::stable_sort(order, std::ranges::greater(), [&](std::size_t i) { return list.number[i]; });
    return order;
  }
};

}  // namespace vastmax
