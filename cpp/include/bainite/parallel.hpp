// Threads of the kernels, under one cap for the whole process.
//
// A call borrows helper threads from the cap, runs, and returns them: nothing lives on between calls, so a fork is safe
// at any moment, and calls may come from any number of Python threads at once. One thread (`threads == 1`) means the
// caller's own: no lock, no atomic, no spawn.
#pragma once

#include <cstdint>
#include <functional>

namespace bainite {

// The cap. At first: BAINITE_NUM_THREADS, else OMP_NUM_THREADS, else all cores; never more than the CPU affinity and
// the cgroup's CPU quota (v1 or v2) allow.
int get_num_threads();

// Set the cap (n >= 1); n == 0 asks the environment again.
void set_num_threads(int n);

// Run body(begin, end) over chunks that together cover [0, count). Chunks start at multiples of `grain`; which thread
// runs which chunk is open, so a body's result must not depend on it. `threads`: 0 = the cap. What a body throws
// (std::bad_alloc) comes out of the call when all threads have stopped; some chunks are left undone then.
void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace bainite
