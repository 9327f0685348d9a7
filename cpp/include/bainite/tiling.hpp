// Tiles out of an image: gather (pad, scale, normalise, cast in one pass) for networks, tile_copy for any item type.
#pragma once

#include <cstdint>

#include "bainite/device.hpp"
#include "bainite/float16.hpp"
#include "bainite/view.hpp"

namespace bainite {

// How an image goes on beyond its border; numpy.pad's "reflect", "symmetric", "edge" and "constant".
enum class PadMode : int { mirror = 0, symmetric = 1, edge = 2, constant = 3 };

// Index within [0, n) that stands for index i of the endless padded axis; -1 where a constant stands. n >= 1.
BAINITE_HD inline std::int64_t mirror_index(std::int64_t i, std::int64_t n, PadMode mode) {
  if (i >= 0 && i < n) return i;
  switch (mode) {
    case PadMode::constant:
      return -1;
    case PadMode::edge:
      return i < 0 ? 0 : n - 1;
    case PadMode::mirror: {
      if (n == 1) return 0;
      const std::int64_t period = 2 * (n - 1);
      const std::int64_t phase = ((i % period) + period) % period;
      return phase < n ? phase : period - phase;
    }
    case PadMode::symmetric: {
      const std::int64_t period = 2 * n;
      const std::int64_t phase = ((i % period) + period) % period;
      return phase < n ? phase : period - 1 - phase;
    }
  }
  return -1;
}

// Luma of ITU-R BT.601, in float32, summed in this order.
BAINITE_HD BAINITE_INLINE float luma(float red, float green, float blue) {
  return (0.299f * red + 0.587f * green) + 0.114f * blue;
}

// Intensity to network input: multiply, then add, each rounded to float32 (never fused).
template <class Out>
BAINITE_HD BAINITE_INLINE Out normalise(float value, float gain, float offset) {
  return from_float<Out>(value * gain + offset);
}

// Where tiles lie. Corners are the top-left pixels (y, x) of tiles, halo included, and may lie outside of the image.
struct TileGrid {
  std::int64_t image_rows = 0;
  std::int64_t image_cols = 0;
  std::int64_t origin_y = 0;  // image row of the region's row 0
  std::int64_t origin_x = 0;
  const std::int64_t* corners = nullptr;  // [n, 2]
  std::int64_t n = 0;
  PadMode pad = PadMode::mirror;
};

// First tile that needs a pixel outside of a region of region_rows x region_cols, or -1 when the region holds all.
std::int64_t first_uncovered(const TileGrid& grid, std::int64_t region_rows, std::int64_t region_cols,
                             std::int64_t tile_rows, std::int64_t tile_cols);

// region: [h, w, C]; out: [n, C', th, tw], columns or channels contiguous; gain, offset: [C'].
// C == C', or C == 3 with C' == 1 (luma), or C == 1 with C' == 3 (repeated). `fill` is a raw value (constant mode).
// Precondition: first_uncovered(...) < 0.
template <class In, class Out>
void gather(View3D<const In> region, View4D<Out> out, const TileGrid& grid, const float* gain, const float* offset,
            float fill, int threads);

// image: [H, W, item bytes]; tiles: [n, th, tw, item bytes], contiguous; `fill`: one item. The grid's region is the
// image.
void tile_copy(View3D<const std::uint8_t> image, std::uint8_t* tiles, std::int64_t tile_rows, std::int64_t tile_cols,
               const TileGrid& grid, const std::uint8_t* fill, int threads);

}  // namespace bainite
