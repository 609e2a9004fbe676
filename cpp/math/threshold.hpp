// SPDX-License-Identifier: Apache-2.0
// The one order of a row's classes, descending logit and ties to the lower index, and a cut through it: every filter
// keeps a start of that order, so several keep the shortest of theirs.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cpp/math/algebra.hpp"

namespace vastmax {

struct Entry {
  double value;
  std::int64_t index;
};
// NaN comes first.  An object, so that sorts take it in.
inline constexpr auto precedes = [](const Entry& a, const Entry& b) {
  if (a.value > b.value) return true;
  if (a.value < b.value) return false;
  const bool a_nan = std::isnan(a.value), b_nan = std::isnan(b.value);
  return a_nan != b_nan ? a_nan : a.index < b.index;
};

// z is the logit as given: a temperature does not change the order.
struct Cut {
  double least = -infinity;
  std::int64_t last = INT64_MAX;

  VM_SHARED bool keeps(double z, std::int64_t index) const { return (z > least) | ((z == least) & (index <= last)); }
  VM_SHARED static Cut tighter(const Cut& a, const Cut& b) {
    if (a.least != b.least) return a.least > b.least ? a : b;
    return a.last < b.last ? a : b;
  }
};

// The first key that reaches a limit: `low` does not, `high` does, and what reaches it ends the keys.
template <class Reaches>
VM_SHARED std::uint64_t first_that(const Reaches& reaches, std::uint64_t low, std::uint64_t high) {
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (reaches(middle) ? high : low) = middle;
  }
  return high;
}

// In this order: the top_k classes, 0 for all; of their mass, top_p from the top; what has min_p of the largest's.
struct Filter {
  std::int64_t top_k = 0;
  double top_p = 1, min_p = 0;

  VM_SHARED bool counts(std::int64_t n) const { return top_k > 0 && top_k < n; }
  // Whether a draw is made without the filter first, and again under it only if it does not keep that: whether one
  // class is kept takes less than which all are.  Of less than half of the mass, most draws would be made twice.
  VM_SHARED bool tries(std::int64_t n) const { return top_p >= 0.5 && top_p < 1 && !counts(n); }
};

}  // namespace vastmax
