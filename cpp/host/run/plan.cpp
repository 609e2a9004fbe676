// SPDX-License-Identifier: Apache-2.0
// How a call over rows is cut up.
#include <algorithm>

#include "cpp/host/run/policy.hpp"
#include "vastmax/vastmax.hpp"

namespace vastmax {

Plan plan(std::int64_t rows, std::int64_t classes, int threads) {
  if (threads <= 0) threads = get_num_threads();
  const auto grain = static_cast<std::int64_t>(policy::grain);
  if (static_cast<double>(rows) * static_cast<double>(classes) < 2.0 * static_cast<double>(grain))
    return {Strategy::serial, 1, 1};
  // Rows go to threads whole while there are enough of them to balance; else each is split, if it is worth waking
  // anybody.
  if ((rows < 4 * threads && classes >= 2 * grain) || classes >= static_cast<std::int64_t>(policy::vast)) {
    const std::int64_t tasks = (classes + grain - 1) / grain;
    return {Strategy::split, static_cast<int>(std::min<std::int64_t>(threads, tasks)), tasks};
  }
  const std::int64_t run =
      std::max<std::int64_t>(1, static_cast<std::int64_t>(policy::grain) / std::max<std::int64_t>(1, classes));
  const std::int64_t tasks = (rows + run - 1) / run;
  return {Strategy::rows, static_cast<int>(std::min<std::int64_t>(threads, tasks)), tasks};
}

}  // namespace vastmax
