#include "bainite/winograd.hpp"

#include <algorithm>
#include <array>
#include <memory>

#include "bainite/device.hpp"
#include "bainite/parallel.hpp"
#include "winograd_block.hpp"
#include "winograd_points.hpp"

namespace bainite {
namespace {

using winograd::kEdge;
using winograd::kOut;
using winograd::kPlanes;

// Rows of G: (1, p, p²) over the product of (p - q) of all other finite points q; infinity takes the last tap.
std::array<std::array<double, 3>, kEdge> kernel_transform() {
  const std::array<double, 5> points{0.0, winograd::kA, -winograd::kA, winograd::kB, -winograd::kB};
  std::array<std::array<double, 3>, kEdge> g{};
  for (std::size_t j = 0; j < points.size(); ++j) {
    double scale = 1.0;
    for (std::size_t k = 0; k < points.size(); ++k) {
      if (k != j) scale *= points[j] - points[k];
    }
    g[j] = {1.0 / scale, points[j] / scale, points[j] * points[j] / scale};
  }
  g[kEdge - 1] = {0.0, 0.0, 1.0};
  return g;
}

// The widest path of this CPU, or null.
winograd::Block path() {
#if BAINITE_HAS_WINOGRAD
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return winograd::block_avx512;
  if (__builtin_cpu_supports("x86-64-v3")) return winograd::block_avx2;
#endif
  return nullptr;
}

// Tiles of a block: the products of 36 planes stay in the second-level cache, and fill whole register blocks.
std::int64_t tiles_of_block(std::int64_t channels) { return channels <= 64 ? 48 : 24; }

}  // namespace

bool winograd_available() { return path() != nullptr; }

void winograd_kernels(const float* weight, std::int64_t out_channels, std::int64_t in_channels, float* out) {
  const auto g = kernel_transform();
  for (std::int64_t o = 0; o < out_channels; ++o) {
    for (std::int64_t c = 0; c < in_channels; ++c) {
      const float* w = weight + (o * in_channels + c) * 9;
      for (std::size_t y = 0; y < kEdge; ++y) {
        for (std::size_t x = 0; x < kEdge; ++x) {
          double sum = 0.0;
          for (std::size_t i = 0; i < 3; ++i) {
            for (std::size_t j = 0; j < 3; ++j) sum += g[y][i] * g[x][j] * static_cast<double>(w[i * 3 + j]);
          }
          const auto plane = static_cast<std::int64_t>(y * kEdge + x);
          out[(plane * in_channels + c) * out_channels + o] = static_cast<float>(sum);
        }
      }
    }
  }
}

void winograd_convolve(const WinogradConv& conv, int threads) {
  const winograd::Block block = path();
  std::int64_t depth = 0;
  for (const WinogradInput& input : conv.inputs) depth += input.channels;
  const std::int64_t tiles = conv.n * ((conv.rows + kOut - 1) / kOut) * ((conv.cols + kOut - 1) / kOut);
  const std::int64_t size = tiles_of_block(depth + conv.out_channels);
  const auto floats = static_cast<std::size_t>(
      kPlanes * (winograd::plane_stride(size, depth) + winograd::plane_stride(size, conv.out_channels)));
  parallel_for(tiles, size, threads, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<float[]> scratch(new float[floats]);
    for (std::int64_t first = begin; first < end; first += size) {
      block(conv, first, std::min(size, end - first), scratch.get());
    }
  });
}

}  // namespace bainite
