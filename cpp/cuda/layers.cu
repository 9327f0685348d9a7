#include "bainite/layers.hpp"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include <cmath>

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

constexpr int kAhead = 4;   // words that a thread reads before it writes the first
constexpr int kJoined = 4;  // inputs of a launch at most

template <class Word>
struct Joined {
  const Word* data;
  std::int64_t margin;
  std::uint32_t words;  // of a pixel
  std::uint32_t end;    // of its words among those of the launch's inputs
  bool quads;
};

// Words of `group` a pixel, `step` words apart in the output.
template <class Word>
struct Join {
  Joined<Word> inputs[kJoined];
  Word* out;
  std::int64_t n, rows, cols;
  std::uint32_t group;
  std::int64_t step;
};

template <class Word, int kInputs>
__global__ void __launch_bounds__(kThreads) join_kernel(Join<Word> join) {
  for_each_piece(
      join.n * join.rows, join.cols * join.group, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
        const std::int64_t image = quotient(item, join.rows);
        const Word* lines[kInputs];
#pragma unroll
        for (int k = 0; k < kInputs; ++k) {
          const Joined<Word>& input = join.inputs[k];
          const std::int64_t m = input.margin, y = image * (join.rows + 2 * m) + item - image * join.rows + m;
          lines[k] = input.data + row_place(input.quads, y, join.cols + 2 * m) * input.words;
        }
        Word* to = join.out + item * join.cols * join.step;
        for (std::int64_t x = begin + lane(); x < end; x += kAhead * kWarp) {
          Word held[kAhead];
          std::int64_t places[kAhead];
#pragma unroll
          for (int i = 0; i < kAhead; ++i) {
            const auto word = static_cast<std::uint32_t>(x + i * kWarp);
            const std::uint32_t pixel = word / join.group, within = word - pixel * join.group;
            places[i] = pixel * join.step + within;
            if (x + i * kWarp >= end) continue;
#pragma unroll
            for (int k = 0; k < kInputs; ++k) {
              const Joined<Word>& input = join.inputs[k];
              if (within >= input.end || within + input.words < input.end) continue;
              const std::int64_t column = column_place(input.quads, pixel + input.margin);
              held[i] = __ldg(lines[k] + column * input.words + (within + input.words - input.end));
            }
          }
#pragma unroll
          for (int i = 0; i < kAhead; ++i) {
            if (x + i * kWarp < end) to[places[i]] = held[i];
          }
        }
      });
}

// Up to kJoined inputs, `before` bytes from the beginning of a pixel of `step` bytes.
template <class Word>
void join_group(const JoinInput* inputs, int count, void* out, std::int64_t n, std::int64_t rows, std::int64_t cols,
                std::int64_t step, std::int64_t before, Stream stream) {
  constexpr auto kBytes = static_cast<std::int64_t>(sizeof(Word));
  Join<Word> join{};
  join.out = static_cast<Word*>(out) + before / kBytes;
  join.n = n;
  join.rows = rows;
  join.cols = cols;
  join.step = step / kBytes;
  for (int k = 0; k < kJoined; ++k) {
    const auto words = static_cast<std::uint32_t>(k < count ? inputs[k].bytes / kBytes : 0);
    join.group += words;
    if (k < count) {
      join.inputs[k] = {static_cast<const Word*>(inputs[k].data), inputs[k].margin, words, join.group, inputs[k].quads};
    }
  }
  if (join.group == 0) return;
  auto* kernel = count <= 2 ? join_kernel<Word, 2> : join_kernel<Word, kJoined>;
  launch("join_channels", kernel, blocks_for(n * rows, cols * join.group), 0, stream, join);
}

// What is compared of an element, as on the CPU: of 16 bits an integer whose order is that of the numbers, with NaN on
// top.
__device__ __forceinline__ float key(float value) { return value; }
__device__ __forceinline__ float larger(float a, float b) { return b > a || b != b ? b : a; }
__device__ __forceinline__ void set(float& to, float key) { to = key; }

__device__ __forceinline__ std::int32_t key_of(std::uint16_t bits, std::int32_t infinity) {
  const std::int32_t magnitude = bits & 0x7fff;
  if (magnitude > infinity) return 0x7fff;
  return (bits & 0x8000) != 0 ? -1 - magnitude : magnitude;
}
__device__ __forceinline__ std::int32_t key(bfloat16 value) { return key_of(value.bits, 0x7f80); }
__device__ __forceinline__ std::int32_t key(float16 value) { return key_of(value.bits, 0x7c00); }
__device__ __forceinline__ std::int32_t larger(std::int32_t a, std::int32_t b) { return b > a ? b : a; }
template <class Half>
__device__ __forceinline__ void set(Half& to, std::int32_t key) {
  to.bits = static_cast<std::uint16_t>(key < 0 ? 0x8000 | (-1 - key) : key);
}

template <class T>
__device__ __forceinline__ T most_of(T a, T b, T c, T d) {
  T most;
  set(most, larger(larger(key(a), key(b)), larger(key(c), key(d))));
  return most;
}

template <class T, int kItems>
__device__ __forceinline__ void most_of(const Pack<T, kItems>& a, const Pack<T, kItems>& b, const Pack<T, kItems>& c,
                                        const Pack<T, kItems>& d, Pack<T, kItems>& most) {
#pragma unroll
  for (int k = 0; k < kItems; ++k) most.items[k] = most_of(a.items[k], b.items[k], c.items[k], d.items[k]);
}

#if defined(__CUDACC__)
// Two at a time, in one instruction each: as above, it gives NaN where one is, and +0 of +0 and -0.
template <class Two, class T>
__device__ __forceinline__ void most_of_pairs(const Pack<T, 8>& a, const Pack<T, 8>& b, const Pack<T, 8>& c,
                                              const Pack<T, 8>& d, Pack<T, 8>& most) {
  Two pairs[4][4], found[4];
  memcpy(pairs[0], a.items, 16);
  memcpy(pairs[1], b.items, 16);
  memcpy(pairs[2], c.items, 16);
  memcpy(pairs[3], d.items, 16);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    found[k] = __hmax2_nan(__hmax2_nan(pairs[0][k], pairs[1][k]), __hmax2_nan(pairs[2][k], pairs[3][k]));
  }
  memcpy(most.items, found, 16);
}
template <>
__device__ __forceinline__ void most_of(const Pack<bfloat16, 8>& a, const Pack<bfloat16, 8>& b,
                                        const Pack<bfloat16, 8>& c, const Pack<bfloat16, 8>& d,
                                        Pack<bfloat16, 8>& most) {
  most_of_pairs<__nv_bfloat162>(a, b, c, d, most);
}
template <>
__device__ __forceinline__ void most_of(const Pack<float16, 8>& a, const Pack<float16, 8>& b, const Pack<float16, 8>& c,
                                        const Pack<float16, 8>& d, Pack<float16, 8>& most) {
  most_of_pairs<__half2>(a, b, c, d, most);
}
#endif

template <class T>
__global__ void __launch_bounds__(kThreads)
    pool_kernel(const T* image, T* out, std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t channels) {
  constexpr int kItems = 16 / static_cast<int>(sizeof(T));
  using Group = Pack<T, kItems>;
  const std::int64_t half_rows = rows / 2, half_cols = cols / 2;
  const auto groups = static_cast<std::uint32_t>((channels + kItems - 1) / kItems);
  const bool words = channels % kItems == 0 && Group::aligned(image) && Group::aligned(out);
  for_each_piece(n * half_rows, half_cols * groups, [&](std::int64_t item, std::int64_t begin, std::int64_t end) {
    const std::int64_t i = quotient(item, half_rows);
    const T* upper = image + (i * rows + 2 * (item - i * half_rows)) * cols * channels;
    const T* lower = upper + cols * channels;
    T* to = out + item * half_cols * channels;
    for (std::int64_t x = begin + lane(); x < end; x += kWarp) {
      const std::uint32_t pixel = static_cast<std::uint32_t>(x) / groups;
      const std::int64_t first = static_cast<std::int64_t>(static_cast<std::uint32_t>(x) - pixel * groups) * kItems;
      const std::int64_t left = 2 * pixel * channels + first, right = left + channels;
      if (words) {
        Group a, b, c, d, most;
        a.load(upper + left, true);
        b.load(upper + right, true);
        c.load(lower + left, true);
        d.load(lower + right, true);
        most_of(a, b, c, d, most);
        most.store(to + pixel * channels + first, true);
        continue;
      }
      for (std::int64_t k = 0; k < kItems && first + k < channels; ++k) {
        to[pixel * channels + first + k] =
            most_of(upper[left + k], upper[right + k], lower[left + k], lower[right + k]);
      }
    }
  });
}

constexpr int kStrip = 4;                   // pixels that a thread makes one after another
constexpr std::int64_t kGrayBlocks = 4096;  // enough to fill a large device; each keeps its weights for many strips

// A thread makes 16 bytes of a pixel, so many channels: neighbouring threads those of one pixel, then of the next
// strip.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gray_kernel(const T* image, const float* weights, const float* bias, T* out, std::int64_t n, std::int64_t rows,
                std::int64_t cols, std::int64_t channels, bool relu) {
  constexpr int kItems = 16 / static_cast<int>(sizeof(T));
  using Group = Words<T, kItems>;
  const auto groups = static_cast<int>(channels / kItems);
  const int slots = kThreads / groups;
  const int slot = static_cast<int>(threadIdx.x) / groups;
  if (slot >= slots) return;
  const std::int64_t first = static_cast<std::int64_t>(static_cast<int>(threadIdx.x) - slot * groups) * kItems;
  float weight[9][kItems], start[kItems];
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    start[k] = bias[first + k];
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) weight[tap][k] = weights[tap * channels + first + k];
  }
  const bool words = Group::Items::aligned(out);
  const std::int64_t width = static_cast<std::int64_t>(slots) * kStrip;
  const std::int64_t across = (cols + width - 1) / width;
  for (std::int64_t item = blockIdx.x; item < n * rows * across; item += gridDim.x) {
    const std::int64_t row = quotient(item, across);
    const std::int64_t y = row - quotient(row, rows) * rows;
    const std::int64_t x0 = (item - row * across) * width + slot * kStrip;
    float seen[3][kStrip + 2];
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
      const bool inside = y + dy >= 1 && y + dy <= rows;
      const T* line = image + (row + dy - 1) * cols;
#pragma unroll
      for (int i = 0; i < kStrip + 2; ++i) {
        const std::int64_t x = x0 + i - 1;
        seen[dy][i] = inside && x >= 0 && x < cols ? to_float(line[x]) : 0.0f;
      }
    }
#pragma unroll
    for (int i = 0; i < kStrip; ++i) {
      if (x0 + i >= cols) break;
      float values[kItems];
#pragma unroll
      for (int k = 0; k < kItems; ++k) {
        float sum = start[k];
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) sum = fmaf(weight[tap][k], seen[tap / 3][i + tap % 3], sum);
        values[k] = relu && sum < 0.0f ? 0.0f : sum;  // NaN stays
      }
      Group made;
      made.round(values);
      made.store(out + (row * cols + x0 + i) * channels + first, words);
    }
  }
}

}  // namespace

void join_channels(const std::vector<JoinInput>& inputs, void* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, Stream stream) {
  if (n == 0 || rows == 0 || cols == 0) return;
  std::int64_t step = 0, before = 0;
  auto all = reinterpret_cast<std::uintptr_t>(out);  // what the widest word must divide
  for (const JoinInput& input : inputs) {
    step += input.bytes;
    all |= reinterpret_cast<std::uintptr_t>(input.data) | static_cast<std::uintptr_t>(input.bytes);
  }
  const auto join = all % 16 == 0  ? join_group<uint4>
                    : all % 8 == 0 ? join_group<uint2>
                    : all % 4 == 0 ? join_group<std::uint32_t>
                    : all % 2 == 0 ? join_group<std::uint16_t>
                                   : join_group<std::uint8_t>;
  for (std::size_t first = 0; first < inputs.size(); first += kJoined) {
    const auto count = static_cast<int>(std::min<std::size_t>(kJoined, inputs.size() - first));
    join(inputs.data() + first, count, out, n, rows, cols, step, before, stream);
    for (int k = 0; k < count; ++k) before += inputs[first + static_cast<std::size_t>(k)].bytes;
  }
}

template <class T>
void max_pool2x2(const T* image, T* out, std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t channels,
                 Stream stream) {
  if (n == 0 || rows < 2 || cols < 2 || channels == 0) return;
  constexpr std::int64_t kItems = 16 / static_cast<std::int64_t>(sizeof(T));
  const unsigned blocks = blocks_for(n * (rows / 2), cols / 2 * ((channels + kItems - 1) / kItems));
  launch("max_pool2x2", pool_kernel<T>, blocks, 0, stream, image, out, n, rows, cols, channels);
}

template <class T>
void convolve_gray(const T* image, const float* weights, const float* bias, T* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, std::int64_t channels, bool relu, Stream stream) {
  if (n == 0 || rows == 0 || cols == 0 || channels == 0) return;
  const std::int64_t slots = kThreads / (channels / (16 / static_cast<std::int64_t>(sizeof(T))));
  const std::int64_t items = n * rows * ((cols + slots * kStrip - 1) / (slots * kStrip));
  launch("convolve_gray", gray_kernel<T>, static_cast<unsigned>(std::min(items, kGrayBlocks)), 0, stream, image,
         weights, bias, out, n, rows, cols, channels, relu);
}

#define BAINITE_LAYERS(T)                                                                                         \
  template void max_pool2x2(const T*, T*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Stream);        \
  template void convolve_gray(const T*, const float*, const float*, T*, std::int64_t, std::int64_t, std::int64_t, \
                              std::int64_t, bool, Stream);
BAINITE_LAYERS(float)
BAINITE_LAYERS(bfloat16)
BAINITE_LAYERS(float16)
#undef BAINITE_LAYERS

}  // namespace bainite::cuda
