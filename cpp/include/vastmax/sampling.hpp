// SPDX-License-Identifier: Apache-2.0
// Drawing from logits.  The classes of a row have one order, descending logit and ties to the lower index, and filters
// keep a start of it.
#pragma once

#include "vastmax/vastmax.hpp"

namespace vastmax {

// --- order

// The first k classes of each row, NaN before all numbers: values, of the dtype of x, and indices are dense, [rows, k].
void top_k(const ConstView& x, std::size_t k, std::byte* values, std::int64_t* indices, const Exec& = {});

// One of each for each row, rows in index order; null for no filter.
struct Filters {
  const std::int64_t* top_k = nullptr;              // 0: all
  const double *top_p = nullptr, *min_p = nullptr;  // in [0, 1]
};
// x where the filters keep it, else -inf.  `out`, of the shape and dtype of x, may be x.
void mask_logits(const ConstView& x, const Filters&, const View& out, const Exec& = {});

}  // namespace vastmax
