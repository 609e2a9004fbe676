// SPDX-License-Identifier: Apache-2.0
// Classes drawn from logits.  What there is one of for each row or draw comes as a dense array, rows in index order.
#pragma once

#include "bindings/losses.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax::python {

inline void bind_sampling(py::module_& m) {
  m.def("sample", [](const py::array& x, std::size_t size, bool replace, const Optional& temperature,
                     std::uint64_t seed, std::uint32_t step, std::uint64_t row, Optional ids, Optional log_prob,
                     Optional valid, const Optional& where, int threads, int isa) {
    const std::size_t rows = rows_of(x), n = rows * size;
    const ConstView in = view(x);
    Sampling sampling;
    sampling.temperature = doubles("temperature", temperature, rows);
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
