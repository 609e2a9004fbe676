// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/losses.hpp"
#include "vastmax/sampler.hpp"

namespace vastmax::python {

struct NativeSampler {
  SharedSampler law;
};

inline py::array_t<std::int64_t> new_ids(std::vector<py::ssize_t> shape) { return py::array_t<std::int64_t>(shape); }

inline void bind_sampler_class(py::module_& m) {
  py::class_<NativeSampler>(m, "Sampler")
      .def_static("uniform", [](std::int64_t classes) { return NativeSampler{uniform_sampler(classes)}; })
      .def_static("log_uniform", [](std::int64_t classes) { return NativeSampler{log_uniform_sampler(classes)}; })
      .def_static("unigram",
                  [](const Optional& counts, double power) {
                    const std::size_t n = counts ? static_cast<std::size_t>(counts->size()) : 0;
                    const double* const data = doubles("counts", counts, n);
                    NativeSampler made;
                    without_gil([&] { made.law = unigram_sampler({data, n}, power); });
                    return made;
                  })
      .def_static("mixture",
                  [](const std::vector<NativeSampler>& parts, const std::vector<double>& weights) {
                    std::vector<SharedSampler> laws;
                    for (const NativeSampler& each : parts) laws.push_back(each.law);
                    NativeSampler made;
                    without_gil([&] { made.law = mixture_sampler(laws, weights); });
                    return made;
                  })
      .def_property_readonly("drawable", [](const NativeSampler& s) { return s.law->drawable; })
      // of a unigram law
      .def("counts",
           [](const NativeSampler& s) {
             const Sampler& law = *s.law;
             py::array_t<double> counts(law.level_count == 0 ? 0 : static_cast<py::ssize_t>(law.classes));
             double* const to = counts.mutable_data();
             for (std::uint32_t level = 0; level < law.level_count; ++level)
               for (std::uint32_t i = law.levels[level].first; i < law.levels[level + 1].first; ++i)
                 to[law.order == nullptr ? i : law.order[i]] = law.level_counts[level];
             return counts;
           })
      // and of its levels: log q of a class of each, and how many it has; at most `most` levels from `first` on
      .def("levels", [](const NativeSampler& s, std::size_t first, std::size_t most) {
        const std::size_t count = s.law->level_count, begin = std::min(first, count);
        const auto n = static_cast<py::ssize_t>(std::min(most, count - begin));
        py::array_t<double> log_q(n);
        py::array_t<std::int64_t> size(n);
        for (py::ssize_t i = 0; i < n; ++i) {
          const Level* const level = s.law->levels + begin + i;
          log_q.mutable_at(i) = s.law->level_log_q[begin + static_cast<std::size_t>(i)];
          size.mutable_at(i) = level[1].first - level[0].first;
        }
        return std::pair(log_q, size);
      });
}

inline void bind_samplers(py::module_& m) {
  bind_sampler_class(m);
  m.def("draw_rows", [](const NativeSampler& s, std::uint64_t seed, std::uint32_t step, std::uint64_t row,
                        std::size_t rows, std::size_t n, int threads, int isa) {
    auto ids = new_ids({static_cast<py::ssize_t>(rows), static_cast<py::ssize_t>(n)});
    std::int64_t* const to = ids.mutable_data();
    call(rows * n, threads, isa, [&](const Exec& exec) { draw_rows(*s.law, {seed, step, row}, rows, n, to, exec); });
    return ids;
  });
  m.def("draw_unique", [](const NativeSampler& s, std::uint64_t seed, std::uint32_t step, std::uint64_t row,
                          std::size_t n, bool clocks, int threads, int isa) {
    auto ids = new_ids({static_cast<py::ssize_t>(n)});
    std::int64_t* const to = ids.mutable_data();
    const std::size_t work = clocks ? static_cast<std::size_t>(s.law->classes) : n;
    const Unique how = clocks ? Unique::clocks : Unique::rejection;
    const double arrival = call(
        work, threads, isa, [&](const Exec& exec) { return draw_unique(*s.law, {seed, step, row}, n, how, to, exec); });
    return std::pair(ids, arrival);
  });
  m.def("log_prob", [](const NativeSampler& s, const Optional& ids, Optional out, int threads, int isa) {
    const std::size_t n = ids ? static_cast<std::size_t>(ids->size()) : 0;
    const std::int64_t* const from = classes("ids", ids, n);
    double* const to = written(doubles("out", out, n), out);
    if (from == nullptr || to == nullptr) throw std::invalid_argument("ids and out are needed");
    call(n, threads, isa, [&](const Exec& exec) { log_prob(*s.law, {from, n}, to, exec); });
  });
}

}  // namespace vastmax::python
