// Disorientation of two orientations: the least angle among all that the crystal's symmetry lets one write.
//
// Orientations are unit quaternions w, x, y, z, passive, sample to crystal. With Δ = q1 · q2⁻¹ the disorientation is
// the least rotation angle of s · Δ over the proper rotations s of the Laue group. What is computed is sin²(ω/2), the
// sum of the squares of the *small* components: the cosine of a small angle has lost it in float32 (0.025°), the sine
// has not. Where several s compete, the least sin² wins, so none is ever subtracted from 1.
#pragma once

#include <cmath>
#include <cstdint>

#include "bainite/device.hpp"

namespace bainite {

// The 11 Laue groups in the order of the International Tables, by their symbols: -1, 2/m, mmm, 4/m, 4/mmm, -3, -3m,
// 6/m, 6/mmm, m-3, m-3m. Axes: c along z; the twofold axis of 2/m along y ("unique axis b"); a along x, where 2/m, -3m,
// 4/mmm, 6/mmm have a twofold axis perpendicular to c.
enum class Laue : std::uint8_t {
  triclinic,
  monoclinic,
  orthorhombic,
  tetragonal_low,
  tetragonal,
  trigonal_low,
  trigonal,
  hexagonal_low,
  hexagonal,
  cubic_low,
  cubic
};
constexpr int kLaueGroups = 11;

template <class Real>
struct Quaternion {
  Real w, x, y, z;
};

template <class Real>
BAINITE_HD BAINITE_INLINE Real least(Real a, Real b) {
  return a < b ? a : b;
}

template <class Real>
BAINITE_HD BAINITE_INLINE Real most(Real a, Real b) {
  return a > b ? a : b;
}

// a · b⁻¹ of unit quaternions. Grouped so that exchanging a and b changes the signs of x, y, z and no bit else.
template <class Real>
BAINITE_HD BAINITE_INLINE Quaternion<Real> misorientation(const Quaternion<Real>& a, const Quaternion<Real>& b) {
  return {(a.w * b.w + a.x * b.x) + (a.y * b.y + a.z * b.z), (a.x * b.w - a.w * b.x) + (a.z * b.y - a.y * b.z),
          (a.y * b.w - a.w * b.y) + (a.x * b.z - a.z * b.x), (a.z * b.w - a.w * b.z) + (a.y * b.x - a.x * b.y)};
}

template <class Real>
BAINITE_HD BAINITE_INLINE Quaternion<Real> product(const Quaternion<Real>& a, const Quaternion<Real>& b) {
  return {(a.w * b.w - a.x * b.x) - (a.y * b.y + a.z * b.z), (a.w * b.x + a.x * b.w) + (a.y * b.z - a.z * b.y),
          (a.w * b.y + a.y * b.w) + (a.z * b.x - a.x * b.z), (a.w * b.z + a.z * b.w) + (a.x * b.y - a.y * b.x)};
}

// cos(πk/n) and sin(πk/n) for n = 1, 2, 3, 4, 6 and 0 <= k < n: half the angles of an n-fold axis.
template <class Real, int n, int k>
BAINITE_HD constexpr Real axis_cos() {
  constexpr int twelfths = 12 / n * k;  // of π
  return static_cast<Real>(twelfths == 0   ? 1.0
                           : twelfths == 2 ? 0.86602540378443864676
                           : twelfths == 3 ? 0.70710678118654752440
                           : twelfths == 4 ? 0.5
                           : twelfths == 6 ? 0.0
                           : twelfths == 8 ? -0.5
                           : twelfths == 9 ? -0.70710678118654752440
                                           : -0.86602540378443864676);
}
template <class Real, int n, int k>
BAINITE_HD constexpr Real axis_sin() {
  constexpr int twelfths = 12 / n * k;
  return static_cast<Real>(twelfths == 0                     ? 0.0
                           : twelfths == 2 || twelfths == 10 ? 0.5
                           : twelfths == 3 || twelfths == 9  ? 0.70710678118654752440
                           : twelfths == 4 || twelfths == 8  ? 0.86602540378443864676
                                                             : 1.0);
}

// Least (sin(πk/n) a + cos(πk/n) b)² over k.
template <class Real, int n, int k = n - 1>
BAINITE_HD BAINITE_INLINE Real least_turned(Real a, Real b) {
  const Real turned = axis_sin<Real, n, k>() * a + axis_cos<Real, n, k>() * b;
  if constexpr (k == 0) {
    return turned * turned;
  } else {
    return least(turned * turned, least_turned<Real, n, k - 1>(a, b));
  }
}

// Largest (cos(πk/n) a - sin(πk/n) b)² over k.
template <class Real, int n, int k = n - 1>
BAINITE_HD BAINITE_INLINE Real most_turned(Real a, Real b) {
  const Real turned = axis_cos<Real, n, k>() * a - axis_sin<Real, n, k>() * b;
  if constexpr (k == 0) {
    return turned * turned;
  } else {
    return most(turned * turned, most_turned<Real, n, k - 1>(a, b));
  }
}

// n-fold axis along z; `dihedral`: n twofold axes perpendicular to it, the first along x.
template <class Real, int n, bool dihedral>
BAINITE_HD BAINITE_INLINE Real sin2_axial(const Quaternion<Real>& d) {
  const Real xy = d.x * d.x + d.y * d.y;
  const Real about_z = xy + least_turned<Real, n>(d.w, d.z);
  if constexpr (!dihedral) {
    return about_z;
  } else {
    // s = (0, cos φ, sin φ, 0) takes w and z to the plane, and leaves cos φ · y - sin φ · x along z.
    const Real wz = d.w * d.w + d.z * d.z;
    return least(about_z, wz + least_turned<Real, n>(-d.x, d.y));
  }
}

// 23 (no fourfold axes) or 432: with |components| a >= b >= c >= d the winner is the identity or a twofold axis along
// an edge (a), a fourfold or a diagonal twofold axis ((a + b)/√2), or a threefold axis ((a + b + c + d)/2).
template <class Real, bool fourfold>
BAINITE_HD BAINITE_INLINE Real sin2_cubic(const Quaternion<Real>& q) {
  const Real w = std::fabs(q.w), x = std::fabs(q.x), y = std::fabs(q.y), z = std::fabs(q.z);
  const Real hi0 = most(w, x), lo0 = least(w, x), hi1 = most(y, z), lo1 = least(y, z);
  const Real a = most(hi0, hi1), d = least(lo0, lo1);
  const Real m0 = least(hi0, hi1), m1 = most(lo0, lo1);
  const Real b = most(m0, m1), c = least(m0, m1);
  const Real cd = c * c + d * d;
  const Real ab_less = (a - b) * (a - b);
  const Real all = (a + b) - (c + d);
  const Real cd_less = (c - d) * (c - d);
  // ¼ [(a+b-c-d)² + (a-b+c-d)² + (a-b-c+d)²]
  const Real three = Real{0.25} * (all * all + Real{2} * (ab_less + cd_less));
  const Real one = least(b * b + cd, three);
  if constexpr (fourfold) {
    return least(one, Real{0.5} * ab_less + cd);
  } else {
    return one;
  }
}

// sin²(ω/2) of the disorientation of Δ = q1 · q2⁻¹.
template <class Real, Laue group>
BAINITE_HD BAINITE_INLINE Real disorientation_sin2(const Quaternion<Real>& d) {
  if constexpr (group == Laue::triclinic) {
    return sin2_axial<Real, 1, false>(d);
  } else if constexpr (group == Laue::monoclinic) {
    return sin2_axial<Real, 2, false>({d.w, d.z, d.x, d.y});  // axes renamed: its twofold axis is y
  } else if constexpr (group == Laue::orthorhombic) {
    return sin2_axial<Real, 2, true>(d);
  } else if constexpr (group == Laue::tetragonal_low) {
    return sin2_axial<Real, 4, false>(d);
  } else if constexpr (group == Laue::tetragonal) {
    return sin2_axial<Real, 4, true>(d);
  } else if constexpr (group == Laue::trigonal_low) {
    return sin2_axial<Real, 3, false>(d);
  } else if constexpr (group == Laue::trigonal) {
    return sin2_axial<Real, 3, true>(d);
  } else if constexpr (group == Laue::hexagonal_low) {
    return sin2_axial<Real, 6, false>(d);
  } else if constexpr (group == Laue::hexagonal) {
    return sin2_axial<Real, 6, true>(d);
  } else if constexpr (group == Laue::cubic_low) {
    return sin2_cubic<Real, false>(d);
  } else {
    return sin2_cubic<Real, true>(d);
  }
}

// cos²(ω/2) of the same. Groups with a single axis reach ω = 180°, where 1 - sin² has lost it; the others end at 120°.
template <class Real, Laue group>
BAINITE_HD BAINITE_INLINE Real disorientation_cos2(const Quaternion<Real>& d, Real sin2) {
  if constexpr (group == Laue::triclinic) {
    return most_turned<Real, 1>(d.w, d.z);
  } else if constexpr (group == Laue::monoclinic) {
    return most_turned<Real, 2>(d.w, d.y);
  } else if constexpr (group == Laue::tetragonal_low) {
    return most_turned<Real, 4>(d.w, d.z);
  } else if constexpr (group == Laue::trigonal_low) {
    return most_turned<Real, 3>(d.w, d.z);
  } else if constexpr (group == Laue::hexagonal_low) {
    return most_turned<Real, 6>(d.w, d.z);
  } else {
    return most(Real{1} - sin2, Real{0});
  }
}

// 2 asin(√t) in degrees: √t (360/π + t · P(t)), with polynomials fitted at Chebyshev nodes. The error of those in
// float32 is below 1e-6°; below 5° so is that of the result. That of the one in float64 is below 2e-12°.
template <bool narrow>  // t up to 0.275 (ω up to 63.2°), else up to 0.5 (90°)
BAINITE_HD BAINITE_INLINE float degrees_of_sin2(float t) {
  const float root = std::sqrt(t);
  float p;
  if constexpr (narrow) {
    p = (((4.97179651f * t + 2.71334314f) * t + 5.21567106f) * t + 8.58925056f) * t + 19.0986614f;
  } else {
    p = 13.0396805f * t - 13.2031889f;
    p = (((p * t + 10.3291492f) * t + 0.0588372946f) * t + 3.89385438f) * t + 5.08056068f;
    p = (p * t + 8.59566689f) * t + 19.0985813f;
  }
  return root * 114.591559f + root * (t * p);
}
template <bool narrow>
BAINITE_HD BAINITE_INLINE double degrees_of_sin2(double t) {
  const double root = std::sqrt(t);
  double p = (38.66509031747052 * t - 103.31993981490254) * t + 133.50407605454896;
  p = ((p * t - 101.80957541490024) * t + 53.421835333542674) * t - 17.75171744297737;
  p = ((p * t + 5.825847999285673) * t + 0.4854069863491118) * t + 1.704643075136832;
  p = ((p * t + 1.979640267469134) * t + 2.5641459294391793) * t + 3.4814984237819546;
  p = ((p * t + 5.115694872749688) * t + 8.594366925122161) * t + 19.09859317102949;
  return root * 114.59155902616464175 + root * (t * p);
}

// Disorientation in degrees of Δ with its sin2.
template <class Real, Laue group>
BAINITE_HD BAINITE_INLINE Real disorientation_degrees(const Quaternion<Real>& d, Real sin2) {
  if constexpr (group == Laue::cubic) {
    return degrees_of_sin2<true>(least(sin2, Real(0.275)));
  } else {
    const bool far = sin2 > Real{0.5};
    const Real cos2 = disorientation_cos2<Real, group>(d, sin2);
    const Real t = least(far ? cos2 : sin2, Real{0.5});
    const Real angle = degrees_of_sin2<false>(t);
    return far ? Real{180} - angle : angle;
  }
}

// sin²(ω/2) from which on an angle in degrees is exceeded; an infinite angle is never.
template <class Real>
inline Real sin2_limit(double degrees) {
  if (!(degrees < 180.0)) return Real{2};
  const double sine = std::sin(degrees * (3.14159265358979323846 / 360.0));
  return static_cast<Real>(sine * sine);
}

}  // namespace bainite
