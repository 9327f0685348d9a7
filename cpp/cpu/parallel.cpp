#include "bainite/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace bainite {
namespace {

constexpr int kNoLimit = 1 << 20;

int env_threads(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return kNoLimit;
  const long value = std::strtol(text, nullptr, 10);  // "4,2" (nested levels of OpenMP) reads as 4
  return value >= 1 ? static_cast<int>(std::min<long>(value, kNoLimit)) : kNoLimit;
}

int affinity_threads() {
#if defined(__linux__)
  // More CPUs than a cpu_set_t holds give EINVAL; then hardware_concurrency, which asks in its own way, decides.
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

#if defined(__linux__)
// CPUs that a quota of `quota` µs in every `period` µs is worth, rounded up; no limit when either is absent.
int quota_threads(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return kNoLimit;
  return std::max(1, static_cast<int>(std::min(quota / period + 0.999, static_cast<double>(kNoLimit))));
}

int quota_of_v2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max") return kNoLimit;
  return quota_threads(std::atof(quota.c_str()), period);
}

int quota_of_v1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period)) return kNoLimit;
  return quota_threads(quota, period);
}

// The tightest quota of `path` and every folder above it: a parent's limit binds its children.
int tightest(const std::string& mount, std::string path, int (*quota_of)(const std::string&)) {
  int limit = quota_of(mount);
  while (path.size() > 1) {
    limit = std::min(limit, quota_of(mount + path));
    path.erase(path.find_last_of('/'));
  }
  return limit;
}

int cgroup_threads() {
  int limit = kNoLimit;
  std::ifstream groups("/proc/self/cgroup");  // lines "id:controllers:path"; "0::path" is v2
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      limit = std::min(limit, tightest("/sys/fs/cgroup", path, quota_of_v2));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      limit = std::min(limit, tightest("/sys/fs/cgroup/cpu", path, quota_of_v1));
      limit = std::min(limit, tightest("/sys/fs/cgroup/cpu,cpuacct", path, quota_of_v1));
    }
  }
  return limit;
}
#else
int cgroup_threads() { return kNoLimit; }
#endif

int default_threads() {
  const int own = env_threads("BAINITE_NUM_THREADS");
  const int wanted = own != kNoLimit ? own : env_threads("OMP_NUM_THREADS");
  return std::max(1, std::min({wanted, affinity_threads(), cgroup_threads()}));
}

std::atomic<int> cap{0};      // 0 = not asked yet
std::atomic<int> helpers{0};  // helper threads alive in this process, over all calls

// Up to `wanted` helpers out of the cap, for a scope; the caller's own thread is the one that is always there.
class Helpers {
 public:
  Helpers(int wanted, int limit) {
    int used = helpers.load(std::memory_order_relaxed);
    do {
      granted_ = std::max(0, std::min(wanted, limit - 1 - used));
    } while (granted_ > 0 && !helpers.compare_exchange_weak(used, used + granted_, std::memory_order_relaxed));
  }
  ~Helpers() { helpers.fetch_sub(granted_, std::memory_order_relaxed); }
  Helpers(const Helpers&) = delete;
  Helpers& operator=(const Helpers&) = delete;

  int granted() const { return granted_; }

 private:
  int granted_ = 0;
};

// The first exception of several threads.
class Failure {
 public:
  void keep(std::exception_ptr error) {
    const std::lock_guard<std::mutex> guard(lock_);
    if (!first_) first_ = std::move(error);
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex lock_;
  std::exception_ptr first_;
};

#if defined(__linux__)
// A child of fork has none of its parent's helper threads, whatever the count said at that moment.
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { helpers.store(0, std::memory_order_relaxed); });
#endif

}  // namespace

int get_num_threads() {
  int current = cap.load(std::memory_order_relaxed);
  if (current == 0) {
    current = default_threads();
    int expected = 0;
    if (!cap.compare_exchange_strong(expected, current, std::memory_order_relaxed)) current = expected;
  }
  return current;
}

void set_num_threads(int n) { cap.store(std::max(0, n), std::memory_order_relaxed); }

void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body) {
  if (count <= 0) return;
  grain = std::max<std::int64_t>(grain, 1);
  const std::int64_t chunks = (count + grain - 1) / grain;
  if (threads == 1 || chunks == 1) return body(0, count);
  const int limit = get_num_threads();
  const int wanted = threads > 0 ? std::min(threads, limit) : limit;
  const Helpers borrowed(static_cast<int>(std::min<std::int64_t>(wanted, chunks)) - 1, limit);
  if (borrowed.granted() == 0) return body(0, count);

  std::atomic<std::int64_t> next{0};
  Failure failure;
  const auto work = [&] {
    try {
      for (std::int64_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
        body(chunk * grain, std::min(count, (chunk + 1) * grain));
      }
    } catch (...) {
      next.store(chunks, std::memory_order_relaxed);  // the others stop after what they are at
      failure.keep(std::current_exception());
    }
  };
  std::vector<std::thread> team;
  try {
    team.reserve(static_cast<std::size_t>(borrowed.granted()));
    for (int i = 0; i < borrowed.granted(); ++i) team.emplace_back(work);
  } catch (const std::exception&) {
    // The system grants no more threads: those there are, at least the caller's own, do all the chunks.
  }
  work();
  for (auto& helper : team) helper.join();
  failure.rethrow();
}

}  // namespace bainite
