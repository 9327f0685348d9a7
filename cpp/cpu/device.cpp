#include "bainite/device.hpp"

#if defined(__GLIBC__)
#include <malloc.h>

#endif

namespace bainite {

const char* simd_path() {
#if BAINITE_HAS_CLONES
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return "avx512";
  if (__builtin_cpu_supports("x86-64-v3")) return "avx2";
#endif
  return "baseline";
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  // The builtin takes literals only.
#define BAINITE_FEATURE(name) \
  if (__builtin_cpu_supports(name)) found.emplace_back(name)
  BAINITE_FEATURE("sse4.2");
  BAINITE_FEATURE("avx");
  BAINITE_FEATURE("avx2");
  BAINITE_FEATURE("fma");
  BAINITE_FEATURE("avx512f");
  BAINITE_FEATURE("avx512bw");
  BAINITE_FEATURE("avx512vl");
  BAINITE_FEATURE("avx512vnni");
  BAINITE_FEATURE("avx512bf16");
#undef BAINITE_FEATURE
#elif defined(__aarch64__)
  found.emplace_back("neon");
#endif
  return found;
}

bool tune_allocator() {
#if defined(__GLIBC__)
  const bool no_mmap = mallopt(M_MMAP_MAX, 0) == 1;
  const bool no_trim = mallopt(M_TRIM_THRESHOLD, -1) == 1;  // never; a number would end at 2 GiB
  const bool big_steps = mallopt(M_TOP_PAD, 256 << 20) == 1;
  // Arenas of threads are made of heaps of 64 MiB that are unmapped when they are empty: only the main one keeps
  // memory.
  const bool one_arena = mallopt(M_ARENA_MAX, 1) == 1;
  return no_mmap && no_trim && big_steps && one_arena;
#else
  return false;
#endif
}

}  // namespace bainite
