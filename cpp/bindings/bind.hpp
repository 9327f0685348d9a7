// What the bindings share: argument checks, and the one place that releases the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

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

void bind_parallel(py::module_& m);
void bind_tiling(py::module_& m);
void bind_stitching(py::module_& m);
void bind_counting(py::module_& m);
void bind_scaling(py::module_& m);
void bind_layers(py::module_& m);
void bind_winograd(py::module_& m);
void bind_ebsd(py::module_& m);
void bind_grains(py::module_& m);
void bind_text_table(py::module_& m);

}  // namespace bainite::bind
