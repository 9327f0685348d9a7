// Rows of orientations as planes (w, x, y, z and labels apart), and the walk over a map that keeps a few of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bainite/ebsd.hpp"
#include "bainite/parallel.hpp"

namespace bainite::cpu {

template <class Real>
struct Planes {
  const Real *w, *x, *y, *z;
  const std::int32_t* label;

  Planes from(std::int64_t i) const { return {w + i, x + i, y + i, z + i, label + i}; }
};

// One row: [length, 4] to planes of unit quaternions; what is no rotation gets label -1 and components 0.
template <class In, class Work>
BAINITE_CLONES void load_planes(const In* q, std::int64_t length, Work* w, Work* x, Work* y, Work* z,
                                std::int32_t* label) {
  for (std::int64_t i = 0; i < length; ++i) {
    const In a = q[4 * i], b = q[4 * i + 1], c = q[4 * i + 2], d = q[4 * i + 3];
    const In norm2 = (a * a + b * b) + (c * c + d * d);
    const bool good = norm2 > In(1e-12) && norm2 < In(1e12);  // false for NaN
    const In scale = In{1} / std::sqrt(good ? norm2 : In{1});
    w[i] = good ? static_cast<Work>(a * scale) : Work{0};
    x[i] = good ? static_cast<Work>(b * scale) : Work{0};
    y[i] = good ? static_cast<Work>(c * scale) : Work{0};
    z[i] = good ? static_cast<Work>(d * scale) : Work{0};
    label[i] = good ? label[i] : -1;
  }
}

inline void load_labels(const Labels& labels, std::int64_t start, std::int64_t length, std::int32_t* out) {
  if (labels.data == nullptr) {
    std::fill(out, out + length, 0);
  } else if (labels.bytes == 2) {
    const auto* from = static_cast<const std::int16_t*>(labels.data) + start;
    std::copy(from, from + length, out);
  } else {
    const auto* from = static_cast<const std::int32_t*>(labels.data) + start;
    std::copy(from, from + length, out);
  }
}

// The last `depth` rows that were loaded.
template <class Work>
class Window {
 public:
  Window(std::int64_t cols, std::int64_t depth)
      : pitch_((cols + 15) / 16 * 16),
        depth_(depth),
        planes_(static_cast<std::size_t>(4 * pitch_ * depth)),
        labels_(static_cast<std::size_t>(pitch_ * depth)) {}

  std::int64_t pitch() const { return pitch_; }

  template <class In>
  void load(const Orientations<In>& map, std::int64_t row) {
    const std::int64_t start = map.grid.row_start(row);
    const std::int64_t length = map.grid.row_length(row);
    Work* w = planes_.data() + 4 * pitch_ * (row % depth_);
    std::int32_t* label = labels_.data() + pitch_ * (row % depth_);
    load_labels(map.labels, start, length, label);
    load_planes<In, Work>(map.quaternions + 4 * start, length, w, w + pitch_, w + 2 * pitch_, w + 3 * pitch_, label);
  }

  Planes<Work> row(std::int64_t row) const {
    const Work* w = planes_.data() + 4 * pitch_ * (row % depth_);
    return {w, w + pitch_, w + 2 * pitch_, w + 3 * pitch_, labels_.data() + pitch_ * (row % depth_)};
  }

 private:
  std::int64_t pitch_, depth_;
  std::vector<Work> planes_;
  std::vector<std::int32_t> labels_;
};

// The pairs of an offset that start in `row`: columns [first, last), partners `dx` further in row + dy.
struct Span {
  std::int64_t first = 0, last = 0, dx = 0;

  Span(const PointGrid& grid, std::int64_t row, const Offset& offset) : dx(offset.dx[row % 2]) {
    if (row + offset.dy >= grid.rows) return;
    first = std::max<std::int64_t>(0, -dx);
    last = std::max(first, std::min(grid.row_length(row), grid.row_length(row + offset.dy) - dx));
  }
  std::int64_t length() const { return last - first; }
};

// Calls visit(begin, end) for bands of rows on up to `threads` threads: bands tall against a halo of `halo` rows.
template <class Visit>
void for_each_band(const PointGrid& grid, std::int64_t halo, int threads, const Visit& visit) {
  if (grid.rows == 0 || grid.cols == 0) return;
  constexpr std::int64_t kPoints = 1 << 14;  // of a band at least: a helper thread costs as much
  const std::int64_t team = threads > 0 ? threads : get_num_threads();
  const std::int64_t share = (grid.rows + 4 * team - 1) / (4 * team);
  const std::int64_t least_rows = std::max<std::int64_t>(16 * halo, kPoints / grid.cols + 1);
  parallel_for(grid.rows, std::clamp(share, std::min(least_rows, grid.rows), grid.rows), threads, visit);
}

// The function of a Laue group out of a template over groups: kernel<group>::run.
template <template <Laue> class Kernel>
auto of_group(Laue laue) {
  using Function = decltype(&Kernel<Laue::cubic>::run);
  static constexpr Function table[kLaueGroups] = {
      &Kernel<Laue::triclinic>::run,      &Kernel<Laue::monoclinic>::run,    &Kernel<Laue::orthorhombic>::run,
      &Kernel<Laue::tetragonal_low>::run, &Kernel<Laue::tetragonal>::run,    &Kernel<Laue::trigonal_low>::run,
      &Kernel<Laue::trigonal>::run,       &Kernel<Laue::hexagonal_low>::run, &Kernel<Laue::hexagonal>::run,
      &Kernel<Laue::cubic_low>::run,      &Kernel<Laue::cubic>::run};
  return table[static_cast<int>(laue)];
}

}  // namespace bainite::cpu
