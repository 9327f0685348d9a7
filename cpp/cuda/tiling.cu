#include "bainite/tiling.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

template <class Out>
constexpr int kPixels = 16 / static_cast<int>(sizeof(Out));  // of a thread: 16 bytes of every output channel

// Reads of a thread on their way before the first of them is used, as registers allow.
template <class Source>
constexpr int kAhead = sizeof(Source) >= 64 ? 1 : (sizeof(Source) <= 16 ? 4 : 64 / static_cast<int>(sizeof(Source)));

// Seldom reached, and long: not inlined.
__device__ __noinline__ std::int64_t padded_column(std::int64_t i, std::int64_t n, PadMode pad) {
  return mirror_index(i, n, pad);
}

// Where one row of a tile comes from. Columns [first, last) are one run of the region.
template <class In>
struct Row {
  const In* in;         // pixel that shows at column 0, were it in the region; null: the whole row is constant
  std::int64_t corner;  // image column of column 0
  std::int64_t first, last;
  std::int64_t image_cols;
  PadMode pad;

  // Pixel that shows at column x; null: the constant.
  __device__ __forceinline__ const In* padded(std::int64_t x, int channels) const {
    const std::int64_t column = in == nullptr ? -1 : padded_column(corner + x, image_cols, pad);
    return column < 0 ? nullptr : in + (column - corner) * channels;
  }
};

__device__ __forceinline__ std::int64_t clamped(std::int64_t value, std::int64_t low, std::int64_t high) {
  return value < low ? low : (value > high ? high : value);
}

template <class In>
__device__ __forceinline__ Row<In> row_of(const View3D<const In>& region, const TileGrid& grid, std::int64_t tile,
                                          std::int64_t y, std::int64_t cols) {
  const std::int64_t corner = grid.corners[2 * tile + 1];
  const std::int64_t row = mirror_index(grid.corners[2 * tile] + y, grid.image_rows, grid.pad);
  const std::int64_t first = clamped(-corner, 0, cols);
  const std::int64_t last = clamped(grid.image_cols - corner, first, cols);
  const In* in = row < 0 ? nullptr : region.row(row - grid.origin_y) + (corner - grid.origin_x) * region.channels;
  return {in, corner, first, last, grid.image_cols, grid.pad};
}

// kIn channels of a region to kOut of the batch: as many, 3 to 1 (luma) or 1 to 3 (repeated).
template <int kIn, int kOut, class In, class Out>
__global__ void __launch_bounds__(kThreads) gather_kernel(View3D<const In> region, View4D<Out> out, TileGrid grid,
                                                          const float* gain, const float* offset, In fill) {
  using Source = Pack<In, kPixels<Out> * kIn>;
  using Plane = Pack<Out, kPixels<Out>>;
  using Interleaved = Pack<Out, kPixels<Out> * kOut>;
  const bool interleaved = kOut > 1 && out.stride_x != 1 && out.cols > 1;
  float gains[kOut], offsets[kOut];
#pragma unroll
  for (int c = 0; c < kOut; ++c) {
    gains[c] = gain[c];
    offsets[c] = offset[c];
  }
  for_each_piece(out.n * out.rows, out.cols, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, out.rows);
    const std::int64_t y = item - tile * out.rows;
    const Row<In> row = row_of(region, grid, tile, y, out.cols);
    Out* to = out.at(tile, 0, y, 0);
    const bool in_words = Source::aligned(row.in);
    const bool out_words =
        interleaved ? Interleaved::aligned(to) : Plane::aligned(to) && (kOut == 1 || Plane::aligned(to + out.stride_c));
    const auto fetch = [&](std::int64_t x, Source& source) {
      if (row.in != nullptr && x >= row.first && x + kPixels<Out> <= row.last) {
        source.load(row.in + x * kIn, in_words);
        return;
      }
#pragma unroll
      for (int i = 0; i < kPixels<Out>; ++i) {
        const In* pixel = x + i < end ? row.padded(x + i, kIn) : nullptr;
#pragma unroll
        for (int c = 0; c < kIn; ++c) source.items[i * kIn + c] = pixel == nullptr ? fill : pixel[c];
      }
    };
    const auto write = [&](std::int64_t x, const Source& source) {
      const auto value = [&](int i, int c) {
        const In* pixel = source.items + i * kIn;
        const float raw = kIn == 3 && kOut == 1
                              ? luma(to_float(pixel[0]), to_float(pixel[kIn / 2]), to_float(pixel[kIn - 1]))
                              : to_float(pixel[kIn == 1 ? 0 : c]);
        return normalise<Out>(raw, gains[c], offsets[c]);
      };
      if (x + kPixels<Out> > end) {
#pragma unroll
        for (int i = 0; i < kPixels<Out>; ++i) {
#pragma unroll
          for (int c = 0; c < kOut; ++c) {
            if (x + i < end) to[c * out.stride_c + (x + i) * out.stride_x] = value(i, c);
          }
        }
      } else if (interleaved) {
        Interleaved pixels;
#pragma unroll
        for (int i = 0; i < kPixels<Out> * kOut; ++i) pixels.items[i] = value(i / kOut, i % kOut);
        pixels.store(to + x * kOut, out_words);
      } else {
#pragma unroll
        for (int c = 0; c < kOut; ++c) {
          Plane plane;
#pragma unroll
          for (int i = 0; i < kPixels<Out>; ++i) plane.items[i] = value(i, c);
          plane.store(to + c * out.stride_c + x, out_words);
        }
      }
    };
    constexpr std::int64_t kStep = kWarp * kPixels<Out>;
    for (std::int64_t x = begin + lane() * kPixels<Out>; x < end; x += kAhead<Source> * kStep) {
      Source sources[kAhead<Source>];
#pragma unroll
      for (int i = 0; i < kAhead<Source>; ++i) {
        if (x + i * kStep < end) fetch(x + i * kStep, sources[i]);
      }
#pragma unroll
      for (int i = 0; i < kAhead<Source>; ++i) {
        if (x + i * kStep < end) write(x + i * kStep, sources[i]);
      }
    }
  });
}

// Any number of channels, as many out as in: one pixel a thread.
template <class In, class Out>
__global__ void __launch_bounds__(kThreads) gather_any_kernel(View3D<const In> region, View4D<Out> out, TileGrid grid,
                                                              const float* gain, const float* offset, In fill) {
  const auto channels = static_cast<int>(region.channels);
  for_each_piece(out.n * out.rows, out.cols, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, out.rows);
    const std::int64_t y = item - tile * out.rows;
    const Row<In> row = row_of(region, grid, tile, y, out.cols);
    Out* to = out.at(tile, 0, y, 0);
    for (std::int64_t x = begin + lane(); x < end; x += kWarp) {
      const bool inside = row.in != nullptr && x >= row.first && x < row.last;
      const In* pixel = inside ? row.in + x * channels : row.padded(x, channels);
      for (int c = 0; c < channels; ++c) {
        const float raw = to_float(pixel == nullptr ? fill : pixel[c]);
        to[c * out.stride_c + x * out.stride_x] = normalise<Out>(raw, gain[c], offset[c]);
      }
    }
  });
}

}  // namespace

template <class In, class Out>
void gather(View3D<const In> region, View4D<Out> out, const TileGrid& grid, const float* gain, const float* offset,
            float fill, Stream stream) {
  if (out.n == 0 || out.channels == 0 || out.rows == 0 || out.cols == 0) return;
  const unsigned blocks = blocks_for(out.n * out.rows, out.cols);
  const auto run = [&](auto* kernel) {
    // A raw value in the region's own type, as on the CPU.
    launch("gather", kernel, blocks, 0, stream, region, out, grid, gain, offset, static_cast<In>(fill));
  };
  const auto is = [&](std::int64_t in_channels, std::int64_t out_channels) {
    return region.channels == in_channels && out.channels == out_channels;
  };
  if (is(1, 1)) {
    run(gather_kernel<1, 1, In, Out>);
  } else if (is(3, 1)) {
    run(gather_kernel<3, 1, In, Out>);
  } else if (is(1, 3)) {
    run(gather_kernel<1, 3, In, Out>);
  } else if (is(3, 3)) {
    run(gather_kernel<3, 3, In, Out>);
  } else {
    run(gather_any_kernel<In, Out>);
  }
}

#define BAINITE_GATHER(In, Out) \
  template void gather(View3D<const In>, View4D<Out>, const TileGrid&, const float*, const float*, float, Stream);
#define BAINITE_GATHER_FROM(In) \
  BAINITE_GATHER(In, float)     \
  BAINITE_GATHER(In, bfloat16)  \
  BAINITE_GATHER(In, float16)
BAINITE_GATHER_FROM(std::uint8_t)
BAINITE_GATHER_FROM(std::uint16_t)
BAINITE_GATHER_FROM(float)
#undef BAINITE_GATHER_FROM
#undef BAINITE_GATHER

}  // namespace bainite::cuda
