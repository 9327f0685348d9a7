#include "bainite/pyramid.hpp"

#include <algorithm>

#include "bainite/parallel.hpp"

namespace bainite {
namespace {

// `pairs` full 2x2 cells of two rows.
BAINITE_CLONES void mode_row(const std::uint8_t* upper, const std::uint8_t* lower, std::uint8_t* out,
                             std::int64_t pairs) {
  for (std::int64_t x = 0; x < pairs; ++x) {
    out[x] = mode_of_four(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]);
  }
}

}  // namespace

void downsample_labels(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out, int threads) {
  const std::int64_t pairs = labels.cols / 2;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t y = begin; y < end; ++y) {
      const std::uint8_t* upper = labels.row(2 * y);
      std::uint8_t* to = out.row(y);
      if (2 * y + 1 < labels.rows) {
        mode_row(upper, labels.row(2 * y + 1), to, pairs);
      } else {
        for (std::int64_t x = 0; x < pairs; ++x) to[x] = upper[2 * x];  // of two, the first
      }
      if (out.cols > pairs) to[pairs] = upper[2 * pairs];  // one column: the upper pixel comes first
    }
  };
  const std::int64_t pixels = labels.rows * labels.cols;
  parallel_for(out.rows, std::max<std::int64_t>(1, (1 << 17) / std::max<std::int64_t>(labels.cols, 1)),
               pixels < (1 << 20) ? 1 : threads, body);
}

}  // namespace bainite
