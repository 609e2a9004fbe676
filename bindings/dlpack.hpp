// SPDX-License-Identifier: Apache-2.0
// DLPack 1.x: the structures of its specification, and capsules in and out.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace py = pybind11;

namespace vastmax::python {

struct DLDevice {
  std::int32_t type, id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides;  // strides in elements; null for C order
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor tensor;
  void* context;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor tensor;
};
inline constexpr std::uint64_t dl_read_only = 1;
inline constexpr std::uint32_t dl_major = 1;

// What is kept until the consumer's deleter runs, which may be without the GIL or after the interpreter.
struct Exported {
  DLManagedTensorVersioned versioned;
  DLManagedTensor plain;
  std::vector<std::int64_t> shape, strides;
  PyObject* owner;

  void release() {
    if (Py_IsInitialized() != 0) {
      const py::gil_scoped_acquire gil;
      Py_DECREF(owner);
    }
    delete this;
  }
};

template <class Managed>
void destroy_unused(PyObject* capsule, const char* name) {
  if (PyCapsule_IsValid(capsule, name) == 0) return;  // taken, and renamed
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

inline py::object export_dlpack(py::object owner, std::uintptr_t data, std::pair<int, int> device, int code, int bits,
                                std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, bool versioned,
                                bool read_only) {
  auto* e = new Exported{};
  e->shape = std::move(shape), e->strides = std::move(strides), e->owner = owner.release().ptr();
  const DLTensor tensor{reinterpret_cast<void*>(data),
                        {device.first, device.second},
                        static_cast<std::int32_t>(e->shape.size()),
                        {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1},
                        e->shape.data(),
                        e->strides.data(),
                        0};
  PyObject* capsule;
  if (versioned) {
    e->versioned = {dl_major,
                    0,
                    e,
                    [](DLManagedTensorVersioned* m) { static_cast<Exported*>(m->context)->release(); },
                    read_only ? dl_read_only : 0,
                    tensor};
    capsule = PyCapsule_New(&e->versioned, "dltensor_versioned",
                            [](PyObject* c) { destroy_unused<DLManagedTensorVersioned>(c, "dltensor_versioned"); });
  } else {
    e->plain = {tensor, e, [](DLManagedTensor* m) { static_cast<Exported*>(m->context)->release(); }};
    capsule = PyCapsule_New(&e->plain, "dltensor", [](PyObject* c) { destroy_unused<DLManagedTensor>(c, "dltensor"); });
  }
  if (capsule == nullptr) {
    e->release();
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(capsule);
}

// Takes over what a capsule holds: (pointer, (device type, id), (code, bits, lanes), shape, strides in elements or
// None, read-only, owner); the memory lives as long as `owner`.
template <class Managed>
py::tuple take(PyObject* capsule, const char* name, const char* used, bool read_only) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  const DLTensor& t = managed->tensor;
  py::capsule owner(managed, [](void* m) {
    auto* held = static_cast<Managed*>(m);
    if (held->deleter != nullptr) held->deleter(held);
  });
  PyCapsule_SetName(capsule, used);
  const std::vector<std::int64_t> shape(t.shape, t.shape + t.ndim);
  py::object strides = py::none();
  if (t.strides != nullptr) strides = py::cast(std::vector<std::int64_t>(t.strides, t.strides + t.ndim));
  return py::make_tuple(t.data == nullptr ? 0 : reinterpret_cast<std::uintptr_t>(t.data) + t.byte_offset,
                        py::make_tuple(t.device.type, t.device.id),
                        py::make_tuple(t.dtype.code, t.dtype.bits, t.dtype.lanes), shape, strides, read_only, owner);
}
inline py::tuple import_dlpack(const py::object& given) {
  PyObject* const capsule = given.ptr();
  if (PyCapsule_IsValid(capsule, "dltensor_versioned") != 0) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    if (managed->major != dl_major) {
      const auto text = "DLPack version is " + std::to_string(managed->major) + "; accepted: 1";
      PyCapsule_SetName(capsule, "used_dltensor_versioned");
      if (managed->deleter != nullptr) managed->deleter(managed);
      throw py::buffer_error(text);
    }
    return take<DLManagedTensorVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned",
                                          (managed->flags & dl_read_only) != 0);
  }
  if (PyCapsule_IsValid(capsule, "dltensor") != 0)
    return take<DLManagedTensor>(capsule, "dltensor", "used_dltensor", false);
  throw py::buffer_error("__dlpack__ gave no capsule that is still unused");
}

}  // namespace vastmax::python
