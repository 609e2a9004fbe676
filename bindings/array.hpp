// SPDX-License-Identifier: Apache-2.0
// NumPy arrays as views.  Everything here holds the GIL; what it returns points into the array, which the caller keeps
// alive.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <optional>

#include "bindings/executor.hpp"
#include "vastmax/vastmax.hpp"

namespace py = pybind11;

namespace vastmax::python {

// float16, float32, float64 by type number; bfloat16 has a number only once ml_dtypes has registered it, so the first
// one is known by name.
inline std::optional<DType> dtype_of(const py::array& a) {
  static std::atomic<int> bfloat16_number{-1};
  const auto* descr = py::detail::array_proxy(a.ptr())->descr;
  const int number = py::detail::array_descriptor_proxy(descr)->type_num;
  switch (number) {
    case 23:
      return DType::float16;
    case 11:
      return DType::float32;
    case 12:
      return DType::float64;
    default:
      break;
  }
  if (number == bfloat16_number) return DType::bfloat16;
  if (number >= 256 && py::cast<std::string>(a.dtype().attr("name")) == "bfloat16") {
    bfloat16_number = number;
    return DType::bfloat16;
  }
  return std::nullopt;
}

inline DType supported(const py::array& a) {
  const auto found = dtype_of(a);
  if (!found)
    throw std::invalid_argument("dtype " + py::cast<std::string>(py::str(a.dtype())) +
                                " is not float16, bfloat16, float32 or float64");
  return *found;
}

inline std::span<const std::int64_t> shape_of(const py::array& a) {
  static_assert(sizeof(py::ssize_t) == sizeof(std::int64_t));
  return {reinterpret_cast<const std::int64_t*>(a.shape()), static_cast<std::size_t>(a.ndim())};
}
inline std::span<const std::int64_t> strides_of(const py::array& a) {
  return {reinterpret_cast<const std::int64_t*>(a.strides()), static_cast<std::size_t>(a.ndim())};
}

inline ConstView view(const py::array& a) {
  return {static_cast<const std::byte*>(a.data()), supported(a), shape_of(a), strides_of(a)};
}

inline View writable(py::array& a) {
  if (!a.writeable()) throw std::invalid_argument("an output is read-only");
  return {static_cast<std::byte*>(a.mutable_data()), supported(a), shape_of(a), strides_of(a)};
}

// Whether an op may read `a` while it writes `out`: they are one array, or lie in stretches of memory that do not meet.
inline bool apart_or_same(const py::array& a, const py::array& out) {
  const auto stretch = [](const py::array& of) {
    const auto* first = static_cast<const std::byte*>(of.data());
    const auto* last = first;
    for (py::ssize_t d = 0; d < of.ndim(); ++d) {
      const py::ssize_t reach = of.strides(d) * (of.shape(d) - 1);
      (reach < 0 ? first : last) += of.shape(d) == 0 ? 0 : reach;
    }
    return std::pair(first, of.size() == 0 ? first : last + of.itemsize());
  };
  const auto [a_begin, a_end] = stretch(a);
  const auto [out_begin, out_end] = stretch(out);
  if (a_end <= out_begin || out_end <= a_begin) return true;
  return a.data() == out.data() && a.dtype().num() == out.dtype().num() &&
         std::ranges::equal(shape_of(a), shape_of(out)) && std::ranges::equal(strides_of(a), strides_of(out));
}

inline bool finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// True when a signal handler raised: the call ends early and the error goes up.  An interpreter that is going away ends
// it too.
inline bool interrupted() {
  if (finalizing()) return true;
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

// Without the GIL.  Not a guard object: Python ends a daemon thread that asks for the GIL at exit by unwinding it, and
// a destructor would turn that into std::terminate.
template <class Fn>
void without_gil(const Fn& fn) {
  PyThreadState* const saved = PyEval_SaveThread();
  try {
    fn();
  } catch (...) {
    PyEval_RestoreThread(saved);
    throw;
  }
  PyEval_RestoreThread(saved);
}

// Runs fn(exec) without the GIL where the work is worth more than a few microseconds.
template <class Fn>
auto call(std::size_t elements, int threads, int isa, const Fn& fn) {
  Exec exec{threads, isa, nullptr};
  if (elements < 4096) return fn(exec);
  exec.interrupted = interrupted;
  const auto done = [] {
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  };
  if constexpr (std::is_void_v<decltype(fn(exec))>) {
    without_gil([&] { fn(exec); });
    done();
  } else {
    decltype(fn(exec)) result{};
    without_gil([&] { result = fn(exec); });
    done();
    return result;
  }
}

// The executor of vastmax._core: (threads, isa).
struct OnCpu {
  int threads, isa;

  template <class Fn>
  auto run(std::size_t elements, const Fn& fn) const {
    return call(elements, threads, isa, fn);
  }
  template <class R, class... A, class Fn, class... Names>
  static void def(py::module_& m, const char* name, Fn fn, const Names&... names) {
    m.def(
        name, [fn](A... a, int threads, int isa) -> R { return fn(OnCpu{threads, isa}, std::forward<A>(a)...); },
        names..., py::arg("threads"), py::arg("isa"));
  }
};

}  // namespace vastmax::python
