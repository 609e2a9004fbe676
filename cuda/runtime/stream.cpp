// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime/stream.hpp"

#include <array>
#include <mutex>

namespace vastmax::cuda {
namespace {

struct Properties {
  bool known = false;
  int processors, shared_per_block, shared_per_processor;
};

// By default each synchronisation gives freed memory back to the driver.  So much stays, which is room for the
// workspace of any call; more would be missing to the other libraries of the process.  One of them may have asked for
// more.
void keep_freed_memory(int device) {
  cudaMemPool_t pool;
  check(cudaDeviceGetDefaultMemPool(&pool, device));
  std::uint64_t kept = 0, wanted = 256 << 20;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept));
  if (kept < wanted) check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &wanted));
}

// Whether a device has its primary context, which cudaSetDevice would make: hundreds of megabytes of its memory.
bool is_in_use(int device) {
  using GetState = int (*)(int device, unsigned* flags, int* active);
  static const GetState get_state = [] {
    constexpr const char* name = "cuDevicePrimaryCtxGetState";
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    forget(cudaGetDriverEntryPointByVersion(name, &found, 7000, cudaEnableDefault, &result));
#else
    forget(cudaGetDriverEntryPoint(name, &found, cudaEnableDefault, &result));
#endif
    return reinterpret_cast<GetState>(found);
  }();
  unsigned flags = 0;
  int active = 0;
  return get_state == nullptr || get_state(device, &flags, &active) != 0 || active != 0;
}

const Properties& properties(int device) {
  static std::array<Properties, 64> all;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  Properties& p = all.at(static_cast<std::size_t>(device));
  if (!p.known) {
    const auto ask = [device](cudaDeviceAttr what) {
      int value = 0;
      check(cudaDeviceGetAttribute(&value, what, device));
      return value;
    };
    p.processors = ask(cudaDevAttrMultiProcessorCount);
    p.shared_per_block = ask(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    p.shared_per_processor = ask(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    keep_freed_memory(device);
    p.known = true;
  }
  return p;
}

}  // namespace

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else the next call would report it again
  throw Error(std::string("CUDA: ") + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

void forget(cudaError_t status) noexcept {
  if (status != cudaSuccess) cudaGetLastError();
}

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

Stream::Stream(int device, cudaStream_t handle) : handle_(handle), device_(device) {
  int count = 0;
  check(cudaGetDeviceCount(&count));
  if (device < 0 || device >= count)
    throw std::invalid_argument("device is " + std::to_string(device) + "; accepted: 0 to " +
                                std::to_string(count - 1));
  check(cudaGetDevice(&before_));
  if (before_ != device) check(cudaSetDevice(device));
  const Properties& p = properties(device);
  processors_ = p.processors;
  shared_per_block_ = static_cast<std::size_t>(p.shared_per_block);
  shared_per_processor_ = static_cast<std::size_t>(p.shared_per_processor);
}

Stream::~Stream() {
  if (before_ != device_ && is_in_use(before_)) forget(cudaSetDevice(before_));
}

bool is_stream_of(int device, cudaStream_t handle) {
  const Stream current(device, nullptr);
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  const bool good = cudaEventRecord(event, handle) == cudaSuccess;  // both must belong to one device
  cudaGetLastError();                                               // of the record
  forget(cudaEventDestroy(event));
  return good;
}

Memory memory_of(const Stream& stream) {
  Memory m;
  check(cudaMemGetInfo(&m.free, &m.total));
  cudaMemPool_t pool;
  check(cudaDeviceGetDefaultMemPool(&pool, stream.device()));
  std::uint64_t reserved = 0, used = 0;
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved));
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
  m.free += static_cast<std::size_t>(reserved - used);
  return m;
}

void* allocate(std::size_t bytes, const Stream& stream, const char* what) {
  if (bytes == 0) return nullptr;
  void* data = nullptr;
  const cudaError_t status = cudaMallocAsync(&data, bytes, stream.handle());
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    const Memory left = memory_of(stream);
    throw OutOfMemory(std::string(what) + " on cuda:" + std::to_string(stream.device()) + ": out of memory, " +
                      std::to_string(bytes) + " bytes wanted, " + std::to_string(left.free) + " of " +
                      std::to_string(left.total) + " free");
  }
  check(status);
  return data;
}

void release(void* data, const Stream& stream) noexcept {
  if (data != nullptr) forget(cudaFreeAsync(data, stream.handle()));
}

}  // namespace vastmax::cuda
