// Array views: the only array types that kernels see. A view borrows memory; it never owns, allocates or frees.
#pragma once

#include <cstdint>

#include "bainite/device.hpp"

namespace bainite {

// [rows, cols], last axis contiguous; pitch = elements from one row to the next.
template <class T>
struct View2D {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t pitch = 0;

  BAINITE_HD T* row(std::int64_t r) const { return data + r * pitch; }
};

// [rows, cols, channels], pixels interleaved and contiguous within a row; pitch = elements from row to row.
template <class T>
struct View3D {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t channels = 0;
  std::int64_t pitch = 0;

  BAINITE_HD T* row(std::int64_t r) const { return data + r * pitch; }
};

// [n, channels, rows, cols] with any strides, in elements: NCHW and NHWC ("channels last") are two choices of strides.
template <class T>
struct View4D {
  T* data = nullptr;
  std::int64_t n = 0;
  std::int64_t channels = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride_n = 0;
  std::int64_t stride_c = 0;
  std::int64_t stride_y = 0;
  std::int64_t stride_x = 0;

  BAINITE_HD T* at(std::int64_t i, std::int64_t c, std::int64_t y, std::int64_t x) const {
    return data + i * stride_n + c * stride_c + y * stride_y + x * stride_x;
  }
};

}  // namespace bainite
