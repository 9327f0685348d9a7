// How kernels are launched and checked, and how warps walk over the rows of an array.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "bainite/cuda.hpp"

namespace bainite::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = 256;  // of a block
// Columns of a row that one warp takes at a time: few, so that all warps end at about the same time; or many, where
// there is so much to do that this hardly matters, and what is worked out per piece does.
constexpr std::int64_t kPiece = 1024;
constexpr std::int64_t kLongPiece = 4096;
constexpr std::int64_t kMostBlocks = 1 << 30;

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // forgotten, so that no later launch reports it, of ours or PyTorch's: memory may be found
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Queues a kernel on so many blocks of kThreads, each with `shared` bytes of shared memory. The one place that knows
// how a launch is written: compiled as C++ (cpp/tests/emulation), kernels run on the CPU.
template <class... Params, class... Args>
void launch(const char* what, void (*kernel)(Params...), unsigned blocks, std::size_t shared, Stream stream,
            const Args&... args) {
#if defined(__CUDACC__)
  kernel<<<blocks, kThreads, shared, static_cast<cudaStream_t>(stream)>>>(args...);
#else
  emulation::launch(blocks, kThreads, shared, [&] { kernel(args...); });
  static_cast<void>(stream);
#endif
  check(cudaGetLastError(), what);
}

// Blocks of kThreads that the current device runs at the same time.
template <class... Params>
std::int64_t resident_blocks(void (*kernel)(Params...), std::size_t shared) {
#if defined(__CUDACC__)
  int device = 0, multiprocessors = 0, blocks = 0;
  check(cudaGetDevice(&device), "resident blocks");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "resident blocks");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, shared), "resident blocks");
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(multiprocessors) * blocks);
#else
  static_cast<void>(kernel);
  static_cast<void>(shared);
  return 3;
#endif
}

// The shared memory of a block, as much as its launch asked for.
template <class T>
__device__ __forceinline__ T* shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ uint4 shared[];
  return reinterpret_cast<T*>(shared);
#else
  return reinterpret_cast<T*>(emulation::shared);
#endif
}

// Blocks for for_each_piece() over [rows, cols], both at least 1.
template <std::int64_t kCols = kPiece>
unsigned blocks_for(std::int64_t rows, std::int64_t cols, std::int64_t most = kMostBlocks) {
  constexpr std::int64_t kWarps = kThreads / kWarp;
  return static_cast<unsigned>(std::min((rows * ((cols + kCols - 1) / kCols) + kWarps - 1) / kWarps, most));
}

// Quotient of non-negative numbers: a division of 64 bits is a long subroutine, and seldom needed.
__device__ __forceinline__ std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if ((a | b) >> 32 == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return a / b;
}

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

// Calls visit(row, begin, end) for pieces of rows; all lanes of a warp together, so that what holds for a row is worked
// out once for all its pixels.
template <std::int64_t kCols = kPiece, class Visit>
__device__ __forceinline__ void for_each_piece(std::int64_t rows, std::int64_t cols, const Visit& visit) {
  const std::int64_t pieces = (cols + kCols - 1) / kCols;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * (kThreads / kWarp);
  std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (; item < rows * pieces; item += step) {
    const std::int64_t row = quotient(item, pieces);
    const std::int64_t begin = (item - row * pieces) * kCols;
    visit(row, begin, begin + kCols < cols ? begin + kCols : cols);
  }
}

// A row's columns [begin, end) in three: whole packs of kCount neighbours, `packs` from column `middle` on, and what is
// left at both ends. The middle is where a kernel spends its time; nothing has to be asked there.
template <int kCount>
struct Split {
  std::int64_t begin, middle, end;
  int packs;

  // The middle within [first, last), its packs `skew` columns behind multiples of kCount.
  __device__ __forceinline__ Split(std::int64_t begin_, std::int64_t end_, std::int64_t first, std::int64_t last,
                                   int skew = 0)
      : begin(begin_), end(end_) {
    first = first > begin ? first : begin;
    last = last < end ? last : end;
    const int ahead = (skew - static_cast<int>(first)) & (kCount - 1);
    packs = last - first > ahead ? static_cast<int>(last - first - ahead) / kCount : 0;
    middle = packs > 0 ? first + ahead : begin;
  }
  // Calls visit(x) for the columns of both ends that are this lane's.
  template <class Visit>
  __device__ __forceinline__ void for_each_at_the_ends(const Visit& visit) const {
    const int before = static_cast<int>(middle - begin);
    const int within = packs * kCount;
    const int all = static_cast<int>(end - begin) - within;
#pragma unroll 1
    for (int i = lane(); i < all; i += kWarp) visit(begin + (i < before ? i : i + within));
  }
};

// Calls fetch(pack, source) and write(pack, turn, source) for this lane's packs, kAhead of them on their way before the
// first is used; `turn` counts these.
template <class Source, int kAhead, class Fetch, class Write>
__device__ __forceinline__ void for_each_pack(int packs, const Fetch& fetch, const Write& write) {
#pragma unroll 1
  for (int first = lane(); first < packs; first += kAhead * kWarp) {
    Source sources[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i * kWarp < packs) fetch(first + i * kWarp, sources[i]);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i * kWarp < packs) write(first + i * kWarp, i, sources[i]);
    }
  }
}

// 64-bit counters are added to as CUDA knows them.
__device__ __forceinline__ void add_to(std::int64_t* counter, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(value));
}

}  // namespace bainite::cuda
