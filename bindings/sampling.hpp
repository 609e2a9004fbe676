// SPDX-License-Identifier: Apache-2.0
// What draws from logits, and the order it rests on.
#pragma once

#include "bindings/losses.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax::python {

inline Filters filters(std::size_t rows, const Optional& top_k, const Optional& top_p, const Optional& min_p) {
  return {classes("top_k", top_k, rows), doubles("top_p", top_p, rows), doubles("min_p", min_p, rows)};
}

inline void bind_gumbel(py::module_& m) {
  m.def("add_gumbel", [](const py::array& x, py::array out, std::uint64_t seed, std::uint32_t step, std::uint64_t row,
                         int threads, int isa) {
    need_axis(x);
    const ConstView in = view(x);
    const View to = writable(out);
    call(static_cast<std::size_t>(x.size()), threads, isa,
         [&](const Exec& exec) { add_gumbel(in, to, {seed, step, row}, exec); });
  });
}

}  // namespace vastmax::python
