// The CUDA back end of the EBSD kernels: the values of the CPU, bit for bit. Compiles without CUDA's headers.
#pragma once

#include <cstdint>

#include "bainite/cuda.hpp"
#include "bainite/ebsd.hpp"

namespace bainite::cuda {

// Orientations in device memory as the kernels below want them.
struct UnitOrientations {
  const double* quaternions = nullptr;   // [points, 4], unit, or zeros where the label is negative
  const std::int32_t* labels = nullptr;  // [points]
  PointGrid grid;
};

// All pointers are to device memory. quaternions: [points, 4], any length; unit: [points, 4] and labels: [points] are
// written. A label is negative where the map's is, or where there is no rotation.
template <class In>
void unit_orientations(const Orientations<In>& map, double* unit, std::int32_t* labels, Stream stream);

// The misorientation stencil: see bainite::neighbour_angles. out: [points, forward neighbours], in device memory.
void neighbour_angles(const UnitOrientations& map, Laue laue, Neighbourhood neighbourhood, bool keep, float* out,
                      Stream stream);

// See bainite::kam. out: [points], in device memory.
void kam(const UnitOrientations& map, Laue laue, const KamOptions& options, float* out, Stream stream);

// The same of orientations of any length; takes device memory meanwhile, 36 bytes a point.
template <class In>
void kam(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out, Stream stream);

// The same from host memory to host memory, on the current device: allocates, copies, computes and waits.
template <class In>
void kam_from_host(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out);

}  // namespace bainite::cuda
