// Search for values that are not numbers.
#pragma once

#include <cstdint>

#include "bainite/view.hpp"

namespace bainite {

// region: [h, w, C]. Position in raster order, (y * w + x) * C + c, of the first NaN or infinity; -1 when all are
// finite.
std::int64_t nonfinite(View3D<const float> region, int threads);

}  // namespace bainite
