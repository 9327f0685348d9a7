#include "bainite/stitching.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>
#include <vector>

#include "bainite/parallel.hpp"
#include "stream.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kRun = 512;             // pixels handled at once: all working arrays stay in L1
constexpr std::int64_t kChunkBytes = 1 << 18;  // see tiling.cpp
constexpr std::int64_t kSerialBytes = 1 << 20;
constexpr std::int64_t kGroupRows = 4;

template <std::int64_t kStride, class In>
BAINITE_INLINE void load_every(const In* in, float* to, std::int64_t count) {
  for (std::int64_t x = 0; x < count; ++x) to[x] = to_float(in[kStride * x]);
}

// One class of a run of pixels as contiguous float32: in place where it is that already, else in `buffer`. Strides
// known to the compiler (planes, and 2 to 4 interleaved classes) become vector shuffles.
template <class In>
BAINITE_INLINE const float* load(const In* in, std::int64_t stride, float* buffer, std::int64_t count) {
  if constexpr (std::is_same_v<In, float>) {
    if (stride == 1) return in;
  }
  switch (stride) {
    case 1:
      load_every<1>(in, buffer, count);
      break;
    case 2:
      load_every<2>(in, buffer, count);
      break;
    case 3:
      load_every<3>(in, buffer, count);
      break;
    case 4:
      load_every<4>(in, buffer, count);
      break;
    default:
      for (std::int64_t x = 0; x < count; ++x) buffer[x] = to_float(in[stride * x]);
  }
  return buffer;
}

// The two-class case of classify() in one loop: it is the commonest, and bound by memory.
BAINITE_CLONES std::int64_t classify_two(const float* lower, const float* upper, std::uint8_t* labels,
                                         std::uint8_t* confidence, float sharpness, std::int64_t count) {
  std::int32_t bad_pixels = 0;
  for (std::int64_t x = 0; x < count; ++x) {
    labels[x] = upper[x] > lower[x] ? 1 : 0;
    bad_pixels += not_finite(lower[x]) | not_finite(upper[x]);
  }
  if (confidence == nullptr) return bad_pixels;
  for (std::int64_t x = 0; x < count; ++x) {
    const float sum = sum_of_two((upper[x] - lower[x]) * sharpness);
    confidence[x] = confidence_of(sum, not_finite(lower[x]) | not_finite(upper[x]));
  }
  return bad_pixels;
}

// A run of pixels of K planes (class stride `stride_c`, pixel stride `stride_x`, elements) → labels, confidence.
// Returns the number of pixels that hold a logit that is not finite.
template <class In>
BAINITE_CLONES std::int64_t classify(const In* in, std::int64_t classes, std::int64_t stride_c, std::int64_t stride_x,
                                     std::uint8_t* labels, std::uint8_t* confidence, float sharpness,
                                     std::int64_t count) {
  float best[kRun];
  float buffer[kRun];
  std::int32_t winner[kRun];
  std::int32_t bad[kRun];
  const float* plane = load(in, stride_x, buffer, count);
  if (classes == 2) {
    return classify_two(plane, load(in + stride_c, stride_x, best, count), labels, confidence, sharpness, count);
  }
  const bool only = classes == 1;
  for (std::int64_t x = 0; x < count; ++x) first_class(plane[x], only, best[x], winner[x], bad[x]);
  for (std::int64_t k = 1; k < classes; ++k) {
    plane = load(in + k * stride_c, stride_x, buffer, count);
    const auto label = static_cast<std::int32_t>(k);
    for (std::int64_t x = 0; x < count; ++x) next_class(plane[x], label, best[x], winner[x], bad[x]);
  }
  std::int32_t bad_pixels = 0;
  for (std::int64_t x = 0; x < count; ++x) {
    labels[x] = static_cast<std::uint8_t>(winner[x]);
    bad_pixels += bad[x];
  }
  if (confidence == nullptr) return bad_pixels;

  float sum[kRun];
  if (only) {
    for (std::int64_t x = 0; x < count; ++x) sum[x] = sum_of_two(best[x] * sharpness);
  } else {
    for (std::int64_t x = 0; x < count; ++x) sum[x] = 0.0f;
    for (std::int64_t k = 0; k < classes; ++k) {
      plane = load(in + k * stride_c, stride_x, buffer, count);
      for (std::int64_t x = 0; x < count; ++x) sum[x] += exp_nonpositive((plane[x] - best[x]) * sharpness);
    }
  }
  for (std::int64_t x = 0; x < count; ++x) confidence[x] = confidence_of(sum[x], bad[x]);
  return bad_pixels;
}

}  // namespace

template <class In>
std::int64_t scatter(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels,
                     View2D<std::uint8_t> confidence, float sharpness, int threads) {
  if (logits.rows == 0 || logits.cols == 0) return 0;
  std::atomic<std::int64_t> bad{0};
  const std::int64_t row_bytes = logits.cols * (logits.channels * static_cast<std::int64_t>(sizeof(In)) + 1);
  const std::int64_t items = logits.n * logits.rows;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    std::int64_t found = 0;
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t tile = item / logits.rows;
      const std::int64_t y = item - tile * logits.rows;
      const Crop& crop = crops[tile];
      if (y >= crop.height) continue;
      std::uint8_t* label = labels.row(crop.dst_y + y) + crop.dst_x;
      std::uint8_t* sure = confidence.data == nullptr ? nullptr : confidence.row(crop.dst_y + y) + crop.dst_x;
      for (std::int64_t x = 0; x < crop.width; x += kRun) {
        found += classify(logits.at(tile, 0, crop.src_y + y, crop.src_x + x), logits.channels, logits.stride_c,
                          logits.stride_x, label + x, sure == nullptr ? nullptr : sure + x, sharpness,
                          std::min(kRun, crop.width - x));
      }
    }
    if (found > 0) bad.fetch_add(found, std::memory_order_relaxed);
  };
  parallel_for(items, std::max<std::int64_t>(1, kChunkBytes / row_bytes),
               items * row_bytes < kSerialBytes ? 1 : threads, body);
  return bad.load();
}

template std::int64_t scatter(View4D<const float>, const Crop*, View2D<std::uint8_t>, View2D<std::uint8_t>, float, int);
template std::int64_t scatter(View4D<const bfloat16>, const Crop*, View2D<std::uint8_t>, View2D<std::uint8_t>, float,
                              int);
template std::int64_t scatter(View4D<const float16>, const Crop*, View2D<std::uint8_t>, View2D<std::uint8_t>, float,
                              int);

void stitch_copy(const std::uint8_t* tiles, std::int64_t tile_rows, std::int64_t tile_cols, std::int64_t halo,
                 View3D<std::uint8_t> image, int threads) {
  const std::int64_t bytes = image.channels;
  const std::int64_t row_bytes = image.cols * bytes;
  const std::int64_t image_bytes = image.rows * row_bytes;
  if (image_bytes == 0) return;
  const bool streaming = cpu::worth_streaming(image_bytes);
  const std::int64_t columns = (image.cols + tile_cols - 1) / tile_cols;
  const std::int64_t full_rows = tile_rows + 2 * halo;
  const std::int64_t full_cols = tile_cols + 2 * halo;
  // Large images: a few rows are put together, tile by tile, and streamed to their places.
  const std::int64_t group = streaming ? kGroupRows : 1;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> scratch(static_cast<std::size_t>(streaming ? group * row_bytes : 0));
    for (std::int64_t y = begin, next = begin; y < end; y = next) {
      next = std::min({y + group, end, (y / tile_rows + 1) * tile_rows});
      std::uint8_t* to = streaming ? scratch.data() : image.row(y);
      for (std::int64_t j = 0; j < columns; ++j) {
        const std::int64_t x = j * tile_cols;
        const std::int64_t width = std::min(tile_cols, image.cols - x);
        const std::int64_t tile = y / tile_rows * columns + j;
        for (std::int64_t row = y; row < next; ++row) {
          const std::uint8_t* from = tiles + ((tile * full_rows + row % tile_rows + halo) * full_cols + halo) * bytes;
          std::memcpy(to + (row - y) * row_bytes + x * bytes, from, static_cast<std::size_t>(width * bytes));
        }
      }
      if (!streaming) continue;
      for (std::int64_t row = y; row < next; ++row) {
        cpu::stream_copy(image.row(row), to + (row - y) * row_bytes, row_bytes);
      }
    }
    if (streaming) cpu::stream_fence();
  };
  parallel_for(image.rows, std::max(group, kChunkBytes / row_bytes / group * group),
               image_bytes < kSerialBytes ? 1 : threads, body);
}

}  // namespace bainite
