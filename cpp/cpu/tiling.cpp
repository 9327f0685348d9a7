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

// Gain and offset of every channel, repeated over a run of whole pixels: the loop over interleaved channels is a plain
// one then.
struct Scale {
  std::vector<float> gain;
  std::vector<float> offset;

  Scale(const float* gains, const float* offsets, std::int64_t channels) {
    const std::int64_t run = std::max<std::int64_t>(1, 192 / channels) * channels;
    for (std::int64_t i = 0; i < run; ++i) {
      gain.push_back(gains[i % channels]);
      offset.push_back(offsets[i % channels]);
    }
  }
};

template <class In, class Out>
BAINITE_CLONES void normalise_items(const In* in, Out* out, std::int64_t count, const float* gain,
                                    const float* offset) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = normalise<Out>(to_float(in[i]), gain[i], offset[i]);
}

// [width, channels] pixels to the same order.
template <class In, class Out>
void normalise_pixels(const In* in, std::int64_t channels, Out* out, std::int64_t width, const Scale& scale) {
  const std::int64_t total = width * channels;
  const auto run = static_cast<std::int64_t>(scale.gain.size());
  for (std::int64_t start = 0; start < total; start += run) {
    normalise_items(in + start, out + start, std::min(run, total - start), scale.gain.data(), scale.offset.data());
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

// Pixels [begin, end) of one row of all channels (channels last, or one channel) or of channel c (planes).
template <class In, class Out>
void write_run(const In* in, std::int64_t in_channels, const View4D<Out>& out, std::int64_t c, bool planar, Out* to,
               std::int64_t begin, std::int64_t end, const Scale& scale) {
  const std::int64_t width = end - begin;
  in += begin * in_channels;
  if (in_channels == 3 && out.channels == 1) return normalise_luma(in, to, width, scale.gain[0], scale.offset[0]);
  if (planar)
    return normalise_plane(in + (in_channels == 1 ? 0 : c), in_channels, to, width,
                           scale.gain[static_cast<std::size_t>(c)], scale.offset[static_cast<std::size_t>(c)]);
  if (in_channels == out.channels) return normalise_pixels(in, in_channels, to, width, scale);
  return normalise_repeated(in, to, out.channels, width, scale.gain.data(), scale.offset.data());
}

// One row of one tile; past the caches in pieces small enough for the stores of one to drain while the next is made.
template <class In, class Out>
void write_row(const In* in, std::int64_t in_channels, const View4D<Out>& out, Out* row, bool streaming,
               const Scale& scale) {
  constexpr std::int64_t kPiece = 512;
  const bool planar = out.stride_x == 1 || out.cols <= 1;
  const std::int64_t items = planar ? 1 : out.channels;  // outputs of one pixel, side by side
  const auto pixel_bytes = static_cast<std::int64_t>(sizeof(Out)) * items;
  for (std::int64_t c = 0; c < (planar ? out.channels : 1); ++c) {
    Out* to = row + c * out.stride_c;
    if (!streaming || items > kPiece / 64) {
      write_run(in, in_channels, out, c, planar, to, 0, out.cols, scale);
      continue;
    }
    alignas(64) Out piece[kPiece];
    const std::int64_t whole = kPiece / items / 64 * 64;  // pixels whose outputs fill whole cache lines
    const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % 64);
    const std::int64_t head = (64 - misaligned) % 64 / pixel_bytes;
    for (std::int64_t begin = 0, end = std::min(head > 0 ? head : whole, out.cols); begin < out.cols;
         begin = end, end = std::min(begin + whole, out.cols)) {
      write_run(in, in_channels, out, c, planar, piece, begin, end, scale);
      cpu::stream_copy(to + begin * items, piece, (end - begin) * pixel_bytes);
    }
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
  if (row_out == 0) return;
  const bool streaming = worth_streaming(grid.n * out.rows * row_out);
  // A raw value in the region's own type: what numpy.pad(constant_values=fill) would put there.
  const std::vector<In> fill_item(static_cast<std::size_t>(channels), static_cast<In>(fill));
  const auto* fill_bytes = reinterpret_cast<const std::uint8_t*>(fill_item.data());
  const Scale scale(gain, offset, out.channels);
  const auto make_fill = [&] {
    std::vector<In> padded(static_cast<std::size_t>(out.cols * channels));
    return [&, padded](const Group& group, const Columns& columns) mutable {
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
        write_row(in, channels, out, out.at(group.tile, 0, y, 0), streaming, scale);
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
