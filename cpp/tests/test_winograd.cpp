#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "../cpu/winograd_block.hpp"
#include "../cpu/winograd_points.hpp"
#include "bainite/winograd.hpp"
#include "doctest/doctest.h"

namespace {

using bainite::WinogradConv;

struct Case {
  std::int64_t n, rows, cols;
  std::vector<std::int64_t> channels;
  std::int64_t out_channels;
  bool relu;
  std::vector<std::int64_t> margins = {};  // of the inputs; none: 0
};

std::vector<float> noise(std::size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(generator);
  return values;
}

struct Problem {
  explicit Problem(const Case& c) : size{c} {
    for (std::size_t k = 0; k < c.channels.size(); ++k) {
      margins.push_back(c.margins.empty() ? 0 : c.margins[k]);
      const std::int64_t pixels = c.n * (c.rows + 2 * margins[k]) * (c.cols + 2 * margins[k]);
      inputs.push_back(noise(static_cast<std::size_t>(pixels * c.channels[k]), static_cast<unsigned>(k)));
      depth += c.channels[k];
    }
    weight = noise(static_cast<std::size_t>(c.out_channels * depth * 9), 100);
    bias = noise(static_cast<std::size_t>(c.out_channels), 101);
    kernels.resize(static_cast<std::size_t>(36 * depth * c.out_channels));
    bainite::winograd_kernels(weight.data(), c.out_channels, depth, kernels.data());
    out.assign(static_cast<std::size_t>(c.n * c.rows * c.cols * c.out_channels), -1.0F);
    pooled.assign(static_cast<std::size_t>(c.n * (c.rows / 2) * (c.cols / 2) * c.out_channels), -1.0F);
  }

  WinogradConv conv() {
    WinogradConv conv{{},          size.n,    size.rows,  size.cols,    size.out_channels, kernels.data(),
                      bias.data(), size.relu, out.data(), pooled.data()};
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      conv.inputs.push_back({inputs[k].data(), size.channels[k], margins[k]});
    }
    return conv;
  }

  double expected(std::int64_t i, std::int64_t y, std::int64_t x, std::int64_t o) const {
    double sum = bias[static_cast<std::size_t>(o)];
    std::int64_t before = 0;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const std::int64_t m = margins[k], rows = size.rows + 2 * m, cols = size.cols + 2 * m;
      for (std::int64_t c = 0; c < size.channels[k]; ++c) {
        for (std::int64_t dy = -1; dy <= 1; ++dy) {
          for (std::int64_t dx = -1; dx <= 1; ++dx) {
            const std::int64_t row = y + m + dy, col = x + m + dx;
            if (row < 0 || row >= rows || col < 0 || col >= cols) continue;
            const auto at = ((i * rows + row) * cols + col) * size.channels[k] + c;
            const auto w = ((o * depth + before + c) * 3 + dy + 1) * 3 + dx + 1;
            sum += static_cast<double>(inputs[k][static_cast<std::size_t>(at)]) *
                   static_cast<double>(weight[static_cast<std::size_t>(w)]);
          }
        }
      }
      before += size.channels[k];
    }
    return size.relu ? std::max(sum, 0.0) : sum;
  }

  void check() const {
    double worst = 0.0;
    std::size_t at = 0;
    for (std::int64_t i = 0; i < size.n; ++i) {
      for (std::int64_t y = 0; y < size.rows; ++y) {
        for (std::int64_t x = 0; x < size.cols; ++x) {
          for (std::int64_t o = 0; o < size.out_channels; ++o, ++at) {
            worst = std::max(worst, std::abs(static_cast<double>(out[at]) - expected(i, y, x, o)));
          }
        }
      }
    }
    CHECK(worst < 2e-6 * 3.0 * static_cast<double>(depth));
    at = 0;
    for (std::int64_t i = 0; i < size.n; ++i) {
      for (std::int64_t y = 0; y + 1 < size.rows; y += 2) {
        for (std::int64_t x = 0; x + 1 < size.cols; x += 2) {
          for (std::int64_t o = 0; o < size.out_channels; ++o, ++at) {
            float most = -INFINITY;
            for (std::int64_t k = 0; k < 4; ++k) {
              const auto from = ((i * size.rows + y + k / 2) * size.cols + x + k % 2) * size.out_channels + o;
              most = std::max(most, out[static_cast<std::size_t>(from)]);
            }
            REQUIRE(pooled[at] == most);
          }
        }
      }
    }
  }

  Case size;
  std::int64_t depth = 0;
  std::vector<std::int64_t> margins;
  std::vector<std::vector<float>> inputs;
  std::vector<float> weight, bias, kernels, out, pooled;
};

const std::vector<Case> kCases{
    {1, 1, 1, {16}, 16, false},
    {1, 2, 9, {16}, 32, true},
    {2, 5, 7, {16, 32}, 48, true},
    {1, 13, 50, {48}, 16, false},
    {3, 8, 4, {16, 16}, 80, true},
    {1, 31, 30, {32}, 64, true},
    {2, 9, 14, {16, 32}, 16, true, {3, 0}},
    {1, 8, 5, {16}, 32, false, {1}},
};

}  // namespace

TEST_CASE("a Winograd convolution is the convolution, whatever the threads") {
  if (!bainite::winograd_available()) return;
  for (const Case& c : kCases) {
    Problem one(c), many(c);
    bainite::winograd_convolve(one.conv(), 1);
    one.check();
    bainite::winograd_convolve(many.conv(), 3);
    CHECK(one.out == many.out);
    CHECK(one.pooled == many.pooled);
  }
}

#if BAINITE_HAS_WINOGRAD
TEST_CASE("every instruction set that this CPU has gives the convolution") {
  using bainite::winograd::kPlanes;
  using bainite::winograd::plane_stride;
  __builtin_cpu_init();
  std::vector<bainite::winograd::Block> paths;
  if (__builtin_cpu_supports("x86-64-v3")) paths.push_back(bainite::winograd::block_avx2);
  if (__builtin_cpu_supports("x86-64-v4")) paths.push_back(bainite::winograd::block_avx512);
  for (const auto path : paths) {
    for (const Case& c : kCases) {
      Problem problem(c);
      const std::int64_t tiles = c.n * ((c.rows + 3) / 4) * ((c.cols + 3) / 4);
      std::vector<float> scratch(static_cast<std::size_t>(
          kPlanes * (plane_stride(tiles, problem.depth) + plane_stride(tiles, c.out_channels))));
      path(problem.conv(), 0, tiles, scratch.data());
      problem.check();
    }
  }
}
#endif

TEST_CASE("a NaN of the four is what is pooled, wherever it is") {
  if (!bainite::winograd_available()) return;
  for (std::size_t place = 0; place < 64; ++place) {  // in the first channel of 8 x 8 px
    Problem problem({1, 8, 8, {16}, 16, false});
    problem.inputs[0][16 * place] = NAN;
    bainite::winograd_convolve(problem.conv(), 1);
    for (std::size_t i = 0; i < problem.pooled.size(); ++i) {
      const std::size_t o = i % 16, at = (i / 64 * 16 + i / 16 % 4 * 2) * 16 + o;
      const auto nan = [&](std::size_t k) { return std::isnan(problem.out[k]); };
      REQUIRE(std::isnan(problem.pooled[i]) == (nan(at) || nan(at + 16) || nan(at + 128) || nan(at + 144)));
    }
  }
}
