// Layers of a network that only move memory, on channels-last images [n, rows, cols, channels], contiguous:
// concatenation and 2×2 maximum pooling at the speed of a copy.
#pragma once

#include <cstdint>
#include <vector>

#include "bainite/device.hpp"

namespace bainite {

// An image [n, rows + 2·margin, cols + 2·margin, ...] of `bytes` bytes a pixel; its middle is taken. In quads, its
// pixels lie as [n, (rows + 2·margin) / 2, (cols + 2·margin) / 2, 2, 2, ...]: what a transposed convolution of 2×2 and
// stride 2 gives as a matrix product.
struct JoinInput {
  const void* data;
  std::int64_t bytes;
  std::int64_t margin;
  bool quads = false;
};

// Of a line of an image, or two lines of an image in quads: the place of column x, in pixels.
BAINITE_HD BAINITE_INLINE std::int64_t column_place(bool quads, std::int64_t x) {
  return quads ? x / 2 * 4 + x % 2 : x;
}

// Of an image of width `cols`: the place of row y, in pixels.
BAINITE_HD BAINITE_INLINE std::int64_t row_place(bool quads, std::int64_t y, std::int64_t cols) {
  return quads ? y / 2 * (2 * cols) + y % 2 * 2 : y * cols;
}

// Concatenate the middles of the inputs along the channels: out [n, rows, cols, sum of bytes]. `threads`: 0 = the cap.
void join_channels(const std::vector<JoinInput>& inputs, void* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, int threads);

// 2×2 maxima [n, rows / 2, cols / 2, bytes], rounded down, of an image of `bytes` bytes a pixel: float32 if `wide`,
// else bfloat16. NaN if one of the four is.
void max_pool2x2(const void* image, void* out, std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t bytes,
                 bool wide, int threads);

}  // namespace bainite
