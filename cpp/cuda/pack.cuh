// Several neighbouring items at once, in accesses of up to 16 bytes where their address allows it.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "bainite/float16.hpp"

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

  // Columns from a multiple of kCount to where packs can be accessed in words, in a row that begins at `row`: for packs
  // of one word.
  static __device__ __forceinline__ int skew(const T* row) {
    static_assert(kWord == kBytes, "a pack of several words is aligned earlier");
    return -static_cast<int>(reinterpret_cast<std::uintptr_t>(row) / sizeof(T)) & (kCount - 1);
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

// As many items of 1, 2 or 4 bytes, held as words of 32 bits: a GPU takes items out of words, and puts them there, in
// fewer steps than a compiler finds that is given the items.
template <class T, int kCount>
struct Words {
  using Items = Pack<T, kCount>;
  static constexpr int kNumber = Items::kBytes / 4;
  static constexpr int kOfOne = 4 / static_cast<int>(sizeof(T));  // items of a word
  static_assert(kNumber * 4 == Items::kBytes, "whole words");

  std::uint32_t bits[kNumber];

  // As Pack::load().
  __device__ __forceinline__ void load(const T* from, bool aligned) {
    if (aligned) {
      typename Items::Access words[Items::kBytes / Items::kWord];
#pragma unroll
      for (int i = 0; i < Items::kBytes / Items::kWord; ++i) {
        words[i] = __ldg(reinterpret_cast<const typename Items::Access*>(from) + i);
      }
      memcpy(bits, words, sizeof bits);
      return;
    }
#pragma unroll
    for (int i = 0; i < kNumber; ++i) {
      bits[i] = 0;
#pragma unroll
      for (int j = 0; j < kOfOne; ++j) bits[i] |= bits_of(from[i * kOfOne + j]) << (32 / kOfOne * j);
    }
  }

  __device__ __forceinline__ void store(T* to, bool aligned) const {
    if (aligned) {
      typename Items::Access words[Items::kBytes / Items::kWord];
      memcpy(words, bits, sizeof bits);
#pragma unroll
      for (int i = 0; i < Items::kBytes / Items::kWord; ++i) {
        reinterpret_cast<typename Items::Access*>(to)[i] = words[i];
      }
      return;
    }
    T items[kCount];
    memcpy(items, bits, sizeof bits);
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = items[i];
  }

  // Item i as a float: to_float() of it.
  __device__ __forceinline__ float value(int i) const {
    const std::uint32_t word = bits[i / kOfOne];
    const auto place = static_cast<std::uint32_t>(i % kOfOne);
    if constexpr (std::is_same_v<T, float>) {
      return bits_float(word);
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      return bits_float(place == 0 ? word << 16 : word & 0xffff0000u);
    } else if constexpr (std::is_same_v<T, float16>) {
      return to_float(float16{static_cast<std::uint16_t>(word >> 16 * place)});
    } else {
      // As low_bits_to_float(), the item taken out and the exponent put above it in one step.
      const std::uint32_t which = sizeof(T) == 1 ? 0x7540u + place : 0x7410u + 0x22u * place;
      return bits_float(__byte_perm(word, 0x4b000000u, which)) - 8388608.0f;
    }
  }

  // Whether an item is a NaN or infinite: its exponent is all ones, and one more at its end carries into the sign.
  __device__ __forceinline__ bool holds_not_finite() const {
    constexpr std::uint32_t kExponent =
        std::is_same_v<T, float> ? 0x7f800000u : (std::is_same_v<T, bfloat16> ? 0x7f807f80u : 0x7c007c00u);
    constexpr std::uint32_t kSign = std::is_same_v<T, float> ? 0x80000000u : 0x80008000u;
    std::uint32_t carried = 0;
#pragma unroll
    for (int i = 0; i < kNumber; ++i) carried |= (bits[i] & kExponent) + (kSign - kExponent);
    return (carried & kSign) != 0;
  }

  // Items rounded from as many floats.
  __device__ __forceinline__ void round(const float (&values)[kCount]) {
#pragma unroll
    for (int i = 0; i < kNumber; ++i) {
      if constexpr (kOfOne == 2) {
        bits[i] = from_floats<T>(values[2 * i], values[2 * i + 1]);
      } else {
        bits[i] = float_bits(values[i]);
      }
    }
  }

 private:
  static __device__ __forceinline__ std::uint32_t bits_of(float item) { return float_bits(item); }
  static __device__ __forceinline__ std::uint32_t bits_of(bfloat16 item) { return item.bits; }
  static __device__ __forceinline__ std::uint32_t bits_of(float16 item) { return item.bits; }
  static __device__ __forceinline__ std::uint32_t bits_of(std::uint8_t item) { return item; }
  static __device__ __forceinline__ std::uint32_t bits_of(std::uint16_t item) { return item; }
};

}  // namespace bainite::cuda
