// SPDX-License-Identifier: Apache-2.0
// Classes drawn from the probabilities that logits stand for.
#pragma once

#include "vastmax/sampler.hpp"

namespace vastmax {

// Draws of each row.  Arrays are dense, rows in index order; those of parameters may be null.
struct Sampling {
  const double* temperature = nullptr;  // in [0, inf]; null: 1
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
