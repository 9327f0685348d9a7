#include "bind.hpp"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Kernels of bainite_fast in C++; bainite_fast.kernels is their public face.";
  bainite::bind::bind_parallel(m);
  bainite::bind::bind_tiling(m);
  bainite::bind::bind_stitching(m);
  bainite::bind::bind_counting(m);
  bainite::bind::bind_scaling(m);
  bainite::bind::bind_layers(m);
  bainite::bind::bind_winograd(m);
  bainite::bind::bind_ebsd(m);
  bainite::bind::bind_grains(m);
  bainite::bind::bind_text_table(m);
}
