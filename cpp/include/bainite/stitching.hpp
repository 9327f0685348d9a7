// Tiles back into a mosaic: scatter (argmax, confidence, crop in one pass) for logits, stitch_copy for any item type.
#pragma once

#include <cstdint>

#include "bainite/device.hpp"
#include "bainite/float16.hpp"
#include "bainite/view.hpp"

namespace bainite {

// e^x for x <= 0 in plain float32 operations (Cody-Waite reduction, Cephes' expf polynomial), relative error below
// 2e-7; 0 below x = -87. Not libm's, whose last bits differ between machines.
BAINITE_HD BAINITE_INLINE float exp_nonpositive(float x) {
  const float clamped = x > -87.0f ? x : -87.0f;
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding and subtracting it rounds to an integer
  const float shifted = clamped * 1.44269504088896341f + kRound;
  const float exponent = shifted - kRound;
  float r = clamped - exponent * 0.693359375f;
  r = r - exponent * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  // The integer sits in the low bits of `shifted`; shifted into the exponent field it multiplies p by 2^exponent.
  const float scale = bits_float((float_bits(shifted) + 127u) << 23);
  return x > -87.0f ? p * scale : 0.0f;
}

// Probability 1 / sum to 0..255. `sum` is Σ exp(logit − best logit), at least 1.
BAINITE_HD BAINITE_INLINE std::uint8_t confidence_byte(float sum) {
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(255.0f / sum + 0.5f));
}

BAINITE_HD BAINITE_INLINE std::int32_t not_finite(float value) { return is_finite(value) ? 0 : 1; }

// The best class so far of one pixel, and whether any of its logits was not finite. One class counts as two with the
// logits (0, l): above 0 the upper one wins.
BAINITE_HD BAINITE_INLINE void first_class(float logit, bool only, float& best, std::int32_t& winner,
                                           std::int32_t& bad) {
  best = logit;
  bad = not_finite(logit);
  winner = only && logit > 0.0f ? 1 : 0;
}

// Ties go to the lower class.
BAINITE_HD BAINITE_INLINE void next_class(float logit, std::int32_t label, float& best, std::int32_t& winner,
                                          std::int32_t& bad) {
  const float so_far = best;
  bad |= not_finite(logit);
  winner = logit > so_far ? label : winner;
  best = logit > so_far ? logit : so_far;
}

// Σ exp(logit − best logit) of two classes whose logits are `apart`.
BAINITE_HD BAINITE_INLINE float sum_of_two(float apart) {
  return 1.0f + exp_nonpositive(apart > 0.0f ? -apart : apart);
}

// 0 for a bad pixel: its sum may be NaN or 0, and is replaced before the division, not after the conversion to an
// integer.
BAINITE_HD BAINITE_INLINE std::uint8_t confidence_of(float sum, std::int32_t bad) {
  return confidence_byte(bad != 0 ? 1.0e9f : sum);
}

// What a tile writes: the height x width pixels of logits at (src_y, src_x) go to labels at (dst_y, dst_x).
struct Crop {
  std::int64_t src_y, src_x, height, width, dst_y, dst_x;
};

// logits: [n, K, th, tw], any strides; crops: [n]; labels, confidence: [h, w] (confidence.data may be null).
// K >= 2: label = argmax, ties to the lower class; confidence = 255 · softmax(sharpness · logits) of the winner.
// K == 1: label = logit > 0; confidence = 255 · sigmoid(sharpness · |logit|). `sharpness` is 1 / temperature, finite
// and positive (Guo et al., ICML 2017); no label depends on it.
// Returns the number of pixels with a NaN or infinite logit; their labels mean nothing, their confidence is 0.
// Preconditions: every crop lies inside its tile and inside labels; crops do not overlap in labels; K <= 256.
template <class In>
std::int64_t scatter(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels,
                     View2D<std::uint8_t> confidence, float sharpness, int threads);

// tiles: [rows of tiles x columns of tiles, th + 2·halo, tw + 2·halo, item bytes], contiguous; image: [H, W, item
// bytes]. Cores are laid down row by row; the last ones are cropped to the image.
void stitch_copy(const std::uint8_t* tiles, std::int64_t tile_rows, std::int64_t tile_cols, std::int64_t halo,
                 View3D<std::uint8_t> image, int threads);

}  // namespace bainite
