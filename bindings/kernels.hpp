// SPDX-License-Identifier: Apache-2.0
// The kernels that both modules have: the core's and the CUDA ops differ in the type of their last argument alone.
#pragma once

#include "bindings/losses.hpp"
#include "bindings/sampling.hpp"
#include "bindings/shapes.hpp"

namespace vastmax::python {

inline std::size_t size_of(const py::array& x) { return static_cast<std::size_t>(x.size()); }

// An optional argument as what the ops take: null for none.
template <class V>
class OrNull {
 public:
  OrNull() = default;
  explicit OrNull(const V& v) : value_(v) {}
  operator const V*() const { return value_ ? &*value_ : nullptr; }

 private:
  std::optional<V> value_;
};
inline OrNull<ConstView> view_if(const Optional& a) { return a ? OrNull(view(*a)) : OrNull<ConstView>(); }
inline OrNull<View> writable_if(Optional& a) { return a ? OrNull(writable(*a)) : OrNull<View>(); }

template <class E, class Op>
void bind_rows(py::module_& m, const char* name, Op op) {  // softmax, log_softmax, logsumexp
  define<E>(m, name,
            [op](const E& on, const py::array& x, py::array out, const Optional& temperature, const Optional& where) {
              need_axis(x);
              const ConstView in = view(x);
              const View to = writable(out);
              const RowOptions o = row_options(x, temperature, where);
              on.run(size_of(x), [&](const auto& exec) { op(in, to, o, exec); });
            },
            {"x", "out", "temperature", "where"});
}

template <class E, class Op>
void bind_row_grad(py::module_& m, const char* name, Op op) {
  define<E>(m, name,
            [op](const E& on, const py::array& g, const py::array& y, py::array out, const Optional& temperature) {
              need_axis(y);
              const ConstView grad = view(g), in = view(y);
              const View to = writable(out);
              const RowOptions o = row_options(y, temperature, std::nullopt);
              on.run(size_of(y), [&](const auto& exec) { op(grad, in, to, o, exec); });
            },
            {"g", "y", "out", "temperature"});
}

template <class E, class Op>
void bind_unary(py::module_& m, const char* name, Op op) {
  define<E>(m, name,
            [op](const E& on, const py::array& x, py::array out, double beta) {
              const ConstView in = view(x);
              const View to = writable(out);
              on.run(size_of(x), [&](const auto& exec) { op(in, to, beta, exec); });
            },
            {"x", "out", "beta"});
}

template <class E, class Op>
void bind_binary(py::module_& m, const char* name, Op op) {
  define<E>(m, name,
            [op](const E& on, const py::array& g, const py::array& saved, py::array out, double beta) {
              const ConstView grad = view(g), in = view(saved);
              const View to = writable(out);
              on.run(size_of(saved), [&](const auto& exec) { op(grad, in, to, beta, exec); });
            },
            {"g", "saved", "out", "beta"});
}

template <class E>
void bind_logsumexp(py::module_& m) {
  bind_rows<E>(m, "logsumexp", [](const auto&... a) { logsumexp(a...); });
  define<E>(m, "logsumexp_backward",
            [](const E& on, const py::array& grad, const py::array& x, py::array out, const Optional& temperature,
               const Optional& where) {
              need_axis(x);
              const ConstView g = view(grad), in = view(x);
              const View to = writable(out);
              const RowOptions o = row_options(x, temperature, where);
              on.run(size_of(x), [&](const auto& exec) { logsumexp_backward(g, in, to, o, exec); });
            },
            {"grad", "x", "out", "temperature", "where"});
  define<E>(m, "logsumexp_weighted",
            [](const E& on, const py::array& a, const py::array& b, py::array out, Optional sign,
               const Optional& temperature, const Optional& where) {
              need_axis(a);
              const ConstView in = view(a), weights = view(b);
              const View to = writable(out);
              const auto signs = writable_if(sign);
              const RowOptions o = row_options(a, temperature, where);
              on.run(size_of(a), [&](const auto& exec) { logsumexp_weighted(in, weights, to, signs, o, exec); });
            },
            {"a", "b", "out", "sign", "temperature", "where"});
}

// Sums: none for a module that returns them, else where a device writes them.
template <class E, class... Sums>
void bind_cross_entropy(py::module_& m, const char* const (&names)[18 + sizeof...(Sums)]) {
  define<E>(
      m, "cross_entropy",
      [](const E& on, const py::array& x, Optional grad, const Optional& ids, std::size_t width,
         const Optional& id_probabilities, const Optional& probabilities, std::int64_t ignore_index,
         const Optional& weight, const Optional& sample_weight, double label_smoothing, double z_loss, double softcap,
         Optional loss, Optional lse, const Optional& grad_output, bool mean, const Optional& temperature,
         const Optional& where, Sums... totals) {
        LossArguments given{ids,    width,         id_probabilities, probabilities, ignore_index,
                            weight, sample_weight, label_smoothing,  z_loss,        softcap,
                            loss,   lse,           grad_output,      mean};
        const CrossEntropy o = given.with(x);
        const ConstView in = view(x);
        const auto grads = writable_if(grad);
        const RowOptions options = row_options(x, temperature, where);
        if constexpr (sizeof...(Sums) == 0) {
          const LossSum sum =
              on.run(size_of(x), [&](const auto& exec) { return cross_entropy(in, grads, o, options, exec); });
          return std::pair(sum.loss, sum.weight);
        } else {
          Optional sums(totals...);
          double* const to = written(doubles("totals", sums, 2), sums);
          on.run(size_of(x), [&](const auto& exec) { cross_entropy(in, grads, o, to, options, exec); });
        }
      },
      names);
}

// Parts: none for a module that returns the sum, else where a device writes parts of it.
template <class E, class... Parts>
void bind_bce(py::module_& m, const char* const (&names)[7 + sizeof...(Parts)]) {
  define<E>(
      m, "bce_with_logits",
      [](const E& on, const py::array& x, const py::array& target, const Optional& weight, const Optional& pos_weight,
         Optional loss, Optional grad, double grad_scale, Parts... parts) {
        const ConstView in = view(x), wanted = view(target);
        const auto w = view_if(weight), p = view_if(pos_weight);
        const auto losses = writable_if(loss), grads = writable_if(grad);
        return on.run(size_of(x), [&](const auto& exec) {
          return bce_with_logits(in, wanted, w, p, losses, grads, grad_scale, reinterpret_cast<void*>(parts)..., exec);
        });
      },
      names);
}

template <class E>
void bind_statistics(py::module_& m) {
  define<E>(m, "selective_log_softmax",
            [](const E& on, const py::array& x, const py::array& ids, std::size_t width, Optional out,
               const Optional& temperature) {
              const std::size_t size = rows_of(x) * width;
              const ConstView in = view(x);
              const std::int64_t* wanted = classes("index", ids, size);
              double* const to = written(doubles("out", out, size), out);
              const RowOptions options = row_options(x, temperature, std::nullopt);
              on.run(size_of(x),
                     [&](const auto& exec) { selective_log_softmax(in, wanted, width, to, options, exec); });
            },
            {"x", "ids", "width", "out", "temperature"});
  define<E>(
      m, "softmax_stats",
      [](const E& on, const py::array& x, const Optional& target, std::size_t top_n, const Optional& lse,
         const Optional& largest, const Optional& argmax, const Optional& entropy, const Optional& target_log_prob,
         const Optional& target_rank, const Optional& top_log_probs, const Optional& top_indices,
         const Optional& temperature) {
        StatsArguments given{lse, largest, argmax, entropy, target_log_prob, target_rank, top_log_probs, top_indices};
        const RowStats stats = given.of(x, target, top_n);
        const ConstView in = view(x);
        const RowOptions options = row_options(x, temperature, std::nullopt);
        on.run(size_of(x), [&](const auto& exec) { softmax_stats(in, stats, options, exec); });
      },
      {"x", "target", "top_n", "lse", "largest", "argmax", "entropy", "target_log_prob", "target_rank", "top_log_probs",
       "top_indices", "temperature"});
  define<E>(m, "kl_divergence",
            [](const E& on, const py::array& p, const py::array& q, Optional out) {
              const ConstView in = view(p), other = view(q);
              double* const to = written(doubles("out", out, rows_of(p)), out);
              if (to == nullptr) throw std::invalid_argument("out is needed");
              on.run(size_of(p), [&](const auto& exec) { kl_divergence(in, other, to, exec); });
            },
            {"p", "q", "out"});
}

template <class E>
void bind_selection(py::module_& m) {
  define<E>(m, "top_k",
            [](const E& on, const py::array& x, std::size_t k, py::array values, Optional indices) {
              const std::size_t size = rows_of(x) * k;
              const ConstView in = view(x);
              const View to = writable(values);
              const bool fits = (values.flags() & py::array::c_style) != 0 && size_of(values) == size;
              if (!fits || to.dtype != in.dtype || !indices)
                throw std::invalid_argument("values must be dense, of the dtype of x, and k for each row");
              std::int64_t* const at = written(classes("indices", indices, size), indices);
              on.run(size_of(x), [&](const auto& exec) { top_k(in, k, to.data, at, exec); });
            },
            {"x", "k", "values", "indices"});
  define<E>(m, "mask_logits",
            [](const E& on, const py::array& x, const Optional& top_k, const Optional& top_p, const Optional& min_p,
               py::array out) {
              const ConstView in = view(x);
              const Filters f = filters(rows_of(x), top_k, top_p, min_p);
              const View to = writable(out);
              on.run(size_of(x), [&](const auto& exec) { mask_logits(in, f, to, exec); });
            },
            {"x", "top_k", "top_p", "min_p", "out"});
  define<E>(
      m, "sample",
      [](const E& on, const py::array& x, std::size_t size, bool replace, const Optional& temperature,
         const Optional& top_k, const Optional& top_p, const Optional& min_p, std::uint64_t seed, std::uint32_t step,
         std::uint64_t row, Optional ids, Optional log_prob, Optional valid, const Optional& where) {
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
        on.run(size_of(x) + n, [&](const auto& exec) { sample(in, sampling, options, exec); });
      },
      {"x", "size", "replace", "temperature", "top_k", "top_p", "min_p", "seed", "step", "row", "ids", "log_prob",
       "valid", "where"});
}

#define VM_LOSS_OPERANDS                                                                                       \
  "x", "grad", "ids", "width", "id_probabilities", "probabilities", "ignore_index", "weight", "sample_weight", \
      "label_smoothing", "z_loss", "softcap", "loss", "lse", "grad_output", "mean", "temperature", "where"
#define VM_BCE_OPERANDS "x", "target", "weight", "pos_weight", "loss", "grad", "grad_scale"

}  // namespace vastmax::python
