#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <thread>

#include "bainite/parallel.hpp"
#include "support.hpp"

using namespace bainite;

namespace {

bool covers_once(std::int64_t count, std::int64_t grain, int threads) {
  std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
  parallel_for(count, grain, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)].fetch_add(1);
  });
  for (const auto& hits : seen) {
    if (hits.load() != 1) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("every index is visited once") {
  set_num_threads(4);
  for (const std::int64_t count : {0, 1, 5, 64, 1001}) {
    for (const std::int64_t grain : {0, 1, 7, 5000}) {
      for (const int threads : {0, 1, 2, 9}) CHECK(covers_once(count, grain, threads));
    }
  }
  set_num_threads(0);
  CHECK(get_num_threads() >= 1);
}

TEST_CASE("the cap holds over all callers at once") {
  set_num_threads(3);
  std::atomic<int> helpers{0};
  std::atomic<int> most{0};
  const auto caller = [&] {
    const auto own = std::this_thread::get_id();
    for (int round = 0; round < 50; ++round) {
      parallel_for(64, 1, 0, [&](std::int64_t, std::int64_t) {
        if (std::this_thread::get_id() == own) return;
        const int now = helpers.fetch_add(1) + 1;
        int seen = most.load();
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        helpers.fetch_sub(1);
      });
    }
  };
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) callers.emplace_back(caller);
  for (auto& thread : callers) thread.join();
  CHECK(most.load() <= 2);  // the cap less the caller's own thread
  set_num_threads(0);
}

TEST_CASE("calls nest") {
  set_num_threads(4);
  std::atomic<std::int64_t> sum{0};
  parallel_for(8, 1, 0, [&](std::int64_t, std::int64_t) {
    parallel_for(100, 10, 0, [&](std::int64_t begin, std::int64_t end) { sum.fetch_add(end - begin); });
  });
  CHECK(sum.load() == 800);
  set_num_threads(0);
}

TEST_CASE("what a chunk throws comes out of the call, and the helpers are given back") {
  set_num_threads(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> running{0};
    const auto body = [&](std::int64_t begin, std::int64_t) {
      running.fetch_add(1);
      for (int i = 0; i < 100000 && begin < 3 && running.load() < 3; ++i) std::this_thread::yield();  // on every thread
      throw std::bad_alloc();
    };
    CHECK_THROWS_AS(parallel_for(64, 1, 0, body), std::bad_alloc);
  }
  CHECK(covers_once(1001, 1, 0));
  set_num_threads(0);
}

// The sanitizers' own run time does not survive a fork while other threads live.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_CASE("a forked child has its threads") {
  set_num_threads(4);
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop.load()) covers_once(64, 1, 0);
  });
  for (int round = 0; round < 20; ++round) {
    const pid_t child = fork();
    if (child == 0) _exit(covers_once(1000, 10, 0) ? 0 : 1);
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  stop.store(true);
  busy.join();
  set_num_threads(0);
}
#endif
