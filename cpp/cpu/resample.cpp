#include "bainite/resample.hpp"

#include <vector>

#include "bainite/parallel.hpp"

namespace bainite {
namespace {

// sum = weight · in, or sum += weight · in.
template <class In>
BAINITE_CLONES void weigh_row(const In* in, float weight, float* sum, std::int64_t count, bool first) {
  if (first) {
    for (std::int64_t x = 0; x < count; ++x) sum[x] = weight * static_cast<float>(in[x]);
  } else {
    for (std::int64_t x = 0; x < count; ++x) sum[x] += weight * static_cast<float>(in[x]);
  }
}

// All taps of one row of output samples, in one flat table.
struct Table {
  std::vector<std::int64_t> first;  // [ow]: first source column, relative to the row of sums
  std::vector<std::int64_t> start;  // [ow + 1]: where a sample's weights begin
  std::vector<float> weight;

  Table(Axis axis, std::int64_t out_x, std::int64_t width, std::int64_t base) {
    first.reserve(static_cast<std::size_t>(width));
    start.reserve(static_cast<std::size_t>(width) + 1);
    for (std::int64_t x = 0; x < width; ++x) {
      const TapRange range = taps(axis, out_x + x);
      first.push_back(range.first - base);
      start.push_back(static_cast<std::int64_t>(weight.size()));
      for (std::int64_t j = range.first; j < range.last; ++j) weight.push_back(tap_weight(axis, out_x + x, j));
    }
    start.push_back(static_cast<std::int64_t>(weight.size()));
  }
};

void weigh_columns(const Table& table, const float* sums, std::int64_t channels, float* out, std::int64_t width) {
  for (std::int64_t x = 0; x < width; ++x) {
    const auto sample = static_cast<std::size_t>(x);
    const std::int64_t begin = table.start[sample];
    const std::int64_t end = table.start[sample + 1];
    const float* from = sums + table.first[sample] * channels;
    const float* weight = table.weight.data() + begin;
    for (std::int64_t c = 0; c < channels; ++c) {
      float sum = weight[0] * from[c];
      for (std::int64_t t = 1; t < end - begin; ++t) sum += weight[t] * from[t * channels + c];
      out[x * channels + c] = sum;
    }
  }
}

}  // namespace

template <class In>
void resample(View3D<const In> source, View3D<float> out, const Placement& place, int threads) {
  const std::int64_t channels = source.channels;
  if (out.rows == 0 || out.cols == 0 || channels == 0) return;
  const std::int64_t left = taps(place.x, place.out_x).first;
  const std::int64_t right = taps(place.x, place.out_x + out.cols - 1).last;
  const std::int64_t width = (right - left) * channels;
  const Table table(place.x, place.out_x, out.cols, left);
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> sums(static_cast<std::size_t>(width));
    for (std::int64_t y = begin; y < end; ++y) {
      const TapRange rows = taps(place.y, place.out_y + y);
      for (std::int64_t j = rows.first; j < rows.last; ++j) {
        const In* in = source.row(j - place.origin_y) + (left - place.origin_x) * channels;
        weigh_row(in, tap_weight(place.y, place.out_y + y, j), sums.data(), width, j == rows.first);
      }
      weigh_columns(table, sums.data(), channels, out.row(y), out.cols);
    }
  };
  const std::int64_t row_work = width * (source.rows / out.rows + 1) + out.cols * channels;
  parallel_for(out.rows, std::max<std::int64_t>(1, (1 << 16) / row_work), out.rows * row_work < (1 << 18) ? 1 : threads,
               body);
}

template void resample(View3D<const std::uint8_t>, View3D<float>, const Placement&, int);
template void resample(View3D<const std::uint16_t>, View3D<float>, const Placement&, int);
template void resample(View3D<const float>, View3D<float>, const Placement&, int);

}  // namespace bainite
