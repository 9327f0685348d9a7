// Interpolation points of F(4×4, 3×3): 0, ±kA, ±kB and infinity. All powers used are exact in float32.
#pragma once

namespace bainite::winograd {

inline constexpr float kA = 0.75F;
inline constexpr float kB = 1.5F;
inline constexpr int kEdge = 6;                // of an input tile, px
inline constexpr int kOut = 4;                 // of an output tile, px
inline constexpr int kPlanes = kEdge * kEdge;  // products per tile and pair of channels

}  // namespace bainite::winograd
