#include <cstdlib>

#include "bainite/ebsd.hpp"

namespace bainite {
namespace {

// Half steps from the column of a point in row 0 to the columns of shell n in the row dy further, from `from` to `to`.
void add_row(std::vector<Offset>& found, std::int64_t dy, std::int64_t from, std::int64_t to, std::int64_t step) {
  for (std::int64_t half = from; half <= to; half += step) {
    // A row at odd distance is half a step to the right for even rows, and to the left for odd ones.
    const std::int64_t shifted = dy % 2 != 0 ? 1 : 0;
    found.push_back({dy, {(half - shifted) / 2, (half + shifted) / 2}});
  }
}

}  // namespace

std::vector<Offset> shell(Neighbourhood neighbourhood, int order) {
  const std::int64_t n = order;
  std::vector<Offset> found;
  for (std::int64_t dy = -n; dy <= n; ++dy) {
    const std::int64_t rise = std::abs(dy);
    if (neighbourhood == Neighbourhood::hexagonal) {
      const std::int64_t reach = 2 * n - rise;  // half steps
      add_row(found, dy, -reach, reach, rise == n ? 2 : 2 * reach);
      continue;
    }
    const bool full = neighbourhood == Neighbourhood::square8 && rise == n;
    const std::int64_t reach = neighbourhood == Neighbourhood::square8 ? n : n - rise;
    for (std::int64_t dx = -reach; dx <= reach; dx += full || reach == 0 ? 1 : 2 * reach) {
      found.push_back({dy, {dx, dx}});
    }
  }
  return found;
}

std::vector<Offset> half_stencil(Neighbourhood neighbourhood, int first, int last) {
  std::vector<Offset> ahead;
  for (int order = first; order <= last; ++order) {
    for (const Offset& offset : shell(neighbourhood, order)) {
      if (offset.dy > 0 || (offset.dy == 0 && offset.dx[0] > 0)) ahead.push_back(offset);
    }
  }
  return ahead;
}

}  // namespace bainite
