// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes, and rows of a table by number.
#pragma once

#include "bindings/losses.hpp"
#include "cpp/host/run/check.hpp"
#include "vastmax/sampled.hpp"

namespace vastmax::python {

inline ClassTable class_table(const py::array& a) {
  const DType dtype = supported(a);
  if (a.ndim() != 2 || (a.shape(1) > 1 && a.strides(1) != a.itemsize()))
    throw std::invalid_argument("a table of classes must have two axes, and features that follow each other");
  return {static_cast<std::byte*>(const_cast<void*>(a.data())), dtype, a.shape(0), a.strides(0),
          static_cast<std::size_t>(a.shape(1))};
}

// The data of a dense array of the compute type of `dtype`.
inline std::byte* staged(const char* name, const py::array& a, DType dtype, std::size_t size, bool written = false) {
  if (a.dtype().num() != (dtype == DType::float64 ? 12 : 11) || (a.flags() & py::array::c_style) == 0 ||
      static_cast<std::size_t>(a.size()) != size || (written && !a.writeable()))
    throw std::invalid_argument(std::string(name) + " must be dense, of the compute type and its own size");
  return static_cast<std::byte*>(const_cast<void*>(a.data()));
}
// A copy of numbers below `end`: another thread may change the array while it is used.
inline std::vector<std::int64_t> numbers_below(const char* name, const py::array& a, std::size_t size,
                                               std::int64_t end) {
  return class_ids(name, "a number", {classes(name, a, size), size}, static_cast<std::size_t>(end));
}

// What a batch has of its table, targets and results; keeps the arrays.  on_host: they may be looked at.
class SampledArguments {
 public:
  SampledArguments(bool on_host, py::array table, std::optional<py::array> bias, py::array input, py::array offsets,
                   py::array ids, py::array share, py::array target_shift, int kind, bool drop_hits, bool average,
                   std::size_t draws, py::array shift, double inverse_temperature, std::optional<py::array> grad_output,
                   py::array loss, py::array lse, py::array effective, py::array hits, py::array target_slope)
      : table_(class_table(table)) {
    if (bias) {
      bias_ = view(*bias);
      if (bias->ndim() != 1 || bias->shape(0) != table_.classes)
        throw std::invalid_argument("bias: one for each class");
    }
    const std::size_t rows = o_.rows = static_cast<std::size_t>(input.shape(0)),
                      all = static_cast<std::size_t>(ids.size());
    o_.draws = draws;
    o_.input = staged("input", input, table_.dtype, rows * table_.features);
    o_.targets = {classes("offsets", offsets, rows + 1), classes("target", ids, all), doubles("share", share, all),
                  doubles("shift", target_shift, all)};
    if (on_host) {
      ids_ = numbers_below("target", ids, all, table_.classes);
      offsets_ = numbers_below("offsets", offsets, rows + 1, static_cast<std::int64_t>(all) + 1);
      if (offsets_.front() != 0 || offsets_.back() != static_cast<std::int64_t>(all) ||
          !std::ranges::is_sorted(offsets_))
        throw std::invalid_argument("offsets must ascend from 0 to the number of targets");
      o_.targets.ids = ids_.data(), o_.targets.offsets = offsets_.data();
    }
    o_.kind = static_cast<SampledKind>(kind), o_.drop_hits = drop_hits, o_.average = average;
    o_.shift = doubles("shift", shift, rows), o_.inverse_temperature = inverse_temperature;
    o_.grad_output = doubles("grad_output", grad_output, rows);
    o_.loss = out(loss, rows), o_.lse = out(lse, rows), o_.effective = out(effective, rows);
    Optional counted = hits;
    o_.hits = written(classes("hits", hits, rows), counted);
    o_.target_slope = out(target_slope, all);
    kept_ =
        py::make_tuple(std::move(table), std::move(bias), std::move(input), std::move(offsets), std::move(ids),
                       std::move(share), std::move(target_shift), std::move(shift), std::move(grad_output),
                       std::move(loss), std::move(lse), std::move(effective), std::move(hits), std::move(target_slope));
  }

 protected:
  // The rows of an array, from `first` on in the batch.
  std::size_t some(std::size_t first, const py::array& rows) const {
    const auto count = static_cast<std::size_t>(rows.ndim() == 2 ? rows.shape(0) : 0);
    if (rows.ndim() != 2 || first > o_.rows || count > o_.rows - first)
      throw std::invalid_argument("rows out of range");
    return count;
  }
  SharedDraws draws_of(const py::array& ids, const py::array& counts, const py::array& staged_counts,
                       const py::array& shares, const py::array& adjust) const {
    SharedDraws draws;
    const std::size_t n = draws.n = static_cast<std::size_t>(ids.size());
    const auto column = [&](const char* name, const py::array& a) { return staged(name, a, table_.dtype, n); };
    draws.ids = classes("ids", ids, n), draws.counts = doubles("counts", counts, n);
    draws.staged_counts = column("staged_counts", staged_counts), draws.shares = column("shares", shares);
    draws.adjust = column("adjust", adjust);
    return draws;
  }
  const ConstView* bias() const { return bias_ ? &*bias_ : nullptr; }

  SampledLoss o_;
  ClassTable table_;

 private:
  static double* out(py::array& a, std::size_t size) {
    Optional given = a;
    return written(doubles("an output", given, size), given);
  }

  std::optional<ConstView> bias_;
  std::vector<std::int64_t> ids_, offsets_;  // of targets on the host
  py::object kept_;
};

// py::init of a batch that is made of those arguments but the first.
template <class Batch>
auto init_batch() {
  return py::init<py::array, std::optional<py::array>, py::array, py::array, py::array, py::array, py::array, int, bool,
                  bool, std::size_t, py::array, double, std::optional<py::array>, py::array, py::array, py::array,
                  py::array, py::array>();
}

class SampledBatch : SampledArguments {
 public:
  template <class... Arguments>
  explicit SampledBatch(Arguments... given) : SampledArguments(true, std::move(given)...) {}

  void shared(const py::array& ids, const py::array& counts, const py::array& staged_counts, const py::array& shares,
              const py::array& adjust, std::size_t first, py::array logits, int threads, int isa) const {
    const SharedDraws draws = draws_of(ids, counts, staged_counts, shares, adjust);
    const std::size_t n = draws.n, count = some(first, logits);
    std::byte* const z = staged("logits", logits, table_.dtype, count * n, true);
    call(count * (n + table_.features), threads, isa,
         [&](const Exec& exec) { sampled_shared(o_, table_, bias(), draws, first, count, z, exec); });
  }
  void add_targets(std::size_t first, py::array grad, int threads, int isa) const {
    const std::size_t count = some(first, grad);
    std::byte* const to = staged("grad", grad, table_.dtype, count * table_.features, true);
    call(count * table_.features, threads, isa,
         [&](const Exec& exec) { vastmax::add_targets(o_, table_, first, count, to, exec); });
  }
  void own(const py::array& ids, const py::array& adjust, std::size_t first, py::array slopes,
           std::optional<py::array> grad, int threads, int isa) const {
    const std::size_t count = some(first, slopes), n = count * o_.draws;
    const auto drawn = numbers_below("ids", ids, n, table_.classes);
    const OwnDraws draws{drawn.data(), doubles("adjust", adjust, n)};
    std::byte* const z = staged("slopes", slopes, table_.dtype, n, true);
    std::byte* const to = grad ? staged("grad", *grad, table_.dtype, count * table_.features, true) : nullptr;
    call(n * table_.features, threads, isa,
         [&](const Exec& exec) { sampled_own(o_, table_, bias(), draws, first, count, z, to, exec); });
  }
};

inline Entries entries(const char* name, const py::array& rows, const Optional& coefficients, const Optional& numbers,
                       std::size_t width, DType dtype) {
  Entries e;
  if (rows.ndim() != 2 || width == 0) throw std::invalid_argument(std::string(name) + " must have two axes");
  const auto n = static_cast<std::size_t>(rows.shape(0));
  e.count = numbers ? static_cast<std::size_t>(numbers->size()) : n * width, e.width = width;
  e.rows = staged(name, rows, dtype, static_cast<std::size_t>(rows.size()));
  if (coefficients) e.coefficients = staged("coefficients", *coefficients, dtype, e.count);
  if (numbers) e.numbers = classes("numbers", *numbers, e.count);
  return e;
}

inline void bind_sampled(py::module_& m) {
  py::class_<SampledBatch>(m, "SampledBatch")
      .def(init_batch<SampledBatch>())
      .def("shared", &SampledBatch::shared)
      .def("add_targets", &SampledBatch::add_targets)
      .def("own", &SampledBatch::own);
  m.def("gather_rows", [](const py::array& table, const py::array& ids, py::array out, int threads, int isa) {
    const ClassTable from = class_table(table);
    const auto n = static_cast<std::size_t>(ids.size());
    const auto wanted = numbers_below("ids", ids, n, from.classes);
    std::byte* const to = staged("out", out, from.dtype, n * from.features, true);
    call(n * from.features, threads, isa, [&](const Exec& exec) { gather_rows(from, wanted, to, exec); });
  });
  m.def("sort_ids", [](const py::array& ids, std::int64_t classes_count, py::array order) {
    const auto n = static_cast<std::size_t>(ids.size());
    const auto given = numbers_below("ids", ids, n, classes_count);
    Optional to = order;
    std::int64_t* const sorted = written(classes("order", order, n), to);
    call(n, 1, -1, [&](const Exec&) { sort_ids(given, classes_count, sorted); });
  });
  m.def(
      "sum_groups", [](const py::array& rows, const Optional& coefficients, std::size_t width,
                       const py::array& other_rows, const py::array& other_coefficients, const py::array& other_numbers,
                       const py::array& order, const py::array& starts, py::array sums, int threads, int isa) {
        const DType dtype = supported(rows);
        const Entries first = entries("rows", rows, coefficients, std::nullopt, width, dtype);
        Entries second = entries("other_rows", other_rows, other_coefficients, other_numbers, 1, dtype);
        const auto numbers = numbers_below("numbers", other_numbers, second.count, other_rows.shape(0));
        second.numbers = numbers.data();
        const std::size_t n = static_cast<std::size_t>(order.size()), groups = static_cast<std::size_t>(starts.size()),
                          features = static_cast<std::size_t>(rows.shape(1));
        const auto sorted = numbers_below("order", order, n, static_cast<std::int64_t>(first.count + second.count)),
                   cuts = numbers_below("starts", starts, groups, static_cast<std::int64_t>(n) + 1);
        if (groups == 0 || rows.shape(1) != other_rows.shape(1) || !std::ranges::is_sorted(cuts))
          throw std::invalid_argument("sum_groups: starts must ascend, and rows have the same features");
        std::byte* const to = staged("sums", sums, dtype, (groups - 1) * features, true);
        call(n * features, threads, isa,
             [&](const Exec& exec) { sum_groups(dtype, features, first, second, sorted.data(), cuts, to, exec); });
      });
  m.def("update_rows", [](py::array table, const py::array& ids, const py::array& changes, double rate,
                          std::optional<py::array> state, double eps, int threads, int isa) {
    if (!table.writeable()) throw std::invalid_argument("the table is read-only");
    const ClassTable to = class_table(table);
    const auto n = static_cast<std::size_t>(ids.size());
    const auto wanted = numbers_below("ids", ids, n, to.classes);
    const std::byte* const from = staged("changes", changes, to.dtype, n * to.features);
    double* const totals = state ? numbers(*state, static_cast<std::size_t>(to.classes)) : nullptr;
    call(n * to.features, threads, isa,
         [&](const Exec& exec) { update_rows(to, wanted, from, rate, totals, eps, exec); });
  });
}

}  // namespace vastmax::python
