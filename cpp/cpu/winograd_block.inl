// One block of tiles, for the instruction set that the including file is compiled for: it sets BAINITE_LANES (floats of
// a vector), BAINITE_TILES (rows of the product's register block) and BAINITE_BLOCK (the function's name). Everything
// else is in an unnamed namespace: the linker must not share it between instruction sets.

#include <cstdint>

#include "winograd_block.hpp"
#include "winograd_points.hpp"

namespace bainite::winograd {
namespace {

constexpr int kLanes = BAINITE_LANES;
constexpr int kTiles = BAINITE_TILES;

using Vec = float __attribute__((vector_size(kLanes * 4)));
using Loose = float __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

#define BAINITE_ALWAYS inline __attribute__((always_inline))

BAINITE_ALWAYS Vec load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
BAINITE_ALWAYS void store(float* p, Vec v) { *reinterpret_cast<Loose*>(p) = v; }
BAINITE_ALWAYS Vec larger(Vec a, Vec b) {  // NaN if one of the two is
  const Vec most = a < b ? b : a;
  return b != b ? b : most;
}

// Row of Bᵀ·d along one axis; row j of Bᵀ holds the coefficients of the product of (x - p) over all points but j's.
BAINITE_ALWAYS void to_points(const Vec* d, int step, Vec* t) {
  constexpr float a = kA, b = kB, a2 = a * a, b2 = b * b;
  const Vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const Vec even_a = d4 - b2 * d2, odd_a = d3 - b2 * d1;
  const Vec even_b = d4 - a2 * d2, odd_b = d3 - a2 * d1;
  t[0] = (d4 - (a2 + b2) * d2) + (a2 * b2) * d0;
  t[1] = even_a + a * odd_a;
  t[2] = even_a - a * odd_a;
  t[3] = even_b + b * odd_b;
  t[4] = even_b - b * odd_b;
  t[5] = (d5 - (a2 + b2) * d3) + (a2 * b2) * d1;
}

// Aᵀ·m along one axis: powers 0 to 3 of the points.
BAINITE_ALWAYS void from_points(const Vec* m, int step, Vec* y) {
  constexpr float a = kA, b = kB, a2 = a * a, b2 = b * b;
  const Vec sum_a = m[step] + m[2 * step], difference_a = m[step] - m[2 * step];
  const Vec sum_b = m[3 * step] + m[4 * step], difference_b = m[3 * step] - m[4 * step];
  y[0] = m[0] + sum_a + sum_b;
  y[1] = a * difference_a + b * difference_b;
  y[2] = a2 * sum_a + b2 * sum_b;
  y[3] = (a2 * a) * difference_a + ((b2 * b) * difference_b + m[5 * step]);
}

struct Place {  // of a tile
  std::int64_t image, y, x;
};

Place place(const WinogradConv& conv, std::int64_t tile) {
  const std::int64_t across = (conv.cols + kOut - 1) / kOut, down = (conv.rows + kOut - 1) / kOut;
  return {tile / (across * down), tile / across % down * kOut, tile % across * kOut};
}

// Whether the 6×6 px under a tile lie inside the input.
bool is_inner(const WinogradConv& conv, const Place& at, const WinogradInput& input) {
  const std::int64_t m = input.margin;
  return at.y + m >= 1 && at.x + m >= 1 && at.y + 5 <= conv.rows + m && at.x + 5 <= conv.cols + m;
}

template <bool inner>
BAINITE_ALWAYS void transform_input(const WinogradConv& conv, const Place& at, const WinogradInput& input,
                                    std::int64_t channel, float* out, std::int64_t plane) {
  const std::int64_t c = input.channels, rows = conv.rows + 2 * input.margin, cols = conv.cols + 2 * input.margin;
  const std::int64_t y0 = at.y + input.margin - 1, x0 = at.x + input.margin - 1;
  Vec half[kPlanes];
#pragma GCC unroll 6
  for (int r = 0; r < kEdge; ++r) {
    Vec d[kEdge];
    const std::int64_t start = ((at.image * rows + y0 + r) * cols + x0) * c + channel;
#pragma GCC unroll 6
    for (int k = 0; k < kEdge; ++k) {
      const bool inside = inner || (y0 + r >= 0 && y0 + r < rows && x0 + k >= 0 && x0 + k < cols);
      d[k] = inside ? load(input.data + start + k * c) : Vec{};
    }
    to_points(d, 1, half + r * kEdge);
  }
#pragma GCC unroll 6
  for (int k = 0; k < kEdge; ++k) {
    Vec t[kEdge];
    to_points(half + k, kEdge, t);
#pragma GCC unroll 6
    for (int r = 0; r < kEdge; ++r) store(out + (r * kEdge + k) * plane, t[r]);
  }
}

// m[rows, columns] = v[rows, depth] · u[depth, columns], all of it in registers; columns are vectors.
template <int rows, int columns>
BAINITE_ALWAYS void multiply(const float* v, const float* u, std::int64_t depth, std::int64_t out_channels, float* m) {
  Vec sum[rows][columns];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < columns; ++j) sum[i][j] = Vec{};
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec b[columns];
#pragma GCC unroll 2
    for (int j = 0; j < columns; ++j) b[j] = load(u + k * out_channels + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const Vec a = v[i * depth + k] - Vec{};
#pragma GCC unroll 2
      for (int j = 0; j < columns; ++j) sum[i][j] += a * b[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < columns; ++j) store(m + i * out_channels + j * kLanes, sum[i][j]);
  }
}

// The last, shorter register block.
template <int columns, int rows = kTiles - 1>
void multiply_rest(std::int64_t left, const float* v, const float* u, std::int64_t depth, std::int64_t out_channels,
                   float* m) {
  if constexpr (rows > 0) {
    if (left == rows) {
      multiply<rows, columns>(v, u, depth, out_channels, m);
    } else {
      multiply_rest<columns, rows - 1>(left, v, u, depth, out_channels, m);
    }
  }
}

template <int columns>
void multiply_plane(std::int64_t count, const float* v, const float* u, std::int64_t depth, std::int64_t out_channels,
                    float* m) {
  std::int64_t t = 0;
  for (; t + kTiles <= count; t += kTiles) {
    multiply<kTiles, columns>(v + t * depth, u, depth, out_channels, m + t * out_channels);
  }
  multiply_rest<columns>(count - t, v + t * depth, u, depth, out_channels, m + t * out_channels);
}

void transform_output(const WinogradConv& conv, const Place& at, std::int64_t channel, const float* m,
                      std::int64_t plane) {
  const std::int64_t c = conv.out_channels;
  Vec half[kEdge * kOut];
#pragma GCC unroll 6
  for (int r = 0; r < kEdge; ++r) {
    Vec d[kEdge];
#pragma GCC unroll 6
    for (int k = 0; k < kEdge; ++k) d[k] = load(m + (r * kEdge + k) * plane);
    from_points(d, 1, half + r * kOut);
  }
  const Vec bias = load(conv.bias + channel);
  Vec before[kOut];
#pragma GCC unroll 4
  for (int k = 0; k < kOut; ++k) {
    Vec y[kOut];
    from_points(half + k, kOut, y);
#pragma GCC unroll 4
    for (int r = 0; r < kOut; ++r) {
      y[r] += bias;
      if (conv.relu) y[r] = y[r] < 0.0F ? Vec{} : y[r];
      if (at.y + r < conv.rows && at.x + k < conv.cols) {
        store(conv.out + ((at.image * conv.rows + at.y + r) * conv.cols + at.x + k) * c + channel, y[r]);
      }
    }
    if (conv.pooled != nullptr && k % 2 == 1) {
      const std::int64_t pooled_rows = conv.rows / 2, pooled_cols = conv.cols / 2, x = (at.x + k) / 2;
#pragma GCC unroll 2
      for (int r = 0; r < kOut; r += 2) {
        const std::int64_t row = (at.y + r) / 2;
        if (row < pooled_rows && x < pooled_cols) {
          const Vec most = larger(larger(before[r], before[r + 1]), larger(y[r], y[r + 1]));
          store(conv.pooled + ((at.image * pooled_rows + row) * pooled_cols + x) * c + channel, most);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kOut; ++r) before[r] = y[r];
  }
}

}  // namespace

void BAINITE_BLOCK(const WinogradConv& conv, std::int64_t first, std::int64_t count, float* scratch) {
  std::int64_t depth = 0;
  for (const WinogradInput& input : conv.inputs) depth += input.channels;
  const std::int64_t in_plane = plane_stride(count, depth), out_plane = plane_stride(count, conv.out_channels);
  float* products = scratch + kPlanes * in_plane;
  for (std::int64_t t = 0; t < count; ++t) {
    const Place at = place(conv, first + t);
    float* out = scratch + t * depth;
    for (const WinogradInput& input : conv.inputs) {
      const bool inner = is_inner(conv, at, input);
      for (std::int64_t channel = 0; channel < input.channels; channel += kLanes, out += kLanes) {
        if (inner) {
          transform_input<true>(conv, at, input, channel, out, in_plane);
        } else {
          transform_input<false>(conv, at, input, channel, out, in_plane);
        }
      }
    }
  }
  for (int p = 0; p < kPlanes; ++p) {
    const float* v = scratch + p * in_plane;
    const float* u = conv.kernels + p * depth * conv.out_channels;
    float* m = products + p * out_plane;
    std::int64_t channel = 0;
    for (; channel + 2 * kLanes <= conv.out_channels; channel += 2 * kLanes) {
      multiply_plane<2>(count, v, u + channel, depth, conv.out_channels, m + channel);
    }
    if (channel < conv.out_channels) {
      multiply_plane<1>(count, v, u + channel, depth, conv.out_channels, m + channel);
    }
  }
  for (std::int64_t t = 0; t < count; ++t) {
    const Place at = place(conv, first + t);
    for (std::int64_t channel = 0; channel < conv.out_channels; channel += kLanes) {
      transform_output(conv, at, channel, products + t * conv.out_channels + channel, out_plane);
    }
  }
}

}  // namespace bainite::winograd
