#include "bainite/tiling.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "bainite/parallel.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kChunkBytes = 1 << 18;   // work of one chunk: large against a thread's start, small against L2
constexpr std::int64_t kSerialBytes = 1 << 20;  // below this a helper thread costs more than it brings

int useful_threads(std::int64_t bytes, int threads) { return bytes < kSerialBytes ? 1 : threads; }

// Columns of one tile: `index[x]` is the region column of tile column x (-1: constant), and the columns [first, last)
// are one contiguous run inside the image.
struct Columns {
  std::vector<std::int64_t> index;
  std::int64_t first = 0;
  std::int64_t last = 0;

  void place(const TileGrid& grid, std::int64_t corner, std::int64_t width) {
    index.resize(static_cast<std::size_t>(width));
    first = std::clamp<std::int64_t>(-corner, 0, width);
    last = std::clamp<std::int64_t>(grid.image_cols - corner, first, width);
    for (std::int64_t x = 0; x < width; ++x) {
      const bool inside = x >= first && x < last;
      const std::int64_t column = inside ? corner + x : mirror_index(corner + x, grid.image_cols, grid.pad);
      index[static_cast<std::size_t>(x)] = column < 0 ? -1 : column - grid.origin_x;
    }
  }
  std::int64_t operator[](std::int64_t x) const { return index[static_cast<std::size_t>(x)]; }
};

template <std::size_t kBytes>
void copy_fixed(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill, const Columns& columns,
                std::int64_t begin, std::int64_t end) {
  for (std::int64_t x = begin; x < end; ++x) {
    const std::int64_t column = columns[x];
    std::memcpy(to + static_cast<std::size_t>(x) * kBytes,
                column < 0 ? fill : row + static_cast<std::size_t>(column) * kBytes, kBytes);
  }
}

// Padding columns [begin, end) of one row, item by item.
void copy_items(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill, const Columns& columns,
                std::int64_t begin, std::int64_t end, std::int64_t bytes) {
  switch (bytes) {
    case 1:
      return copy_fixed<1>(to, row, fill, columns, begin, end);
    case 2:
      return copy_fixed<2>(to, row, fill, columns, begin, end);
    case 3:
      return copy_fixed<3>(to, row, fill, columns, begin, end);
    case 4:
      return copy_fixed<4>(to, row, fill, columns, begin, end);
    case 8:
      return copy_fixed<8>(to, row, fill, columns, begin, end);
    default:
      for (std::int64_t x = begin; x < end; ++x) {
        const std::int64_t column = columns[x];
        std::memcpy(to + x * bytes, column < 0 ? fill : row + column * bytes, static_cast<std::size_t>(bytes));
      }
  }
}

// One padded row of a tile: a memcpy for the run inside the image, items for the rest. row == nullptr: all constant.
void copy_row(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill, const Columns& columns,
              std::int64_t width, std::int64_t bytes) {
  if (row == nullptr) {
    for (std::int64_t x = 0; x < width; ++x) std::memcpy(to + x * bytes, fill, static_cast<std::size_t>(bytes));
    return;
  }
  copy_items(to, row, fill, columns, 0, columns.first, bytes);
  if (columns.last > columns.first) {
    std::memcpy(to + columns.first * bytes, row + columns[columns.first] * bytes,
                static_cast<std::size_t>((columns.last - columns.first) * bytes));
  }
  copy_items(to, row, fill, columns, columns.last, width, bytes);
}

// Calls visit(tile, row of the tile, region row or -1, columns) for the rows [begin, end) of all tiles in turn.
template <class Visit>
void for_each_row(const TileGrid& grid, std::int64_t tile_rows, std::int64_t tile_cols, std::int64_t begin,
                  std::int64_t end, const Visit& visit) {
  Columns columns;
  std::int64_t placed = -1;
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t tile = item / tile_rows;
    const std::int64_t y = item - tile * tile_rows;
    if (tile != placed) columns.place(grid, grid.corners[2 * tile + 1], tile_cols);
    placed = tile;
    const std::int64_t row = mirror_index(grid.corners[2 * tile] + y, grid.image_rows, grid.pad);
    visit(tile, y, row < 0 ? -1 : row - grid.origin_y, columns);
  }
}

// --- one row of pixels to network input ---------------------------------------------------------------------------

// Channel c of [width, channels] pixels to contiguous output.
template <class In, class Out>
BAINITE_CLONES void normalise_plane(const In* in, std::int64_t channels, Out* out, std::int64_t width, float gain,
                                    float offset) {
  if (channels == 1) {
    for (std::int64_t x = 0; x < width; ++x) out[x] = normalise<Out>(to_float(in[x]), gain, offset);
  } else if (channels == 3) {
    for (std::int64_t x = 0; x < width; ++x) out[x] = normalise<Out>(to_float(in[3 * x]), gain, offset);
  } else {
    for (std::int64_t x = 0; x < width; ++x) out[x] = normalise<Out>(to_float(in[channels * x]), gain, offset);
  }
}

// [width, channels] pixels to the same order.
template <class In, class Out>
BAINITE_CLONES void normalise_pixels(const In* in, std::int64_t channels, Out* out, std::int64_t width,
                                     const float* gain, const float* offset) {
  // Gains repeated over a run of pixels turn the interleaved channels into one plain loop.
  constexpr std::int64_t kRun = 192;
  if (channels > kRun) {
    for (std::int64_t x = 0; x < width; ++x, in += channels, out += channels) {
      for (std::int64_t c = 0; c < channels; ++c) out[c] = normalise<Out>(to_float(in[c]), gain[c], offset[c]);
    }
    return;
  }
  float gains[kRun];
  float offsets[kRun];
  const std::int64_t run = kRun / channels * channels;
  for (std::int64_t i = 0; i < run; ++i) {
    gains[i] = gain[i % channels];
    offsets[i] = offset[i % channels];
  }
  const std::int64_t total = width * channels;
  for (std::int64_t start = 0; start < total; start += run) {
    const std::int64_t count = std::min(run, total - start);
    for (std::int64_t i = 0; i < count; ++i) {
      out[start + i] = normalise<Out>(to_float(in[start + i]), gains[i], offsets[i]);
    }
  }
}

template <class In, class Out>
BAINITE_CLONES void normalise_luma(const In* in, Out* out, std::int64_t width, float gain, float offset) {
  for (std::int64_t x = 0; x < width; ++x) {
    const float gray = luma(to_float(in[3 * x]), to_float(in[3 * x + 1]), to_float(in[3 * x + 2]));
    out[x] = normalise<Out>(gray, gain, offset);
  }
}

// One gray value to `channels` interleaved ones.
template <class In, class Out>
BAINITE_CLONES void normalise_repeated(const In* in, Out* out, std::int64_t channels, std::int64_t width,
                                       const float* gain, const float* offset) {
  for (std::int64_t x = 0; x < width; ++x) {
    for (std::int64_t c = 0; c < channels; ++c) {
      out[x * channels + c] = normalise<Out>(to_float(in[x]), gain[c], offset[c]);
    }
  }
}

template <class In, class Out>
void write_row(const In* in, std::int64_t in_channels, const View4D<Out>& out, std::int64_t tile, std::int64_t y,
               const float* gain, const float* offset) {
  if (in_channels == 3 && out.channels == 1) {
    return normalise_luma(in, out.at(tile, 0, y, 0), out.cols, gain[0], offset[0]);
  }
  if (out.stride_x != 1 && out.cols > 1) {  // channels last
    Out* row = out.at(tile, 0, y, 0);
    if (in_channels == out.channels) return normalise_pixels(in, in_channels, row, out.cols, gain, offset);
    return normalise_repeated(in, row, out.channels, out.cols, gain, offset);
  }
  for (std::int64_t c = 0; c < out.channels; ++c) {
    const In* plane = in + (in_channels == 1 ? 0 : c);
    normalise_plane(plane, in_channels, out.at(tile, c, y, 0), out.cols, gain[c], offset[c]);
  }
}

// Tile indices [begin, end) of one axis that lie outside of [origin, origin + extent).
bool covered(std::int64_t corner, std::int64_t size, std::int64_t n, PadMode pad, std::int64_t origin,
             std::int64_t extent) {
  const std::int64_t inside_first = std::max<std::int64_t>(corner, 0);
  const std::int64_t inside_last = std::min(corner + size, n);
  if (inside_first < inside_last && (inside_first < origin || inside_last > origin + extent)) return false;
  const auto reachable = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const std::int64_t index = mirror_index(i, n, pad);
      if (index >= 0 && (index < origin || index >= origin + extent)) return false;
    }
    return true;
  };
  return reachable(corner, std::min<std::int64_t>(corner + size, 0)) && reachable(std::max(corner, n), corner + size);
}

// Whether any index of [corner, corner + size) is taken from the image; in constant mode a tile may lie wholly outside.
bool touches(std::int64_t corner, std::int64_t size, std::int64_t n, PadMode pad) {
  return size > 0 && (pad != PadMode::constant || (corner < n && corner + size > 0));
}

}  // namespace

std::int64_t first_uncovered(const TileGrid& grid, std::int64_t region_rows, std::int64_t region_cols,
                             std::int64_t tile_rows, std::int64_t tile_cols) {
  for (std::int64_t i = 0; i < grid.n; ++i) {
    const std::int64_t y = grid.corners[2 * i];
    const std::int64_t x = grid.corners[2 * i + 1];
    if (!touches(y, tile_rows, grid.image_rows, grid.pad) || !touches(x, tile_cols, grid.image_cols, grid.pad)) {
      continue;
    }
    if (!covered(y, tile_rows, grid.image_rows, grid.pad, grid.origin_y, region_rows) ||
        !covered(x, tile_cols, grid.image_cols, grid.pad, grid.origin_x, region_cols)) {
      return i;
    }
  }
  return -1;
}

template <class In, class Out>
void gather(View3D<const In> region, View4D<Out> out, const TileGrid& grid, const float* gain, const float* offset,
            float fill, int threads) {
  const std::int64_t channels = region.channels;
  const std::int64_t item_bytes = channels * static_cast<std::int64_t>(sizeof(In));
  const std::int64_t row_bytes = out.cols * (item_bytes + out.channels * static_cast<std::int64_t>(sizeof(Out)));
  if (row_bytes == 0 || out.rows == 0) return;
  // A raw value in the region's own type: what numpy.pad(constant_values=fill) would put there.
  const std::vector<In> fill_item(static_cast<std::size_t>(channels), static_cast<In>(fill));
  const auto* fill_bytes = reinterpret_cast<const std::uint8_t*>(fill_item.data());
  const std::int64_t items = grid.n * out.rows;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    std::vector<In> padded(static_cast<std::size_t>(out.cols * channels));
    auto* padded_bytes = reinterpret_cast<std::uint8_t*>(padded.data());
    for_each_row(grid, out.rows, out.cols, begin, end,
                 [&](std::int64_t tile, std::int64_t y, std::int64_t row, const Columns& columns) {
                   const In* in = row < 0 ? nullptr : region.row(row);
                   if (in != nullptr && columns.first == 0 && columns.last == out.cols) {
                     return write_row(in + columns[0] * channels, channels, out, tile, y, gain, offset);
                   }
                   const auto* bytes = reinterpret_cast<const std::uint8_t*>(in);
                   copy_row(padded_bytes, bytes, fill_bytes, columns, out.cols, item_bytes);
                   write_row(padded.data(), channels, out, tile, y, gain, offset);
                 });
  };
  parallel_for(items, std::max<std::int64_t>(1, kChunkBytes / row_bytes), useful_threads(items * row_bytes, threads),
               body);
}

void tile_copy(View3D<const std::uint8_t> image, std::uint8_t* tiles, std::int64_t tile_rows, std::int64_t tile_cols,
               const TileGrid& grid, const std::uint8_t* fill, int threads) {
  const std::int64_t item_bytes = image.channels;
  const std::int64_t row_bytes = tile_cols * item_bytes;
  if (row_bytes == 0 || tile_rows == 0) return;
  const std::int64_t items = grid.n * tile_rows;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    for_each_row(grid, tile_rows, tile_cols, begin, end,
                 [&](std::int64_t tile, std::int64_t y, std::int64_t row, const Columns& columns) {
                   copy_row(tiles + (tile * tile_rows + y) * row_bytes, row < 0 ? nullptr : image.row(row), fill,
                            columns, tile_cols, item_bytes);
                 });
  };
  parallel_for(items, std::max<std::int64_t>(1, kChunkBytes / row_bytes), useful_threads(items * row_bytes, threads),
               body);
}

#define BAINITE_GATHER(In)                                                                                           \
  template void gather(View3D<const In>, View4D<float>, const TileGrid&, const float*, const float*, float, int);    \
  template void gather(View3D<const In>, View4D<bfloat16>, const TileGrid&, const float*, const float*, float, int); \
  template void gather(View3D<const In>, View4D<float16>, const TileGrid&, const float*, const float*, float, int);
BAINITE_GATHER(std::uint8_t)
BAINITE_GATHER(std::uint16_t)
BAINITE_GATHER(float)
#undef BAINITE_GATHER

}  // namespace bainite
