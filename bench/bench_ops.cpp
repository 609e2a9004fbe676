// SPDX-License-Identifier: Apache-2.0
// Every op, dtype, instruction set and size through the public API, one row a call.  Protocol: README.md.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpp/testing/every_op.hpp"

namespace vastmax::testing {
namespace {

constexpr std::int64_t sizes[] = {1024, 131'072,
                                  16'777'216};  // float32 in the first-level cache, in the second, in memory

int threads() {
  const char* wanted = std::getenv("VASTMAX_NUM_THREADS");
  const int n = wanted ? std::atoi(wanted) : 1;
  if (n < 1) throw std::invalid_argument("VASTMAX_NUM_THREADS must be at least 1");
  return n;
}

template <class Fn>
void measure(benchmark::State& state, Fn fn, Layout layout, DType dtype, std::int64_t classes, const Exec& exec) {
  Operands on = Operands::of(fn, layout, dtype, 1, classes);
  for (auto _ : state) {
    call(fn, on, exec);
    benchmark::ClobberMemory();
  }
  const auto bytes = on.first.bytes() + (takes_two<Fn> ? on.second.bytes() : 0) + on.out.bytes();
  state.SetItemsProcessed(state.iterations() * classes);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

template <class Fn>
void add(const char* op, Fn fn, Layout layout) {
  for (const auto& [dtype, dtype_name] : dtypes)
    for (std::size_t i = 0; i < isas().size(); ++i)
      for (const std::int64_t classes : sizes) {
        if (!runnable(isas()[i])) continue;
        const std::string path =
            std::string(op) + "/" + dtype_name + "/" + name(isas()[i]) + "/" + std::to_string(classes);
        const Exec exec{.threads = threads(), .isa = static_cast<int>(i)};
        auto* const entry = benchmark::RegisterBenchmark(path.c_str(), [=, dtype = dtype](benchmark::State& state) {
          measure(state, fn, layout, dtype, classes, exec);
        });
        if (threads() > 1) entry->UseRealTime();
      }
}

}  // namespace

void add_samplers(int threads);  // bench_samplers.cpp

}  // namespace vastmax::testing

int main(int argc, char** argv) {
  using namespace vastmax;
  std::string names;
  for (const Isa isa : isas())
    if (runnable(isa)) names += std::string(names.empty() ? "" : " ") + name(isa);
  benchmark::AddCustomContext("isa", names);
  benchmark::AddCustomContext("threads", std::to_string(testing::threads()));
  benchmark::AddCustomContext("commit", VASTMAX_COMMIT);
  testing::every_op([](const char* op, auto fn, testing::Layout layout) { testing::add(op, fn, layout); });
  testing::add_samplers(testing::threads());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
