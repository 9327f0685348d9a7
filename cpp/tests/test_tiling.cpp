#include <limits>

#include "bainite/finite.hpp"
#include "bainite/tiling.hpp"
#include "support.hpp"

using namespace bainite;
using bainite::test::at;

namespace {

struct Case {
  std::int64_t rows, cols, channels, tile_rows, tile_cols;
};

const std::vector<std::int64_t> kCorners = {0, 0, -3, -20, 5, 4, 5, 9, -40, 60, 11, -1};

TileGrid grid_of(const Case& c, PadMode pad) {
  return {c.rows, c.cols, 0, 0, kCorners.data(), static_cast<std::int64_t>(kCorners.size() / 2), pad};
}

template <class In, class Out>
void check_gather(const Case& c, PadMode pad, bool last, int threads) {
  const std::int64_t pitch = c.cols * c.channels + 3;
  const auto image = test::random_labels<In>(c.rows * pitch - 3, 200, 1);
  const TileGrid grid = grid_of(c, pad);
  const View3D<const In> region{image.data(), c.rows, c.cols, c.channels, pitch};
  std::vector<Out> memory(static_cast<std::size_t>(grid.n * c.channels * c.tile_rows * c.tile_cols));
  View4D<Out> out{memory.data(), grid.n, c.channels, c.tile_rows, c.tile_cols, 0, 0, 0, 0};
  out.stride_n = c.channels * c.tile_rows * c.tile_cols;
  out.stride_c = last ? 1 : c.tile_rows * c.tile_cols;
  out.stride_y = last ? c.tile_cols * c.channels : c.tile_cols;
  out.stride_x = last ? c.channels : 1;
  const std::vector<float> gain = {0.5f, 0.25f, 3.0f};
  const std::vector<float> offset = {-1.0f, 0.1f, 7.0f};
  REQUIRE(first_uncovered(grid, c.rows, c.cols, c.tile_rows, c.tile_cols) == -1);
  gather<In, Out>(region, out, grid, gain.data(), offset.data(), 9.0f, threads);
  int wrong = 0;
  for (std::int64_t i = 0; i < grid.n; ++i) {
    for (std::int64_t y = 0; y < c.tile_rows; ++y) {
      for (std::int64_t x = 0; x < c.tile_cols; ++x) {
        const std::int64_t row = mirror_index(at(kCorners, 2 * i) + y, c.rows, pad);
        const std::int64_t col = mirror_index(at(kCorners, 2 * i + 1) + x, c.cols, pad);
        for (std::int64_t k = 0; k < c.channels; ++k) {
          const float raw = row < 0 || col < 0 ? 9.0f : to_float(region.row(row)[col * c.channels + k]);
          const Out expected = from_float<Out>(raw * at(gain, k) + at(offset, k));
          wrong += to_float(*out.at(i, k, y, x)) == to_float(expected) ? 0 : 1;
        }
      }
    }
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("gather pads, scales, casts and lays out") {
  for (const Case& c : {Case{1, 1, 1, 3, 5}, Case{2, 9, 3, 17, 70}, Case{50, 60, 1, 90, 120}, Case{13, 1, 2, 4, 1}}) {
    for (const PadMode pad : {PadMode::mirror, PadMode::symmetric, PadMode::edge, PadMode::constant}) {
      for (const bool last : {false, true}) {
        check_gather<std::uint8_t, float>(c, pad, last, 1);
        check_gather<std::uint16_t, bfloat16>(c, pad, last, 2);
        check_gather<float, float16>(c, pad, last, 0);
      }
    }
  }
}

TEST_CASE("large outputs go past the caches with the same values") {
  const Case c{700, 900, 1, 1201, 1101};
  check_gather<std::uint8_t, float>(c, PadMode::mirror, false, 2);
  check_gather<std::uint8_t, bfloat16>({300, 400, 3, 1000, 1003}, PadMode::edge, true, 2);
}

TEST_CASE("a region that lacks a pixel is found out") {
  const Case c{50, 60, 1, 8, 8};
  TileGrid grid = grid_of(c, PadMode::edge);
  const std::vector<std::int64_t> corner = {-3, 55};
  grid.corners = corner.data();
  grid.n = 1;
  grid.origin_x = 55;
  CHECK(first_uncovered(grid, 5, 5, 8, 8) == -1);
  CHECK(first_uncovered(grid, 4, 5, 8, 8) == 0);
  CHECK(first_uncovered(grid, 5, 4, 8, 8) == 0);
  grid.origin_x = 56;
  CHECK(first_uncovered(grid, 5, 4, 8, 8) == 0);
}

TEST_CASE("tile_copy moves items of any size") {
  for (const std::int64_t bytes : {1, 2, 3, 4, 5, 8, 16}) {
    for (const std::int64_t size : {70, 1200}) {
      const Case c{40, 90, bytes, size, size / 2 + 1};
      const auto image = test::random_labels<std::uint8_t>(c.rows * c.cols * bytes, 256, 3);
      const std::vector<std::uint8_t> fill(static_cast<std::size_t>(bytes), 77);
      for (const PadMode pad : {PadMode::mirror, PadMode::constant}) {
        const TileGrid grid = grid_of(c, pad);
        std::vector<std::uint8_t> tiles(static_cast<std::size_t>(grid.n * c.tile_rows * c.tile_cols * bytes));
        tile_copy({image.data(), c.rows, c.cols, bytes, c.cols * bytes}, tiles.data(), c.tile_rows, c.tile_cols, grid,
                  fill.data(), 2);
        std::int64_t wrong = 0;
        std::int64_t place = 0;
        for (std::int64_t i = 0; i < grid.n; ++i) {
          for (std::int64_t y = 0; y < c.tile_rows; ++y) {
            for (std::int64_t x = 0; x < c.tile_cols; ++x) {
              const std::int64_t row = mirror_index(at(kCorners, 2 * i) + y, c.rows, pad);
              const std::int64_t col = mirror_index(at(kCorners, 2 * i + 1) + x, c.cols, pad);
              for (std::int64_t b = 0; b < bytes; ++b, ++place) {
                const bool outside = row < 0 || col < 0;
                wrong += at(tiles, place) == (outside ? 77 : at(image, (row * c.cols + col) * bytes + b)) ? 0 : 1;
              }
            }
          }
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("nonfinite finds the first in raster order") {
  std::vector<float> values(1000 * 700, 1.0f);
  const View3D<const float> region{values.data(), 700, 500, 2, 1000};
  CHECK(nonfinite(region, 2) == -1);
  values[600 * 1000 + 5] = std::numeric_limits<float>::infinity();
  values[650 * 1000 + 1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(nonfinite(region, 2) == 600 * 1000 + 5);
  CHECK(nonfinite(region, 1) == 600 * 1000 + 5);
}
