#include "fine_clock.h"

#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <numeric>

namespace qprof::litert {

namespace {

constexpr int64_t kFaster = 1000;
constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;

#if defined(__x86_64__)
constexpr uint64_t kJumpSlot = R_X86_64_JUMP_SLOT;
constexpr uint64_t kGlobalData = R_X86_64_GLOB_DAT;
#elif defined(__aarch64__)
constexpr uint64_t kJumpSlot = R_AARCH64_JUMP_SLOT;
constexpr uint64_t kGlobalData = R_AARCH64_GLOB_DAT;
#endif

// The readings of a thread's node that runs now.
struct Readings {
  bool is_on = false;
  int64_t begin_ns = 0;
  size_t count = 0;
  std::span<int64_t> room;
};

thread_local Readings kept;

int fine_clock(clockid_t clock, timespec* now) {
  const int status = clock_gettime(clock, now);
  Readings& mine = kept;
  if (!mine.is_on || clock != CLOCK_MONOTONIC || status != 0) return status;
  const int64_t now_ns = static_cast<int64_t>(now->tv_sec) * kNanosecondsPerSecond + now->tv_nsec;
  if (mine.count < mine.room.size()) mine.room[mine.count] = now_ns;
  ++mine.count;
  const int64_t fast_ns = mine.begin_ns + (now_ns - mine.begin_ns) * kFaster;
  now->tv_sec = fast_ns / kNanosecondsPerSecond;
  now->tv_nsec = fast_ns % kNanosecondsPerSecond;
  return status;
}

#if defined(__x86_64__) || defined(__aarch64__)

// A loaded library's dynamic section: its tables, as they lie in memory.
struct Imports {
  const ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela) * jump = nullptr;
  size_t jump_bytes = 0;
  const ElfW(Rela) * data = nullptr;
  size_t data_bytes = 0;
};

Imports imports_of(const dl_phdr_info& library, const ElfW(Dyn) * entry) noexcept {
  Imports found;
  bool jump_is_rela = false;
  // glibc has turned the section's offsets into addresses, other loaders leave them as they were.
  const auto at = [&](ElfW(Addr) address) {
    return reinterpret_cast<const void*>(address < library.dlpi_addr ? address + library.dlpi_addr : address);
  };
  for (; entry->d_tag != DT_NULL; ++entry) {
    switch (entry->d_tag) {
      case DT_SYMTAB: found.symbols = static_cast<const ElfW(Sym)*>(at(entry->d_un.d_ptr)); break;
      case DT_STRTAB: found.names = static_cast<const char*>(at(entry->d_un.d_ptr)); break;
      case DT_JMPREL: found.jump = static_cast<const ElfW(Rela)*>(at(entry->d_un.d_ptr)); break;
      case DT_PLTRELSZ: found.jump_bytes = entry->d_un.d_val; break;
      case DT_PLTREL: jump_is_rela = entry->d_un.d_val == DT_RELA; break;
      case DT_RELA: found.data = static_cast<const ElfW(Rela)*>(at(entry->d_un.d_ptr)); break;
      case DT_RELASZ: found.data_bytes = entry->d_un.d_val; break;
      default: break;
    }
  }
  if (!jump_is_rela) found.jump_bytes = 0;
  return found;
}

// Writes to a slot that the loader may have made read-only once it had filled it.
bool write_slot(const dl_phdr_info& library, void** slot, void* value) noexcept {
  const auto address = reinterpret_cast<uintptr_t>(slot);
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  bool is_locked = false;
  for (int i = 0; i < library.dlpi_phnum; ++i) {
    const ElfW(Phdr) & part = library.dlpi_phdr[i];
    const uintptr_t begin = library.dlpi_addr + part.p_vaddr;
    is_locked |= part.p_type == PT_GNU_RELRO && address >= begin && address < begin + part.p_memsz;
  }
  void* begin = reinterpret_cast<void*>(address & ~(page - 1));
  if (is_locked && mprotect(begin, page, PROT_READ | PROT_WRITE) != 0) return false;
  std::atomic_ref<void*>(*slot).store(value, std::memory_order_release);
  // Where it cannot be locked again it stays writable: less safe, not wrong.
  if (is_locked) (void)mprotect(begin, page, PROT_READ);
  return true;
}

bool plant_in(const dl_phdr_info& library, const Imports& imports) noexcept {
  bool is_planted = false;
  const auto plant = [&](const ElfW(Rela)* entries, size_t bytes, uint64_t kind) {
    for (size_t i = 0; i < bytes / sizeof(ElfW(Rela)); ++i) {
      if (ELF64_R_TYPE(entries[i].r_info) != kind) continue;
      const ElfW(Sym) & symbol = imports.symbols[ELF64_R_SYM(entries[i].r_info)];
      if (std::strcmp(imports.names + symbol.st_name, "clock_gettime") != 0) continue;
      auto** slot = reinterpret_cast<void**>(library.dlpi_addr + entries[i].r_offset);
      auto* clock = reinterpret_cast<void*>(&fine_clock);
      is_planted |= *slot == clock || write_slot(library, slot, clock);
    }
  };
  if (imports.symbols == nullptr || imports.names == nullptr) return false;
  if (imports.jump != nullptr) plant(imports.jump, imports.jump_bytes, kJumpSlot);
  if (imports.data != nullptr) plant(imports.data, imports.data_bytes, kGlobalData);
  return is_planted;
}

struct Search {
  uintptr_t address;
  bool is_planted;
};

int visit(dl_phdr_info* library, size_t, void* wanted) {
  auto* search = static_cast<Search*>(wanted);
  const ElfW(Dyn)* dynamic = nullptr;
  bool holds = false;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const ElfW(Phdr) & part = library->dlpi_phdr[i];
    const uintptr_t begin = library->dlpi_addr + part.p_vaddr;
    holds |= part.p_type == PT_LOAD && search->address >= begin && search->address < begin + part.p_memsz;
    if (part.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(begin);
  }
  if (!holds) return 0;
  search->is_planted = dynamic != nullptr && plant_in(*library, imports_of(*library, dynamic));
  return 1;
}

#endif

}  // namespace

bool plant_fine_clock(const void* function) noexcept {
#if defined(__x86_64__) || defined(__aarch64__)
  Search search{reinterpret_cast<uintptr_t>(function), false};
  dl_iterate_phdr(&visit, &search);
  return search.is_planted;
#else
  return false;
#endif
}

FineClock::FineClock(int64_t now_ns, std::span<int64_t> room) noexcept { kept = {true, now_ns, 0, room}; }

FineClock::~FineClock() { kept.is_on = false; }

std::span<const int64_t> FineClock::readings() const noexcept {
  return kept.count <= kept.room.size() ? kept.room.first(kept.count) : kept.room.first(0);
}

int64_t fine_clock_cost_ns() noexcept {
  std::array<int64_t, 2001> readings;
  // Called through a pointer that the compiler does not see through, as from another library's import table.
  int (*volatile clock)(clockid_t, timespec*) = &fine_clock;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  {
    const FineClock fine(static_cast<int64_t>(now.tv_sec) * kNanosecondsPerSecond + now.tv_nsec, readings);
    for (size_t i = 0; i < readings.size(); ++i) clock(CLOCK_MONOTONIC, &now);
  }
  // A clock may count in steps of ten nanoseconds and more: the mean of the middle half lies between them.
  std::adjacent_difference(readings.begin(), readings.end(), readings.begin());
  std::sort(readings.begin() + 1, readings.end());
  const auto quarter = static_cast<std::ptrdiff_t>((readings.size() - 1) / 4);
  const int64_t sum = std::accumulate(readings.begin() + 1 + quarter, readings.end() - quarter, int64_t{0});
  const int64_t count = static_cast<int64_t>(readings.size()) - 1 - 2 * quarter;
  return (sum + count / 2) / count;
}

}  // namespace qprof::litert
