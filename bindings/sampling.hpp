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

inline void bind_sampling(py::module_& m) {
  m.def("sample",
        [](const py::array& x, std::size_t size, bool replace, const Optional& temperature, const Optional& top_k,
           const Optional& top_p, const Optional& min_p, std::uint64_t seed, std::uint32_t step, std::uint64_t row,
           Optional ids, Optional log_prob, Optional valid, const Optional& where, int threads, int isa) {
          const std::size_t rows = rows_of(x), n = rows * size;
          const ConstView in = view(x);
          Sampling sampling;
          sampling.temperature = doubles("temperature", temperature, rows);
          sampling.filters = filters(rows, top_k, top_p, min_p);
          sampling.size = size, sampling.replace = replace, sampling.draws = {seed, step, row};
          sampling.ids = written(classes("ids", ids, n), ids);
          sampling.log_prob = written(doubles("log_prob", log_prob, n), log_prob);
          sampling.valid = written(dense<std::uint8_t>("valid", valid, 0, n), valid);
          if (sampling.ids == nullptr) throw std::invalid_argument("ids are needed");
          const RowOptions options = row_options(x, std::nullopt, where);
          call(static_cast<std::size_t>(x.size()) + n, threads, isa,
               [&](const Exec& exec) { sample(in, sampling, options, exec); });
        });
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
