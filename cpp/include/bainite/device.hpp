// What host and device code share: the function qualifier, the device's name, and the run-time SIMD choice of the host.
#pragma once

#include <string>
#include <vector>

#if defined(__CUDACC__)
#define BAINITE_HD __host__ __device__
#else
#define BAINITE_HD
#endif

// Inlined even at -O0 into a cloned loop: a function that is not inlined would stay at the baseline instruction set.
#if defined(__GNUC__)
#define BAINITE_INLINE inline __attribute__((always_inline))
#else
#define BAINITE_INLINE inline
#endif

// One loop, several instruction sets, chosen when the library is loaded. Needs ifunc (glibc); everywhere else, and
// under sanitizers (whose run time is not ready when ifuncs are resolved), the baseline alone is built. Results do not
// depend on the choice: contraction to FMA is off and no loop reorders float additions.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(BAINITE_NO_CLONES)
#define BAINITE_HAS_CLONES 1
#define BAINITE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define BAINITE_HAS_CLONES 0
#define BAINITE_CLONES
#endif

namespace bainite {

enum class Device { cpu, cuda };

// Instruction-set path that the cloned loops take on this machine: "avx512" (x86-64-v4), "avx2" (x86-64-v3),
// "baseline".
const char* simd_path();

// Instruction sets of this CPU that matter to the kernels or to the network's run time, such as "avx2".
std::vector<std::string> cpu_features();

// Let glibc keep freed memory instead of returning it to the kernel, so that large activations are not paged in again
// and again. Process-wide. False where the allocator is not glibc's.
bool tune_allocator();

}  // namespace bainite
