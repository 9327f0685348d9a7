// 3×3 convolution of channels-last float32 images by Winograd's minimal filtering F(4×4, 3×3): 36 products instead of
// 144 for every 4×4 outputs and pair of channels, so that it passes the rate of a direct convolution by 1.5 to 3.5.
//
// Method: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with the interpolation
// points 0, ±3/4, ±3/2 and infinity instead of 0, ±1, ±2: their rounding error is half (B. Barabasz et al., "Error
// analysis and improving the accuracy of Winograd convolution for deep neural networks", ACM TOMS 46, 2020, on why).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bainite {

// Channels of every input and of the output come in multiples of this.
inline constexpr std::int64_t kWinogradChannels = 16;

// One image batch [n, rows + 2·margin, cols + 2·margin, channels], contiguous: `margin` pixels beyond the output on
// each side are read, and only beyond them does the zero padding begin.
struct WinogradInput {
  const float* data;
  std::int64_t channels;
  std::int64_t margin = 0;
};

struct WinogradConv {
  std::vector<WinogradInput> inputs;  // concatenated along the channels, without a copy
  std::int64_t n, rows, cols;         // of the output
  std::int64_t out_channels;
  const float* kernels;  // from winograd_kernels: [36, in_channels, out_channels]
  const float* bias;     // [out_channels]
  bool relu;
  float* out;     // [n, rows, cols, out_channels]
  float* pooled;  // [n, rows / 2, cols / 2, out_channels]: 2×2 maxima of out, rounded down, NaN if one is; or null
};

// Whether this build and this CPU have it: x86-64 with AVX2 and FMA, or AVX-512.
bool winograd_available();

// Transform kernels [out_channels, in_channels, 3, 3], once, in double precision.
void winograd_kernels(const float* weight, std::int64_t out_channels, std::int64_t in_channels, float* out);

// Each input is zero-padded by one pixel at each border; stride 1. Each output is computed by one thread in one order:
// the result does not depend on `threads` (0 = the cap).
void winograd_convolve(const WinogradConv& conv, int threads);

}  // namespace bainite
