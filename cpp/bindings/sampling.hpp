// SPDX-License-Identifier: Apache-2.0
// What draws from logits, and the order it rests on.
#pragma once

#include "bindings/losses.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax::python {

inline Filters filters(std::size_t rows, const Optional& top_k, const Optional& top_p, const Optional& min_p) {
  return {classes("top_k", top_k, rows), doubles("top_p", top_p, rows), doubles("min_p", min_p, rows)};
}

inline void bind_order(py::module_& m) {
  m.def("top_k", [](const py::array& x, std::size_t k, py::array values, Optional indices, int threads, int isa) {
    const std::size_t size = rows_of(x) * k;
    const ConstView in = view(x);
    const View to = writable(values);
    const bool fits = (values.flags() & py::array::c_style) != 0 && static_cast<std::size_t>(values.size()) == size;
    if (!fits || to.dtype != in.dtype || !indices)
      throw std::invalid_argument("values must be dense, of the dtype of x, and k for each row");
    std::int64_t* const at = written(classes("indices", indices, size), indices);
    call(static_cast<std::size_t>(x.size()), threads, isa, [&](const Exec& exec) { top_k(in, k, to.data, at, exec); });
  });
  m.def("mask_logits", [](const py::array& x, const Optional& top_k, const Optional& top_p, const Optional& min_p,
                          py::array out, int threads, int isa) {
    const ConstView in = view(x);
    const Filters f = filters(rows_of(x), top_k, top_p, min_p);
    const View to = writable(out);
    call(static_cast<std::size_t>(x.size()), threads, isa, [&](const Exec& exec) { mask_logits(in, f, to, exec); });
  });
}

}  // namespace vastmax::python
