// SPDX-License-Identifier: Apache-2.0
// The short road: a plain ndarray without options goes from one C++ entry to its kernel and back, so that 16 floats
// cost well under a microsecond.  Anything else returns None and takes the Python road, with the same bits.
#pragma once

#include "bindings/array.hpp"

namespace vastmax::python {

using Proxy = py::detail::PyArray_Proxy;

// An exact, native, aligned, C-contiguous ndarray with elements, of a type that can be allocated here (bfloat16
// cannot).
inline const Proxy* plain(py::handle x) {
  auto& api = py::detail::npy_api::get();
  if (Py_TYPE(x.ptr()) != api.PyArray_Type_) return nullptr;
  const auto* proxy = py::detail::array_proxy(x.ptr());
  constexpr int wanted = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  const auto* descr = py::detail::array_descriptor_proxy(proxy->descr);
  const bool known = descr->type_num == 11 || descr->type_num == 12 || descr->type_num == 23;
  if ((proxy->flags & wanted) != wanted || proxy->nd == 0 || !known || descr->byteorder == '>') return nullptr;
  for (int d = 0; d < proxy->nd; ++d)
    if (proxy->dimensions[d] == 0) return nullptr;
  return proxy;
}

inline std::size_t elements(const Proxy& a) {
  std::size_t n = 1;
  for (int d = 0; d < a.nd; ++d) n *= static_cast<std::size_t>(a.dimensions[d]);
  return n;
}

// A destination for x: plain, of its shape and type, writable.
inline bool fits(const Proxy& x, py::handle given, py::handle out) {
  const Proxy* y = plain(out);
  if (y == nullptr || y->nd != x.nd || (y->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) == 0) return false;
  if (!std::equal(x.dimensions, x.dimensions + x.nd, y->dimensions)) return false;
  const auto* dx = py::detail::array_descriptor_proxy(x.descr);
  const auto* dy = py::detail::array_descriptor_proxy(y->descr);
  return dx->type_num == dy->type_num &&
         apart_or_same(py::reinterpret_borrow<py::array>(given), py::reinterpret_borrow<py::array>(out));
}

// fn(x, out, exec)
template <class Fn>
void bind_plain(py::module_& m, const char* name, const Fn& fn) {
  m.def(name, [fn](py::handle given, py::handle wanted) -> py::object {
    const Proxy* proxy = plain(given);
    if (proxy == nullptr || !(wanted.is_none() || fits(*proxy, given, wanted))) return py::none();
    const auto x = py::reinterpret_borrow<py::array>(given);
    py::array out = wanted.is_none() ? py::array(x.dtype(), std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim()))
                                     : py::reinterpret_borrow<py::array>(wanted);
    const ConstView in = view(x);
    const View to = writable(out);
    call(elements(*proxy), 0, -1, [&](const Exec& exec) { fn(in, to, exec); });
    return out;
  });
}

// The last axis, or all of a 1-d array.
inline py::object plain_logsumexp(py::handle given, bool all) {
  const Proxy* proxy = plain(given);
  if (proxy == nullptr || (all && proxy->nd != 1)) return py::none();
  const auto x = py::reinterpret_borrow<py::array>(given);
  const ConstView in = view(x);
  py::array out(in.dtype == DType::float64 ? py::dtype::of<double>() : py::dtype::of<float>(),
                std::vector<py::ssize_t>(x.shape(), x.shape() + x.ndim() - 1));
  const View to = writable(out);
  call(elements(*proxy), 0, -1, [&](const Exec& exec) { logsumexp(in, to, {}, exec); });
  if (x.ndim() == 1) return out[py::tuple()];
  return out;
}

}  // namespace vastmax::python
