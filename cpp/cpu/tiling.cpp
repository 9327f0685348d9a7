#include "bainite/tiling.hpp"

#include <algorithm>
#include <vector>

#include "stream.hpp"
#include "strips.hpp"

namespace bainite {
using cpu::Columns;
using cpu::Group;

namespace {

// --- One row of pixels to network input ---

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

// One row of one tile. `row` stands for out's channel 0 of that row: the tile itself, or scratch of the same strides.
template <class In, class Out>
void write_row(const In* in, std::int64_t in_channels, const View4D<Out>& out, Out* row, std::int64_t stride_c,
               const float* gain, const float* offset) {
  if (in_channels == 3 && out.channels == 1) return normalise_luma(in, row, out.cols, gain[0], offset[0]);
  if (out.stride_x != 1 && out.cols > 1) {  // channels last
    if (in_channels == out.channels) return normalise_pixels(in, in_channels, row, out.cols, gain, offset);
    return normalise_repeated(in, row, out.channels, out.cols, gain, offset);
  }
  for (std::int64_t c = 0; c < out.channels; ++c) {
    const In* plane = in + (in_channels == 1 ? 0 : c);
    normalise_plane(plane, in_channels, row + c * stride_c, out.cols, gain[c], offset[c]);
  }
}

// The same past the caches: the row is made in scratch, [C' * tw], and streamed to its place.
template <class In, class Out>
void stream_row(const In* in, std::int64_t in_channels, const View4D<Out>& out, Out* row, std::vector<Out>& scratch,
                const float* gain, const float* offset) {
  write_row(in, in_channels, out, scratch.data(), out.cols, gain, offset);
  const bool planar = out.stride_x == 1 || out.cols <= 1;
  const std::int64_t runs = planar ? out.channels : 1;
  const std::int64_t run = out.cols * out.channels / runs;
  for (std::int64_t c = 0; c < runs; ++c) {
    cpu::stream_copy(row + c * out.stride_c, scratch.data() + c * run, run * static_cast<std::int64_t>(sizeof(Out)));
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
  using namespace cpu;
  const std::int64_t channels = region.channels;
  const std::int64_t item_bytes = channels * static_cast<std::int64_t>(sizeof(In));
  const std::int64_t row_out = out.cols * out.channels * static_cast<std::int64_t>(sizeof(Out));
  const bool streaming = worth_streaming(grid.n * out.rows * row_out);
  // A raw value in the region's own type: what numpy.pad(constant_values=fill) would put there.
  const std::vector<In> fill_item(static_cast<std::size_t>(channels), static_cast<In>(fill));
  const auto* fill_bytes = reinterpret_cast<const std::uint8_t*>(fill_item.data());
  const auto make_fill = [&] {
    std::vector<In> padded(static_cast<std::size_t>(out.cols * channels));
    std::vector<Out> scratch(static_cast<std::size_t>(streaming ? out.cols * out.channels : 0));
    return [&, padded, scratch](const Group& group, const Columns& columns) mutable {
      for (std::int64_t y = group.begin; y < group.end; ++y) {
        const std::int64_t row = source_row(grid, group.tile, y);
        const In* in = row < 0 ? nullptr : region.row(row);
        if (in != nullptr && columns.whole()) {
          in += columns.source * channels;
        } else {
          copy_row(reinterpret_cast<std::uint8_t*>(padded.data()), reinterpret_cast<const std::uint8_t*>(in),
                   fill_bytes, columns, item_bytes);
          in = padded.data();
        }
        Out* to = out.at(group.tile, 0, y, 0);
        if (streaming) {
          stream_row(in, channels, out, to, scratch, gain, offset);
        } else {
          write_row(in, channels, out, to, out.stride_c, gain, offset);
        }
      }
    };
  };
  for_each_group(grid, out.rows, out.cols, row_out, threads, make_fill);
}

void tile_copy(View3D<const std::uint8_t> image, std::uint8_t* tiles, std::int64_t tile_rows, std::int64_t tile_cols,
               const TileGrid& grid, const std::uint8_t* fill, int threads) {
  using namespace cpu;
  const std::int64_t item_bytes = image.channels;
  const std::int64_t row_bytes = tile_cols * item_bytes;
  const bool streaming = worth_streaming(grid.n * tile_rows * row_bytes);
  // Whole cache lines can be streamed row by row; rows of other lengths, and padded ones, are put together first.
  const bool lines = streaming && row_bytes % 64 == 0 && reinterpret_cast<std::uintptr_t>(tiles) % 64 == 0;
  const auto make_fill = [&] {
    std::vector<std::uint8_t> scratch(static_cast<std::size_t>(streaming ? std::max(kGroupBytes, row_bytes) : 0));
    return [&, scratch](const Group& group, const Columns& columns) mutable {
      std::uint8_t* to = tiles + (group.tile * tile_rows + group.begin) * row_bytes;
      const bool direct = lines && columns.whole();
      for (std::int64_t y = group.begin; y < group.end; ++y) {
        const std::int64_t row = source_row(grid, group.tile, y);
        const std::uint8_t* in = row < 0 ? nullptr : image.row(row);
        const std::int64_t at = (y - group.begin) * row_bytes;
        if (direct && in != nullptr) {
          stream_copy(to + at, in + columns.source * item_bytes, row_bytes);
        } else if (direct) {
          copy_row(to + at, in, fill, columns, item_bytes);
        } else {
          copy_row((streaming ? scratch.data() : to) + at, in, fill, columns, item_bytes);
        }
      }
      if (streaming && !direct) stream_copy(to, scratch.data(), (group.end - group.begin) * row_bytes);
    };
  };
  for_each_group(grid, tile_rows, tile_cols, row_bytes, threads, make_fill);
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
