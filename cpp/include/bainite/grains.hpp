// Grains: connected points, and what is summed over them. All sums are integers (fixed point), so that neither threads
// nor blocks nor their order change a bit, and parts of a map add up to the whole.
#pragma once

#include <cstdint>

#include "bainite/ebsd.hpp"

namespace bainite {

// Connected components of the links (see links()), numbered in the order of their first point; a link that leads out of
// the map, or from or to a point of a negative label, is none.
// ids: [points], written: -1 where `labels` is negative. Returns the number of grains.
std::int64_t label_grains(const std::uint8_t* links, const Labels& labels, const PointGrid& grid,
                          Neighbourhood neighbourhood, std::int32_t* ids, int threads);

// first, sizes: [grains], index of the first point and number of points of every grain.
void grain_table(const std::int32_t* ids, std::int64_t points, std::int64_t grains, std::int64_t* first,
                 std::int64_t* sizes);

constexpr int kMoments = 10;                 // ww, wx, wy, wz, xx, xy, xz, yy, yz, zz
constexpr double kMomentOne = 2147483648.0;  // 2^31: of up to 2^31 points the sum still fits
constexpr double kDegree = 8388608.0;        // 2^23: as above, for angles up to 180°

// Points of a map by grain; `laue` gives the Laue group of every grain.
struct Grains {
  const double* quaternions = nullptr;  // [points, 4], unit
  const std::int32_t* ids = nullptr;    // [points]; negative: in no grain
  std::int64_t points = 0;
  const std::uint8_t* laue = nullptr;  // [grains]
};

// Adds u uᵀ of every point to the moments [grains, 10] of its grain. u is the orientation relative to the grain's
// reference [grains, 4], written with the symmetric copy nearest to the grain's present mean [grains, 4], which is
// relative to the reference too. What is not finite is left out.
void add_moments(const Grains& grains, const double* reference, const double* mean, std::int64_t* moments, int threads);

// means: [grains, 4], the eigenvector of the largest eigenvalue of every grain's moments, w >= 0.
void moment_means(const std::int64_t* moments, std::int64_t grains, double* means, int threads);

// grod: [points], disorientation in degrees to the mean [grains, 4] of the point's grain, NaN in none.
void grain_deviation(const Grains& grains, const double* mean, float* grod, int threads);

// Adds the values of a grain's points, as multiples of 2^-23, and their number; NaN and points in no grain are left
// out.
void add_values(const float* values, const std::int32_t* ids, std::int64_t points, std::int64_t* sums,
                std::int64_t* counts, int threads);

// The same for the angles of pairs within a grain; angles: [points, forward neighbours], see neighbour_angles(). What
// lies outside of the map is part of no pair.
void add_pairs(const float* angles, const std::int32_t* ids, const PointGrid& grid, Neighbourhood neighbourhood,
               std::int64_t* sums, std::int64_t* counts, int threads);

}  // namespace bainite
