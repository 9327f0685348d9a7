#include "bainite/stitching.hpp"

#include <cmath>
#include <type_traits>

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

template <int kNumber>
using Number = std::integral_constant<int, kNumber>;

template <class In>
constexpr int kPixels = 16 / static_cast<int>(sizeof(In));  // of a pack: 16 bytes of every class

// kCount pixels to labels and confidence; load(k, values) gives their logits of class k. kClasses == 0: any number,
// `classes`. Returns the number of pixels that hold a logit that is not finite.
template <int kClasses, bool kConfidence, int kCount, class Load>
__device__ __forceinline__ std::int32_t classify(int classes, const Load& load, Pack<std::uint8_t, kCount>& labels,
                                                 float sharpness, Pack<std::uint8_t, kCount>& confidence) {
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
  if constexpr (!kConfidence) return bad_pixels;

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

template <int kClasses, bool kConfidence, class In>
__device__ __forceinline__ std::int32_t classify_one(const Row<In>& row, int classes, std::int64_t x) {
  Pack<std::uint8_t, 1> label, sure;
  const In* in = row.in + x * row.stride_x;
  const auto load = [&](int k, float (&values)[1]) { values[0] = to_float(in[k * row.stride_c]); };
  const std::int32_t bad = classify<kClasses, kConfidence>(classes, load, label, row.sharpness, sure);
  row.labels[x] = label.items[0];
  if (kConfidence) row.confidence[x] = sure.items[0];
  return bad;
}

// Logits of neighbouring pixels: planes, or (kLast) the classes of a pixel side by side.
template <int kClasses, bool kLast, class In>
struct Logits {
  // No more than 64 bytes.
  static constexpr int kCount = kLast && kClasses == 4 ? 4 : kPixels<In>;
  using Part = Words<In, kLast ? kCount * kClasses : kCount>;

  Part parts[kLast ? 1 : kClasses];

  static __device__ __forceinline__ bool aligned(const In* in, std::int64_t stride_c) {
    return Part::Items::aligned(in) && (kLast || kClasses == 1 || Part::Items::aligned(in + stride_c));
  }
  __device__ __forceinline__ void load(const In* in, std::int64_t stride_c, bool words) {
#pragma unroll
    for (int k = 0; k < (kLast ? 1 : kClasses); ++k) parts[k].load(in + k * stride_c, words);
  }
  __device__ __forceinline__ float operator()(int k, int i) const {
    return kLast ? parts[0].value(i * kClasses + k) : parts[k].value(i);
  }
  __device__ __forceinline__ bool holds_not_finite() const {
    bool found = false;
#pragma unroll
    for (int k = 0; k < (kLast ? 1 : kClasses); ++k) found |= parts[k].holds_not_finite();
    return found;
  }
};

// 2^x and 1 / x, each within 2^-21 of its value; without a GPU as far from it as that, so that tests see that it does
// not matter.
__device__ __forceinline__ float rough_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return std::exp2(x) * (1.0f + 0x1p-21f);
#endif
}
__device__ __forceinline__ float rough_reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
#else
  return 1.0f / x * (1.0f - 0x1p-21f);
#endif
}

// Labels of a pack's pixels, four in a word, as long as all logits are finite.
template <int kClasses, class Pack>
__device__ __forceinline__ void label_pack(const Pack& logits, Words<std::uint8_t, Pack::kCount>& labels,
                                           float (&best)[Pack::kCount]) {
#pragma unroll
  for (int i = 0; i < Pack::kCount; ++i) {
    const auto in_word = [&](int k) { return static_cast<std::uint32_t>(k) << (i % 4 * 8); };
    best[i] = logits(0, i);
    std::uint32_t winner = kClasses == 1 && best[i] > 0.0f ? in_word(1) : 0u;
#pragma unroll
    for (int k = 1; k < kClasses; ++k) {  // ties go to the lower class
      const float logit = logits(k, i);
      winner = logit > best[i] ? in_word(k) : winner;
      best[i] = logit > best[i] ? logit : best[i];
    }
    labels.bits[i / 4] = i % 4 == 0 ? winner : labels.bits[i / 4] | winner;
  }
}

// Confidence of a pack's pixels, all of whose logits are finite, from sums and quotients that are right to 2^-19 of
// their value. Returns the pixels, one bit each, for which that does not tell between two bytes: theirs is garbage.
// `scale` is the sharpness times log2(e).
template <int kClasses, class Pack>
__device__ __forceinline__ std::uint32_t confidence_pack(const Pack& logits, const float (&best)[Pack::kCount],
                                                         float scale, Words<std::uint8_t, Pack::kCount>& confidence) {
  constexpr float kRound = 12582912.0f;           // as in exp_nonpositive()
  constexpr float kSafe = 0.5f - 1.0f / 2048.0f;  // 255 times the error above
  std::uint32_t unsure = 0;
#pragma unroll
  for (int i = 0; i < Pack::kCount; ++i) {
    float sum = 0.0f;
    if constexpr (kClasses <= 2) {
      const float apart = kClasses == 2 ? logits(kClasses - 1, i) - logits(0, i) : logits(0, i);
      sum = 1.0f + rough_exp2(-std::abs(apart * scale));
    } else {
#pragma unroll
      for (int k = 0; k < kClasses; ++k) sum += rough_exp2((logits(k, i) - best[i]) * scale);
    }
    const float share = 255.0f * rough_reciprocal(sum);
    const float shifted = share + kRound;
    if (!(std::abs(share - (shifted - kRound)) < kSafe)) unsure |= 1u << i;
    const std::uint32_t byte = (float_bits(shifted) & 0xffu) << (i % 4 * 8);
    confidence.bits[i / 4] = i % 4 == 0 ? byte : confidence.bits[i / 4] | byte;
  }
  return unsure;
}

// A row of 1 to 4 classes: packs quickly, and pixel by pixel what is not finite, not told apart or at the ends.
template <int kClasses, bool kLast, bool kConfidence, class In>
__device__ __forceinline__ std::int32_t classify_row(const Row<In>& row, std::int64_t begin, std::int64_t end) {
  using Source = Logits<kClasses, kLast, In>;
  constexpr int kCount = Source::kCount;
  using Bytes = Words<std::uint8_t, kCount>;
  int skew = 0;
  if constexpr (!kLast) skew = Source::Part::Items::skew(row.in);
  const Split<kCount> split(begin, end, begin, end, skew);
  const In* in = row.in + split.middle * (kLast ? kClasses : 1);
  std::uint8_t* const to = row.labels + split.middle;
  std::uint8_t* const sure_to = kConfidence ? row.confidence + split.middle : nullptr;
  const bool to_words = Bytes::Items::aligned(to) && Bytes::Items::aligned(sure_to);
  const float scale = row.sharpness * 1.44269504088896341f;
  std::int32_t bad = 0;
  const auto one = [&](std::int64_t x) { bad += classify_one<kClasses, kConfidence>(row, kClasses, x); };
  const auto run = [&](auto words) {
    const auto fetch = [&](int pack, Source& source) {
      source.load(in + pack * (kLast ? kCount * kClasses : kCount), row.stride_c, words.value);
    };
    const auto write = [&](int pack, int, const Source& source) {
      Bytes labels;
      [[maybe_unused]] Bytes sure;
      float best[kCount];
      label_pack<kClasses>(source, labels, best);
      labels.store(to + pack * kCount, to_words);
      std::uint32_t again = 0;
      if constexpr (kConfidence) {
        again = confidence_pack<kClasses>(source, best, scale, sure);
        sure.store(sure_to + pack * kCount, to_words);
      }
      if (source.holds_not_finite()) again = (1u << kCount) - 1;
#pragma unroll 1
      for (int i = 0; again >> i != 0; ++i) {
        if ((again >> i & 1u) != 0) one(split.middle + pack * kCount + i);
      }
    };
    for_each_pack<Source, sizeof(Source) == 16 ? 2 : 1>(split.packs, fetch, write);
  };
  if (Source::aligned(in, row.stride_c)) {
    run(std::true_type());
  } else {
    run(std::false_type());
  }
  split.for_each_at_the_ends(one);
  return bad;
}

// A row of any number of classes in planes.
template <bool kConfidence, class In>
__device__ __forceinline__ std::int32_t classify_planes(const Row<In>& row, int classes, std::int64_t begin,
                                                        std::int64_t end) {
  using Plane = Words<In, kPixels<In>>;
  using Bytes = Pack<std::uint8_t, kPixels<In>>;
  const Split<kPixels<In>> split(begin, end, begin, end, Plane::Items::skew(row.in));
  std::int32_t bad = 0;
  const In* in = row.in + split.middle;
  const bool words = Plane::Items::aligned(in + row.stride_c);
#pragma unroll 1
  for (int pack = lane(); pack < split.packs; pack += kWarp) {
    const auto load = [&](int k, float (&values)[kPixels<In>]) {
      Plane plane;
      plane.load(in + k * row.stride_c + pack * kPixels<In>, words);
#pragma unroll
      for (int i = 0; i < kPixels<In>; ++i) values[i] = plane.value(i);
    };
    Bytes labels, sure;
    bad += classify<0, kConfidence>(classes, load, labels, row.sharpness, sure);
    const std::int64_t x = split.middle + pack * kPixels<In>;
    labels.store(row.labels + x, Bytes::aligned(row.labels + x));
    if (kConfidence) sure.store(row.confidence + x, Bytes::aligned(row.confidence + x));
  }
  split.for_each_at_the_ends([&](std::int64_t x) { bad += classify_one<0, kConfidence>(row, classes, x); });
  return bad;
}

// Of a multiprocessor, so that registers do not leave too few of them: as many as do not spill any.
template <int kClasses, bool kLast, bool kConfidence>
constexpr int kBlocks =
    kClasses == 0 || kClasses == 3 || (kClasses == 4 && !kLast) ? 2 : (kClasses == 2 && kConfidence ? 3 : 4);

// kClasses == 0: any number. kLast: the classes of a pixel are side by side; else planes, or with 0 classes any
// strides.
template <int kClasses, bool kLast, bool kConfidence, class In>
__global__ void __launch_bounds__(kThreads, kBlocks<kClasses, kLast, kConfidence>)
    scatter_kernel(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels,
                   View2D<std::uint8_t> confidence, float sharpness, std::int64_t* bad_pixels) {
  std::int32_t bad = 0;
  const auto piece = [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t tile = quotient(item, logits.rows);
    const std::int64_t y = item - tile * logits.rows;
    const Crop crop = crops[tile];
    if (y >= crop.height) return;
    if (end > crop.width) end = crop.width;
    if (begin >= end) return;
    const Row<In> row{logits.at(tile, 0, crop.src_y + y, crop.src_x),
                      logits.stride_c,
                      logits.stride_x,
                      labels.row(crop.dst_y + y) + crop.dst_x,
                      kConfidence ? confidence.row(crop.dst_y + y) + crop.dst_x : nullptr,
                      sharpness};
    if constexpr (kClasses > 0) {
      bad += classify_row<kClasses, kLast, kConfidence>(row, begin, end);
    } else {
      const auto classes = static_cast<int>(logits.channels);
      if (row.stride_x == 1) {
        bad += classify_planes<kConfidence>(row, classes, begin, end);
        return;
      }
      for (std::int64_t x = begin + lane(); x < end; x += kWarp) bad += classify_one<0, kConfidence>(row, classes, x);
    }
  };
  for_each_piece(logits.n * logits.rows, logits.cols, piece);
  if (bad > 0) add_to(bad_pixels, bad);
}

}  // namespace

template <class In>
void scatter(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels, View2D<std::uint8_t> confidence,
             float sharpness, std::int64_t* bad_pixels, Stream stream) {
  if (logits.n == 0 || logits.rows == 0 || logits.cols == 0) return;
  const std::int64_t classes = logits.channels;
  const auto run = [&](auto confidently, auto number, auto last) {
    const unsigned blocks = blocks_for(logits.n * logits.rows, logits.cols);
    launch("scatter", scatter_kernel<number.value, last.value, confidently.value, In>, blocks, 0, stream, logits, crops,
           labels, confidence, sharpness, bad_pixels);
  };
  const auto choose = [&](auto confidently) {
    const auto is = [&](int number, bool last) {
      return classes == number && logits.stride_x == (last ? number : 1) && (!last || logits.stride_c == 1);
    };
    const std::false_type planes;
    const std::true_type last;
    if (is(1, false)) return run(confidently, Number<1>(), planes);
    if (is(2, false)) return run(confidently, Number<2>(), planes);
    if (is(3, false)) return run(confidently, Number<3>(), planes);
    if (is(4, false)) return run(confidently, Number<4>(), planes);
    if (is(2, true)) return run(confidently, Number<2>(), last);
    if (is(3, true)) return run(confidently, Number<3>(), last);
    if (is(4, true)) return run(confidently, Number<4>(), last);
    run(confidently, Number<0>(), planes);
  };
  if (confidence.data == nullptr) {
    choose(std::false_type());
  } else {
    choose(std::true_type());
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
