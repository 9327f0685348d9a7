// Bunge Euler angles to unit quaternions.
#pragma once

#include <cmath>
#include <cstdint>

#include "bainite/view.hpp"

namespace bainite {

// angles: phi1, Phi, phi2; half: 0.5 for radians, pi / 360 for degrees; q: w, x, y, z, passive, w >= 0. Rowenhorst et
// al., Modelling Simul. Mater. Sci. Eng. 23 (2015) 083501, appendix A, with P = 1.
inline void quaternion_of_euler(const double* angles, double half, double* q) {
  const double phi1 = angles[0] * half;
  const double phi = angles[1] * half;
  const double phi2 = angles[2] * half;
  const double c = std::cos(phi);
  const double s = std::sin(phi);
  const double w = c * std::cos(phi1 + phi2);
  const double sign = w < 0 ? -1.0 : 1.0;
  q[0] = sign * w;
  q[1] = sign * (-s * std::cos(phi1 - phi2));
  q[2] = sign * (-s * std::sin(phi1 - phi2));
  q[3] = sign * (-c * std::sin(phi1 + phi2));
}

// angles: [n, at least 3], of which the first three columns are read; out: [n, 4].
void quaternions_of_euler(View2D<const double> angles, double half, View2D<double> out, int threads);

}  // namespace bainite
