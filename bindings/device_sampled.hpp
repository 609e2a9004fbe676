// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes on a GPU, and samplers whose tables are there.  The caller has checked all ids.
#pragma once

#include "bindings/enqueue.hpp"
#include "bindings/sampled.hpp"
#include "bindings/samplers.hpp"

namespace vastmax::python {

class DeviceBatch : SampledArguments {
 public:
  template <class... Arguments>
  explicit DeviceBatch(Arguments... given) : SampledArguments(false, std::move(given)...) {}

  void own(const py::array& ids, const Optional& log_expected, double added, std::optional<py::array> slopes,
           std::optional<py::array> grad, int device, std::uintptr_t stream, int strategy) const {
    const std::size_t n = o_.rows * o_.draws;
    const cuda::DeviceDraws draws{classes("ids", ids, n), doubles("log_expected", log_expected, n), added};
    std::byte* const z = slopes ? staged("slopes", *slopes, table_.dtype, n, true) : nullptr;
    std::byte* const to = grad ? staged("grad", *grad, table_.dtype, o_.rows * table_.features, true) : nullptr;
    enqueue(device, stream, strategy,
            [&](const cuda::Exec& exec) { cuda::sampled_own(o_, table_, bias(), draws, z, to, exec); });
  }
  void shared(const py::array& ids, const py::array& counts, const py::array& staged_counts, const py::array& shares,
              const py::array& adjust, const Optional& biases, std::size_t first, py::array logits, bool slopes,
              int device, std::uintptr_t stream, int strategy) const {
    const SharedDraws draws = draws_of(ids, counts, staged_counts, shares, adjust);
    const std::size_t count = some(first, logits);
    const std::byte* const of_draws = biases ? staged("biases", *biases, table_.dtype, draws.n) : nullptr;
    std::byte* const z = staged("logits", logits, table_.dtype, count * draws.n, true);
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) {
      cuda::sampled_shared(o_, table_, bias(), draws, of_draws, first, count, z, slopes, exec);
    });
  }
  void add_targets(std::size_t first, py::array grad, int device, std::uintptr_t stream, int strategy) const {
    const std::size_t count = some(first, grad);
    std::byte* const to = staged("grad", grad, table_.dtype, count * table_.features, true);
    enqueue(device, stream, strategy,
            [&](const cuda::Exec& exec) { cuda::add_targets(o_, table_, first, count, to, exec); });
  }
};

// For every stream of its device.
class SamplerOnDevice {
 public:
  SamplerOnDevice(const NativeSampler& host, int device) : law_(host.law) {
    const cuda::Stream on(device, nullptr);
    copy_.emplace(*law_, on);
  }
  const cuda::DeviceSampler& sampler() const { return *copy_; }

 private:
  SharedSampler law_;
  std::optional<cuda::DeviceSampler> copy_;
};

inline void bind_device_sampled(py::module_& m) {
  py::class_<DeviceBatch>(m, "SampledBatch")
      .def(init_batch<DeviceBatch>())
      .def("own", &DeviceBatch::own)
      .def("shared", &DeviceBatch::shared)
      .def("add_targets", &DeviceBatch::add_targets);
  py::class_<SamplerOnDevice>(m, "Sampler").def(py::init<const NativeSampler&, int>());
  m.def("draw_rows", [](const SamplerOnDevice& sampler, std::uint64_t seed, std::uint32_t step, std::uint64_t row,
                        Optional ids, Optional log_q, int device, std::uintptr_t stream, int strategy) {
    if (!ids || ids->ndim() != 2) throw std::invalid_argument("ids must have two axes");
    const auto rows = static_cast<std::size_t>(ids->shape(0)), n = static_cast<std::size_t>(ids->shape(1));
    std::int64_t* const to = written(classes("ids", ids, rows * n), ids);
    double* const logs = written(doubles("log_q", log_q, rows * n), log_q);
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) {
      cuda::draw_rows(sampler.sampler(), {seed, step, row}, rows, n, to, exec);
      if (logs != nullptr) cuda::log_prob(sampler.sampler(), to, rows * n, logs, exec);
    });
  });
  m.def("gather_rows", [](const py::array& table, const py::array& ids, py::array out, int device,
                          std::uintptr_t stream, int strategy) {
    const ClassTable from = class_table(table);
    const auto n = static_cast<std::size_t>(ids.size());
    const std::int64_t* const wanted = classes("ids", ids, n);
    std::byte* const to = staged("out", out, from.dtype, n * from.features, true);
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) { cuda::gather_rows(from, wanted, n, to, exec); });
  });
}

// Gradients summed by class: the order of the classes, their groups, and sums over them.
inline void bind_device_groups(py::module_& m) {
  m.def("group_ids", [](const py::array& ids, std::int64_t classes_count, Optional order, Optional starts,
                        Optional groups, int device, std::uintptr_t stream, int strategy) {
    const auto n = static_cast<std::size_t>(ids.size());
    const std::int64_t* const from = classes("ids", ids, n);
    std::int64_t *const to = written(classes("order", order, n), order),
                        *const cuts = written(classes("starts", starts, n + 1), starts),
                        *const found = written(classes("groups", groups, n), groups);
    std::int64_t count = 0;
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) {
      count = cuda::group_ids(from, static_cast<std::int64_t>(n), classes_count, to, cuts, found, exec);
    });
    return count;
  });
  m.def("cut_pieces", [](const py::array& starts, Optional pieces, int device, std::uintptr_t stream, int strategy) {
    const auto cuts = static_cast<std::size_t>(starts.size());
    const std::int64_t* const from = classes("starts", starts, cuts);
    std::int64_t* const to = written(classes("pieces", pieces, cuts), pieces);
    std::int64_t count = 0;
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) {
      count = cuda::cut_pieces(from, static_cast<std::int64_t>(cuts) - 1, to, exec);
    });
    return count;
  });
  m.def("most_of_a_piece", &cuda::most_of_a_piece);
  m.def("sum_groups", [](const py::array& rows, const Optional& coefficients, std::size_t width,
                         const py::array& other_rows, const py::array& other_coefficients,
                         const py::array& other_numbers, const py::array& order, const py::array& starts,
                         const py::array& pieces, std::int64_t piece_count, py::array sums, int device,
                         std::uintptr_t stream, int strategy) {
    const DType dtype = supported(rows);
    const Entries first = entries("rows", rows, coefficients, std::nullopt, width, dtype),
                  second = entries("other_rows", other_rows, other_coefficients, other_numbers, 1, dtype);
    const std::size_t cuts = static_cast<std::size_t>(starts.size()),
                      features = static_cast<std::size_t>(rows.shape(1));
    if (cuts == 0 || rows.shape(1) != other_rows.shape(1))
      throw std::invalid_argument("sum_groups: starts end with the end, and rows have the same features");
    const cuda::DeviceGroups groups{static_cast<std::int64_t>(cuts) - 1, piece_count,
                                    classes("order", order, first.count + second.count),
                                    classes("starts", starts, cuts), classes("pieces", pieces, cuts)};
    const std::size_t both[] = {static_cast<std::size_t>(rows.shape(0)), static_cast<std::size_t>(other_rows.shape(0))};
    std::byte* const to = staged("sums", sums, dtype, (cuts - 1) * features, true);
    enqueue(device, stream, strategy,
            [&](const cuda::Exec& exec) { cuda::sum_groups(dtype, features, first, second, both, groups, to, exec); });
  });
  m.def("update_rows", [](py::array table, const py::array& ids, const py::array& changes, double rate,
                          std::optional<py::array> state, double eps, int device, std::uintptr_t stream, int strategy) {
    const ClassTable to = class_table(table);
    const auto n = static_cast<std::size_t>(ids.size());
    const std::int64_t* const wanted = classes("ids", ids, n);
    const std::byte* const from = staged("changes", changes, to.dtype, n * to.features);
    double* const totals = state ? numbers(*state, static_cast<std::size_t>(to.classes)) : nullptr;
    enqueue(device, stream, strategy,
            [&](const cuda::Exec& exec) { cuda::update_rows(to, wanted, n, from, rate, totals, eps, exec); });
  });
  m.def("product", [](const py::array& a, const py::array& b, py::array out, bool add, int device,
                      std::uintptr_t stream, int strategy) {
    const ConstView left = view(a), right = view(b);
    const View to = writable(out);
    enqueue(device, stream, strategy,
            [&](const cuda::Exec& exec) { cuda::product(to.dtype, left, right, to, add, exec); });
  });
}

}  // namespace vastmax::python
