#include "bainite/stitching.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

template <class In>
constexpr int kPixels = 16 / static_cast<int>(sizeof(In));  // of a thread: 16 bytes of every class

// kCount pixels to labels and confidence; load(k, values) gives their logits of class k. kClasses == 0: any number,
// `classes`. Returns the number of pixels that hold a logit that is not finite.
template <int kClasses, int kCount, class Load>
__device__ __forceinline__ std::int32_t classify(int classes, const Load& load, Pack<std::uint8_t, kCount>& labels,
                                                 bool want_confidence, float sharpness,
                                                 Pack<std::uint8_t, kCount>& confidence) {
  [[maybe_unused]] constexpr int kUnroll = kClasses > 0 ? kClasses : 1;
  const int n = kClasses > 0 ? kClasses : classes;
  float best[kCount], value[kCount], sum[kCount];
  std::int32_t winner[kCount], bad[kCount];
  load(0, value);
#pragma unroll
  for (int i = 0; i < kCount; ++i) first_class(value[i], n == 1, best[i], winner[i], bad[i]);
#pragma unroll kUnroll
  for (int k = 1; k < n; ++k) {
    load(k, value);
#pragma unroll
    for (int i = 0; i < kCount; ++i) next_class(value[i], k, best[i], winner[i], bad[i]);
  }
  std::int32_t bad_pixels = 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    labels.items[i] = static_cast<std::uint8_t>(winner[i]);
    bad_pixels += bad[i];
  }
  if (!want_confidence) return bad_pixels;

  if (n <= 2) {
    float first[kCount];
    load(0, first);
    if (n == 2) load(1, value);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] = sum_of_two((n == 2 ? value[i] - first[i] : first[i]) * sharpness);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum[i] = 0.0f;
#pragma unroll kUnroll
    for (int k = 0; k < n; ++k) {
      load(k, value);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum[i] += exp_nonpositive((value[i] - best[i]) * sharpness);
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) confidence.items[i] = confidence_of(sum[i], bad[i]);
  return bad_pixels;
}

// One row of a crop: logits of its first pixel, and where labels and confidence (or null) go.
template <class In>
struct Row {
  const In* in;
  std::int64_t stride_c, stride_x;
  std::uint8_t* labels;
  std::uint8_t* confidence;
  float sharpness;
};

template <int kClasses, class In>
__device__ __forceinline__ std::int32_t classify_one(const Row<In>& row, int classes, std::int64_t x) {
  Pack<std::uint8_t, 1> label, sure;
  const In* in = row.in + x * row.stride_x;
  const auto load = [&](int k, float (&values)[1]) { values[0] = to_float(in[k * row.stride_c]); };
  const std::int32_t bad = classify<kClasses, 1>(classes, load, label, row.confidence != nullptr, row.sharpness, sure);
  row.labels[x] = label.items[0];
  if (row.confidence != nullptr) row.confidence[x] = sure.items[0];
  return bad;
}

// Whole packs of pixels [begin, end), one thread's after another's; the rest one by one.
template <int kClasses, class In, class Classify>
__device__ __forceinline__ std::int32_t classify_packs(const Row<In>& row, int classes, std::int64_t begin,
                                                       std::int64_t end, const Classify& classify_pack) {
  using Bytes = Pack<std::uint8_t, kPixels<In>>;
  const bool label_words = Bytes::aligned(row.labels);
  const bool sure_words = Bytes::aligned(row.confidence);
  std::int32_t bad = 0;
  for (std::int64_t x = begin + lane() * kPixels<In>; x < end; x += kWarp * kPixels<In>) {
    if (x + kPixels<In> > end) {
      for (std::int64_t i = x; i < end; ++i) bad += classify_one<kClasses>(row, classes, i);
      continue;
    }
    Bytes labels, sure;
    bad += classify_pack(x, labels, sure);
    labels.store(row.labels + x, label_words);
    if (row.confidence != nullptr) sure.store(row.confidence + x, sure_words);
  }
  return bad;
}

template <int kClasses, class In>
__device__ __forceinline__ std::int32_t classify_planes(const Row<In>& row, int classes, std::int64_t begin,
                                                        std::int64_t end) {
  using Plane = Pack<In, kPixels<In>>;
  const bool words = Plane::aligned(row.in) && (classes == 1 || Plane::aligned(row.in + row.stride_c));
  const bool want = row.confidence != nullptr;
  return classify_packs<kClasses>(row, classes, begin, end, [&](std::int64_t x, auto& labels, auto& sure) {
    if constexpr (kClasses > 0) {
      Plane planes[kClasses];
#pragma unroll
      for (int k = 0; k < kClasses; ++k) planes[k].load(row.in + k * row.stride_c + x, words);
      const auto load = [&](int k, float (&values)[kPixels<In>]) {
#pragma unroll
        for (int i = 0; i < kPixels<In>; ++i) values[i] = to_float(planes[k].items[i]);
      };
      return classify<kClasses, kPixels<In>>(kClasses, load, labels, want, row.sharpness, sure);
    } else {
      const auto load = [&](int k, float (&values)[kPixels<In>]) {
        Plane plane;
        plane.load(row.in + k * row.stride_c + x, words);
#pragma unroll
        for (int i = 0; i < kPixels<In>; ++i) values[i] = to_float(plane.items[i]);
      };
      return classify<0, kPixels<In>>(classes, load, labels, want, row.sharpness, sure);
    }
  });
}

template <int kClasses, class In>
__device__ __forceinline__ std::int32_t classify_interleaved(const Row<In>& row, std::int64_t begin, std::int64_t end) {
  using Logits = Pack<In, kPixels<In> * kClasses>;
  const bool words = Logits::aligned(row.in);
  return classify_packs<kClasses>(row, kClasses, begin, end, [&](std::int64_t x, auto& labels, auto& sure) {
    Logits logits;
    logits.load(row.in + x * kClasses, words);
    const auto load = [&](int k, float (&values)[kPixels<In>]) {
#pragma unroll
      for (int i = 0; i < kPixels<In>; ++i) values[i] = to_float(logits.items[i * kClasses + k]);
    };
    return classify<kClasses, kPixels<In>>(kClasses, load, labels, row.confidence != nullptr, row.sharpness, sure);
  });
}

template <int kClasses, class In>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels,
                   View2D<std::uint8_t> confidence, float sharpness, std::int64_t* bad_pixels) {
  const auto classes = static_cast<int>(logits.channels);
  std::int32_t bad = 0;
  for_each_piece(logits.n * logits.rows, logits.cols, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, logits.rows);
    const std::int64_t y = item - tile * logits.rows;
    const Crop crop = crops[tile];
    if (y >= crop.height) return;
    if (end > crop.width) end = crop.width;
    const Row<In> row{logits.at(tile, 0, crop.src_y + y, crop.src_x),
                      logits.stride_c,
                      logits.stride_x,
                      labels.row(crop.dst_y + y) + crop.dst_x,
                      confidence.data == nullptr ? nullptr : confidence.row(crop.dst_y + y) + crop.dst_x,
                      sharpness};
    if (row.stride_x == 1) {
      bad += classify_planes<kClasses>(row, classes, begin, end);
      return;
    }
    if constexpr (kClasses > 1) {
      if (row.stride_c == 1 && row.stride_x == kClasses) {
        bad += classify_interleaved<kClasses>(row, begin, end);
        return;
      }
    }
    for (std::int64_t x = begin + lane(); x < end; x += kWarp) bad += classify_one<kClasses>(row, classes, x);
  });
  if (bad > 0) add_to(bad_pixels, bad);
}

}  // namespace

template <class In>
void scatter(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels, View2D<std::uint8_t> confidence,
             float sharpness, std::int64_t* bad_pixels, Stream stream) {
  if (logits.n == 0 || logits.rows == 0 || logits.cols == 0) return;
  const unsigned blocks = blocks_for(logits.n * logits.rows, logits.cols);
  const auto run = [&](auto* kernel) {
    launch("scatter", kernel, blocks, 0, stream, logits, crops, labels, confidence, sharpness, bad_pixels);
  };
  switch (logits.channels) {
    case 1:
      run(scatter_kernel<1, In>);
      break;
    case 2:
      run(scatter_kernel<2, In>);
      break;
    case 3:
      run(scatter_kernel<3, In>);
      break;
    case 4:
      run(scatter_kernel<4, In>);
      break;
    default:
      run(scatter_kernel<0, In>);
  }
}

#define BAINITE_SCATTER(In)                                                                               \
  template void scatter(View4D<const In>, const Crop*, View2D<std::uint8_t>, View2D<std::uint8_t>, float, \
                        std::int64_t*, Stream);
BAINITE_SCATTER(float)
BAINITE_SCATTER(bfloat16)
BAINITE_SCATTER(float16)
#undef BAINITE_SCATTER

}  // namespace bainite::cuda
