// SPDX-License-Identifier: Apache-2.0
// Options of rows and states of rows, checked against the logits that they belong to.
#pragma once

#include "bindings/array.hpp"

namespace vastmax::python {

using Optional = std::optional<py::array>;

inline RowOptions row_options(const py::array& x, const Optional& temperature, const Optional& where) {
  RowOptions o;
  const auto rows = shape_of(x).first(static_cast<std::size_t>(x.ndim()) - 1);
  if (temperature) {
    if (temperature->dtype().num() != 12 || !std::ranges::equal(shape_of(*temperature), rows))
      throw std::invalid_argument("temperature must be float64 with one value per row");
    o.temperature = static_cast<const double*>(temperature->data());
    o.temperature_strides = strides_of(*temperature);
  }
  if (where) {
    if (where->dtype().num() != 0 || !std::ranges::equal(shape_of(*where), shape_of(x)))
      throw std::invalid_argument("where must be bool with the shape of x");
    o.where = static_cast<const std::uint8_t*>(where->data());
    o.where_strides = strides_of(*where);
  }
  return o;
}

inline void need_axis(const py::array& x) {
  if (x.ndim() == 0) throw std::invalid_argument("a 0-d array has no axis to reduce");
}

// Row states: float64 of shape (rows..., 8), dense.
inline std::span<RowState> states(py::array& a) {
  constexpr py::ssize_t numbers = sizeof(RowState) / sizeof(double);
  constexpr int flags = int{py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_} | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if (a.dtype().num() != 12 || (a.flags() & flags) != flags || a.ndim() == 0 || a.shape(a.ndim() - 1) != numbers)
    throw std::invalid_argument("states must be dense float64 of shape (..., 8)");
  return {reinterpret_cast<RowState*>(const_cast<void*>(static_cast<const void*>(a.data()))),
          static_cast<std::size_t>(a.size() / numbers)};
}
inline double* numbers(py::array& a, std::size_t n) {
  if (a.dtype().num() != 12 || (a.flags() & py::array::c_style) == 0 || static_cast<std::size_t>(a.size()) != n)
    throw std::invalid_argument("an output of states must be dense float64, one for each");
  return static_cast<double*>(a.mutable_data());
}

}  // namespace vastmax::python
