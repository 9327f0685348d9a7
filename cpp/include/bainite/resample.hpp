// Scaling of images: box averaging down, bilinear up, per axis. Weights come from global integer coordinates, so that
// any region of the scaled image has the same bits as the whole.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "bainite/device.hpp"
#include "bainite/view.hpp"

namespace bainite {

// One axis of n samples scaled to `scaled` samples.
struct Axis {
  std::int64_t n = 0;
  std::int64_t scaled = 0;
};

// Whether samples [0, stop) can be placed in 64 bits: the functions below multiply places by the other axis' length.
inline bool placeable(Axis axis, std::int64_t stop) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  if (axis.scaled > most / 4) return false;
  const std::int64_t products = (most - 2 * axis.scaled) / axis.n;
  return stop <= (axis.scaled < axis.n ? products : products / 2 - 1);
}

struct TapRange {
  std::int64_t first, last;  // source samples [first, last)
};

// Sources of output sample i. Down (scaled < n): all that the box [i·n/scaled, (i+1)·n/scaled) touches. Up: the two
// neighbours of the centre (i + ½)·n/scaled − ½ (one where they coincide or lie beyond the edge).
BAINITE_HD inline TapRange taps(Axis axis, std::int64_t i) {
  if (axis.scaled == axis.n) return {i, i + 1};
  if (axis.scaled < axis.n) return {i * axis.n / axis.scaled, ((i + 1) * axis.n + axis.scaled - 1) / axis.scaled};
  const std::int64_t doubled = (2 * i + 1) * axis.n - axis.scaled;  // centre · 2·scaled
  if (doubled <= 0) return {0, 1};
  const std::int64_t first = doubled / (2 * axis.scaled);
  const bool exact = doubled == first * 2 * axis.scaled;
  return {first, exact || first + 1 >= axis.n ? first + 1 : first + 2};
}

// Weight of source sample j for output sample i; float64 from integers, then rounded to float32.
BAINITE_HD inline float tap_weight(Axis axis, std::int64_t i, std::int64_t j) {
  const TapRange range = taps(axis, i);
  if (range.last - range.first == 1) return 1.0f;
  if (axis.scaled < axis.n) {
    // In units of 1/scaled the box is [i·n, (i+1)·n) and the sample [j·scaled, (j+1)·scaled).
    const std::int64_t from = i * axis.n > j * axis.scaled ? i * axis.n : j * axis.scaled;
    const std::int64_t box_end = (i + 1) * axis.n;
    const std::int64_t to = box_end < (j + 1) * axis.scaled ? box_end : (j + 1) * axis.scaled;
    return static_cast<float>(static_cast<double>(to - from) / static_cast<double>(axis.n));
  }
  const std::int64_t doubled = (2 * i + 1) * axis.n - axis.scaled;
  const double fraction =
      static_cast<double>(doubled - range.first * 2 * axis.scaled) / static_cast<double>(2 * axis.scaled);
  return static_cast<float>(j == range.first ? 1.0 - fraction : fraction);
}

// source: [h, w, C], whose sample (0, 0) is sample (origin_y, origin_x) of the full image; out: [oh, ow, C], whose
// sample (0, 0) is sample (out_y, out_x) of the scaled image. Sums run over rows first, then over columns, in order.
// Precondition: the source holds all taps of `out`.
struct Placement {
  Axis y, x;
  std::int64_t origin_y = 0;
  std::int64_t origin_x = 0;
  std::int64_t out_y = 0;
  std::int64_t out_x = 0;
};

template <class In>
void resample(View3D<const In> source, View3D<float> out, const Placement& place, int threads);

}  // namespace bainite
