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
constexpr int kThreads = 256;          // of a block
constexpr std::int64_t kPiece = 1024;  // columns of a row that one warp takes at a time
constexpr std::int64_t kMostBlocks = 1 << 30;

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
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

inline std::int64_t pieces_of(std::int64_t cols) { return (cols + kPiece - 1) / kPiece; }

// Blocks for for_each_piece() over [rows, cols], both at least 1.
inline unsigned blocks_for(std::int64_t rows, std::int64_t cols, std::int64_t most = kMostBlocks) {
  constexpr std::int64_t kWarps = kThreads / kWarp;
  return static_cast<unsigned>(std::min((rows * pieces_of(cols) + kWarps - 1) / kWarps, most));
}

// Quotient of non-negative numbers: a division of 64 bits is a long subroutine, and seldom needed.
__device__ __forceinline__ std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if ((a | b) >> 32 == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return a / b;
}

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) % kWarp; }

// Calls visit(row, begin, end) for pieces of rows; all lanes of a warp together, so that what holds for a row is worked
// out once for all its pixels.
template <class Visit>
__device__ __forceinline__ void for_each_piece(std::int64_t rows, std::int64_t cols, const Visit& visit) {
  const std::int64_t pieces = (cols + kPiece - 1) / kPiece;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * (kThreads / kWarp);
  std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (; item < rows * pieces; item += step) {
    const std::int64_t row = quotient(item, pieces);
    const std::int64_t begin = (item - row * pieces) * kPiece;
    visit(row, begin, begin + kPiece < cols ? begin + kPiece : cols);
  }
}

// 64-bit counters are added to as CUDA knows them.
__device__ __forceinline__ void add_to(std::int64_t* counter, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(value));
}

}  // namespace bainite::cuda
