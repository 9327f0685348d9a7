#include "bainite/rotations.hpp"

#include "bainite/parallel.hpp"

namespace bainite {

void quaternions_of_euler(View2D<const double> angles, double half, View2D<double> out, int threads) {
  parallel_for(angles.rows, 1 << 14, angles.rows < (1 << 15) ? 1 : threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) quaternion_of_euler(angles.row(i), half, out.row(i));
  });
}

}  // namespace bainite
