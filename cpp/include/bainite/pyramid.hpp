// Image pyramids of label arrays.
#pragma once

#include <cstdint>

#include "bainite/device.hpp"
#include "bainite/view.hpp"

namespace bainite {

// Most frequent of four labels; among equally frequent ones the first in raster order (a b over c d).
BAINITE_HD BAINITE_INLINE std::uint8_t mode_of_four(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  const bool a_repeats = (a == b) | (a == c) | (a == d);
  const bool b_repeats = (b == c) | (b == d);
  const std::uint8_t without_a = b_repeats ? b : (c == d ? c : a);
  return a_repeats ? a : without_a;
}

// labels: [h, w]; out: [ceil(h/2), ceil(w/2)]: the mode of every 2x2 cell. Cells clipped by the border hold only the
// pixels that exist: of two, the first in raster order.
void downsample_labels(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out, int threads);

}  // namespace bainite
