#include "bainite/tiling.hpp"

#include <type_traits>

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

template <class Out>
constexpr int kItems = 16 / static_cast<int>(sizeof(Out));  // of a pack: 16 bytes of the output

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
    if (in == nullptr) return nullptr;
    if (x >= first && x < last) return in + x * channels;
    const std::int64_t column = padded_column(corner + x, image_cols, pad);
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
  const std::int64_t last = row < 0 ? first : clamped(grid.image_cols - corner, first, cols);
  const In* in = row < 0 ? nullptr : region.row(row - grid.origin_y) + (corner - grid.origin_x) * region.channels;
  return {in, corner, first, last, grid.image_cols, grid.pad};
}

// Intensities to network inputs, their gains and offsets in turn from number `turn` of kPeriod.
template <int kPeriod, int kCount, class In, class Out>
__device__ __forceinline__ void normalise_pack(const Words<In, kCount>& from, int turn, const float (&gains)[kPeriod],
                                               const float (&offsets)[kPeriod], Words<Out, kCount>& to) {
  float values[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = from.value(i) * gains[(i + turn) % kPeriod] + offsets[(i + turn) % kPeriod];
  }
  to.round(values);
}

// As many channels out as in, next to each other in both: a row is one run of items, whose channels take turns.
template <int kChannels, class In, class Out>
__global__ void __launch_bounds__(kThreads) gather_rows_kernel(View3D<const In> region, View4D<Out> out, TileGrid grid,
                                                               const float* gain, const float* offset, In fill) {
  using Source = Words<In, kItems<Out>>;
  using Target = Words<Out, kItems<Out>>;
  constexpr int kWanted = Source::kNumber > 8 ? 1 : 8 / Source::kNumber;
  constexpr int kAhead = kChannels > 1 ? kChannels : (kWanted < 4 ? kWanted : 4);
  for_each_piece<kLongPiece>(out.n * out.rows, out.cols, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, out.rows);
    const std::int64_t y = item - tile * out.rows;
    const Row<In> row = row_of(region, grid, tile, y, out.cols);
    Out* to = out.at(tile, 0, y, 0);
    const Split<kItems<Out>> split(begin * kChannels, end * kChannels, row.first * kChannels, row.last * kChannels,
                                   Target::Items::skew(to));
    // A lane's packs begin with the same channel every kAhead packs: that of its first one comes first.
    const int shift = static_cast<int>(split.middle - split.begin) + lane() * kItems<Out>;
    float gains[kChannels], offsets[kChannels];
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      gains[c] = gain[(c + shift) % kChannels];
      offsets[c] = offset[(c + shift) % kChannels];
    }
    const In* from = split.packs > 0 ? row.in + split.middle : nullptr;
    const auto run = [&](auto words) {
      const auto fetch = [&](int pack, Source& source) { source.load(from + pack * kItems<Out>, words.value); };
      const auto write = [&](int pack, int i, const Source& source) {
        Target target;
        normalise_pack(source, i * kWarp * kItems<Out>, gains, offsets, target);
        target.store(to + split.middle + pack * kItems<Out>, true);
      };
      for_each_pack<Source, kAhead>(split.packs, fetch, write);
    };
    if (Source::Items::aligned(from)) {
      run(std::true_type());
    } else {
      run(std::false_type());
    }
    split.for_each_at_the_ends([&](std::int64_t i) {
      const std::int64_t x = begin + static_cast<int>(i - split.begin) / kChannels;
      const int c = static_cast<int>(i - split.begin) % kChannels;
      const In* pixel = row.padded(x, kChannels);
      to[i] = normalise<Out>(to_float(pixel == nullptr ? fill : pixel[c]), gain[c], offset[c]);
    });
  });
}

// kIn channels of a region to kOut of the batch: as many, 3 to 1 (luma) or 1 to 3 (repeated). Columns are contiguous,
// or (kLast) channels.
template <int kIn, int kOut, bool kLast, class In, class Out>
__global__ void __launch_bounds__(kThreads) gather_kernel(View3D<const In> region, View4D<Out> out, TileGrid grid,
                                                          const float* gain, const float* offset, In fill) {
  using Source = Words<In, kItems<Out> * kIn>;
  using Plane = Words<Out, kItems<Out>>;
  using Interleaved = Words<Out, kItems<Out> * kOut>;
  float gains[kOut], offsets[kOut];
#pragma unroll
  for (int c = 0; c < kOut; ++c) {
    gains[c] = gain[c];
    offsets[c] = offset[c];
  }
  // What output channel c shows of a pixel.
  const auto raw = [](const float* pixel, int c) {
    if constexpr (kIn == 3 && kOut == 1) {
      return luma(pixel[0], pixel[1], pixel[2]);
    } else {
      return pixel[kIn == 1 ? 0 : c];
    }
  };
  for_each_piece<kLongPiece>(out.n * out.rows, out.cols, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, out.rows);
    const std::int64_t y = item - tile * out.rows;
    const Row<In> row = row_of(region, grid, tile, y, out.cols);
    Out* to = out.at(tile, 0, y, 0);
    // Without packs where one of a plane would be aligned and its like of another plane not.
    const bool out_words = kLast ? Interleaved::Items::aligned(to)
                                 : kOut == 1 || Plane::Items::skew(to) == Plane::Items::skew(to + out.stride_c);
    const Split<kItems<Out>> split(begin, end, row.first, out_words ? row.last : row.first,
                                   kLast ? 0 : Plane::Items::skew(to));
    const In* from = split.packs > 0 ? row.in + split.middle * kIn : nullptr;
    Out* middle = to + split.middle * (kLast ? kOut : 1);
    const auto write = [&](int pack, int, const Source& source) {
      float seen[kItems<Out> * kIn];
#pragma unroll
      for (int i = 0; i < kItems<Out> * kIn; ++i) seen[i] = source.value(i);
      if constexpr (kLast) {
        Interleaved pixels;
        float values[kItems<Out> * kOut];
#pragma unroll
        for (int i = 0; i < kItems<Out> * kOut; ++i) {
          values[i] = raw(seen + i / kOut * kIn, i % kOut) * gains[i % kOut] + offsets[i % kOut];
        }
        pixels.round(values);
        pixels.store(middle + pack * (kItems<Out> * kOut), true);
      } else {
#pragma unroll
        for (int c = 0; c < kOut; ++c) {
          Plane plane;
          float values[kItems<Out>];
#pragma unroll
          for (int i = 0; i < kItems<Out>; ++i) values[i] = raw(seen + i * kIn, c) * gains[c] + offsets[c];
          plane.round(values);
          plane.store(middle + c * out.stride_c + pack * kItems<Out>, true);
        }
      }
    };
    const auto run = [&](auto words) {
      const auto fetch = [&](int pack, Source& source) { source.load(from + pack * (kItems<Out> * kIn), words.value); };
      for_each_pack<Source, Source::kNumber <= 4 ? 2 : 1>(split.packs, fetch, write);
    };
    if (Source::Items::aligned(from)) {
      run(std::true_type());
    } else {
      run(std::false_type());
    }
    split.for_each_at_the_ends([&](std::int64_t x) {
      const In* pixel = row.padded(x, kIn);
      float seen[kIn];
#pragma unroll
      for (int c = 0; c < kIn; ++c) seen[c] = to_float(pixel == nullptr ? fill : pixel[c]);
#pragma unroll
      for (int c = 0; c < kOut; ++c) {
        to[c * out.stride_c + x * out.stride_x] = normalise<Out>(raw(seen, c), gains[c], offsets[c]);
      }
    });
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
      const In* pixel = row.padded(x, channels);
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
  const auto run = [&](auto* kernel, unsigned blocks) {
    // A raw value in the region's own type, as on the CPU.
    launch("gather", kernel, blocks, 0, stream, region, out, grid, gain, offset, static_cast<In>(fill));
  };
  const auto is = [&](std::int64_t in_channels, std::int64_t out_channels) {
    return region.channels == in_channels && out.channels == out_channels;
  };
  const unsigned blocks = blocks_for<kLongPiece>(out.n * out.rows, out.cols);
  const bool last = out.stride_c == 1 && out.stride_x == out.channels;
  const bool planes = out.stride_x == 1;
  if (is(1, 1) && planes) {
    run(gather_rows_kernel<1, In, Out>, blocks);
  } else if (is(3, 3) && last) {
    run(gather_rows_kernel<3, In, Out>, blocks);
  } else if (is(3, 1) && planes) {
    run(gather_kernel<3, 1, false, In, Out>, blocks);
  } else if (is(1, 3) && last) {
    run(gather_kernel<1, 3, true, In, Out>, blocks);
  } else if (is(1, 3) && planes) {
    run(gather_kernel<1, 3, false, In, Out>, blocks);
  } else if (is(3, 3) && planes) {
    run(gather_kernel<3, 3, false, In, Out>, blocks);
  } else {
    run(gather_any_kernel<In, Out>, blocks_for(out.n * out.rows, out.cols));
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
