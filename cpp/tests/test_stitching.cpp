#include <cmath>
#include <limits>

#include "bainite/stitching.hpp"
#include "bainite/tiling.hpp"
#include "support.hpp"

using namespace bainite;
using bainite::test::at;

namespace {

template <class In>
void check_scatter(std::int64_t classes, std::int64_t rows, std::int64_t cols, bool last, float sharpness,
                   int threads) {
  const auto values = test::random_floats(2 * classes * rows * cols, 4);
  std::vector<In> logits;
  for (const float value : values) logits.push_back(from_float<In>(std::round(value)));  // whole numbers: many ties
  logits[1] = from_float<In>(std::numeric_limits<float>::quiet_NaN());
  View4D<const In> view{logits.data(), 2, classes, rows, cols, classes * rows * cols, 0, 0, 0};
  view.stride_c = last ? 1 : rows * cols;
  view.stride_y = last ? cols * classes : cols;
  view.stride_x = last ? classes : 1;
  const std::int64_t pitch = cols + 4;
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(2 * rows * pitch), 250);
  std::vector<std::uint8_t> sure(labels);
  const Crop crops[2] = {{0, 0, rows, cols, 0, 0}, {1, 1, rows - 1, cols - 1, rows, 3}};
  const std::int64_t bad = scatter<In>(view, crops, {labels.data(), 2 * rows, pitch, pitch},
                                       {sure.data(), 2 * rows, pitch, pitch}, sharpness, threads);
  CHECK(bad == 1);
  int wrong = 0;
  for (std::int64_t i = 0; i < 2; ++i) {
    for (std::int64_t y = 0; y < crops[i].height; ++y) {
      for (std::int64_t x = 0; x < crops[i].width; ++x) {
        int winner = 0;
        double best = classes == 1 ? 0.0 : -1e9;
        double sum = classes == 1 ? 1.0 : 0.0;
        bool finite = true;
        for (std::int64_t k = 0; k < classes; ++k) {
          const double value = to_float(*view.at(i, k, crops[i].src_y + y, crops[i].src_x + x));
          finite = finite && std::isfinite(value);
          if (value > best) {
            best = value;
            winner = classes == 1 ? 1 : static_cast<int>(k);
          }
          sum += std::exp(sharpness * value);
        }
        if (!finite) continue;
        const std::int64_t place = (crops[i].dst_y + y) * pitch + crops[i].dst_x + x;
        wrong += at(labels, place) == winner ? 0 : 1;
        wrong += std::abs(at(sure, place) - 255.0 * std::exp(sharpness * best) / sum) <= 0.51 ? 0 : 1;
      }
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("scatter takes the argmax and how sure it is") {
  for (const std::int64_t classes : {1, 2, 3, 4, 5, 7}) {
    for (const bool last : {false, true}) {
      check_scatter<float>(classes, 5, 33, last, 1.0f, 1);
      check_scatter<bfloat16>(classes, 40, 700, last, 0.5f, 2);
      check_scatter<float16>(classes, 300, 1100, last, 1.25f, 3);
    }
  }
}

TEST_CASE("stitch_copy undoes tile_copy") {
  for (const std::int64_t bytes : {1, 3}) {
    for (const std::int64_t size : {61, 4700}) {
      const std::int64_t rows = size, cols = size + 13, tile_rows = size / 3 + 1, tile_cols = size / 2 - 4, halo = 5;
      const auto image = test::random_labels<std::uint8_t>(rows * cols * bytes, 256, 5);
      std::vector<std::int64_t> corners;
      for (std::int64_t y = 0; y < rows; y += tile_rows) {
        for (std::int64_t x = 0; x < cols; x += tile_cols) corners.insert(corners.end(), {y - halo, x - halo});
      }
      const TileGrid grid{rows,           cols, 0, 0, corners.data(), static_cast<std::int64_t>(corners.size() / 2),
                          PadMode::mirror};
      const std::int64_t full_rows = tile_rows + 2 * halo, full_cols = tile_cols + 2 * halo;
      std::vector<std::uint8_t> tiles(static_cast<std::size_t>(grid.n * full_rows * full_cols * bytes));
      const std::vector<std::uint8_t> fill(3, 0);
      tile_copy({image.data(), rows, cols, bytes, cols * bytes}, tiles.data(), full_rows, full_cols, grid, fill.data(),
                2);
      std::vector<std::uint8_t> back(image.size());
      stitch_copy(tiles.data(), tile_rows, tile_cols, halo, {back.data(), rows, cols, bytes, cols * bytes}, 2);
      CHECK(back == image);
    }
  }
}
