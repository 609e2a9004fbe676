// SPDX-License-Identifier: Apache-2.0
// vastmax._core: a table of contents.
#include <pybind11/stl.h>

#include "bindings/kernels.hpp"
#include "bindings/plain.hpp"
#include "bindings/sampled.hpp"
#include "bindings/samplers.hpp"
#include "cpp/host/run/stream_copy.hpp"

#define VASTMAX_EXPORT extern "C" __attribute__((visibility("default")))

// What threadpoolctl looks for.
VASTMAX_EXPORT int vastmax_get_num_threads() { return vastmax::get_num_threads(); }
VASTMAX_EXPORT void vastmax_set_num_threads(int n) {
  if (n >= 1) vastmax::set_num_threads(n);
}

namespace vastmax::python {
namespace {

void bind_kernels(py::module_& m) {
  bind_logsumexp<OnCpu>(m);
#define VM_OP(shape, name, Formula) VM_BIND_##shape(name)
#define VM_BIND(shape, name) bind_##shape<OnCpu>(m, #name, [](const auto&... a) { name(a...); });
#define VM_BIND_norm_map(name) VM_BIND_ROWS_##name
#define VM_BIND_ROWS_softmax VM_BIND(rows, softmax)
#define VM_BIND_ROWS_log_softmax VM_BIND(rows, log_softmax)
#define VM_BIND_ROWS_logsumexp_backward  // has a gradient: bind_logsumexp
#define VM_BIND_row_grad(name) VM_BIND(row_grad, name)
#define VM_BIND_unary(name) VM_BIND(unary, name)
#define VM_BIND_binary(name) VM_BIND(binary, name)
#include "cpp/ops.def"
  bind_bce<OnCpu>(m, {VM_BCE_OPERANDS});
  bind_cross_entropy<OnCpu>(m, {VM_LOSS_OPERANDS});
  bind_statistics<OnCpu>(m);
  bind_selection<OnCpu>(m);
}

void bind_states(py::module_& m) {
  m.def("logsumexp_update", [](const py::array& x, py::array state, int threads, int isa) {
    const ConstView in = view(x);
    if (!state.writeable()) throw std::invalid_argument("states are read-only");
    const auto to = states(state);
    call(static_cast<std::size_t>(x.size()), threads, isa, [&](const Exec& exec) { logsumexp_update(in, to, exec); });
  });
  m.def("logsumexp_merge", [](py::array state, py::array other, int isa) {
    if (!state.writeable()) throw std::invalid_argument("states are read-only");
    logsumexp_merge(states(state), states(other), {1, isa, nullptr});
  });
  m.def("logsumexp_value", [](py::array state, py::array max, py::array log, int isa) {
    const auto from = states(state);
    logsumexp_value(from, numbers(max, from.size()), numbers(log, from.size()), {1, isa, nullptr});
  });
  m.def("normalize",
        [](const py::array& x, py::array state, const Optional& grad, py::array out, int threads, int isa) {
          const ConstView in = view(x);
          const View to = writable(out);
          std::optional<ConstView> g;
          if (grad) g = view(*grad);
          const auto from = states(state);
          call(static_cast<std::size_t>(x.size()), threads, isa,
               [&](const Exec& exec) { normalize(in, from, g ? &*g : nullptr, to, exec); });
        });
}

// For `python -m vastmax bench`.
void bind_roof(py::module_& m) {
  m.def("stream_copy", [](const py::array& x, py::array out, int threads, int isa) {
    const ConstView in = view(x);
    const View to = writable(out);
    call(static_cast<std::size_t>(x.size()), threads, isa, [&](const Exec& exec) { stream_copy(in, to, exec); });
  });
}

void bind_plain_ops(py::module_& m) {
  bind_plain(m, "softmax_plain", [](const ConstView& x, const View& y, const Exec& e) { softmax(x, y, {}, e); });
  bind_plain(m, "log_softmax_plain",
             [](const ConstView& x, const View& y, const Exec& e) { log_softmax(x, y, {}, e); });
  bind_plain(m, "softplus_plain", [](const ConstView& x, const View& y, const Exec& e) { softplus(x, y, 1, e); });
  bind_plain(m, "sigmoid_plain", [](const ConstView& x, const View& y, const Exec& e) { sigmoid(x, y, 1, e); });
  bind_plain(m, "log_sigmoid_plain", [](const ConstView& x, const View& y, const Exec& e) { log_sigmoid(x, y, 1, e); });
  m.def("logsumexp_plain", &plain_logsumexp);
}

void bind_runtime(py::module_& m) {
  m.def("apart_or_same", &apart_or_same);
  m.def("get_num_threads", &get_num_threads);
  m.def("set_num_threads", &set_num_threads);
  m.def("threads_source", [] { return default_threads().second; });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Isa isa : isas()) names.emplace_back(name(isa));
    return names;
  });
  const auto index = [](int i) {
    if (i < 0 || static_cast<std::size_t>(i) >= isas().size())
      throw std::invalid_argument("no instruction set of that index");
    return isas()[static_cast<std::size_t>(i)];
  };
  m.def("isa_runnable", [index](int i) { return runnable(index(i)); });
  m.def("get_isa", [] { return static_cast<int>(std::ranges::find(isas(), active_isa()) - isas().begin()); });
  m.def("set_isa", [index](int i) { set_active_isa(index(i)); });
  m.def("plan", [](std::int64_t rows, std::int64_t classes, int, int threads) {
    constexpr const char* names[] = {"serial", "rows", "split"};
    const Plan p = plan(rows, classes, threads);
    return std::make_tuple(names[static_cast<int>(p.strategy)], p.threads, p.tasks);
  });
  m.def("block_length", [](int item_size) { return block_length(item_size == 8 ? DType::float64 : DType::float32); });
  m.def("caches", [] {
    const Caches c = caches();
    return std::map<std::string, std::int64_t>{{"L1d", c.l1}, {"L2", c.l2}, {"L3", c.l3}};
  });
  m.def("build_config", [] {
    return std::map<std::string, std::string>{{"version", VASTMAX_VERSION},
                                              {"compiler", VASTMAX_COMPILER},
                                              {"flags", VASTMAX_FLAGS},
                                              {"isas", VASTMAX_ISAS},
                                              {"commit", VASTMAX_COMMIT}};
  });
}

}  // namespace
}  // namespace vastmax::python

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  vastmax::python::bind_kernels(m);
  vastmax::python::bind_states(m);
  vastmax::python::bind_heads(m);
  vastmax::python::bind_sampled(m);
  vastmax::python::bind_samplers(m);
  vastmax::python::bind_gumbel(m);
  vastmax::python::bind_plain_ops(m);
  vastmax::python::bind_roof(m);
  vastmax::python::bind_runtime(m);
}
