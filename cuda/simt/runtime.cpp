// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "simt/fibers.hpp"

// As many processors as make every strategy possible in a small test, and the shared memory of an H100.
namespace {

constexpr int processors = 2, shared_bytes = 227 << 10;
constexpr std::size_t memory = std::size_t{4} << 30;  // more at once is "out of memory"

std::mutex mutex;
std::map<void*, std::size_t>& sizes() {
  static std::map<void*, std::size_t> all;
  return all;
}

}  // namespace

const char* cudaGetErrorName(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
         : e == cudaErrorInvalidDevice  ? "cudaErrorInvalidDevice"
         : e == cudaSuccess             ? "cudaSuccess"
                                        : "cudaErrorInvalidValue";
}
const char* cudaGetErrorString(cudaError_t e) { return cudaGetErrorName(e); }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
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
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int) {
  *pool = nullptr;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemGetInfo(std::size_t* left, std::size_t* all) {
  *left = *all = memory;
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
  *data = bytes > memory ? nullptr : std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);  // NaN
  vastmax::simt::allow(*data, bytes);
  const std::lock_guard lock(mutex);
  sizes()[*data] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* data, cudaStream_t) {
  const std::lock_guard lock(mutex);
  const auto found = sizes().find(data);
  if (found == sizes().end()) return cudaErrorInvalidValue;
  vastmax::simt::forbid(data, found->second);
  std::memset(data, 0xff, found->second);
  sizes().erase(found);
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
