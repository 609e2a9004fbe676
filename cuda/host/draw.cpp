// SPDX-License-Identifier: Apache-2.0
// Samplers in device memory.
#include <stdexcept>

#include "cuda/kernels/launch.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {

DeviceSampler::DeviceSampler(const Sampler& host, const Stream& stream) : stream_(&stream), law_(host) {
  fill(host, law_);
  std::vector<Sampler> parts;
  if (host.law == Law::mixture) {
    parts.assign(host.parts, host.parts + host.part_count);
    for (Sampler& part : parts) fill(Sampler(part), part);
    law_.parts = copy(parts.data(), parts.size());
    law_.part_ends = copy(host.part_ends, host.part_count - 1);
    law_.part_log_weight = copy(host.part_log_weight, host.part_count);
  }
  if (!memory_.empty()) check(cudaStreamSynchronize(stream.handle()));  // `parts` ends here, other streams may begin
  stream_ = nullptr;
}

void DeviceSampler::Release::operator()(void* memory) const noexcept try {
  const Stream on(device, nullptr);
  forget(cudaDeviceSynchronize());
  release(memory, on);
} catch (const std::exception&) {  // the driver has gone before us, and the memory with it
}

void DeviceSampler::fill(const Sampler& from, Sampler& to) {
  if (from.law != Law::unigram) return;
  to.levels = copy(from.levels, std::size_t{from.level_count} + 1);
  to.level_log_q = copy(from.level_log_q, from.level_count);
  to.order = copy(from.order, static_cast<std::size_t>(from.classes));
  to.level_of = copy(from.level_of, static_cast<std::size_t>(from.classes));
}

template <class T>
const T* DeviceSampler::copy(const T* host, std::size_t count) {
  if (host == nullptr || count == 0) return nullptr;
  memory_.emplace_back(allocate(count * sizeof(T), *stream_, "sampler"), Release{stream_->device()});
  void* const to = memory_.back().get();
  check(cudaMemcpyAsync(to, host, count * sizeof(T), cudaMemcpyDefault, stream_->handle()));
  return static_cast<const T*>(to);
}

void draw_rows(const DeviceSampler& sampler, const Draws& draws, std::size_t rows, std::size_t n, std::int64_t* ids,
               const Exec& exec) {
  if (n > std::uint64_t{1} << 32) throw std::invalid_argument("draw: a row has 2^32 draws");
  if (rows == 0 || n == 0) return;
  draw({sampler.law(), draws, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(n), ids}, exec.stream);
}

void log_prob(const DeviceSampler& sampler, const std::int64_t* ids, std::size_t n, double* log_q, const Exec& exec) {
  if (n > 0) log_prob(sampler.law(), ids, static_cast<std::int64_t>(n), log_q, exec.stream);
}

}  // namespace vastmax::cuda
