#include <cmath>

#include "bainite/pyramid.hpp"
#include "bainite/resample.hpp"
#include "support.hpp"

using namespace bainite;
using bainite::test::at;

TEST_CASE("weights of every sample add up to one, within its taps") {
  for (std::int64_t n = 1; n < 40; ++n) {
    for (std::int64_t scaled = 1; scaled < 40; ++scaled) {
      const Axis axis{n, scaled};
      for (std::int64_t i = 0; i < scaled; ++i) {
        const TapRange range = taps(axis, i);
        REQUIRE((range.first >= 0 && range.first < range.last && range.last <= n));
        double sum = 0;
        for (std::int64_t j = range.first; j < range.last; ++j) {
          CHECK(tap_weight(axis, i, j) > 0.0f);
          sum += static_cast<double>(tap_weight(axis, i, j));
        }
        CHECK(std::abs(sum - 1.0) < 1e-6);
      }
    }
  }
}

TEST_CASE("a region has the bits of the whole") {
  const std::int64_t rows = 301, cols = 407;
  const auto image = test::random_floats(rows * cols * 2, 8);
  for (const auto& [scaled_rows, scaled_cols] : {std::pair<std::int64_t, std::int64_t>{120, 611}, {450, 200}}) {
    Placement place{{rows, scaled_rows}, {cols, scaled_cols}, 0, 0, 0, 0};
    std::vector<float> whole(static_cast<std::size_t>(scaled_rows * scaled_cols * 2));
    resample<float>({image.data(), rows, cols, 2, cols * 2},
                    {whole.data(), scaled_rows, scaled_cols, 2, scaled_cols * 2}, place, 2);
    place.out_y = 33;
    place.out_x = 17;
    place.origin_y = taps(place.y, 33).first;
    place.origin_x = taps(place.x, 17).first;
    const std::int64_t source_rows = taps(place.y, 33 + 39).last - place.origin_y;
    const std::int64_t source_cols = taps(place.x, 17 + 49).last - place.origin_x;
    std::vector<float> block;
    for (std::int64_t y = 0; y < source_rows; ++y) {
      const auto from = image.begin() + ((place.origin_y + y) * cols + place.origin_x) * 2;
      block.insert(block.end(), from, from + source_cols * 2);
    }
    std::vector<float> part(40 * 50 * 2);
    resample<float>({block.data(), source_rows, source_cols, 2, source_cols * 2}, {part.data(), 40, 50, 2, 100}, place,
                    1);
    int wrong = 0;
    for (std::int64_t y = 0; y < 40; ++y) {
      for (std::int64_t x = 0; x < 100; ++x) {
        wrong += at(part, y * 100 + x) == at(whole, ((33 + y) * scaled_cols + 17) * 2 + x) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("downsample_labels keeps the clipped edges") {
  for (const std::int64_t rows : {1, 2, 5, 1400}) {
    for (const std::int64_t cols : {1, 2, 7, 1501}) {
      const auto labels = test::random_labels<std::uint8_t>(rows * cols, 3, 9);
      const std::int64_t out_rows = (rows + 1) / 2, out_cols = (cols + 1) / 2;
      std::vector<std::uint8_t> out(static_cast<std::size_t>(out_rows * out_cols));
      downsample_labels({labels.data(), rows, cols, cols}, {out.data(), out_rows, out_cols, out_cols}, 2);
      int wrong = 0;
      for (std::int64_t y = 0; y < out_rows; ++y) {
        for (std::int64_t x = 0; x < out_cols; ++x) {
          const std::uint8_t a = at(labels, 2 * y * cols + 2 * x);
          const bool below = 2 * y + 1 < rows, beside = 2 * x + 1 < cols;
          const std::uint8_t expected = below && beside ? mode_of_four(a, at(labels, 2 * y * cols + 2 * x + 1),
                                                                       at(labels, (2 * y + 1) * cols + 2 * x),
                                                                       at(labels, (2 * y + 1) * cols + 2 * x + 1))
                                                        : a;
          wrong += at(out, y * out_cols + x) == expected ? 0 : 1;
        }
      }
      CHECK(wrong == 0);
    }
  }
}
