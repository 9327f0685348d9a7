#include <pybind11/stl.h>

#include "bainite/cuda.hpp"
#include "bainite/device.hpp"
#include "bainite/parallel.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

const char* compiler() {
#if defined(__VERSION__)
  return __VERSION__;
#else
  return "unknown";
#endif
}

bool cuda_built() { return BAINITE_HAS_CUDA != 0; }

int cuda_devices() {
  if constexpr (BAINITE_HAS_CUDA != 0) return cuda::device_count();
  return 0;
}

py::dict build_info() {
  py::dict info;
  info["version"] = BAINITE_VERSION;
  info["compiler"] = compiler();
  info["simd"] = simd_path();
  info["cuda"] = cuda_built();
  return info;
}

}  // namespace

void bind_parallel(py::module_& m) {
  m.def("get_num_threads", &get_num_threads);
  m.def(
      "set_num_threads",
      [](int n) {
        if (n < 0) throw py::value_error("the number of threads must be 1 or more, or 0 to ask the environment again");
        set_num_threads(n);
      },
      py::arg("n"));
  m.def("build_info", &build_info);
  m.def("cpu_features", &cpu_features);
  m.def("cuda_built", &cuda_built);
  // The first call looks for the driver, which takes its time.
  m.def("cuda_device_count", [] { return without_gil(cuda_devices); });
  m.def("tune_allocator", &tune_allocator);
}

}  // namespace bainite::bind
