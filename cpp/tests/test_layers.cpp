#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "bainite/float16.hpp"
#include "bainite/layers.hpp"
#include "doctest/doctest.h"

TEST_CASE("joined channels are the middles of the inputs, side by side") {
  const std::int64_t n = 2, rows = 5, cols = 7;
  const std::vector<std::int64_t> bytes{2, 16, 32, 64, 128, 40}, margins{0, 3, 1, 0, 2, 1};
  std::vector<std::vector<std::uint8_t>> images;
  std::vector<bainite::JoinInput> inputs;
  std::int64_t step = 0;
  std::mt19937 generator(1);
  for (std::size_t k = 0; k < bytes.size(); ++k) {
    std::vector<std::uint8_t>& image =
        images.emplace_back(static_cast<std::size_t>(n * (rows + 2 * margins[k]) * (cols + 2 * margins[k]) * bytes[k]));
    for (std::uint8_t& value : image) value = static_cast<std::uint8_t>(generator());
    step += bytes[k];
  }
  for (std::size_t k = 0; k < bytes.size(); ++k) inputs.push_back({images[k].data(), bytes[k], margins[k]});
  for (const int threads : {1, 3}) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(n * rows * cols * step));
    bainite::join_channels(inputs, out.data(), n, rows, cols, threads);
    std::size_t at = 0;
    bool same = true;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t y = 0; y < rows; ++y) {
        for (std::int64_t x = 0; x < cols; ++x) {
          for (std::size_t k = 0; k < bytes.size(); ++k) {
            const std::int64_t m = margins[k];
            const std::int64_t pixel = (i * (rows + 2 * m) + y + m) * (cols + 2 * m) + x + m;
            for (std::int64_t b = 0; b < bytes[k]; ++b, ++at) {
              same = same && out[at] == images[k][static_cast<std::size_t>(pixel * bytes[k] + b)];
            }
          }
        }
      }
    }
    CHECK(same);
  }
}

TEST_CASE("quads are the pixels of two rows and columns, side by side") {
  const std::int64_t n = 2, rows = 4, cols = 6, margin = 1;
  const std::int64_t height = rows + 2 * margin, width = cols + 2 * margin;
  std::vector<std::uint8_t> plain(static_cast<std::size_t>(n * height * width * 3)), quads(plain.size());
  std::mt19937 generator(3);
  for (std::uint8_t& value : plain) value = static_cast<std::uint8_t>(generator());
  for (std::int64_t i = 0; i < n * height * width * 3; ++i) {
    const std::int64_t b = i % 3, x = i / 3 % width, y = i / 3 / width % height, image = i / 3 / width / height;
    const std::int64_t cell = (image * height / 2 + y / 2) * (width / 2) + x / 2;
    quads[static_cast<std::size_t>((cell * 4 + y % 2 * 2 + x % 2) * 3 + b)] = plain[static_cast<std::size_t>(i)];
  }
  std::vector<std::uint8_t> expected(static_cast<std::size_t>(n * rows * cols * 3)), found(expected.size());
  bainite::join_channels({{plain.data(), 3, margin}}, expected.data(), n, rows, cols, 1);
  bainite::join_channels({{quads.data(), 3, margin, true}}, found.data(), n, rows, cols, 1);
  CHECK(found == expected);
}

namespace {

template <class T>
void check_pooling(std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t channels) {
  std::mt19937 generator(2);
  std::vector<T> image(static_cast<std::size_t>(n * rows * cols * channels));
  const std::vector<float> special{0.0F, -0.0F, INFINITY, -INFINITY, NAN, -NAN, 1e-40F, -1e-40F, 3.0F, -3.0F};
  std::normal_distribution<float> normal;
  for (T& value : image) {
    const auto pick = static_cast<std::size_t>(generator() % 40);
    value = bainite::from_float<T>(pick < special.size() ? special[pick] : normal(generator));
  }
  std::vector<T> out(static_cast<std::size_t>(n * (rows / 2) * (cols / 2) * channels));
  bainite::max_pool2x2(image.data(), out.data(), n, rows, cols, channels * static_cast<std::int64_t>(sizeof(T)),
                       sizeof(T) == 4, 2);
  std::size_t at = 0;
  bool same = true;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t y = 0; y + 1 < rows; y += 2) {
      for (std::int64_t x = 0; x + 1 < cols; x += 2) {
        for (std::int64_t c = 0; c < channels; ++c, ++at) {
          float most = -INFINITY;
          bool nan = false;
          for (std::int64_t k = 0; k < 4; ++k) {
            const std::int64_t pixel = ((i * rows + y + k / 2) * cols + x + k % 2) * channels + c;
            const float value = bainite::to_float(image[static_cast<std::size_t>(pixel)]);
            nan = nan || std::isnan(value);
            most = std::max(most, value);
          }
          const float found = bainite::to_float(out[at]);
          same = same && (nan ? std::isnan(found) : found == most);
        }
      }
    }
  }
  CHECK(same);
}

}  // namespace

TEST_CASE("a pooled pixel is the largest of four, or NaN") {
  for (const std::int64_t channels : {1, 5, 16, 48}) {
    check_pooling<float>(2, 7, 13, channels);
    check_pooling<bainite::bfloat16>(2, 7, 13, channels);
  }
  check_pooling<float>(1, 1, 8, 16);
  check_pooling<bainite::bfloat16>(3, 2, 2, 16);
}
