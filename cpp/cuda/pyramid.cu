#include "bainite/pyramid.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

constexpr int kCells = 8;  // of a thread: 16 bytes of two rows

__global__ void downsample_kernel(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out) {
  using Row = Pack<std::uint8_t, 2 * kCells>;
  using Cells = Pack<std::uint8_t, kCells>;
  const std::int64_t pairs = labels.cols / 2;
  for_each_piece(out.rows, out.cols, [&](std::int64_t y, std::int64_t begin, std::int64_t end) {
    const bool two = 2 * y + 1 < labels.rows;
    const std::uint8_t* upper = labels.row(2 * y);
    const std::uint8_t* lower = two ? upper + labels.pitch : upper;
    std::uint8_t* to = out.row(y);
    const bool in_words = Row::aligned(upper) && Row::aligned(lower);
    const bool out_words = Cells::aligned(to);
    for (std::int64_t x = begin + lane() * kCells; x < end; x += kWarp * kCells) {
      if (x + kCells <= pairs) {
        Row a, b;
        Cells cells;
        a.load(upper + 2 * x, in_words);
        b.load(lower + 2 * x, in_words);
#pragma unroll
        for (int i = 0; i < kCells; ++i) {
          const std::uint8_t mode =
              mode_of_four(a.items[2 * i], a.items[2 * i + 1], b.items[2 * i], b.items[2 * i + 1]);
          cells.items[i] = two ? mode : a.items[2 * i];  // of two, the first
        }
        cells.store(to + x, out_words);
        continue;
      }
      for (std::int64_t i = x; i < x + kCells && i < end; ++i) {
        const bool whole = two && i < pairs;
        to[i] = whole ? mode_of_four(upper[2 * i], upper[2 * i + 1], lower[2 * i], lower[2 * i + 1]) : upper[2 * i];
      }
    }
  });
}

}  // namespace

void downsample_labels(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out, Stream stream) {
  if (out.rows == 0 || out.cols == 0) return;
  launch("downsample_labels", downsample_kernel, blocks_for(out.rows, out.cols), 0, stream, labels, out);
}

}  // namespace bainite::cuda
