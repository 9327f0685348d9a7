// Maps of orientations: the grid of an EBSD scan, its stencils, and the kernels on it.
#pragma once

#include <cstdint>
#include <vector>

#include "bainite/device.hpp"
#include "bainite/disorientation.hpp"

namespace bainite {

// Points row by row. Hexagonal: rows 1, 3, 5 … (counted from 0) have cols_even points and lie half a step to the right.
struct PointGrid {
  bool hexagonal = false;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t cols_even = 0;

  BAINITE_HD std::int64_t row_start(std::int64_t r) const {
    return hexagonal ? (r + 1) / 2 * cols + r / 2 * cols_even : r * cols;
  }
  BAINITE_HD std::int64_t row_length(std::int64_t r) const { return hexagonal && r % 2 != 0 ? cols_even : cols; }
  BAINITE_HD std::int64_t size() const { return row_start(rows); }
};

enum class Neighbourhood { hexagonal, square8, square4 };

// From a point of an even or an odd row to another one: dy rows down, dx[row % 2] columns to the right.
struct Offset {
  std::int64_t dy;
  std::int64_t dx[2];
};

// The neighbours of order n in raster order: 6n on a hexagonal shell, 8n on a square ring, 4n on a diamond.
std::vector<Offset> shell(Neighbourhood neighbourhood, int order);

// Of shells `first` … `last` those that lie ahead (dy > 0, or dy == 0 and dx > 0): each pair of points once.
std::vector<Offset> half_stencil(Neighbourhood neighbourhood, int first, int last);

// What each point is: pairs count between equal labels only, and a negative label is never part of one.
struct Labels {
  const void* data = nullptr;  // null: all points are 0
  int bytes = 0;               // 2 or 4, signed
};

// quaternions: [points, 4] of Real, any length but 0; those of no length, NaN or infinite count as label -1.
template <class Real>
struct Orientations {
  const Real* quaternions = nullptr;
  Labels labels;
  PointGrid grid;
};

struct KamOptions {
  Neighbourhood neighbourhood = Neighbourhood::square8;
  int order = 1;
  bool perimeter = false;  // shell `order` alone
  double max_angle = 5.0;  // degrees; pairs above are left out
  bool keep = false;       // leave out[i] of points with a negative label as it is, instead of NaN
};

// Degrees up to which angles and their sums are computed in float32: beyond, they would lose more than 1e-5°.
constexpr double kMostInFloat = 10.0;

// Kernel average misorientation. out: [points] in degrees; NaN where no pair counts. Angles are computed in float64
// where max_angle lets in more than kMostInFloat. The bits of out do not depend on threads, nor on the rest of the map
// beyond `order` rows and columns.
template <class In>
void kam(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out, int threads);

// Misorientation in degrees of every point to its forward neighbours, half_stencil(neighbourhood, 1, 1):
// out: [points, forward neighbours]; NaN where there is no pair of equal labels.
template <class In>
void neighbour_angles(const Orientations<In>& map, Laue laue, Neighbourhood neighbourhood, bool keep, float* out,
                      int threads);

// Bit k of links[i]: point i and its k-th forward neighbour, of equal labels, differ by at most `tolerance` degrees.
// Compared in float64. Bits are added to what is there.
template <class In>
void links(const Orientations<In>& map, Laue laue, Neighbourhood neighbourhood, double tolerance, std::uint8_t* links,
           int threads);

// sin²(ω/2) of two unit quaternions [4].
double pair_sin2(const double* q1, const double* q2, Laue laue);

// q1, q2: [count, 4]; out: [count] degrees.
template <class Real>
void disorientation(const Real* q1, const Real* q2, std::int64_t count, Laue laue, Real* out, int threads);

}  // namespace bainite
