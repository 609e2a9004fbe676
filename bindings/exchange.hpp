// SPDX-License-Identifier: Apache-2.0
// The short road of a call on a GPU: dense arrays of a library that has the C exchange of DLPack 1.3 go from one C++
// entry to the launch and back, as arrays of that library on its current stream.  Anything else returns None and takes
// the Python road, with the same bits.
#pragma once

#include <array>
#include <optional>

#include "bindings/array.hpp"
#include "bindings/dlpack.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::python {

// DLPackExchangeAPI of the specification.  Functions return 0, or -1 with a Python error set.
struct DLExchange {
  std::uint32_t major, minor;
  const DLExchange* older;
  int (*allocate)(DLTensor* like, DLManagedTensorVersioned** made, void* context,
                  void (*set_error)(void* context, const char* kind, const char* text));
  int (*managed)(void* object, DLManagedTensorVersioned** out);
  int (*give)(DLManagedTensorVersioned* tensor, void** object);
  int (*borrow)(void* object, DLTensor* out);  // may be null
  int (*current_stream)(int device_type, std::int32_t device, void** stream);
};

inline const DLExchange* exchange_of(py::handle x) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* const capsule = PyObject_GetAttr(reinterpret_cast<PyObject*>(Py_TYPE(x.ptr())), name);
  if (capsule == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  const auto* api = PyCapsule_IsValid(capsule, "dlpack_exchange_api") == 0
                        ? nullptr
                        : static_cast<const DLExchange*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  Py_DECREF(capsule);  // the type keeps it
  while (api != nullptr && api->major != dl_major) api = api->older;
  return api == nullptr || api->borrow == nullptr ? nullptr : api;
}

// An array on a GPU: floats, C order, at least one element.
class Dense {
 public:
  static std::optional<Dense> of(const DLTensor& t) {
    constexpr int on_gpu = 2;
    const auto dtype = dtype_of(t.dtype);
    if (t.device.type != on_gpu || !dtype || t.ndim < 1 || t.ndim > most) return std::nullopt;
    if (t.data == nullptr) return std::nullopt;  // a tensor without memory, as of torch's FakeTensorMode
    Dense dense(t, *dtype);
    std::int64_t step = 1;
    for (int d = t.ndim - 1; d >= 0; --d) {
      if (t.shape[d] == 0 || (t.strides != nullptr && t.shape[d] != 1 && t.strides[d] != step)) return std::nullopt;
      dense.strides_[static_cast<std::size_t>(d)] = step * static_cast<std::int64_t>(item_size(*dtype));
      step *= t.shape[d];
    }
    dense.bytes_ = static_cast<std::size_t>(step) * item_size(*dtype);
    return dense;
  }

  ConstView view() const { return {data_, dtype_, shape(), strides()}; }
  View writable() const { return {data_, dtype_, shape(), strides()}; }
  DType dtype() const { return dtype_; }
  int device() const { return device_; }
  std::span<const std::int64_t> shape() const { return {shape_.data(), dims_}; }
  std::span<const std::int64_t> strides() const { return {strides_.data(), dims_}; }
  bool apart_or_same(const Dense& other) const {
    return data_ == other.data_ || data_ + bytes_ <= other.data_ || other.data_ + other.bytes_ <= data_;
  }

 private:
  static constexpr int most = 8;
  Dense(const DLTensor& t, DType dtype)
      : data_(static_cast<std::byte*>(t.data) + t.byte_offset),
        dtype_(dtype),
        device_(t.device.id),
        dims_(static_cast<std::size_t>(t.ndim)) {
    std::copy_n(t.shape, t.ndim, shape_.begin());
  }
  static std::optional<DType> dtype_of(DLDataType t) {
    constexpr std::uint8_t is_float = 2, is_bfloat = 4;
    if (t.lanes != 1) return std::nullopt;
    if (t.code == is_bfloat && t.bits == 16) return DType::bfloat16;
    if (t.code != is_float) return std::nullopt;
    return t.bits == 16   ? std::optional(DType::float16)
           : t.bits == 32 ? std::optional(DType::float32)
           : t.bits == 64 ? std::optional(DType::float64)
                          : std::nullopt;
  }

  std::byte* data_;
  DType dtype_;
  std::int32_t device_;
  std::size_t dims_, bytes_ = 0;
  std::array<std::int64_t, most> shape_{}, strides_{};
};

// Whether an attribute is there and true; one that is a method is called.
inline bool says(py::handle x, PyObject* attribute) {
  const py::object none = py::none(), found = py::getattr(x, attribute, none);
  if (found.is_none()) return false;
  return py::bool_(PyCallable_Check(found.ptr()) != 0 ? found() : found);
}

// What the memory of an array does not show, and torch's exchange does not refuse: a graph that the result would have
// to be part of, and a sign that is still to be changed.
inline bool is_more_than_its_memory(py::handle x) {
  static PyObject *const requires_grad = PyUnicode_InternFromString("requires_grad"), *const is_neg =
                                                                                          PyUnicode_InternFromString(
                                                                                              "is_neg");
  return says(x, requires_grad) || says(x, is_neg);
}

inline std::optional<Dense> borrow(const DLExchange* api, py::handle x) {
  if (is_more_than_its_memory(x)) return std::nullopt;
  DLTensor t;
  if (api->borrow(x.ptr(), &t) == 0) return Dense::of(t);
  PyErr_Clear();  // the Python road says what is wrong
  return std::nullopt;
}

// A destination: new and of the library of x, or given by the user.
class Destination {
 public:
  Destination(const DLExchange* api, py::handle wanted, const Dense& like, std::span<const std::int64_t> shape,
              DType dtype) {
    if (wanted.is_none())
      make(api, like, shape, dtype);
    else
      check(api, wanted, like, shape, dtype);
  }
  explicit operator bool() const { return array_.has_value(); }
  const Dense& array() const { return *array_; }
  py::object object() const { return object_; }

 private:
  void make(const DLExchange* api, const Dense& like, std::span<const std::int64_t> shape, DType dtype) {
    std::vector<std::int64_t> extents(shape.begin(), shape.end());
    const bool brain = dtype == DType::bfloat16;
    DLTensor wanted{nullptr,
                    {2, like.device()},
                    static_cast<std::int32_t>(shape.size()),
                    {static_cast<std::uint8_t>(brain ? 4 : 2), static_cast<std::uint8_t>(8 * item_size(dtype)), 1},
                    extents.data(),
                    nullptr,
                    0};
    DLManagedTensorVersioned* made = nullptr;
    if (api->allocate(&wanted, &made, nullptr, [](void*, const char*, const char*) {}) != 0) return PyErr_Clear();
    const auto array = Dense::of(made->tensor);
    void* object = nullptr;
    if (!array) return made->deleter(made);
    if (api->give(made, &object) != 0) return PyErr_Clear();
    object_ = py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
    array_ = array;
  }
  void check(const DLExchange* api, py::handle wanted, const Dense& like, std::span<const std::int64_t> shape,
             DType dtype) {
    DLManagedTensorVersioned* managed = nullptr;  // a borrowed tensor does not say whether it is read-only
    if (exchange_of(wanted) != api || is_more_than_its_memory(wanted)) return;
    if (api->managed(wanted.ptr(), &managed) != 0) return PyErr_Clear();
    const auto array = (managed->flags & dl_read_only) != 0 ? std::nullopt : Dense::of(managed->tensor);
    if (managed->deleter != nullptr) managed->deleter(managed);
    if (!array || array->device() != like.device() || array->dtype() != dtype ||
        !std::ranges::equal(array->shape(), shape))
      return;
    object_ = py::reinterpret_borrow<py::object>(wanted);
    array_ = array;
  }

  std::optional<Dense> array_;
  py::object object_;
};

// fn(inputs, out, exec) on dense arrays of one shape, dtype, device and library; with `reduces`, out lacks the last
// axis.
template <std::size_t n, class Fn>
py::object on_dense(const std::array<py::handle, n>& given, py::handle wanted, bool reduces, const Fn& fn) {
  const DLExchange* const api = exchange_of(given[0]);
  if (api == nullptr) return py::none();
  std::array<std::optional<Dense>, n> in;
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0 && exchange_of(given[i]) != api) return py::none();
    in[i] = borrow(api, given[i]);
    if (!in[i] || in[i]->dtype() != in[0]->dtype() || in[i]->device() != in[0]->device() ||
        !std::ranges::equal(in[i]->shape(), in[0]->shape()))
      return py::none();
  }
  const Dense& x = *in[0];
  const auto shape = x.shape();
  if (reduces && shape.size() == 1) return py::none();  // a 0-d result is the Python road's
  void* stream = nullptr;
  if (api->current_stream(2, x.device(), &stream) != 0) {
    PyErr_Clear();
    return py::none();
  }
  const Destination out(api, wanted, x, reduces ? shape.first(shape.size() - 1) : shape,
                        reduces ? reduced(x.dtype()) : x.dtype());
  if (!out) return py::none();
  for (const auto& each : in)
    if (!each->apart_or_same(out.array())) return py::none();
  without_gil([&] {  // a launch may wait for room in the stream's queue
    const cuda::Stream on(x.device(), static_cast<cudaStream_t>(stream));
    fn(in, out.array().writable(), cuda::Exec{on});
  });
  return out.object();
}

template <auto fn>
void bind_plain_rows(py::module_& m, const char* name, bool reduces) {
  m.def(name, [reduces](py::handle x, py::handle out) {
    return on_dense(std::array{x}, out, reduces, [](const auto& in, const View& y, const cuda::Exec& exec) {
      fn(in[0]->view(), y, RowOptions{}, exec);
    });
  });
}
template <auto fn>
void bind_plain_row_grad(py::module_& m, const char* name) {
  m.def(name, [](py::handle g, py::handle y, py::handle out) {
    return on_dense(std::array{g, y}, out, false, [](const auto& in, const View& to, const cuda::Exec& exec) {
      fn(in[0]->view(), in[1]->view(), to, RowOptions{}, exec);
    });
  });
}
template <auto fn>
void bind_plain_unary(py::module_& m, const char* name) {
  m.def(name, [](py::handle x, double beta, py::handle out) {
    return on_dense(std::array{x}, out, false, [beta](const auto& in, const View& y, const cuda::Exec& exec) {
      fn(in[0]->view(), y, beta, exec);
    });
  });
}
template <auto fn>
void bind_plain_binary(py::module_& m, const char* name) {
  m.def(name, [](py::handle g, py::handle x, double beta, py::handle out) {
    return on_dense(std::array{g, x}, out, false, [beta](const auto& in, const View& y, const cuda::Exec& exec) {
      fn(in[0]->view(), in[1]->view(), y, beta, exec);
    });
  });
}

}  // namespace vastmax::python
