// SPDX-License-Identifier: Apache-2.0
#include "cuda/simt/fibers.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define VM_ASAN 1
#else
#define VM_ASAN 0
#endif

namespace vastmax::simt {
namespace {

constexpr std::size_t stack_bytes = VM_ASAN ? 512 << 10 : 128 << 10;

struct Stack {
  std::byte* base;
  Stack()
      : base(static_cast<std::byte*>(
            mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    if (base == MAP_FAILED) throw std::bad_alloc();
  }
  Stack(Stack&& other) noexcept : base(std::exchange(other.base, nullptr)) {}
  ~Stack() {
    if (base != nullptr) munmap(base, stack_bytes);
  }
};

// Where a context stands.  swapcontext asks the kernel for the signal mask each time, which is most of the cost of a
// collective; on x86-64 the callee-saved registers are all there is to swap.
#if defined(__x86_64__)
struct Context {
  void* stack_pointer = nullptr;
};
extern "C" void vastmax_simt_swap(void** save, void* load);
asm(R"(
.text
.type vastmax_simt_swap, @function
vastmax_simt_swap:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vastmax_simt_swap, .-vastmax_simt_swap
)");
void swap(Context& from, Context& to) { vastmax_simt_swap(&from.stack_pointer, to.stack_pointer); }
void prepare(Context& c, std::byte* stack, void (*entry)()) {
  auto** top = reinterpret_cast<void**>(stack + stack_bytes);
  *--top = nullptr;  // keeps the stack pointer of `entry` where a call would have left it
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  c.stack_pointer = top;
}
#else
struct Context {
  ucontext_t context;
};
void swap(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
void prepare(Context& c, std::byte* stack, void (*entry)()) {
  getcontext(&c.context);
  c.context.uc_stack.ss_sp = stack;
  c.context.uc_stack.ss_size = stack_bytes;
  c.context.uc_link = nullptr;
  makecontext(&c.context, entry, 0);
}
#endif

std::string text(const std::source_location& at) {
  return std::string(at.file_name()) + ":" + std::to_string(at.line());
}

struct Fiber {
  Context context;
  bool done = false;
  const std::uint64_t* waits_for = nullptr;  // runs again once this counter has left `seen`
  std::uint64_t seen = 0;
  const std::source_location* where = nullptr;

  bool ready() const { return !done && (waits_for == nullptr || *waits_for != seen); }
};

// Lanes that have arrived at a collective.  Values are kept for two rounds: nobody can be two ahead.
struct Meeting {
  std::uint64_t round = 0;
  unsigned arrived = 0;
  std::source_location where;
  std::uint64_t value[2][warp_size];
};

struct Machine {
  std::vector<Stack> stacks;
  std::vector<Fiber> fibers;
  std::vector<Meeting> warps;
  Meeting barrier;
  Context scheduler;
  std::vector<std::byte> shared;
  Place place{};
  const Kernel* kernel = nullptr;
  Fiber* running = nullptr;
  std::string complaint;
  std::uint64_t seed = 1, launches = 0;
  unsigned most_blocks = ~0u;
  void* host_stack = nullptr;  // what the address sanitizer has to know of the scheduler's stack
  const void* host_bottom = nullptr;
  std::size_t host_bytes = 0;

  std::uint64_t random() {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed >> 33;
  }

  void enter(Fiber& fiber, std::byte* stack) {
    running = &fiber;
    place.thread = static_cast<unsigned>(&fiber - fibers.data());
#if VM_ASAN
    __sanitizer_start_switch_fiber(&host_stack, stack, stack_bytes);
    swap(scheduler, fiber.context);
    __sanitizer_finish_switch_fiber(host_stack, nullptr, nullptr);
#else
    (void)stack;
    swap(scheduler, fiber.context);
#endif
  }
  void leave() {
    Fiber& fiber = *running;
#if VM_ASAN
    void* own = nullptr;
    __sanitizer_start_switch_fiber(fiber.done ? nullptr : &own, host_bottom, host_bytes);
    swap(fiber.context, scheduler);
    __sanitizer_finish_switch_fiber(own, &host_bottom, &host_bytes);
#else
    swap(fiber.context, scheduler);
#endif
  }
  [[noreturn]] void fail() {  // with a complaint; what the fiber holds by then is lost
    running->done = true;
    leave();
    __builtin_unreachable();
  }
  void wait(const Meeting& meeting, std::uint64_t round, const std::source_location& where) {
    running->waits_for = &meeting.round;
    running->seen = round;
    running->where = &where;
    leave();
    running->waits_for = nullptr;
  }
  // True for the one that completes the round.
  bool arrive(Meeting& meeting, unsigned all, const std::source_location& where) {
    if (meeting.arrived == 0)
      meeting.where = where;
    else if (meeting.where.line() != where.line() || meeting.where.file_name() != where.file_name()) {
      complaint = "threads of one warp or block meet at " + text(meeting.where) + " and at " + text(where);
      fail();
    }
    if (++meeting.arrived < all) return false;
    meeting.arrived = 0;
    ++meeting.round;
    return true;
  }

  [[noreturn]] void abandon(const std::string& why);
  void run_block(unsigned block);
  void run(const Launch& launch, const Kernel& what);
};

thread_local Machine machine;

void fiber_main() {
#if VM_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &machine.host_bottom, &machine.host_bytes);
#endif
  (*machine.kernel)();
  machine.running->done = true;
  machine.leave();
}

// Ends the launch; its fibers never return, so the next ones find their frames on the stacks.
void Machine::abandon(const std::string& why) {
#if VM_ASAN
  for (const Stack& stack : stacks) __asan_unpoison_memory_region(stack.base, stack_bytes);
#endif
  throw std::logic_error("simt: " + why);
}

void Machine::run_block(unsigned block) {
  place.block = block;
  std::fill(shared.begin(), shared.end(), std::byte{0xff});
  barrier = {};
  for (auto& warp : warps) warp = {};
  for (unsigned t = 0; t < place.threads; ++t) {
    fibers[t] = {};
    prepare(fibers[t].context, stacks[t].base, fiber_main);
#if VM_ASAN  // the last frames of the fiber before, which never returned from its last switch
    __asan_unpoison_memory_region(stacks[t].base + stack_bytes - 4096, 4096);
#endif
  }
  for (unsigned left = place.threads; left > 0;) {
    bool progress = false;
    const auto first = static_cast<unsigned>(random() % place.threads);
    for (unsigned i = 0; i < place.threads; ++i) {
      const unsigned t = (first + i) % place.threads;
      if (!fibers[t].ready()) continue;
      progress = true;
      enter(fibers[t], stacks[t].base);
      if (!complaint.empty()) abandon(std::exchange(complaint, {}));
      left -= fibers[t].done;
    }
    if (progress) continue;
    const auto stuck = std::find_if(fibers.begin(), fibers.end(), [](const Fiber& f) { return !f.done; });
    abandon("not every thread arrives at " + text(*stuck->where));
  }
}

void Machine::run(const Launch& launch, const Kernel& what) {
  if (launch.block == 0 || launch.block % warp_size != 0 || launch.block > 1024 || launch.grid == 0)
    throw std::logic_error("simt: a launch of " + std::to_string(launch.grid) + " blocks of " +
                           std::to_string(launch.block) + " threads");
  ++launches;
  place = {0, launch.block, 0, std::min(launch.grid, most_blocks)};
  kernel = &what;
  while (stacks.size() < launch.block) stacks.emplace_back();
  fibers.assign(launch.block, {});
  warps.assign(launch.block / warp_size, {});
  shared.resize(launch.shared_bytes);
  std::vector<unsigned> order(place.blocks);
  std::iota(order.begin(), order.end(), 0u);
  for (unsigned i = place.blocks; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  for (const unsigned block : order) run_block(block);
}

// Memory that kernels may touch: begin -> end, with a count for views that are given twice.
struct Span {
  std::size_t bytes;
  int holders;
};
std::multimap<const std::byte*, Span>& spans() {
  static std::multimap<const std::byte*, Span> all;
  return all;
}
std::mutex spans_mutex;
std::size_t longest = 0;

}  // namespace

void run(const Launch& launch, Kernel kernel) { machine.run(launch, kernel); }
void shuffle(std::uint64_t seed) { machine.seed = seed; }
void limit_grid(unsigned blocks) { machine.most_blocks = blocks == 0 ? ~0u : blocks; }
std::uint64_t launches() { return machine.launches; }
const Place& place() { return machine.place; }
std::byte* shared_memory() { return machine.shared.data(); }

void sync_block(const std::source_location& where) {
  const std::uint64_t round = machine.barrier.round;
  if (!machine.arrive(machine.barrier, machine.place.threads, where)) machine.wait(machine.barrier, round, where);
}

std::uint64_t exchange(std::uint64_t mine, unsigned from, const std::source_location& where) {
  const unsigned thread = machine.place.thread;
  Meeting& warp = machine.warps[thread / warp_size];
  const std::uint64_t round = warp.round;
  warp.value[round % 2][thread % warp_size] = mine;
  if (!machine.arrive(warp, warp_size, where)) machine.wait(warp, round, where);
  return warp.value[round % 2][from % warp_size];
}

void allow(const void* begin, std::size_t bytes) {
  const std::lock_guard lock(spans_mutex);
  spans().emplace(static_cast<const std::byte*>(begin), Span{bytes, 1});
  longest = std::max(longest, bytes);
}

void forbid(const void* begin, std::size_t bytes) {
  const std::lock_guard lock(spans_mutex);
  const auto [first, last] = spans().equal_range(static_cast<const std::byte*>(begin));
  const auto found = std::find_if(first, last, [&](const auto& entry) { return entry.second.bytes == bytes; });
  if (found != last) spans().erase(found);
}

void check_access(const void* address, std::size_t bytes, std::size_t alignment, bool writes) {
  const auto* at = static_cast<const std::byte*>(address);
  const auto describe = [&] {
    return std::string(writes ? "a store of " : "a load of ") + std::to_string(bytes) + " bytes";
  };
  if (reinterpret_cast<std::uintptr_t>(at) % alignment != 0) {
    machine.complaint = describe() + " needs an address that is a multiple of " + std::to_string(alignment);
    machine.fail();
  }
  const std::byte* const shared = machine.shared.data();
  if (at >= shared && at + bytes <= shared + machine.shared.size()) return;
  thread_local const std::byte* known = nullptr;  // of the last hit
  thread_local std::size_t known_bytes = 0;
  thread_local std::uint64_t known_launch = 0;
  if (known_launch == machine.launches && at >= known && at + bytes <= known + known_bytes) return;
  const auto find = [&] {  // fail() never returns, so nothing may be locked then
    const std::lock_guard lock(spans_mutex);
    for (auto it = spans().upper_bound(at); it != spans().begin();) {
      --it;
      if (it->first + longest < at + bytes) break;
      if (at + bytes > it->first + it->second.bytes) continue;
      known = it->first, known_bytes = it->second.bytes, known_launch = machine.launches;
      return true;
    }
    return false;
  };
  if (find()) return;
  machine.complaint = describe() + " outside the memory of the call";
  machine.fail();
}

}  // namespace vastmax::simt
