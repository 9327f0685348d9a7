#include <limits>

#include "bainite/ebsd.hpp"
#include "rows.hpp"

namespace bainite {
namespace {

using cpu::Planes;
using cpu::Span;

// Sums of angles and numbers of pairs, of the points of a row.
template <class Work>
struct Sums {
  Work *sum, *count;
};

// Misorientations of a piece of a row.
template <class Work>
struct Piece {
  static constexpr std::int64_t kLength = 512;  // in the first-level cache
  Work w[kLength], x[kLength], y[kLength], z[kLength];
};

// Orientations are held and multiplied in float64 in any case: float32 would cost an angle more than 1e-5°.
template <class Work>
BAINITE_CLONES void find_between(Planes<double> a, Planes<double> b, std::int64_t length, Piece<Work>* __restrict out) {
  for (std::int64_t i = 0; i < length; ++i) {
    const Quaternion<double> d =
        misorientation<double>({a.w[i], a.x[i], a.y[i], a.z[i]}, {b.w[i], b.x[i], b.y[i], b.z[i]});
    out->w[i] = static_cast<Work>(d.w);
    out->x[i] = static_cast<Work>(d.x);
    out->y[i] = static_cast<Work>(d.y);
    out->z[i] = static_cast<Work>(d.z);
  }
}

template <class Work, Laue group>
BAINITE_INLINE bool pair_angle(const Piece<Work>& piece, const std::int32_t* a, const std::int32_t* b, std::int64_t i,
                               Work limit, Work* angle) {
  const Quaternion<Work> d{piece.w[i], piece.x[i], piece.y[i], piece.z[i]};
  const Work sin2 = disorientation_sin2<Work, group>(d);
  *angle = disorientation_degrees<Work, group>(d, sin2);
  return (a[i] == b[i]) & (a[i] >= 0) & (sin2 <= limit);
}

// Pairs of two different rows: one pass adds to both.
template <class Work, Laue group>
BAINITE_CLONES void add_rows(const Piece<Work>& piece, const std::int32_t* label_a, const std::int32_t* label_b,
                             std::int64_t length, Work limit, Work* __restrict sum_a, Work* __restrict count_a,
                             Work* __restrict sum_b, Work* __restrict count_b) {
  for (std::int64_t i = 0; i < length; ++i) {
    Work angle;
    const bool counts = pair_angle<Work, group>(piece, label_a, label_b, i, limit, &angle);
    const Work add = counts ? angle : Work{0};
    const Work one = counts ? Work{1} : Work{0};
    sum_a[i] += add;
    count_a[i] += one;
    sum_b[i] += add;
    count_b[i] += one;
  }
}

// Pairs within a row: their angles, -1 where they do not count.
template <class Work, Laue group>
BAINITE_CLONES void row_angles(const Piece<Work>& piece, const std::int32_t* label_a, const std::int32_t* label_b,
                               std::int64_t length, Work limit, Work* __restrict angles) {
  for (std::int64_t i = 0; i < length; ++i) {
    Work angle;
    angles[i] = pair_angle<Work, group>(piece, label_a, label_b, i, limit, &angle) ? angle : Work{-1};
  }
}

template <class Work>
BAINITE_CLONES void add_angles(const Work* __restrict angles, std::int64_t length, Work* __restrict sum,
                               Work* __restrict count) {
  for (std::int64_t i = 0; i < length; ++i) {
    sum[i] += angles[i] >= Work{0} ? angles[i] : Work{0};
    count[i] += angles[i] >= Work{0} ? Work{1} : Work{0};
  }
}

template <class Work>
BAINITE_CLONES void write_means(const Work* __restrict sum, const Work* __restrict count,
                                const std::int32_t* __restrict label, std::int64_t length, bool keep,
                                float* __restrict out) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  for (std::int64_t i = 0; i < length; ++i) {
    const float mean = count[i] > Work{0} ? static_cast<float>(sum[i] / most(count[i], Work{1})) : kNaN;
    out[i] = keep && label[i] < 0 ? out[i] : mean;
  }
}

template <class Work>
struct KamFunctions {
  void (*add_rows)(const Piece<Work>&, const std::int32_t*, const std::int32_t*, std::int64_t, Work, Work*, Work*,
                   Work*, Work*);
  void (*row_angles)(const Piece<Work>&, const std::int32_t*, const std::int32_t*, std::int64_t, Work, Work*);
};

template <class Work>
struct KamOf {
  template <Laue group>
  struct Kernel {
    static KamFunctions<Work> run() { return {&add_rows<Work, group>, &row_angles<Work, group>}; }
  };
};

// Rows [begin, end) of the result. Rows are loaded once, `order` ahead, and a row is finished when its own pairs are.
// Every point gets its pairs in the same order, wherever the band begins: the same bits.
template <class Work, class In>
class Band {
 public:
  Band(const Orientations<In>& map, Laue laue, const KamOptions& options, const std::vector<Offset>& stencil)
      : map_(map),
        options_(options),
        stencil_(stencil),
        functions_(cpu::of_group<KamOf<Work>::template Kernel>(laue)()),
        limit_(sin2_limit<Work>(options.max_angle)),
        depth_(options.order + 1),
        window_(std::max(map.grid.cols, map.grid.cols_even), depth_),
        sums_(static_cast<std::size_t>(2 * window_.pitch() * depth_)),
        angles_(static_cast<std::size_t>(window_.pitch())) {}

  void run(std::int64_t begin, std::int64_t end, float* out) {
    const PointGrid& grid = map_.grid;
    const std::int64_t first = std::max<std::int64_t>(0, begin - options_.order);
    std::int64_t loaded = first;
    for (std::int64_t row = first; row < end; ++row) {
      for (; loaded < std::min(grid.rows, row + depth_); ++loaded) {
        window_.load(map_, loaded);
        const Sums<Work> fresh = sums(loaded);
        std::fill(fresh.sum, fresh.sum + 2 * window_.pitch(), Work{0});
      }
      for (const Offset& offset : stencil_) add(row, offset, begin);
      if (row < begin) continue;
      const Sums<Work> done = sums(row);
      write_means(done.sum, done.count, window_.row(row).label, grid.row_length(row), options_.keep,
                  out + grid.row_start(row));
    }
  }

 private:
  Sums<Work> sums(std::int64_t row) {
    Work* sum = sums_.data() + 2 * window_.pitch() * (row % depth_);
    return {sum, sum + window_.pitch()};
  }

  void add(std::int64_t row, const Offset& offset, std::int64_t begin) {
    const Span span(map_.grid, row, offset);
    if (span.length() <= 0 || row + offset.dy < begin) return;
    const Planes<double> a = window_.row(row).from(span.first);
    const Planes<double> b = window_.row(row + offset.dy).from(span.first + span.dx);
    const Sums<Work> left = sums(row), right = sums(row + offset.dy);
    Work *sum_a = left.sum + span.first, *count_a = left.count + span.first;
    Work *sum_b = right.sum + span.first + span.dx, *count_b = right.count + span.first + span.dx;
    for (std::int64_t i = 0; i < span.length(); i += Piece<Work>::kLength) {
      const std::int64_t length = std::min(span.length() - i, Piece<Work>::kLength);
      find_between(a.from(i), b.from(i), length, &piece_);
      if (offset.dy > 0) {
        functions_.add_rows(piece_, a.label + i, b.label + i, length, limit_, sum_a + i, count_a + i, sum_b + i,
                            count_b + i);
      } else {
        functions_.row_angles(piece_, a.label + i, b.label + i, length, limit_, angles_.data() + i);
      }
    }
    if (offset.dy > 0) return;
    add_angles(angles_.data(), span.length(), sum_a, count_a);
    add_angles(angles_.data(), span.length(), sum_b, count_b);
  }

  const Orientations<In>& map_;
  const KamOptions& options_;
  const std::vector<Offset>& stencil_;
  KamFunctions<Work> functions_;
  Work limit_;
  std::int64_t depth_;
  cpu::Window<double> window_;
  std::vector<Work> sums_;
  std::vector<Work> angles_;
  Piece<Work> piece_;
};

template <class Work, class In>
void kam_in(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out, int threads) {
  const std::vector<Offset> stencil =
      half_stencil(options.neighbourhood, options.perimeter ? options.order : 1, options.order);
  cpu::for_each_band(map.grid, options.order, threads, [&](std::int64_t begin, std::int64_t end) {
    Band<Work, In>(map, laue, options, stencil).run(begin, end, out);
  });
}

}  // namespace

template <class In>
void kam(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out, int threads) {
  const auto run = options.max_angle <= kMostInFloat ? kam_in<float, In> : kam_in<double, In>;
  run(map, laue, options, out, threads);
}

template void kam<float>(const Orientations<float>&, Laue, const KamOptions&, float*, int);
template void kam<double>(const Orientations<double>&, Laue, const KamOptions&, float*, int);

}  // namespace bainite
