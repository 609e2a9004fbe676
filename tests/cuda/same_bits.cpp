// SPDX-License-Identifier: Apache-2.0
// A row has the same bits whatever the strategy, the launch shape, the order of blocks, its alignment and the batch
// around it; element-wise results are those of the CPU.  Prints a digest: equal digests on a GPU and on the host's SIMT
// machine mean that the host's tests speak for the GPU.  An argument is the most classes of a row, where time is short.
#include <cstdlib>
#include <cstring>

#include "device_array.hpp"
#ifdef VASTMAX_SIMT
#include "cuda/simt/fibers.hpp"
#endif

namespace vastmax::testing {
namespace {

struct Digest {
  std::uint64_t value = 14695981039346656037u;  // FNV-1a
  void add(const Array& array) {
    for (std::size_t i = 0; i < array.bytes(); ++i)
      value = (value ^ std::to_integer<std::uint64_t>(array.data()[i])) * 1099511628211u;
  }
};

// Around lanes, groups and tiles; several tiles; more tiles than virtual threads.
constexpr std::pair<std::int64_t, std::int64_t> shapes[] = {
    {3, 0},    {2, 1},    {5, 2},    {3, 31},   {3, 33},   {9, 100},  {4, 1000},   {4, 1023},   {4, 1024},
    {4, 1025}, {4, 2047}, {4, 2048}, {3, 2049}, {3, 4099}, {5, 8192}, {2, 20'001}, {1, 50'257}, {1, 600'000}};

constexpr std::pair<cuda::Strategy, const char*> strategies[] = {{cuda::Strategy::automatic, "automatic"},
                                                                 {cuda::Strategy::brief, "brief"},
                                                                 {cuda::Strategy::block, "block"},
                                                                 {cuda::Strategy::split, "split"}};

template <class Cpu, class Cuda>
int check(const char* op, Cpu cpu, Cuda gpu, Layout layout, std::int64_t most, const cuda::Stream& stream,
          Digest& digest) {
  int failures = 0;
  constexpr bool rowwise = std::is_same_v<Cuda, CudaRow> || std::is_same_v<Cuda, CudaGrad>;
  for (const auto& [dtype, dtype_name] : dtypes)
    for (const auto& [rows, classes] : shapes) {
      if (classes > most) continue;
      const auto complain = [&](const char* what, const char* how) {
        std::printf("%s/%s at %lld x %lld: %s %s\n", op, dtype_name, static_cast<long long>(rows),
                    static_cast<long long>(classes), what, how);
        ++failures;
      };
      const auto fresh = [&] { return Operands::of(cpu, layout, dtype, rows, classes); };
      const auto same = [](const Operands& a, const Operands& b) {
        return std::memcmp(a.out.data(), b.out.data(), a.out.bytes()) == 0;
      };
      Operands want = fresh();
      call_cuda(gpu, want, {stream});
      digest.add(want.out);
      if constexpr (!rowwise) {
        Operands host = fresh();
        call(cpu, host, vastmax::Exec{.threads = 1, .isa = 0});
        if (!same(host, want)) complain("differs from", "the CPU");
      }
      for (const auto& [strategy, name] : strategies) {
        if (!rowwise && strategy != cuda::Strategy::automatic) continue;
        for (const std::size_t offset : {0, 1, 3}) {
          if (classes > 10'000 && offset != 3) continue;  // four fifths of the time; tiles start alike
#ifdef VASTMAX_SIMT
          simt::shuffle(offset + 77);
          simt::limit_grid(offset == 3 ? 2 : 0);
#endif
          Operands got = fresh();
          call_cuda(gpu, got, {stream, strategy}, offset);
          if (!same(got, want)) complain("other bits with", name);
        }
      }
#ifdef VASTMAX_SIMT
      simt::limit_grid(0);
#endif
    }
  return failures;
}

}  // namespace
}  // namespace vastmax::testing

int main(int arguments, char** argument) {
  using namespace vastmax::testing;
  const std::int64_t most = arguments > 1 ? std::atoll(argument[1]) : 1'000'000;
  int failures = 0;
  Digest digest;
  const vastmax::cuda::Stream stream(0, nullptr);
  every_op_of_both([&](const char* op, auto cpu, auto gpu, Layout layout) {
    failures += check(op, cpu, gpu, layout, most, stream, digest);
  });
  std::printf("digest %016llx\n", static_cast<unsigned long long>(digest.value));
  return failures != 0;
}
