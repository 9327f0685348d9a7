// Clean-up of EBSD maps: for every point the neighbour whose orientation it is to take, or none.
#pragma once

#include <cstdint>

#include "bainite/ebsd.hpp"

namespace bainite {

// Neighbour CI correlation: a point whose CI is below `least_ci` takes from its indexed neighbour of the highest CI, if
// that is above its own. ci: [points]; labels negative: not indexed. source: [points], -1: stays as it is.
// Returns the number of points that change.
std::int64_t nci_sources(const float* ci, const Labels& labels, const PointGrid& grid, Neighbourhood neighbourhood,
                         float least_ci, std::int64_t* source, int threads);

// Neighbour orientation correlation of one level. links: bits of alike neighbours within the tolerance; laue: the Laue
// group of a label 0 … n - 1. Of K neighbours at least K - level must not be alike the point (a neighbour that is not
// indexed is not), and at least K - level must be alike one of them, itself counted; the point takes from the first one
// with the most.
std::int64_t noc_sources(const double* quaternions, const Labels& labels, const std::uint8_t* links,
                         const std::uint8_t* laue, const PointGrid& grid, Neighbourhood neighbourhood, double tolerance,
                         int level, std::int64_t* source, int threads);

}  // namespace bainite
