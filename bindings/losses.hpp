// SPDX-License-Identifier: Apache-2.0
// Losses and row statistics.  What there is one of for each row comes as a dense array, rows in index order.
#pragma once

#include "bindings/shapes.hpp"

namespace vastmax::python {

// The data of a dense array of this type number and size; null for none.
template <class T>
const T* dense(const char* name, const Optional& a, int number, std::size_t size) {
  if (!a) return nullptr;
  const bool contiguous = (a->flags() & py::array::c_style) != 0;
  if (a->dtype().num() != number || a->itemsize() != sizeof(T) || !contiguous ||
      static_cast<std::size_t>(a->size()) != size)
    throw std::invalid_argument(std::string(name) + " must be dense, of its own type and size");
  return static_cast<const T*>(a->data());
}
inline const double* doubles(const char* name, const Optional& a, std::size_t size) {
  return dense<double>(name, a, 12, size);
}
inline const std::int64_t* classes(const char* name, const Optional& a, std::size_t size) {
  return dense<std::int64_t>(name, a, py::dtype::of<std::int64_t>().num(), size);
}
template <class T>
T* written(const T* data, Optional& a) {
  if (a && !a->writeable()) throw std::invalid_argument("an output is read-only");
  return const_cast<T*>(data);
}

inline std::size_t rows_of(const py::array& x) {
  need_axis(x);
  std::size_t rows = 1;
  for (py::ssize_t d = 0; d + 1 < x.ndim(); ++d) rows *= static_cast<std::size_t>(x.shape(d));
  return rows;
}

// What a loss takes beside its logits: `probabilities` and all else but the targets may be missing.
struct LossArguments {
  Optional ids;
  std::size_t width;
  Optional id_probabilities, probabilities;
  std::int64_t ignore_index;
  Optional class_weight, row_weight;
  double label_smoothing, z_loss, softcap;
  Optional loss, lse, grad_output;
  bool mean;
  std::optional<ConstView> distribution{};

  CrossEntropy with(const py::array& x) {
    const std::size_t rows = rows_of(x), n = static_cast<std::size_t>(x.shape(x.ndim() - 1));
    if (probabilities) distribution = view(*probabilities);
    CrossEntropy o;
    o.ids = classes("ids", ids, rows * width), o.width = width, o.ignore_index = ignore_index;
    o.id_probabilities = doubles("id_probabilities", id_probabilities, rows * width);
    o.probabilities = distribution ? &*distribution : nullptr;
    o.class_weight = doubles("weight", class_weight, n), o.row_weight = doubles("sample_weight", row_weight, rows);
    o.label_smoothing = label_smoothing, o.z_loss = z_loss, o.softcap = softcap;
    if (!loss) throw std::invalid_argument("loss is needed");
    o.loss = written(doubles("loss", loss, rows), loss), o.lse = written(doubles("lse", lse, rows), lse);
    o.grad_output_per_row = grad_output && grad_output->ndim() > 0;
    o.grad_output = doubles("grad_output", grad_output, o.grad_output_per_row ? rows : 1), o.mean = mean;
    return o;
  }
};

// What softmax_stats writes; none of it has to be wanted.
struct StatsArguments {
  Optional lse, max, argmax, entropy, target_log_prob, target_rank, top_log_probs, top_indices;

  RowStats of(const py::array& x, const Optional& target, std::size_t top_n) {
    const std::size_t rows = rows_of(x);
    RowStats stats;
    stats.target = classes("target", target, rows), stats.top_n = top_n;
    stats.lse = written(doubles("lse", lse, rows), lse), stats.max = written(doubles("max", max, rows), max);
    stats.entropy = written(doubles("entropy", entropy, rows), entropy);
    stats.argmax = written(classes("argmax", argmax, rows), argmax);
    if (target) {
      stats.target_log_prob = written(doubles("target_log_prob", target_log_prob, rows), target_log_prob);
      stats.target_rank = written(classes("target_rank", target_rank, rows), target_rank);
    }
    if (top_n > 0 && !(top_log_probs && top_indices)) throw std::invalid_argument("top_n needs its two outputs");
    stats.top_log_probs = written(doubles("top_log_probs", top_log_probs, rows * top_n), top_log_probs);
    stats.top_indices = written(classes("top_indices", top_indices, rows * top_n), top_indices);
    return stats;
  }
};

inline HeadTile head_tile(const py::array& x, const Optional& bias, double softcap, const Optional& shares,
                          const Optional& target, std::int64_t first, double earlier = 0) {
  const auto of_each_class = [&](const char* name, const Optional& a) -> const void* {
    const auto n = static_cast<std::size_t>(x.shape(x.ndim() - 1));
    if (x.itemsize() == sizeof(float)) return dense<float>(name, a, x.dtype().num(), n);
    return dense<double>(name, a, x.dtype().num(), n);
  };
  return {of_each_class("bias", bias),           softcap, of_each_class("shares", shares),
          classes("target", target, rows_of(x)), first,   earlier};
}
inline std::span<HeadRow> head_rows(py::array& rows) {
  static_assert(sizeof(HeadRow) == 3 * sizeof(double));
  Optional given = rows;
  const std::size_t n = rows.ndim() == 2 && rows.shape(1) == 3 ? static_cast<std::size_t>(rows.shape(0)) : 0;
  return {reinterpret_cast<HeadRow*>(written(doubles("rows", given, 3 * n), given)), n};
}

inline void bind_heads(py::module_& m) {
  m.def("reduce_losses", [](const py::array& losses, double weight, bool mean) {
    const auto n = static_cast<std::size_t>(losses.size());
    const LossSum sum = reduce_losses({doubles("losses", losses, n), n}, weight, mean);
    return std::pair(sum.loss, sum.weight);
  });
  m.def("head_update",
        [](const py::array& x, const Optional& bias, double softcap, const Optional& shares, const Optional& target,
           std::int64_t first, double earlier, py::array state, py::array rows, int threads, int isa) {
          const ConstView in = view(x);
          const HeadTile tile = head_tile(x, bias, softcap, shares, target, first, earlier);
          if (!state.writeable()) throw std::invalid_argument("states are read-only");
          const auto to = states(state);
          const auto of_rows = head_rows(rows);
          call(static_cast<std::size_t>(x.size()), threads, isa,
               [&](const Exec& exec) { head_update(in, tile, to, of_rows, exec); });
        });
  m.def("head_losses", [](py::array state, py::array rows, const Optional& own, const Optional& share, double even,
                          double mass, double z_loss, const Optional& factor, Optional loss, Optional lse,
                          Optional every, Optional at_target, int isa) {
    const auto from = states(state);
    const auto of_rows = head_rows(rows);
    const std::size_t n = of_rows.size();
    const auto of_each = [n](const char* name, Optional& a) { return written(doubles(name, a, n), a); };
    const HeadLoss o{doubles("own", own, n),
                     doubles("share", share, n),
                     even,
                     mass,
                     z_loss,
                     doubles("factor", factor, n),
                     of_each("loss", loss),
                     of_each("lse", lse),
                     of_each("every", every),
                     of_each("at_target", at_target)};
    call(n, 1, isa, [&](const Exec& exec) { head_losses(from, of_rows, o, exec); });
  });
  m.def("head_slopes", [](const py::array& x, const Optional& bias, double softcap, const Optional& shares,
                          const Optional& target, std::int64_t first, py::array state, const Optional& every,
                          const Optional& even, const Optional& at_target, py::array out, int threads, int isa) {
    const std::size_t rows = rows_of(x);
    const ConstView in = view(x);
    const View to = writable(out);
    const HeadTile tile = head_tile(x, bias, softcap, shares, target, first);
    const auto from = states(state);
    const HeadSlopes slopes{doubles("every", every, rows), doubles("even", even, rows),
                            doubles("at_target", at_target, rows)};
    call(static_cast<std::size_t>(x.size()), threads, isa,
         [&](const Exec& exec) { head_slopes(in, tile, from, slopes, to, exec); });
  });
}

}  // namespace vastmax::python
