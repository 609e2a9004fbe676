// SPDX-License-Identifier: Apache-2.0
// Where a filter cuts the order of a row.
#pragma once

#include "core/cut.hpp"
#include "core/norm_run.hpp"

namespace vastmax {

class CutRun : protected NormRun {
 public:
  using NormRun::NormRun;

 protected:
  // What the filter keeps of a row, for masses e^((z - max) / temperature), temperature in [0, inf]; `s.divisor` does not
  // matter.  `largest`: the largest logit of each block where the caller knows them, NaN for a block with NaN, else
  // empty.  With threads > 1 the row is split among them, and the caller is not inside a task.
  void find(const Source& s, const Filter& filter, double temperature, std::span<const double> largest, int threads,
            Kept& kept, Scratch& scratch);
};

}  // namespace vastmax
