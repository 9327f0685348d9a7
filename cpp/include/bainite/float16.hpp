// bfloat16 and IEEE half as plain 16-bit storage, with conversions that round to nearest, ties to even. In integer
// arithmetic, over which loops vectorise, and on a GPU in its own instructions: the same bits on every machine.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "bainite/device.hpp"

namespace bainite {

struct bfloat16 {
  std::uint16_t bits;
};

struct float16 {
  std::uint16_t bits;
};

BAINITE_HD BAINITE_INLINE std::uint32_t float_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

BAINITE_HD BAINITE_INLINE float bits_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Neither NaN nor infinity.
BAINITE_HD BAINITE_INLINE bool is_finite(float value) { return (float_bits(value) & 0x7f800000u) != 0x7f800000u; }

BAINITE_HD BAINITE_INLINE float to_float(float value) { return value; }
// An integer below 2^23, exactly: it becomes the low bits of a float between 2^23 and 2^24.
BAINITE_HD BAINITE_INLINE float low_bits_to_float(std::uint32_t value) {
  return bits_float(0x4b000000u | value) - 8388608.0f;
}

#if defined(__CUDA_ARCH__)  // whose own conversion is slower than a subtraction
BAINITE_HD BAINITE_INLINE float to_float(std::uint8_t value) { return low_bits_to_float(value); }
BAINITE_HD BAINITE_INLINE float to_float(std::uint16_t value) { return low_bits_to_float(value); }
#else
BAINITE_HD BAINITE_INLINE float to_float(std::uint8_t value) { return static_cast<float>(value); }
BAINITE_HD BAINITE_INLINE float to_float(std::uint16_t value) { return static_cast<float>(value); }
#endif
BAINITE_HD BAINITE_INLINE float to_float(bfloat16 value) {
  return bits_float(static_cast<std::uint32_t>(value.bits) << 16);
}
BAINITE_HD BAINITE_INLINE float to_float(float16 value) {
#if defined(__CUDA_ARCH__)
  float exact;  // a NaN remains one
  asm("cvt.f32.f16 %0, %1;" : "=f"(exact) : "h"(value.bits));
  return exact;
#else
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x38000000u : 0u;  // infinity and NaN: exponent 31 becomes 255
  const std::uint32_t normal = (magnitude << 13) + 0x38000000u + special;
  // Below 2^-14 the half is magnitude · 2^-24, exact in float32.
  const std::uint32_t tiny =
      float_bits(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 5.9604644775390625e-8f);
  return bits_float(sign | (magnitude < 0x0400u ? tiny : normal));
#endif
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define BAINITE_ROUNDS_PAIRS 1
#else
#define BAINITE_ROUNDS_PAIRS 0
#endif

// Rounded to nearest, ties to even. A NaN becomes the quiet one without a sign: which sign arithmetic gives to a NaN
// differs between machines.
template <class T>
BAINITE_HD BAINITE_INLINE T from_float(float value);

// from_float() of two numbers to a 16-bit type, the first in the low half. A GPU does both in one instruction, which
// writes a NaN as 0x7fff, the largest of all as signed integers: the smaller of that and the quiet NaN is the latter.
template <class T>
BAINITE_HD BAINITE_INLINE std::uint32_t from_floats(float first, float second) {
#if BAINITE_ROUNDS_PAIRS
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return __vmins2(pair, 0x7fc07fc0u);
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return __vmins2(pair, 0x7e007e00u);
  }
#else
  return from_float<T>(first).bits | static_cast<std::uint32_t>(from_float<T>(second).bits) << 16;
#endif
}

template <>
BAINITE_HD BAINITE_INLINE float from_float<float>(float value) {
  return value;
}

template <>
BAINITE_HD BAINITE_INLINE bfloat16 from_float<bfloat16>(float value) {
#if BAINITE_ROUNDS_PAIRS
  return bfloat16{static_cast<std::uint16_t>(from_floats<bfloat16>(value, 0.0f))};
#else
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return bfloat16{static_cast<std::uint16_t>(nan ? 0x7fc0u : rounded)};
#endif
}

template <>
BAINITE_HD BAINITE_INLINE float16 from_float<float16>(float value) {
#if BAINITE_ROUNDS_PAIRS
  return float16{static_cast<std::uint16_t>(from_floats<float16>(value, 0.0f))};
#else
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal halves: rebias the exponent (127 → 15), round the 13 dropped bits to even; a carry moves to the exponent.
  const std::uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 0.5 leaves the half's bits at the bottom of the float, rounded to even by the addition.
  const std::uint32_t tiny = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? tiny : normal;
  const std::uint32_t number = sign | (magnitude >= 0x477ff000u ? 0x7c00u : finite);  // infinity from 65520 on
  return float16{static_cast<std::uint16_t>(magnitude > 0x7f800000u ? 0x7e00u : number)};
#endif
}

}  // namespace bainite
