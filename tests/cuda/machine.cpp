// SPDX-License-Identifier: Apache-2.0
// The SIMT machine sees what a GPU would suffer from: lanes that stay away, accesses beyond the memory of a call,
// vectors off their boundaries, memory that nobody wrote.
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <stdexcept>
#include <string>

#include "cuda/device/memory.hpp"
#include "cuda/runtime/stream.hpp"

namespace vastmax::cuda {
namespace {

std::string complaint_of(const simt::Launch& launch, const std::function<void()>& kernel) {
  try {
    simt::run(launch, simt::Kernel(kernel));
  } catch (const std::logic_error& e) {
    return e.what();
  }
  return "";
}

int failures = 0;
void expect(bool good, const char* what) {
  if (good) return;
  std::printf("%s\n", what);
  ++failures;
}
void expect_complaint(const char* part, const simt::Launch& launch, const std::function<void()>& kernel) {
  const std::string got = complaint_of(launch, kernel);
  if (got.find(part) != std::string::npos) return;
  std::printf("expected a complaint about \"%s\", got \"%s\"\n", part, got.c_str());
  ++failures;
}

void run() {
  const Stream stream(0, nullptr);
  auto* const memory = static_cast<std::byte*>(allocate(64, stream, "test"));

  expect_complaint("not every thread arrives", {1, 64, 0}, [] {
    if (thread() != 40) sync_block();
  });
  expect_complaint("not every thread arrives", {1, 32, 0}, [] {
    if (lane() != 3) shuffle_xor(1.0, 1);
  });
  expect_complaint("meet at", {1, 32, 0}, [] {
    if (lane() % 2 == 0)
      shuffle_xor(1.0, 1);
    else
      shuffle_xor(1.0, 1);
  });
  expect_complaint("outside the memory of the call", {1, 32, 0}, [=] { load_one<float>(memory + 64); });
  expect_complaint("outside the memory of the call", {1, 32, 0}, [=] { store_one<float>(memory - 4, 1); });
  expect_complaint("outside the memory of the call", {1, 32, 0}, [=] { load_aligned<float>(memory + 64); });
  expect_complaint("a multiple of 16", {1, 32, 0}, [=] { load_aligned<float>(memory + 4); });
  expect_complaint("a launch of", {1, 48, 0}, [] {});

  expect(std::isnan(*reinterpret_cast<float*>(memory)), "fresh memory is not NaN");
  bool poisoned = true;
  complaint_of({3, 32, 64}, [&] {
    auto* const shared = reinterpret_cast<float*>(shared_memory());
    poisoned &= std::isnan(shared[lane() % 16]);
    shuffle_xor(0.0, 1);
    shared[lane() % 16] = 0;
  });
  expect(poisoned, "shared memory of a block holds what another left");

  std::array<unsigned, 8> order{}, again{};
  unsigned next = 0;
  const auto note = [&] {
    if (thread() == 0) order[next++] = block();
  };
  simt::shuffle(1);
  complaint_of({8, 32, 0}, note);
  again = order, next = 0;
  simt::shuffle(2);
  complaint_of({8, 32, 0}, note);
  expect(order != again, "another seed gives the same order of blocks");

  std::array<double, 32> sums{};
  complaint_of({1, 32, 0}, [&] {
    double sum = lane();
    for (unsigned mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    sums[lane()] = sum;
  });
  for (const double sum : sums) expect(sum == 496, "a shuffle went astray");
  release(memory, stream);
}

}  // namespace
}  // namespace vastmax::cuda

int main() {
  vastmax::cuda::run();
  return vastmax::cuda::failures != 0;
}
