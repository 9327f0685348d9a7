#include "bainite/pyramid.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

constexpr int kCells = 8;  // of a thread: 16 bytes of two rows

// Every other byte of two words, as __byte_perm() is told.
constexpr unsigned kEven = 0x6420, kOdd = 0x7531;

// The highest bit of every byte that differs; the other bits are garbage.
__device__ __forceinline__ std::uint32_t differing(std::uint32_t a, std::uint32_t b) {
  return (((a ^ b) & 0x7f7f7f7fu) + 0x7f7f7f7fu) | (a ^ b);
}

// All bits of the bytes whose highest bit is set.
__device__ __forceinline__ std::uint32_t whole_bytes(std::uint32_t highest) {
  return (highest >> 7 & 0x01010101u) * 0xffu;
}

// mode_of_four() of four cells at once, a byte each.
__device__ __forceinline__ std::uint32_t modes(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  const std::uint32_t a_alone = differing(a, b) & differing(a, c) & differing(a, d);
  const std::uint32_t b_alone = differing(b, c) & differing(b, d);
  const std::uint32_t take_b = whole_bytes(a_alone & ~b_alone);
  const std::uint32_t take_c = whole_bytes(a_alone & b_alone & ~differing(c, d));
  return (take_b & b) | (take_c & c) | (~(take_b | take_c) & a);
}

template <bool kWords>
__device__ __forceinline__ void mode_row(const std::uint8_t* upper, const std::uint8_t* lower, std::uint8_t* to,
                                         int packs) {
#pragma unroll 1
  for (int i = lane(); i < packs; i += kWarp) {
    Pack<std::uint8_t, 2 * kCells> above, below;
    Pack<std::uint8_t, kCells> cells;
    above.load(upper + i * (2 * kCells), kWords);
    below.load(lower + i * (2 * kCells), kWords);
    std::uint32_t ab[4], cd[4], mode[2];
    memcpy(ab, above.items, sizeof ab);
    memcpy(cd, below.items, sizeof cd);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const std::uint32_t *x = ab + 2 * j, *y = cd + 2 * j;
      mode[j] = modes(__byte_perm(x[0], x[1], kEven), __byte_perm(x[0], x[1], kOdd), __byte_perm(y[0], y[1], kEven),
                      __byte_perm(y[0], y[1], kOdd));
    }
    memcpy(cells.items, mode, sizeof mode);
    cells.store(to + i * kCells, kWords);
  }
}

__global__ void __launch_bounds__(kThreads)
    downsample_kernel(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out) {
  const std::int64_t pairs = labels.cols / 2;
  for_each_piece(out.rows, out.cols, [&](std::int64_t y, std::int64_t begin, std::int64_t end) {
    const bool two = 2 * y + 1 < labels.rows;
    const std::uint8_t* upper = labels.row(2 * y);
    const std::uint8_t* lower = two ? upper + labels.pitch : upper;
    std::uint8_t* to = out.row(y);
    using Cells = Pack<std::uint8_t, kCells>;
    using Pixels = Pack<std::uint8_t, 2 * kCells>;
    const Split<kCells> split(begin, end, 0, two ? pairs : 0, Cells::skew(to));
    const std::uint8_t* from = upper + 2 * split.middle;
    const std::uint8_t* from_lower = lower + 2 * split.middle;
    if (Pixels::aligned(from) && Pixels::aligned(from_lower)) {
      mode_row<true>(from, from_lower, to + split.middle, split.packs);
    } else {
      mode_row<false>(from, from_lower, to + split.middle, split.packs);
    }
    split.for_each_at_the_ends([&](std::int64_t x) {
      const bool whole = two && x < pairs;  // of two, the first
      to[x] = whole ? mode_of_four(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]) : upper[2 * x];
    });
  });
}

}  // namespace

void downsample_labels(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out, Stream stream) {
  if (out.rows == 0 || out.cols == 0) return;
  launch("downsample_labels", downsample_kernel, blocks_for(out.rows, out.cols), 0, stream, labels, out);
}

}  // namespace bainite::cuda
