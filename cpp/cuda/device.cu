#include <cuda_runtime_api.h>

#include "bainite/cuda.hpp"

namespace bainite::cuda {

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // forgotten, so that no later call reports it
  return 0;
}

}  // namespace bainite::cuda
