#include <cmath>
#include <limits>

#include "bainite/confusion.hpp"
#include "bainite/device.hpp"
#include "bainite/pyramid.hpp"
#include "bainite/stitching.hpp"
#include "bainite/tiling.hpp"
#include "support.hpp"

using namespace bainite;

TEST_CASE("mirror_index walks back and forth as the modes say") {
  for (const std::int64_t n : {1, 2, 3, 7}) {
    // Walkers that turn round at the ends, one step at a time.
    std::int64_t reflect = 0, reflect_step = n > 1 ? 1 : 0, symmetric = 0, symmetric_step = 1;
    for (std::int64_t i = 0; i < 50; ++i) {
      CHECK(mirror_index(i, n, PadMode::mirror) == reflect);
      CHECK(mirror_index(-i, n, PadMode::mirror) == reflect);  // reflect is even
      CHECK(mirror_index(i, n, PadMode::symmetric) == symmetric);
      CHECK(mirror_index(-1 - i, n, PadMode::symmetric) == symmetric);
      CHECK(mirror_index(i, n, PadMode::edge) == (i < n ? i : n - 1));
      CHECK(mirror_index(-1 - i, n, PadMode::edge) == 0);
      CHECK(mirror_index(i, n, PadMode::constant) == (i < n ? i : -1));
      CHECK(mirror_index(-1 - i, n, PadMode::constant) == -1);
      if (n > 1 && (reflect + reflect_step < 0 || reflect + reflect_step >= n)) reflect_step = -reflect_step;
      reflect += reflect_step;
      if (symmetric + symmetric_step < 0 || symmetric + symmetric_step >= n) {
        symmetric_step = -symmetric_step;
      } else {
        symmetric += symmetric_step;
      }
    }
  }
}

TEST_CASE("every half goes to float and back unchanged") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float16 half{static_cast<std::uint16_t>(bits)};
    const float value = to_float(half);
    const bool nan = (bits & 0x7fff) > 0x7c00;
    CHECK_MESSAGE(std::isnan(value) == nan, bits);
    if (nan) continue;
    const float expected = (bits & 0x8000 ? -1.0f : 1.0f) *
                           ((bits & 0x7c00) == 0x7c00 ? std::numeric_limits<float>::infinity()
                            : (bits & 0x7c00) == 0    ? std::ldexp(static_cast<float>(bits & 0x3ff), -24)
                                                      : std::ldexp(static_cast<float>(0x400 | (bits & 0x3ff)),
                                                                   static_cast<int>((bits >> 10) & 0x1f) - 25));
    CHECK_MESSAGE(value == expected, bits);
    CHECK_MESSAGE(from_float<float16>(value).bits == bits, bits);
    const bfloat16 brain{static_cast<std::uint16_t>(bits)};
    if (!std::isnan(to_float(brain))) CHECK_MESSAGE(from_float<bfloat16>(to_float(brain)).bits == bits, bits);
  }
}

TEST_CASE("an integer in the low bits of a float is that float") {
  for (std::uint32_t i = 0; i < 0x10000; ++i) CHECK_MESSAGE(low_bits_to_float(i) == static_cast<float>(i), i);
}

TEST_CASE("rounding to 16 bits is to the nearest, ties to even") {
  CHECK(from_float<float16>(65504.0f).bits == 0x7bff);
  CHECK(from_float<float16>(65519.996f).bits == 0x7bff);
  CHECK(from_float<float16>(65520.0f).bits == 0x7c00);
  CHECK(from_float<float16>(std::ldexp(1.0f, -25)).bits == 0);                 // tie: to even, zero
  CHECK(from_float<float16>(std::ldexp(1.5f, -24)).bits == 2);                 // tie: up to even
  CHECK(from_float<float16>(std::ldexp(1.0f, -14) * 0.99999f).bits == 0x400);  // rounds up into the normal numbers
  CHECK(from_float<float16>(-0.0f).bits == 0x8000);
  CHECK(from_float<bfloat16>(bits_float(0x3f808000)).bits == 0x3f80);  // tie: down to even
  CHECK(from_float<bfloat16>(bits_float(0x3f818000)).bits == 0x3f82);  // tie: up to even
  CHECK(from_float<bfloat16>(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(std::isnan(to_float(from_float<bfloat16>(bits_float(0x7f800001)))));
  CHECK(std::isnan(to_float(from_float<float16>(bits_float(0xff800001)))));
  for (const std::uint32_t nan : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffc00000u}) {
    CHECK(from_float<bfloat16>(bits_float(nan)).bits == 0x7fc0);
    CHECK(from_float<float16>(bits_float(nan)).bits == 0x7e00);
  }
  CHECK(from_floats<bfloat16>(1.0f, -2.0f) == 0xc0003f80u);
  CHECK(from_floats<float16>(1.0f, -2.0f) == 0xc0003c00u);
}

TEST_CASE("exp_nonpositive is within 2e-7 of e^x") {
  for (double x = -86.9; x <= 0.0; x += 0.00137) {
    const auto argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    CHECK(std::abs(static_cast<double>(exp_nonpositive(argument)) - exact) <= 2e-7 * exact);
  }
  CHECK(exp_nonpositive(0.0f) == 1.0f);
  CHECK(exp_nonpositive(-0.0f) == 1.0f);
  CHECK(exp_nonpositive(-87.5f) == 0.0f);
  CHECK(exp_nonpositive(-std::numeric_limits<float>::infinity()) == 0.0f);
}

TEST_CASE("next_class keeps the lower of equal classes and notes what is not finite") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float best = 0.0f;
  std::int32_t winner = 7;
  std::int32_t bad = 7;
  first_class(-2.0f, false, best, winner, bad);
  CHECK((best == -2.0f && winner == 0 && bad == 0));
  next_class(-2.0f, 1, best, winner, bad);
  CHECK(winner == 0);
  next_class(3.0f, 2, best, winner, bad);
  next_class(3.0f, 3, best, winner, bad);
  CHECK((best == 3.0f && winner == 2 && bad == 0));
  next_class(nan, 4, best, winner, bad);
  CHECK((best == 3.0f && winner == 2 && bad == 1));
  next_class(4.0f, 5, best, winner, bad);
  CHECK((winner == 5 && bad == 1));
  first_class(0.0f, true, best, winner, bad);
  CHECK((winner == 0 && bad == 0));
  first_class(std::numeric_limits<float>::denorm_min(), true, best, winner, bad);
  CHECK(winner == 1);
  first_class(std::numeric_limits<float>::infinity(), true, best, winner, bad);
  CHECK((winner == 1 && bad == 1));
}

TEST_CASE("confidence is 255 times the winner's probability, and 0 where a logit is not finite") {
  CHECK(confidence_of(sum_of_two(0.0f), 0) == 128);
  CHECK(confidence_of(sum_of_two(90.0f), 0) == 255);
  CHECK(sum_of_two(1.5f) == sum_of_two(-1.5f));
  CHECK(confidence_of(4.0f, 0) == 64);
  CHECK(confidence_of(0.0f, 1) == 0);
  CHECK(confidence_of(std::numeric_limits<float>::quiet_NaN(), 1) == 0);
}

TEST_CASE("label_code and pair_code keep what is out of range apart") {
  CHECK(label_code<std::int64_t>(-1, 5) == 0xffff);
  CHECK(label_code<std::uint64_t>(std::numeric_limits<std::uint64_t>::max(), 5) == 0xffff);
  CHECK(label_code<std::int32_t>(5, 5) == 0xffff);
  CHECK(label_code<std::uint16_t>(4, 5) == 4);
  CHECK(pair_code<std::uint32_t>(4095, 4095, 4096, 16777217) == 16777215);
  CHECK(pair_code<std::uint32_t>(0xffff, 0, 4096, 16777217) == 16777217);
  CHECK(pair_code<std::uint8_t>(14, 13, 15, 226) == 223);
  CHECK(pair_code<std::uint8_t>(3, 200, 15, 226) == 226);
}

TEST_CASE("mode_of_four takes the first of the most frequent") {
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t cell[4] = {static_cast<std::uint8_t>(i & 3), static_cast<std::uint8_t>(i >> 2 & 3),
                                  static_cast<std::uint8_t>(i >> 4 & 3), static_cast<std::uint8_t>(i >> 6 & 3)};
    int best = 0;
    std::uint8_t expected = 0;
    for (const std::uint8_t label : cell) {
      int count = 0;
      for (const std::uint8_t other : cell) count += other == label ? 1 : 0;
      if (count > best) {
        best = count;
        expected = label;
      }
    }
    CHECK(mode_of_four(cell[0], cell[1], cell[2], cell[3]) == expected);
  }
}

TEST_CASE("the machine describes itself") {
  CHECK(simd_path() != nullptr);
  cpu_features();
}
