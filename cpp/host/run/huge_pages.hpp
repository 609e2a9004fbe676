// SPDX-License-Identifier: Apache-2.0
// Arrays that are read at random: in pages of 2 MiB where the system has them, as with small ones nearly every read
// waits for a page table too (docs/development/measured.md).
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace vastmax {

template <class T>
struct HugePages {
  using value_type = T;
  static constexpr std::size_t page = std::size_t{2} << 20;

  HugePages() = default;
  template <class U>
  HugePages(const HugePages<U>&) {}  // NOLINT: allocators convert

  T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_alloc();
    const std::size_t bytes = n * sizeof(T);
    if (bytes < 2 * page) return static_cast<T*>(::operator new(bytes));
    void* const at = ::operator new(bytes, std::align_val_t{page});
#ifdef MADV_HUGEPAGE
    madvise(at, bytes / page * page, MADV_HUGEPAGE);  // a wish
#endif
    return static_cast<T*>(at);
  }
  void deallocate(T* at, std::size_t n) {
    if (n * sizeof(T) < 2 * page)
      ::operator delete(at);
    else
      ::operator delete(at, std::align_val_t{page});
  }
  template <class U>
  bool operator==(const HugePages<U>&) const {
    return true;
  }
};

template <class T>
using Table = std::vector<T, HugePages<T>>;

}  // namespace vastmax
