// Several neighbouring items at once, in accesses of up to 16 bytes where their address allows it.
#pragma once

#include <cstdint>
#include <cstring>

namespace bainite::cuda {

template <int kBytes>
struct Word;
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<4> {
  using type = std::uint32_t;
};
template <>
struct Word<2> {
  using type = std::uint16_t;
};
template <>
struct Word<1> {
  using type = std::uint8_t;
};

// The largest power of two, up to 16, that divides `bytes`.
constexpr int word_bytes(int bytes) { return bytes % 16 == 0 ? 16 : bytes & -bytes; }

template <class T, int kCount>
struct Pack {
  static constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
  static constexpr int kWord = word_bytes(kBytes);
  using Access = typename Word<kWord>::type;

  T items[kCount];

  // Whether packs that start here, or whole packs further on, can be accessed in words.
  static __device__ __forceinline__ bool aligned(const T* at) {
    return reinterpret_cast<std::uintptr_t>(at) % kWord == 0;
  }

  // Reads through the read-only path: what is read must not be written by the same kernel.
  __device__ __forceinline__ void load(const T* from, bool aligned) {
    if (aligned) {
      Access words[kBytes / kWord];
#pragma unroll
      for (int i = 0; i < kBytes / kWord; ++i) words[i] = __ldg(reinterpret_cast<const Access*>(from) + i);
      memcpy(items, words, kBytes);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) items[i] = from[i];
    }
  }

  __device__ __forceinline__ void store(T* to, bool aligned) const {
    if (aligned) {
      Access words[kBytes / kWord];
      memcpy(words, items, kBytes);
#pragma unroll
      for (int i = 0; i < kBytes / kWord; ++i) reinterpret_cast<Access*>(to)[i] = words[i];
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) to[i] = items[i];
    }
  }
};

}  // namespace bainite::cuda
