// Arguments that the bindings of the EBSD kernels share.
#pragma once

#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "bainite/ebsd.hpp"
#include "bind.hpp"

namespace bainite::bind {

// (hexagonal, rows, columns, columns of rows 1, 3, 5 …)
using GridArgument = std::tuple<bool, std::int64_t, std::int64_t, std::int64_t>;

inline PointGrid checked_grid(const GridArgument& argument) {
  const auto [hexagonal, rows, cols, cols_even] = argument;
  const bool fits = hexagonal ? cols_even == cols || cols_even == cols - 1 : cols_even == cols;
  if (rows < 0 || cols < 0 || !fits || (cols > 0 && rows > (std::int64_t{1} << 40) / cols)) {
    throw py::value_error("grid of " + std::to_string(rows) + " rows of " + std::to_string(cols) + " and " +
                          std::to_string(cols_even) + " points is refused");
  }
  return {hexagonal, rows, cols, cols_even};
}

inline Laue checked_laue(int laue) {
  if (laue < 0 || laue >= kLaueGroups) throw py::value_error("laue must be 0 to 10; got " + std::to_string(laue));
  return static_cast<Laue>(laue);
}

inline Neighbourhood checked_neighbourhood(int code, const PointGrid& grid) {
  if (code < 0 || code > 2) throw py::value_error("neighbourhood must be 0 to 2; got " + std::to_string(code));
  if (grid.hexagonal != (code == 0)) throw py::value_error("the neighbourhood does not fit the grid");
  return static_cast<Neighbourhood>(code);
}

// An array with one row of `width` items per point; width 0: [points]. Points may lie along several axes.
inline const Borrowed& per_point(const Borrowed& array, const PointGrid& grid, std::int64_t width) {
  const bool fits = array.contiguous(0) && array.size() == grid.size() * (width == 0 ? 1 : width) &&
                    (width == 0 || (array.ndim() > 1 && array.shape(array.ndim() - 1) == width));
  if (!fits) {
    array.refuse("contiguous [" + std::to_string(grid.size()) +
                 (width == 0 ? "]" : ", " + std::to_string(width) + "]"));
  }
  return array;
}

inline Labels labels_of(const Borrowed& labels, const PointGrid& grid) {
  per_point(labels, grid, 0);
  if (labels.dtype() == DType::int16) return {labels.data<const void>(), 2};
  if (labels.dtype() == DType::int32) return {labels.data<const void>(), 4};
  labels.refuse("int16 or int32");
}

}  // namespace bainite::bind
