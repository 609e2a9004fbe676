// SPDX-License-Identifier: Apache-2.0
// The short road: a plain, small ndarray without options goes from one C++ entry to its kernel and back, so that 16 floats cost well
// under a microsecond.  Anything else returns None and takes the Python road, with the same bits.
#pragma once

#include "bindings/array.hpp"

namespace vastmax::python {

inline constexpr py::ssize_t small_elements = 32768;

// A native, aligned, C-contiguous, exact ndarray of a type that can be allocated here (bfloat16 cannot).
inline bool small(py::handle x) {
  auto& api = py::detail::npy_api::get();
  if (Py_TYPE(x.ptr()) != api.PyArray_Type_) return false;
  const auto* proxy = py::detail::array_proxy(x.ptr());
  constexpr int wanted = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((proxy->flags & wanted) != wanted || proxy->nd == 0) return false;
  const auto* descr = py::detail::array_descriptor_proxy(proxy->descr);
  if (descr->byteorder == '>' || (descr->type_num != 11 && descr->type_num != 12 && descr->type_num != 23)) return false;
  py::ssize_t size = 1;
  for (int d = 0; d < proxy->nd; ++d) size *= proxy->dimensions[d];
  return size > 0 && size <= small_elements;
}

inline py::array like(const py::array& x) {
  return py::array(x.dtype(), std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()));
}

template <auto fn>
void bind_small_map(py::module_& m, const char* name) {
  m.def(name, [](py::handle given) -> py::object {
    if (!small(given)) return py::none();
    const auto x = py::reinterpret_borrow<py::array>(given);
    py::array out = like(x);
    fn(view(x), writable(out), {}, Exec{1, -1, nullptr});
    return out;
  });
}

}  // namespace vastmax::python
