// SPDX-License-Identifier: Apache-2.0
// vastmax._cuda: the ops with the signatures of vastmax._core, but for (device, stream, strategy) at the end.  Arrays
// are ndarrays that describe device memory: addresses and strides, never read from the host.
#include <pybind11/stl.h>

#include "bindings/device_sampled.hpp"
#include "bindings/device_sampling.hpp"
#include "bindings/dlpack.hpp"
#include "bindings/exchange.hpp"
#include "bindings/kernels.hpp"
#include "cuda/runtime/images.hpp"
#include "cuda/vastmax_cuda.hpp"
#ifdef VASTMAX_SIMT
#include "cuda/simt/runtime.hpp"
#endif

namespace vastmax::python {
namespace {

void bind_kernels(py::module_& m) {
  bind_logsumexp<OnDevice>(m);
  bind_plain_rows<&cuda::logsumexp>(m, "logsumexp_plain", true);
#define VM_OP(shape, name, Formula) VM_BIND_##shape(name)
#define VM_BIND(shape, name) bind_##shape<OnDevice>(m, #name, [](const auto&... a) { cuda::name(a...); });
#define VM_BIND_ROWS(name) VM_BIND(rows, name) bind_plain_rows<&cuda::name>(m, #name "_plain", false);
#define VM_BIND_norm_map(name) VM_BIND_ROWS_##name
#define VM_BIND_ROWS_softmax VM_BIND_ROWS(softmax)
#define VM_BIND_ROWS_log_softmax VM_BIND_ROWS(log_softmax)
#define VM_BIND_ROWS_logsumexp_backward  // has a gradient: bind_logsumexp
#define VM_BIND_row_grad(name) VM_BIND(row_grad, name) bind_plain_row_grad<&cuda::name>(m, #name "_plain");
#define VM_BIND_unary(name) VM_BIND(unary, name) bind_plain_unary<&cuda::name>(m, #name "_plain");
#define VM_BIND_binary(name) VM_BIND(binary, name) bind_plain_binary<&cuda::name>(m, #name "_plain");
#include "cpp/ops.def"
  bind_bce<OnDevice, std::uintptr_t>(m, {VM_BCE_OPERANDS, "parts"});
  bind_cross_entropy<OnDevice, py::array>(m, {VM_LOSS_OPERANDS, "totals"});
  bind_statistics<OnDevice>(m);
  bind_selection<OnDevice>(m);
}

void bind_conversions(py::module_& m) {
  define<OnDevice>(m, "logsumexp_signs",
                   [](const OnDevice& on, const py::array& value, py::array sign) {
                     const ConstView in = view(value);
                     const View to = writable(sign);
                     on.run(size_of(value), [&](const cuda::Exec& exec) { cuda::logsumexp_signs(in, to, exec); });
                   },
                   {"value", "sign"});
  m.def("convert", [](const py::array& x, py::array out, int device, std::uintptr_t stream, int strategy) {
    if (!out.writeable()) throw std::invalid_argument("an output is read-only");
    const auto items = [](const py::array& a) {
      return cuda::Items{static_cast<std::byte*>(const_cast<void*>(a.data())), static_cast<std::size_t>(a.itemsize()),
                         shape_of(a), strides_of(a)};
    };
    if (x.dtype().is(out.dtype()) || x.dtype().equal(out.dtype())) {
      const cuda::Items from = items(x), to = items(out);
      return enqueue(device, stream, strategy, [&](const cuda::Exec& exec) { cuda::copy(from, to, exec); });
    }
    const ConstView in = view(x);
    const View to = writable(out);
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) { cuda::convert(in, to, exec); });
  });
}

void bind_loss_sums(py::module_& m) {
  m.def("bce_total", [](std::int64_t tiles, std::uintptr_t parts, std::uintptr_t sum, int device, std::uintptr_t stream,
                        int strategy) {
    enqueue(device, stream, strategy, [&](const cuda::Exec& exec) {
      cuda::bce_total(tiles, reinterpret_cast<const void*>(parts), reinterpret_cast<double*>(sum), exec);
    });
  });
  m.def("loss_tile", [](const py::array& like) { return cuda::loss_tile(supported(like)); });
}

int capability_of(int device) {  // 90 for 9.0
  int major = 0, minor = 0;
  cuda::check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  cuda::check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return 10 * major + minor;
}

// Why no device can be used; empty if one can.
std::string reason() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();
    return std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
  }
  if (count == 0) return "no CUDA device";
  for (int device = 0; device < count; ++device)
    if (cuda::has_image(VASTMAX_CUDA_ARCHITECTURES, capability_of(device))) return "";
  return "no kernels for a GPU of compute capability " + std::to_string(capability_of(0) / 10) + "." +
         std::to_string(capability_of(0) % 10) + ", only for " VASTMAX_CUDA_ARCHITECTURES;
}

py::dict device_info(int device) {
  cudaDeviceProp p;
  cuda::check(cudaGetDeviceProperties(&p, device));
  const cuda::Stream stream(device, nullptr);
  int driver = 0, runtime = 0;
  cuda::check(cudaDriverGetVersion(&driver));
  cuda::check(cudaRuntimeGetVersion(&runtime));
  py::dict d;
  d["name"] = p.name;
  d["capability"] = py::make_tuple(capability_of(device) / 10, capability_of(device) % 10);
  d["memory"] = p.totalGlobalMem;
  d["processors"] = stream.processors();
  d["driver"] = driver;
  d["runtime"] = runtime;
  return d;
}

// The device that an address belongs to, or -1 if no device can read it.
int device_of(std::uintptr_t address) {
  cudaPointerAttributes found;
  cuda::check(cudaPointerGetAttributes(&found, reinterpret_cast<const void*>(address)));
  return found.type == cudaMemoryTypeDevice || found.type == cudaMemoryTypeManaged ? found.device : -1;
}

// Host memory that a device copies from and to by itself.
py::array pinned(std::size_t bytes) {
  void* data = nullptr;
  if (cudaHostAlloc(&data, bytes, cudaHostAllocPortable) != cudaSuccess) {
    cudaGetLastError();
    throw cuda::OutOfMemory("pinned host memory: " + std::to_string(bytes) + " bytes wanted");
  }
  const py::capsule owner(data, [](void* held) { cuda::forget(cudaFreeHost(held)); });
  return py::array_t<std::uint8_t>({static_cast<py::ssize_t>(bytes)}, {1}, static_cast<std::uint8_t*>(data), owner);
}

void bind_devices(py::module_& m) {
  m.def("reason", &reason);
  m.def("has_image", &cuda::has_image);
  m.def("device_count", [] {
    int count = 0;
    cuda::check(cudaGetDeviceCount(&count));
    return count;
  });
  m.def("device_info", &device_info);
  m.def("plan", [](std::int64_t rows, std::int64_t classes, const py::array& like, bool reduces, int device) {
    constexpr const char* names[] = {"automatic", "brief", "block", "split"};
    return names[static_cast<int>(cuda::plan(rows, classes, supported(like), reduces, cuda::Stream(device, nullptr)))];
  });
  m.def("current_device", [] {
    int device = 0;
    cuda::check(cudaGetDevice(&device));
    return device;
  });
  m.def("device_of", &device_of);
  m.def("is_stream_of", [](int device, std::uintptr_t stream) { return cuda::is_stream_of(device, handle(stream)); });
  m.def("is_capturing", [](int device, std::uintptr_t stream) {
    const cuda::Stream current(device, nullptr);
    return cuda::is_capturing(handle(stream));
  });
}

void bind_streams_and_memory(py::module_& m) {
  m.def("new_stream", [](int device) {
    const cuda::Stream current(device, nullptr);
    cudaStream_t made;
    cuda::check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return reinterpret_cast<std::uintptr_t>(made);
  });
  m.def("end_stream", [](int device, std::uintptr_t stream) {
    const cuda::Stream current(device, nullptr);
    cuda::check(cudaStreamDestroy(handle(stream)));
  });
  m.def("memory", [](int device) {
    const cuda::Memory m = cuda::memory_of(cuda::Stream(device, nullptr));
    return std::pair(m.free, m.total);
  });
  m.def("pinned", &pinned);
  m.def("allocate", [](std::size_t bytes, int device, std::uintptr_t stream, const std::string& what) {
    return reinterpret_cast<std::uintptr_t>(
        cuda::allocate(bytes == 0 ? 1 : bytes, cuda::Stream(device, handle(stream)), what.c_str()));
  });
  // After the work of `stream`, or of all streams where others may hold the memory.
  m.def("free", [](std::uintptr_t data, int device, std::uintptr_t stream, bool shared) {
    const cuda::Stream on(device, handle(stream));
    if (shared) cuda::forget(cudaDeviceSynchronize());
    cuda::release(reinterpret_cast<void*>(data), on);
  });
  m.def("copy", [](std::uintptr_t to, std::uintptr_t from, std::size_t bytes, int device, std::uintptr_t stream) {
    without_gil([&] {  // memory that is not pinned is copied before this returns
      const cuda::Stream on(device, handle(stream));
      cuda::check(cudaMemcpyAsync(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes,
                                  cudaMemcpyDefault, on.handle()));
    });
  });
  m.def("synchronize", [](int device, std::uintptr_t stream) {
    without_gil([&] {
      const cuda::Stream on(device, handle(stream));
      cuda::check(cudaStreamSynchronize(on.handle()));
    });
  });
  m.def("wait", [](std::uintptr_t waiting, std::uintptr_t first, int device) {
    const cuda::Stream on(device, handle(waiting));
    cudaEvent_t event;
    cuda::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    cudaError_t status = cudaEventRecord(event, handle(first));
    if (status == cudaSuccess) status = cudaStreamWaitEvent(on.handle(), event, 0);
    cuda::forget(cudaEventDestroy(event));
    cuda::check(status);
  });
}

void bind_exchange(py::module_& m) {
  m.def("import_dlpack", &import_dlpack);
  m.def("export_dlpack", &export_dlpack);
}

// What tests ask of the SIMT machine.
void bind_machine([[maybe_unused]] py::module_& m) {
#ifdef VASTMAX_SIMT
  namespace simt = vastmax::simt;
  m.attr("simulated") = true;
  m.def("set_device", [](int device) { cuda::check(cudaSetDevice(device)); });
  m.def("has_context", &simt::has_context);
  m.def("capture", [](std::uintptr_t stream, bool on) { simt::capture(handle(stream), on); });
  m.def("last_error", [] { return std::string(cudaGetErrorName(cudaGetLastError())); });
  m.def("streams", &simt::streams);
  m.def("limit_pinned", &simt::limit_pinned);
  m.def("set_capability", &simt::set_capability);
  m.def("release_threshold", [](int device, std::optional<std::uint64_t> wanted) {
    cudaMemPool_t pool;
    cuda::check(cudaDeviceGetDefaultMemPool(&pool, device));
    std::uint64_t bytes = wanted.value_or(0);
    if (wanted) cuda::check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &bytes));
    cuda::check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &bytes));
    return bytes;
  });
#else
  m.attr("simulated") = false;
#endif
}

}  // namespace
}  // namespace vastmax::python

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const vastmax::cuda::OutOfMemory& e) {
      PyErr_SetString(PyExc_MemoryError, e.what());
    } catch (const vastmax::cuda::Error& e) {
      PyErr_SetString(PyExc_RuntimeError, e.what());
    }
  });
  vastmax::python::bind_kernels(m);
  vastmax::python::bind_conversions(m);
  vastmax::python::bind_loss_sums(m);
  vastmax::python::bind_device_sampled(m);
  vastmax::python::bind_device_groups(m);
  vastmax::python::bind_device_sampling(m);
  vastmax::python::bind_devices(m);
  vastmax::python::bind_streams_and_memory(m);
  vastmax::python::bind_exchange(m);
  vastmax::python::bind_machine(m);
}
