// What is known of every point and its forward neighbours: angles, and whether they are alike.
#include <limits>

#include "bainite/ebsd.hpp"
#include "rows.hpp"

namespace bainite {
namespace {

using cpu::Planes;
using cpu::Span;

template <class Work>
BAINITE_INLINE Quaternion<Work> between(const Planes<Work>& a, const Planes<Work>& b, std::int64_t i) {
  return misorientation<Work>({a.w[i], a.x[i], a.y[i], a.z[i]}, {b.w[i], b.x[i], b.y[i], b.z[i]});
}

// Single angles are looked at: float64 up to the last rounding.
template <Laue group>
BAINITE_INLINE double degrees_of(const Quaternion<double>& d) {
  return disorientation_degrees<double, group>(d, disorientation_sin2<double, group>(d));
}

// NaN where the labels differ.
template <Laue group>
BAINITE_CLONES void angle_row(Planes<double> a, Planes<double> b, std::int64_t length, float* __restrict out) {
  for (std::int64_t i = 0; i < length; ++i) {
    const auto angle = static_cast<float>(degrees_of<group>(between(a, b, i)));
    const bool pair = (a.label[i] == b.label[i]) & (a.label[i] >= 0);
    out[i] = pair ? angle : std::numeric_limits<float>::quiet_NaN();
  }
}

template <Laue group>
BAINITE_CLONES void link_row(Planes<double> a, Planes<double> b, std::int64_t length, double limit, int bit,
                             std::uint8_t* __restrict out) {
  for (std::int64_t i = 0; i < length; ++i) {
    const double sin2 = disorientation_sin2<double, group>(between(a, b, i));
    const bool alike = (a.label[i] == b.label[i]) & (a.label[i] >= 0) & (sin2 <= limit);
    out[i] = static_cast<std::uint8_t>(out[i] | (alike ? bit : 0));
  }
}

template <Laue group>
BAINITE_INLINE double run_pair(const double* a, const double* b) {
  const Quaternion<double> d = misorientation<double>({a[0], a[1], a[2], a[3]}, {b[0], b[1], b[2], b[3]});
  return disorientation_sin2<double, group>(d);
}

template <class Real>
BAINITE_INLINE Quaternion<double> load4(const Real* q) {
  return {q[0], q[1], q[2], q[3]};
}

template <class Real, Laue group>
BAINITE_CLONES void angle_list(const Real* q1, const Real* q2, std::int64_t count, Real* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<Real>(degrees_of<group>(misorientation<double>(load4(q1 + 4 * i), load4(q2 + 4 * i))));
  }
}

template <Laue group>
struct AngleRow {
  static auto run() { return &angle_row<group>; }
};
template <Laue group>
struct LinkRow {
  static auto run() { return &link_row<group>; }
};
template <Laue group>
struct Sin2 {
  static auto run() { return &run_pair<group>; }
};
template <class Real>
struct AngleList {
  template <Laue group>
  struct Kernel {
    static auto run() { return &angle_list<Real, group>; }
  };
};

// Calls visit(row, offset number, upper, lower, span) for every row and forward neighbour.
template <class Work, class In, class Visit>
void for_each_row(const Orientations<In>& map, const std::vector<Offset>& ahead, int threads, const Visit& visit) {
  const PointGrid& grid = map.grid;
  cpu::for_each_band(grid, 1, threads, [&](std::int64_t begin, std::int64_t end) {
    cpu::Window<Work> window(std::max(grid.cols, grid.cols_even), 2);
    window.load(map, begin);
    for (std::int64_t row = begin; row < end; ++row) {
      if (row + 1 < grid.rows) window.load(map, row + 1);
      for (std::size_t k = 0; k < ahead.size(); ++k) {
        const Span span(grid, row, ahead[k]);
        const Planes<Work> upper = window.row(row).from(span.first);
        visit(row, static_cast<int>(k), window.row(row).label, upper,
              span.length() > 0 ? window.row(row + ahead[k].dy).from(span.first + span.dx) : upper, span);
      }
    }
  });
}

}  // namespace

template <class In>
void neighbour_angles(const Orientations<In>& map, Laue laue, Neighbourhood neighbourhood, bool keep, float* out,
                      int threads) {
  const std::vector<Offset> ahead = half_stencil(neighbourhood, 1, 1);
  const auto stride = static_cast<std::int64_t>(ahead.size());
  const auto row_function = cpu::of_group<AngleRow>(laue)();
  for_each_row<double>(map, ahead, threads,
                       [&](std::int64_t row, int k, const std::int32_t* label, const Planes<double>& upper,
                           const Planes<double>& lower, const Span& span) {
                         const std::int64_t start = map.grid.row_start(row);
                         float* to = out + start * stride + k;
                         const std::int64_t length = map.grid.row_length(row);
                         std::vector<float> fresh(static_cast<std::size_t>(length),
                                                  std::numeric_limits<float>::quiet_NaN());
                         row_function(upper, lower, span.length(), fresh.data() + span.first);
                         for (std::int64_t i = 0; i < length; ++i) {
                           if (!keep || label[i] >= 0) to[i * stride] = fresh[static_cast<std::size_t>(i)];
                         }
                       });
}

template <class In>
void links(const Orientations<In>& map, Laue laue, Neighbourhood neighbourhood, double tolerance, std::uint8_t* links,
           int threads) {
  const std::vector<Offset> ahead = half_stencil(neighbourhood, 1, 1);
  const auto row_function = cpu::of_group<LinkRow>(laue)();
  const auto limit = sin2_limit<double>(tolerance);
  for_each_row<double>(map, ahead, threads,
                       [&](std::int64_t row, int k, const std::int32_t*, const Planes<double>& upper,
                           const Planes<double>& lower, const Span& span) {
                         std::uint8_t* to = links + map.grid.row_start(row) + span.first;
                         row_function(upper, lower, span.length(), limit, 1 << k, to);
                       });
}

double pair_sin2(const double* q1, const double* q2, Laue laue) { return cpu::of_group<Sin2>(laue)()(q1, q2); }

template <class Real>
void disorientation(const Real* q1, const Real* q2, std::int64_t count, Laue laue, Real* out, int threads) {
  const auto list = cpu::of_group<AngleList<Real>::template Kernel>(laue)();
  parallel_for(count, 1 << 14, threads, [&](std::int64_t begin, std::int64_t end) {
    list(q1 + 4 * begin, q2 + 4 * begin, end - begin, out + begin);
  });
}

template void neighbour_angles<float>(const Orientations<float>&, Laue, Neighbourhood, bool, float*, int);
template void neighbour_angles<double>(const Orientations<double>&, Laue, Neighbourhood, bool, float*, int);
template void links<float>(const Orientations<float>&, Laue, Neighbourhood, double, std::uint8_t*, int);
template void links<double>(const Orientations<double>&, Laue, Neighbourhood, double, std::uint8_t*, int);
template void disorientation<float>(const float*, const float*, std::int64_t, Laue, float*, int);
template void disorientation<double>(const double*, const double*, std::int64_t, Laue, double*, int);

}  // namespace bainite
