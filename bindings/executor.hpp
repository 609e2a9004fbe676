// SPDX-License-Identifier: Apache-2.0
// Where a kernel runs, and how one binding serves every place: `define` appends the executor's own arguments.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <utility>

namespace py = pybind11;

namespace vastmax::python {

// An executor E has a function run(elements, fn), which calls fn(exec) without the GIL where that pays, and a function
// def(module, name, fn, py::arg...), where fn takes an E and the arguments, for Python to pass what E is made of last.

template <class E, class Fn, class R, class... A, std::size_t... i>
void define_as(py::module_& m, const char* name, Fn fn, R (Fn::*)(const E&, A...) const,
               const char* const (&names)[sizeof...(A)], std::index_sequence<i...>) {
  E::template def<R, A...>(m, name, fn, py::arg(names[i])...);
}

// Binds fn(executor, arguments...) under the names of its arguments, those of python/vastmax/_backends/kernels.py.
template <class E, class Fn, std::size_t n>
void define(py::module_& m, const char* name, Fn fn, const char* const (&names)[n]) {
  define_as<E>(m, name, fn, &Fn::operator(), names, std::make_index_sequence<n>());
}

}  // namespace vastmax::python
