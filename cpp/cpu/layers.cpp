#include "bainite/layers.hpp"

#include <algorithm>
#include <cstring>

#include "bainite/device.hpp"
#include "bainite/parallel.hpp"
#include "stream.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kGrainBytes = 1 << 18;
constexpr std::int64_t kSpanBytes = 1 << 13;  // put together in the first-level cache, then streamed

std::int64_t rows_of_grain(std::int64_t row_bytes) {
  return std::max<std::int64_t>(1, kGrainBytes / std::max<std::int64_t>(row_bytes, 1));
}

// `cols` pixels of `bytes` bytes, `step` bytes apart in the output.
template <std::int64_t bytes>
void spread(const std::uint8_t* from, std::uint8_t* to, std::int64_t cols, std::int64_t step) {
  for (std::int64_t x = 0; x < cols; ++x) std::memcpy(to + x * step, from + x * bytes, bytes);
}

void spread(const std::uint8_t* from, std::uint8_t* to, std::int64_t cols, std::int64_t step, std::int64_t bytes) {
  switch (bytes) {
    case 16:
      return spread<16>(from, to, cols, step);
    case 32:
      return spread<32>(from, to, cols, step);
    case 64:
      return spread<64>(from, to, cols, step);
    case 128:
      return spread<128>(from, to, cols, step);
    default:
      for (std::int64_t x = 0; x < cols; ++x) {
        std::memcpy(to + x * step, from + x * bytes, static_cast<std::size_t>(bytes));
      }
  }
}

// Columns x … x + cols of a line of an input, counted from its own border, which begins at `line`.
void spread_line(const JoinInput& input, const std::uint8_t* line, std::int64_t x, std::uint8_t* to, std::int64_t cols,
                 std::int64_t step) {
  if (!input.quads) return spread(line + x * input.bytes, to, cols, step, input.bytes);
  for (std::int64_t i = 0; i < cols; ++i) {
    std::memcpy(to + i * step, line + column_place(true, x + i) * input.bytes, static_cast<std::size_t>(input.bytes));
  }
}

// Vectors of half a cache line, whatever the instruction set: the compiler splits them where it must. Comparisons of
// vectors are masks, 0 or -1 in each lane.
constexpr std::int64_t kVector = 32;
using Floats = float __attribute__((vector_size(kVector), aligned(4), may_alias));
using Shorts = std::int16_t __attribute__((vector_size(kVector), aligned(2), may_alias));

// The larger one, or NaN.
BAINITE_INLINE Floats larger(Floats a, Floats b) {
  const auto take = (b > a) | (b != b);
  return take ? b : a;
}
BAINITE_INLINE Shorts larger(Shorts a, Shorts b) { return b > a ? b : a; }

// What is compared of an element, and what leads back. For bfloat16 an integer whose order is that of the numbers, with
// NaN on top.
BAINITE_INLINE Floats key(Floats value) { return value; }
BAINITE_INLINE Floats unkey(Floats value) { return value; }
BAINITE_INLINE Shorts unkey(Shorts value) { return value ^ ((value >> 15) & 0x7fff); }
BAINITE_INLINE Shorts key(Shorts bits) {
  const Shorts magnitude = bits & 0x7fff;
  const Shorts nan = magnitude > 0x7f80;
  return (unkey(bits) & ~nan) | (nan & 0x7fff);
}

template <class Vector>
BAINITE_INLINE void pool_vector(const void* upper, const void* lower, std::int64_t bytes, void* out) {
  const auto* a = static_cast<const std::uint8_t*>(upper);
  const auto* b = static_cast<const std::uint8_t*>(lower);
  const auto load = [](const std::uint8_t* p) { return key(*reinterpret_cast<const Vector*>(p)); };
  const Vector most = larger(larger(load(a), load(a + bytes)), larger(load(b), load(b + bytes)));
  *static_cast<Vector*>(out) = unkey(most);
}

// Two rows of 2 · cols pixels of `bytes` bytes each.
template <class Vector>
BAINITE_INLINE void pool_row(const std::uint8_t* upper, const std::uint8_t* lower, std::uint8_t* out, std::int64_t cols,
                             std::int64_t bytes) {
  for (std::int64_t x = 0; x < cols; ++x) {
    const std::uint8_t* a = upper + 2 * x * bytes;
    const std::uint8_t* b = lower + 2 * x * bytes;
    std::int64_t k = 0;
    for (; k + kVector <= bytes; k += kVector) pool_vector<Vector>(a + k, b + k, bytes, out + x * bytes + k);
    if (k == bytes) continue;
    std::uint8_t four[4 * kVector] = {};
    const auto rest = static_cast<std::size_t>(bytes - k);
    for (std::int64_t i = 0; i < 4; ++i) std::memcpy(four + i * kVector, (i < 2 ? a : b) + i % 2 * bytes + k, rest);
    pool_vector<Vector>(four, four + 2 * kVector, kVector, four);
    std::memcpy(out + x * bytes + k, four, rest);
  }
}

BAINITE_CLONES void pool_row_float(const std::uint8_t* upper, const std::uint8_t* lower, std::uint8_t* out,
                                   std::int64_t cols, std::int64_t bytes) {
  pool_row<Floats>(upper, lower, out, cols, bytes);
}

BAINITE_CLONES void pool_row_bfloat16(const std::uint8_t* upper, const std::uint8_t* lower, std::uint8_t* out,
                                      std::int64_t cols, std::int64_t bytes) {
  pool_row<Shorts>(upper, lower, out, cols, bytes);
}

}  // namespace

void join_channels(const std::vector<JoinInput>& inputs, void* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, int threads) {
  std::int64_t step = 0;
  for (const JoinInput& input : inputs) step += input.bytes;
  const bool stream = cpu::worth_streaming(n * rows * cols * step);
  const std::int64_t span = std::max<std::int64_t>(1, kSpanBytes / std::max<std::int64_t>(step, 1));  // pixels
  parallel_for(n * rows, rows_of_grain(cols * step), threads, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::uint8_t> whole(static_cast<std::size_t>(stream ? span * step : 0));
    for (std::int64_t row = begin; row < end; ++row) {
      auto* line = static_cast<std::uint8_t*>(out) + row * cols * step;
      for (std::int64_t x = 0; x < cols; x += span) {
        const std::int64_t count = std::min(span, cols - x);
        std::uint8_t* to = stream ? whole.data() : line + x * step;
        for (const JoinInput& input : inputs) {
          const std::int64_t m = input.margin;
          const std::int64_t y = row / rows * (rows + 2 * m) + row % rows + m;
          const std::int64_t place = row_place(input.quads, y, cols + 2 * m);
          spread_line(input, static_cast<const std::uint8_t*>(input.data) + place * input.bytes, m + x, to, count,
                      step);
          to += input.bytes;
        }
        if (stream) cpu::stream_copy(line + x * step, whole.data(), count * step);
      }
    }
    if (stream) cpu::stream_fence();
  });
}

void max_pool2x2(const void* image, void* out, std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t bytes,
                 bool wide, int threads) {
  const std::int64_t half_rows = rows / 2, half_cols = cols / 2, stride = cols * bytes;
  const auto pool = wide ? pool_row_float : pool_row_bfloat16;
  parallel_for(n * half_rows, rows_of_grain(2 * stride), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto* upper =
          static_cast<const std::uint8_t*>(image) + (row / half_rows * rows + row % half_rows * 2) * stride;
      pool(upper, upper + stride, static_cast<std::uint8_t*>(out) + row * half_cols * bytes, half_cols, bytes);
    }
  });
}

}  // namespace bainite
