// SPDX-License-Identifier: Apache-2.0
// What the CUDA runtime would do, over host memory: two devices, streams whose work is done when it is enqueued, but
// for copies to pinned memory, which arrive when the stream is waited for.
#include "cuda/simt/runtime.hpp"

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "cuda/simt/fibers.hpp"

struct CUstream_st {
  int device;
};
struct CUevent_st {
  int device;
};
struct CUmemPoolHandle_st {
  int device;
  std::uint64_t release_threshold = 0;
};

// As many processors as make every strategy possible in a small test, and the shared memory of an H100.
namespace {

constexpr int devices = 2, processors = 2, shared_bytes = 227 << 10;
constexpr std::size_t memory = std::size_t{4} << 30;  // of each device

struct Block {
  std::size_t bytes;
  int device;
};

struct Arrival {  // of a copy to the host
  void* to;
  std::vector<std::byte> bytes;
};

std::mutex mutex;
struct State {
  std::map<void*, Block> blocks;
  std::map<void*, std::size_t> pinned;
  std::map<cudaStream_t, std::vector<Arrival>> streams{
      {nullptr, {}}, {cudaStreamLegacy, {}}, {cudaStreamPerThread, {}}};
  std::set<cudaStream_t> capturing;
  std::size_t used[devices] = {}, most_pinned = memory;
  bool context[devices] = {};
  int capability = 0;
};
State& state() {
  static State all;
  return all;
}
thread_local int current = 0;
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t failed(cudaError_t status) { return last_error = status; }

bool is_default(cudaStream_t s) { return s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread; }
bool known(cudaStream_t s) { return state().streams.contains(s); }
bool here(cudaStream_t s) { return known(s) && (is_default(s) || s->device == current); }

bool is_pinned(const void* at) {
  const auto after = state().pinned.upper_bound(const_cast<void*>(at));
  if (after == state().pinned.begin()) return false;
  const auto& [begin, bytes] = *std::prev(after);
  return static_cast<const std::byte*>(at) < static_cast<const std::byte*>(begin) + bytes;
}

void arrive(std::vector<Arrival>& all) {
  for (const Arrival& a : all) std::memcpy(a.to, a.bytes.data(), a.bytes.size());
  all.clear();
}

}  // namespace

const char* cudaGetErrorName(cudaError_t e) {
  switch (e) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return failed(cudaErrorInvalidDevice);
  current = device;
  const std::lock_guard lock(mutex);
  state().context[device] = true;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  const std::lock_guard lock(mutex);
  *value = what == cudaDevAttrMultiProcessorCount      ? processors
           : what == cudaDevAttrComputeCapabilityMajor ? state().capability / 10
           : what == cudaDevAttrComputeCapabilityMinor ? state().capability % 10
                                                       : shared_bytes;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  std::strcpy(p->name, "SIMT machine on the host");
  p->totalGlobalMem = memory;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = 0;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  static CUmemPoolHandle_st pools[devices] = {{0}, {1}};
  *pool = &pools[device];
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr what, void* value) {
  if (what != cudaMemPoolAttrReleaseThreshold) return failed(cudaErrorInvalidValue);
  std::memcpy(&pool->release_threshold, value, sizeof pool->release_threshold);
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr what, void* value) {
  const std::lock_guard lock(mutex);
  const std::uint64_t used = state().used[pool->device];  // nothing is kept
  std::memcpy(value, what == cudaMemPoolAttrReleaseThreshold ? &pool->release_threshold : &used, sizeof used);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* left, std::size_t* all) {
  const std::lock_guard lock(mutex);
  *left = memory - state().used[current], *all = memory;
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!here(stream)) return failed(cudaErrorInvalidResourceHandle);
  state().context[current] = true;
  if (bytes > memory - state().used[current]) return failed(cudaErrorMemoryAllocation);
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  if (*data == nullptr) return failed(cudaErrorMemoryAllocation);
  std::memset(*data, 0xff, bytes);  // NaN
  vastmax::simt::allow(*data, bytes);
  state().blocks[*data] = {bytes, current};
  state().used[current] += bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const auto found = state().blocks.find(data);
  if (found == state().blocks.end()) return failed(cudaErrorInvalidValue);
  if (!known(stream)) return failed(cudaErrorInvalidResourceHandle);
  const Block block = found->second;
  vastmax::simt::forbid(data, block.bytes);
  std::memset(data, 0xff, block.bytes);
  state().used[block.device] -= block.bytes;
  state().blocks.erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  if (bytes > state().most_pinned) return failed(cudaErrorMemoryAllocation);
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*data == nullptr) return failed(cudaErrorMemoryAllocation);
  const std::lock_guard lock(mutex);
  state().pinned[*data] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  const std::lock_guard lock(mutex);
  if (state().pinned.erase(data) == 0) return failed(cudaErrorInvalidValue);
  std::free(data);
  return cudaSuccess;
}
// Memory that this machine did not allocate counts as device 0: tests let arrays of the host play those of a GPU.
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* at) {
  const std::lock_guard lock(mutex);
  const auto after = state().blocks.upper_bound(const_cast<void*>(at));
  found->type = is_pinned(at) ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  found->device = 0;
  if (after == state().blocks.begin()) return cudaSuccess;
  const auto& [begin, block] = *std::prev(after);
  if (static_cast<const std::byte*>(at) < static_cast<const std::byte*>(begin) + block.bytes)
    found->device = block.device;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!here(stream)) return failed(cudaErrorInvalidResourceHandle);
  if (is_pinned(to)) {
    const auto* first = static_cast<const std::byte*>(from);
    state().streams[stream].push_back({to, {first, first + bytes}});
  } else {
    std::memcpy(to, from, bytes);
  }
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(mutex);
  *stream = new CUstream_st{current};
  state().streams[*stream];
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (is_default(stream) || state().streams.erase(stream) == 0) return failed(cudaErrorInvalidResourceHandle);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(mutex);
  if (!known(stream)) return failed(cudaErrorInvalidResourceHandle);
  *status = state().capturing.contains(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!known(stream)) return failed(cudaErrorInvalidResourceHandle);
  if (state().capturing.contains(stream)) return failed(cudaErrorStreamCaptureUnsupported);
  arrive(state().streams[stream]);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(mutex);
  if (!state().capturing.empty()) return failed(cudaErrorStreamCaptureUnsupported);
  for (auto& [stream, arrivals] : state().streams)
    if (here(stream)) arrive(arrivals);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  const std::lock_guard lock(mutex);
  return known(stream) ? cudaSuccess : failed(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = new CUevent_st{current};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const bool good = known(stream) && (is_default(stream) || stream->device == e->device);
  return good ? cudaSuccess : failed(cudaErrorInvalidResourceHandle);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPoint(const char* name, void** found, unsigned long long,
                                    cudaDriverEntryPointQueryResult* result) {
  using GetState = int (*)(int device, unsigned* flags, int* active);
  constexpr GetState get_state = [](int device, unsigned* flags, int* active) {
    *flags = 0, *active = vastmax::simt::has_context(device);
    return 0;
  };
  const bool good = std::string_view(name) == "cuDevicePrimaryCtxGetState";
  *found = good ? reinterpret_cast<void*>(get_state) : nullptr;
  *result = good ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

namespace vastmax::simt {

bool has_context(int device) {
  const std::lock_guard lock(mutex);
  return state().context[device];
}
void capture(cudaStream_t stream, bool on) {
  const std::lock_guard lock(mutex);
  if (on)
    state().capturing.insert(stream);
  else
    state().capturing.erase(stream);
}
std::size_t streams() {
  const std::lock_guard lock(mutex);
  return state().streams.size() - 3;  // the default ones
}
void limit_pinned(std::size_t bytes) {
  const std::lock_guard lock(mutex);
  state().most_pinned = bytes;
}
void set_capability(int capability) {
  const std::lock_guard lock(mutex);
  state().capability = capability;
}

}  // namespace vastmax::simt
