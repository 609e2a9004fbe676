// SPDX-License-Identifier: Apache-2.0
// Streams, workspace and errors: the little of the CUDA runtime that the library uses.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace vastmax::cuda {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::string text) : text_(std::move(text)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

void check(cudaError_t);                 // throws Error
void forget(cudaError_t) noexcept;       // where nothing can be done: else the next library would report the error
bool is_capturing(cudaStream_t stream);  // into a graph

// A stream of a device, which is the current device while this lives.
class Stream {
 public:
  Stream(int device, cudaStream_t handle);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t handle() const { return handle_; }
  int device() const { return device_; }
  int processors() const { return processors_; }
  std::size_t shared_per_block() const { return shared_per_block_; }
  std::size_t shared_per_processor() const { return shared_per_processor_; }

 private:
  cudaStream_t handle_;
  int device_, before_ = 0, processors_ = 0;
  std::size_t shared_per_block_ = 0, shared_per_processor_ = 0;
};

// Whether a handle is a stream of the device. One that was destroyed may be known as such by the driver, or not.
bool is_stream_of(int device, cudaStream_t handle);

struct Memory {
  std::size_t free, total;  // free: what the driver has left, and what the pool keeps for the next allocation
};
Memory memory_of(const Stream&);

// Device memory that is freed in the order of the stream.
void* allocate(std::size_t bytes, const Stream&, const char* what);  // throws OutOfMemory
void release(void*, const Stream&) noexcept;

template <class T>
class Workspace {
 public:
  Workspace(std::int64_t count, const Stream& stream, const char* op)
      : stream_(stream), data_(static_cast<T*>(allocate(static_cast<std::size_t>(count) * sizeof(T), stream, op))) {}
  ~Workspace() { release(data_, stream_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  T* data() const { return data_; }

 private:
  const Stream& stream_;
  T* data_;
};

}  // namespace vastmax::cuda
