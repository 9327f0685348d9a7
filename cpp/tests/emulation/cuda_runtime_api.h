// CUDA's keywords and launches as plain C++, so that the kernels of cpp/cuda run under the sanitizers on a machine
// without a GPU. Stands in for the toolkit's header of this name, in the tests alone.
//
// A kernel without shared memory runs thread after thread; one with shared memory runs its block as threads of the
// system, which meet at __syncthreads() and add atomically: a race of theirs is a race here too.
#pragma once

// Before the keywords become macros: the standard library uses __noinline__ as an attribute.
#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct alignas(8) uint2 {
  std::uint32_t x, y;
};
struct alignas(16) double2 {
  double x, y;
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidDevice = 101 };
using cudaStream_t = void*;
inline thread_local cudaError_t cuda_last_error = cudaSuccess;
inline cudaError_t cudaGetLastError() { return std::exchange(cuda_last_error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "no such device";
}

// One device, whose memory is the host's, and streams that are done with a call before it returns.
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cuda_last_error = cudaErrorInvalidDevice;
}
struct cudaPointerAttributes {
  int device;
};
inline cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void*) {
  return found->device = 0, cudaSuccess;
}
using cudaEvent_t = void*;
constexpr unsigned cudaEventDisableTiming = 2;
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
  return *data = ::operator new(bytes), cudaSuccess;
}
inline cudaError_t cudaFreeAsync(void* data, cudaStream_t) { return ::operator delete(data), cudaSuccess; }
using cudaMemPool_t = void*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold };
inline cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int) { return *pool = nullptr, cudaSuccess; }
inline cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* value) {
  return std::memset(value, 0, sizeof(std::uint64_t)), cudaSuccess;
}
inline cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
  return std::memset(data, value, bytes), cudaSuccess;
}
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) { return *data = ::operator new(bytes), cudaSuccess; }
inline cudaError_t cudaFree(void* data) { return ::operator delete(data), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}

namespace emulation {

struct Index {
  unsigned x = 0;
};

// Lets `count` threads go on when all of them have come.
class Barrier {
 public:
  explicit Barrier(unsigned count) : count_(count) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const unsigned turn = turn_;
    if (++waiting_ == count_) {
      waiting_ = 0;
      ++turn_;
      all_.notify_all();
      return;
    }
    all_.wait(lock, [&] { return turn != turn_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  unsigned count_, waiting_ = 0, turn_ = 0;
};

inline thread_local Index thread, block, grid;
inline thread_local unsigned char* shared = nullptr;
inline thread_local Barrier* barrier = nullptr;

// Exactly as much shared memory as was asked for, so that a sanitizer sees one step too far. Its content is garbage
// when a block begins, as on a device.
inline void launch(unsigned blocks, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  if (shared_bytes == 0) {
    grid.x = blocks;
    for (block.x = 0; block.x < blocks; ++block.x) {
      for (thread.x = 0; thread.x < threads; ++thread.x) kernel();
    }
    return;
  }
  const std::unique_ptr<unsigned char[]> memory(new unsigned char[shared_bytes]);
  Barrier meeting(threads);
  std::vector<std::thread> running;
  for (unsigned t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      thread.x = t;
      grid.x = blocks;
      shared = memory.get();
      barrier = &meeting;
      for (block.x = 0; block.x < blocks; ++block.x) {
        if (t == 0) std::memset(memory.get(), 0xa5, shared_bytes);
        meeting.wait();
        kernel();
        meeting.wait();
      }
    });
  }
  for (auto& one : running) one.join();
}

}  // namespace emulation

#define threadIdx (::emulation::thread)
#define blockIdx (::emulation::block)
#define gridDim (::emulation::grid)

inline void __syncthreads() {
  if (emulation::barrier != nullptr) emulation::barrier->wait();
}

template <class T>
T __ldg(const T* at) {
  return *at;
}

// Four of the eight bytes of two words, low, then high, as the digits of `which` say.
inline std::uint32_t __byte_perm(std::uint32_t low, std::uint32_t high, std::uint32_t which) {
  const std::uint64_t bytes = low | static_cast<std::uint64_t>(high) << 32;
  std::uint32_t found = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned digit = which >> (4 * i) & 7;
    found |= static_cast<std::uint32_t>(bytes >> (8 * digit) & 0xff) << (8 * i);
  }
  return found;
}

// Sum of the products of the bytes of two words, and a third.
inline std::uint32_t __dp4a(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
  for (unsigned i = 0; i < 32; i += 8) sum += (a >> i & 0xff) * (b >> i & 0xff);
  return sum;
}

template <class T>
T atomicAdd(T* at, T value) {
  return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
