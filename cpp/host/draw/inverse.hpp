// SPDX-License-Identifier: Apache-2.0
// The inverse of a distribution function in steps: running sums, and which of them a number falls below.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace vastmax {

// The first of ascending ends that is beyond `target`, never one that equals its predecessor.
inline std::size_t first_beyond(std::span<const double> ends, double target) {
  std::size_t at = 0;
  for (std::size_t n = ends.size(); n > 1;) {  // without a branch that could be guessed wrong
    const std::size_t half = n / 2;
    at += ends[at + half - 1] <= target ? half : 0;
    n -= half;
  }
  while (at > 0 && ends[at] == ends[at - 1]) --at;  // rounding led to the end
  return at;
}

// Which part a share of the whole falls into, and how far; shares are in [0, 1).
struct Place {
  std::size_t part;
  double share;
};
inline Place place(std::span<const double> ends, double share) {
  const double target = share * ends.back();
  const std::size_t at = first_beyond(ends, target);
  const double before = at == 0 ? 0 : ends[at - 1];
  return {at, std::clamp((target - before) / (ends[at] - before), 0.0, 0x1.fffffffffffffp-1)};
}

}  // namespace vastmax
