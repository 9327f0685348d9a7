// What the bindings share: argument checks, and the one place that releases the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <stdexcept>
#include <utility>

#include "bainite/cuda.hpp"
#include "dlpack.hpp"

namespace bainite::bind {

using Pair = std::pair<std::int64_t, std::int64_t>;  // (y, x) or (rows, cols)

inline int checked_threads(int threads) {
  if (threads < 0) throw py::value_error("threads must be 0 (the cap) or more; got " + std::to_string(threads));
  return threads;
}

// Runs a kernel without the GIL: kernels touch borrowed memory only, never Python.
template <class Kernel>
auto without_gil(const Kernel& kernel) {
  const py::gil_scoped_release released;
  return kernel();
}

// Runs a call of the CUDA back end on the device of an array, without the GIL. std::runtime_error (RuntimeError in
// Python) where this build or this machine cannot.
template <class Call>
auto on_device(const Borrowed& array, Where where, const Call& call) {
  using Result = decltype(call(cuda::Stream{}));
  if constexpr (BAINITE_HAS_CUDA != 0) {
    const int device = array.device();
    return without_gil([&]() -> Result {
      if (cuda::device_count() == 0) {
        throw std::runtime_error("the arrays are in device memory, and this process can use no CUDA device");
      }
      const cuda::CurrentDevice current(device);
      return call(reinterpret_cast<cuda::Stream>(where.stream()));
    });
  } else {
    static_cast<void>(array);
    static_cast<void>(where);
    static_cast<void>(call);
    throw std::runtime_error(
        "the arrays are in device memory, and this build of bainite_fast has no CUDA kernels; build it with "
        "BAINITE_CUDA=ON, or bring the arrays to host memory");
    return Result();
  }
}

void bind_parallel(py::module_& m);
void bind_tiling(py::module_& m);
void bind_stitching(py::module_& m);
void bind_counting(py::module_& m);
void bind_scaling(py::module_& m);
void bind_layers(py::module_& m);
void bind_winograd(py::module_& m);
void bind_text_table(py::module_& m);
void bind_ebsd(py::module_& m);
void bind_grains(py::module_& m);

}  // namespace bainite::bind
