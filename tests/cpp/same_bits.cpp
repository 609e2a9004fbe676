// SPDX-License-Identifier: Apache-2.0
// Every op on every instruction set and 1 or 3 threads gives the bytes that scalar code gives on one thread.  Arrays
// end where their memory ends and start unaligned, so that a run under a sanitizer sees each byte read or written too
// much. Prints a digest of all results: equal digests on two machines mean equal bits (.ci/run compares x86-64 with
// aarch64).
#include <cstdio>
#include <cstring>

#include "cpp/testing/every_op.hpp"

namespace vastmax::testing {
namespace {

// Tails of every length, then several blocks, and enough work for threads.
std::vector<std::pair<std::int64_t, std::int64_t>> shapes() {
  std::vector<std::pair<std::int64_t, std::int64_t>> found;
  for (std::int64_t n = 0; n <= 67; ++n) found.emplace_back(2, n);
  for (const std::int64_t n : {130, 1000, 4099, 8192}) found.emplace_back(3, n);
  found.emplace_back(1, 70'001);
  found.emplace_back(70, 1'001);
  return found;
}

struct Digest {
  std::uint64_t value = 14695981039346656037u;  // FNV-1a
  void add(const Array& array) {
    for (std::size_t i = 0; i < array.bytes(); ++i)
      value = (value ^ std::to_integer<std::uint64_t>(array.data()[i])) * 1099511628211u;
  }
};

template <class Fn>
int check(const char* op, Fn fn, Layout layout, Digest& digest) {
  int failures = 0;
  for (const auto& [dtype, dtype_name] : dtypes)
    for (const auto& [rows, classes] : shapes()) {
      const std::size_t offset = static_cast<std::size_t>(classes) % 5;
      Operands want = Operands::of(fn, layout, dtype, rows, classes, offset);
      call(fn, want, Exec{.threads = 1, .isa = 0});
      digest.add(want.out);
      for (std::size_t i = 0; i < isas().size(); ++i)
        for (const int threads : {1, 3}) {
          if (!runnable(isas()[i])) continue;
          Operands got = Operands::of(fn, layout, dtype, rows, classes, offset);
          call(fn, got, Exec{.threads = threads, .isa = static_cast<int>(i)});
          if (std::memcmp(got.out.data(), want.out.data(), want.out.bytes()) == 0) continue;
          std::printf("%s/%s/%s on %d threads differs from scalar at %lld x %lld\n", op, dtype_name, name(isas()[i]),
                      threads, static_cast<long long>(rows), static_cast<long long>(classes));
          ++failures;
        }
    }
  return failures;
}

}  // namespace
}  // namespace vastmax::testing

int main() {
  using namespace vastmax::testing;
  int failures = 0;
  Digest digest;
  every_op([&](const char* op, auto fn, Layout layout) { failures += check(op, fn, layout, digest); });
  for (const auto isa : vastmax::isas())
    std::fprintf(stderr, "%s %s\n", name(isa), runnable(isa) ? "ran" : "cannot run here");
  std::printf("digest %016llx\n", static_cast<unsigned long long>(digest.value));
  return failures != 0;
}
