// bfloat16 and IEEE half as plain 16-bit storage, with conversions that round to nearest, ties to even, in integer
// arithmetic: the same bits on every machine, and loops over them vectorise.
#pragma once

#include <cstdint>
#include <cstring>

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
BAINITE_HD BAINITE_INLINE float to_float(std::uint8_t value) { return static_cast<float>(value); }
BAINITE_HD BAINITE_INLINE float to_float(std::uint16_t value) { return static_cast<float>(value); }
BAINITE_HD BAINITE_INLINE float to_float(bfloat16 value) {
  return bits_float(static_cast<std::uint32_t>(value.bits) << 16);
}
BAINITE_HD BAINITE_INLINE float to_float(float16 value) {
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t special = magnitude >= 0x7c00u ? 0x38000000u : 0u;  // infinity and NaN: exponent 31 becomes 255
  const std::uint32_t normal = (magnitude << 13) + 0x38000000u + special;
  // Below 2^-14 the half is magnitude · 2^-24, exact in float32.
  const std::uint32_t tiny =
      float_bits(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 5.9604644775390625e-8f);
  return bits_float(sign | (magnitude < 0x0400u ? tiny : normal));
}

template <class T>
BAINITE_HD BAINITE_INLINE T from_float(float value);

template <>
BAINITE_HD BAINITE_INLINE float from_float<float>(float value) {
  return value;
}

template <>
BAINITE_HD BAINITE_INLINE bfloat16 from_float<bfloat16>(float value) {
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return bfloat16{static_cast<std::uint16_t>(nan ? 0x7fc0u : rounded)};
}

template <>
BAINITE_HD BAINITE_INLINE float16 from_float<float16>(float value) {
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal halves: rebias the exponent (127 → 15), round the 13 dropped bits to even; a carry moves to the exponent.
  const std::uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 0.5 leaves the half's bits at the bottom of the float, rounded to even by the addition.
  const std::uint32_t tiny = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? tiny : normal;
  const std::uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN, or 65520 and above
  return float16{static_cast<std::uint16_t>(sign | (magnitude >= 0x477ff000u ? large : finite))};
}

}  // namespace bainite
