// SPDX-License-Identifier: Apache-2.0
// Which instruction sets are built, which this machine runs, which is active.
#include "cpp/host/run/isa.hpp"

#include <array>
#include <atomic>
#include <stdexcept>

// VM_BUILT_ISAS(VM), from cmake/core.cmake: VM(scalar) VM(avx2) ...
#define VM_DECLARE(isa)    \
  namespace vastmax::isa { \
  void fill(Kernels&);     \
  }
VM_BUILT_ISAS(VM_DECLARE)

namespace vastmax {
namespace {

#define VM_NAME(isa) Isa::isa,
constexpr Isa built[] = {VM_BUILT_ISAS(VM_NAME)};

bool detect(Isa isa) {
#if defined(__x86_64__)
  // libgcc asks cpuid for the instructions and xgetbv for the registers that the system saves.
  if (isa == Isa::avx2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::avx512)
    return detect(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return isa == Isa::scalar || isa == Isa::neon;
}

struct Tables {
  std::array<Kernels, 4> at;
  Tables() {
// fill itself is compiled for its instruction set: not to be called where that does not run
#define VM_FILL(isa) \
  if (detect(Isa::isa)) isa::fill(at[static_cast<int>(Isa::isa)]);
    VM_BUILT_ISAS(VM_FILL)
  }
};

Isa best() {
  Isa found = Isa::scalar;
  for (const Isa isa : built)
    if (runnable(isa)) found = isa;
  return found;
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{best()};
  return isa;
}

}  // namespace

std::span<const Isa> isas() { return built; }

const char* name(Isa isa) {
  constexpr const char* names[] = {"scalar", "avx2", "avx512", "neon"};
  return names[static_cast<int>(isa)];
}

bool runnable(Isa isa) {
  for (const Isa each : built)
    if (each == isa) return detect(isa);
  return false;
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void set_active_isa(Isa isa) {
  if (!runnable(isa))
    throw std::invalid_argument(std::string("instruction set ") + name(isa) + " does not run on this machine");
  active().store(isa, std::memory_order_relaxed);
}

const Kernels& kernels(const Exec& exec) {
  static const Tables tables;
  Isa isa = active_isa();
  if (exec.isa >= 0) {
    if (exec.isa >= static_cast<int>(std::size(built))) throw std::invalid_argument("no instruction set of that index");
    isa = built[exec.isa];
    if (!runnable(isa))
      throw std::invalid_argument(std::string("instruction set ") + name(isa) + " does not run on this machine");
  }
  return tables.at[static_cast<int>(isa)];
}

}  // namespace vastmax
