// SPDX-License-Identifier: Apache-2.0
// What the CUDA runtime would do, over host memory: two devices, streams whose work is done when it is enqueued, but
// for copies to pinned memory, which arrive when the stream is waited for.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

#include "simt/fibers.hpp"

struct CUstream_st {
  int device;
};
struct CUevent_st {
  int device;
};
struct CUmemPoolHandle_st {
  int device;
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
  std::size_t used[devices] = {};
};
State& state() {
  static State all;
  return all;
}
thread_local int current = 0;

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
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return cudaErrorInvalidDevice;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  *value = what == cudaDevAttrMultiProcessorCount                                                   ? processors
           : what == cudaDevAttrComputeCapabilityMajor || what == cudaDevAttrComputeCapabilityMinor ? 0
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
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr, void* value) {
  const std::lock_guard lock(mutex);
  const std::uint64_t used = state().used[pool->device];  // nothing is kept
  std::memcpy(value, &used, sizeof used);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* left, std::size_t* all) {
  const std::lock_guard lock(mutex);
  *left = memory - state().used[current], *all = memory;
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!here(stream)) return cudaErrorInvalidResourceHandle;
  if (bytes > memory - state().used[current]) return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);  // NaN
  vastmax::simt::allow(*data, bytes);
  state().blocks[*data] = {bytes, current};
  state().used[current] += bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const auto found = state().blocks.find(data);
  if (found == state().blocks.end()) return cudaErrorInvalidValue;
  if (!known(stream)) return cudaErrorInvalidResourceHandle;
  const Block block = found->second;
  vastmax::simt::forbid(data, block.bytes);
  std::memset(data, 0xff, block.bytes);
  state().used[block.device] -= block.bytes;
  state().blocks.erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  const std::lock_guard lock(mutex);
  state().pinned[*data] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  const std::lock_guard lock(mutex);
  if (state().pinned.erase(data) == 0) return cudaErrorInvalidValue;
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
  if (!here(stream)) return cudaErrorInvalidResourceHandle;
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
  if (is_default(stream) || state().streams.erase(stream) == 0) return cudaErrorInvalidResourceHandle;
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  if (!known(stream)) return cudaErrorInvalidResourceHandle;
  arrive(state().streams[stream]);
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(mutex);
  for (auto& [stream, arrivals] : state().streams)
    if (here(stream)) arrive(arrivals);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t, unsigned) {
  const std::lock_guard lock(mutex);
  return known(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = new CUevent_st{current};
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const bool good = known(stream) && (is_default(stream) || stream->device == e->device);
  return good ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}
