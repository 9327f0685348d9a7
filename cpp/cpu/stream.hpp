// Stores that bypass the caches, for outputs too large to be found there afterwards. A plain store first reads the line
// it is about to overwrite; large memcpys avoid that, and so must whoever wants to keep up with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace bainite::cpu {

constexpr std::int64_t kStreamBytes = std::int64_t{16} << 20;  // outputs from this size on bypass the caches

inline bool worth_streaming(std::int64_t output_bytes) {
#if defined(__SSE2__)
  return output_bytes >= kStreamBytes;
#else
  (void)output_bytes;
  return false;
#endif
}

// memcpy with stores past the caches; call stream_fence() after the last one, before another thread may look.
inline void stream_copy(void* to, const void* from, std::int64_t bytes) {
#if defined(__SSE2__)
  auto* out = static_cast<std::uint8_t*>(to);
  const auto* in = static_cast<const std::uint8_t*>(from);
  const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(out) % 64);
  const std::int64_t head = misaligned == 0 ? 0 : std::min<std::int64_t>(64 - misaligned, bytes);
  std::memcpy(out, in, static_cast<std::size_t>(head));
  std::int64_t i = head;
  for (; i + 64 <= bytes; i += 64) {  // whole lines only: half a line bypassing the caches is the slowest store of all
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i + 16));
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i + 32));
    const __m128i d = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i + 48));
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + i), a);
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + i + 16), b);
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + i + 32), c);
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + i + 48), d);
  }
  std::memcpy(out + i, in + i, static_cast<std::size_t>(bytes - i));
#else
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
#endif
}

inline void stream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace bainite::cpu
