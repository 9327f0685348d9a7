#include "bainite/finite.hpp"

#include <algorithm>
#include <atomic>

#include "bainite/device.hpp"
#include "bainite/float16.hpp"
#include "bainite/parallel.hpp"

namespace bainite {
namespace {

BAINITE_CLONES bool all_finite(const float* values, std::int64_t count) {
  std::uint32_t bad = 0;
  for (std::int64_t i = 0; i < count; ++i) bad |= is_finite(values[i]) ? 0u : 1u;
  return bad == 0;
}

void lower(std::atomic<std::int64_t>& least, std::int64_t value) {
  std::int64_t current = least.load(std::memory_order_relaxed);
  while (value < current && !least.compare_exchange_weak(current, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

std::int64_t nonfinite(View3D<const float> region, int threads) {
  const std::int64_t width = region.cols * region.channels;
  if (width == 0) return -1;
  const std::int64_t none = region.rows * width;
  std::atomic<std::int64_t> first{none};
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t y = begin; y < end && y * width < first.load(std::memory_order_relaxed); ++y) {
      const float* row = region.row(y);
      if (all_finite(row, width)) continue;
      std::int64_t x = 0;
      while (is_finite(row[x])) ++x;
      return lower(first, y * width + x);
    }
  };
  parallel_for(region.rows, std::max<std::int64_t>(1, (1 << 16) / width), none < (1 << 19) ? 1 : threads, body);
  return first.load() == none ? -1 : first.load();
}

}  // namespace bainite
