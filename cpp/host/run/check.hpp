// SPDX-License-Identifier: Apache-2.0
// The checks that guard memory. Users meet the Python layer's; these are the last line.
#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include "vastmax/sampler.hpp"

namespace vastmax {

inline std::string text(std::span<const std::int64_t> shape) {
  std::string out = "(";
  for (const auto extent : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(extent);
  return out + ")";
}

inline void expect_shape(const char* op, const char* what, std::span<const std::int64_t> got,
                         std::span<const std::int64_t> want) {
  if (!std::ranges::equal(got, want))
    throw std::invalid_argument(std::string(op) + ": " + what + " has shape " + text(got) + "; it must be " +
                                text(want));
}

inline void expect_dtype(const char* op, const char* what, DType got, DType want) {
  constexpr const char* names[] = {"float16", "bfloat16", "float32", "float64"};
  if (got != want)
    throw std::invalid_argument(std::string(op) + ": " + what + " has dtype " + names[static_cast<int>(got)] +
                                "; it must be " + names[static_cast<int>(want)]);
}

// The dtype and the shape of x.
template <class V>
void expect_like(const char* op, const char* what, const V& got, const ConstView& x) {
  expect_dtype(op, what, got.dtype, x.dtype);
  expect_shape(op, what, got.shape, x.shape);
}

// A copy of class numbers below `classes`, or `ignore`: what the caller holds may change while it is read.
inline std::vector<std::int64_t> class_ids(const char* op, const char* what, std::span<const std::int64_t> given,
                                           std::size_t classes, std::optional<std::int64_t> ignore = {}) {
  std::vector<std::int64_t> ids(given.begin(), given.end());
  for (const std::int64_t id : ids)
    if (id != ignore && (id < 0 || static_cast<std::size_t>(id) >= classes))
      throw std::out_of_range(std::string(op) + ": " + what + " is class " + std::to_string(id) + " of " +
                              std::to_string(classes));
  return ids;
}

inline void check_rows(const char* op, const ConstView& x, const View& out) {
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  expect_like(op, "out", out, x);
}
inline void check_states(const char* op, const ConstView& x, std::span<const RowState> states) {
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  std::size_t rows = 1;
  for (const auto extent : x.shape.first(x.shape.size() - 1)) rows *= static_cast<std::size_t>(extent);
  if (states.size() != rows)
    throw std::invalid_argument(std::string(op) + ": " + std::to_string(states.size()) + " states for " +
                                std::to_string(rows) + " rows");
}
// Every row and class of x has counters of its own.
inline void check_draws(const char* op, const Draws& draws, const ConstView& x) {
  std::uint64_t rows = 1;
  for (const auto extent : x.shape.first(x.shape.size() - 1)) rows *= static_cast<std::uint64_t>(extent);
  constexpr std::uint64_t most_rows = std::uint64_t{1} << 48;
  if (draws.row >= most_rows || rows > most_rows - draws.row)
    throw std::invalid_argument(std::string(op) + ": rows end at 2^48");
  if (x.shape.back() > std::int64_t{1} << 33) throw std::invalid_argument(std::string(op) + ": more than 2^33 classes");
}
inline void check_reduced(const char* op, const ConstView& x, DType dtype, std::span<const std::int64_t> shape,
                          const char* what) {
  if (x.shape.empty()) throw std::invalid_argument(std::string(op) + ": x has no axis to reduce");
  expect_dtype(op, what, dtype, reduced(x.dtype));
  expect_shape(op, what, shape, x.shape.first(x.shape.size() - 1));
}

}  // namespace vastmax
