// SPDX-License-Identifier: Apache-2.0
// Drawing from logits.  The classes of a row have one order, descending logit and ties to the lower index, and filters
// keep a start of it.
#pragma once

#include "vastmax/sampler.hpp"

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

// --- draws

// Draws of each row.  Arrays are dense, rows in index order; those of parameters may be null.
struct Sampling {
  const double* temperature = nullptr;  // in [0, inf]; null: 1
  Filters filters;
  std::size_t size = 1;
  bool replace = true;  // false: each class at most once, as in draws that leave out what was drawn before
  Draws draws;          // `row` is the number of the first row

  std::int64_t* ids = nullptr;  // [rows, size], required; -1 where nothing can be drawn
  double* log_prob = nullptr;   // of one draw of each
  std::uint8_t* valid = nullptr;
};
// Temperatures divide x less its largest element; `RowOptions::temperature` is not used.
void sample(const ConstView& x, const Sampling&, const RowOptions& = {}, const Exec& = {});

// x + g with Gumbel noise -log(-log(1 - v)) for each element: that of `sample` without replacement.  `out` has the
// shape of x and dtype reduced(x.dtype).
void add_gumbel(const ConstView& x, const View& out, const Draws&, const Exec& = {});

}  // namespace vastmax
