#include <atomic>

#include "launch.cuh"

namespace bainite::cuda {
namespace {

struct Words {
  std::uint64_t items[kThreads];
};

__global__ void write_kernel(Words words, std::uint64_t* to, unsigned count) {
  if (threadIdx.x < count) to[threadIdx.x] = words.items[threadIdx.x];
}

std::size_t words_of(std::size_t bytes) { return (bytes + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t); }

// Bytes that a device keeps at hand of what is given back, of which it takes 32 MiB at a time. By itself it keeps none:
// whenever anything waits for it all goes back to the system, and the next call takes as long again as a first one.
constexpr std::uint64_t kKept = std::uint64_t{64} << 20;

void keep_at_hand() {
  static std::atomic<std::uint64_t> told{0};  // a bit for each device
  int device = 0;
  check(cudaGetDevice(&device), "the current device");
  const std::uint64_t bit = std::uint64_t{1} << (device % 64);
  if ((told.load(std::memory_order_relaxed) & bit) != 0) return;
  cudaMemPool_t pool = nullptr;
  std::uint64_t kept = 0;
  check(cudaDeviceGetMemPool(&pool, device), "device memory");
  check(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "device memory");
  if (kept < kKept) {
    kept = kKept;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "device memory");
  }
  told.fetch_or(bit, std::memory_order_relaxed);
}

void* allocate(std::size_t bytes, cudaStream_t stream) {
  keep_at_hand();
  void* data = nullptr;
  check(cudaMallocAsync(&data, std::max(words_of(bytes), std::size_t{1}) * sizeof(std::uint64_t), stream),
        "device memory");
  return data;
}

}  // namespace

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // forgotten, so that no later call reports it
  return 0;
}

CurrentDevice::CurrentDevice(int device) {
  check(cudaGetDevice(&before_), "the current device");
  check(cudaSetDevice(device), "the device of the arrays");
}

CurrentDevice::~CurrentDevice() { cudaSetDevice(before_); }

int device_of(const void* address) {
  cudaPointerAttributes found{};
  check(cudaPointerGetAttributes(&found, address), "the device of an array");
  return found.device;
}

void order(Stream first, Stream then) {
  if (first == then) return;
  cudaEvent_t done = nullptr;
  check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "an event");
  const cudaError_t recorded = cudaEventRecord(done, static_cast<cudaStream_t>(first));
  const cudaError_t waiting = cudaStreamWaitEvent(static_cast<cudaStream_t>(then), done, 0);
  cudaEventDestroy(done);  // freed once it has happened
  check(recorded, "the stream of an array");
  check(waiting, "the stream of the call");
}

Scratch::Scratch(Stream stream, std::size_t bytes)
    : data_(allocate(bytes, static_cast<cudaStream_t>(stream))), bytes_(bytes), stream_(stream) {}

Scratch::Scratch(std::size_t bytes, Stream stream) : Scratch(stream, bytes) {
  check(cudaMemsetAsync(data_, 0, bytes, static_cast<cudaStream_t>(stream)), "device memory");
}

Scratch::Scratch(const void* host, std::size_t bytes, Stream stream) : Scratch(stream, bytes) {
  const auto* from = static_cast<const unsigned char*>(host);
  for (std::size_t start = 0; start < bytes; start += sizeof(Words)) {
    const std::size_t size = std::min(bytes - start, sizeof(Words));
    Words words{};
    std::memcpy(words.items, from + start, size);
    launch("a table", write_kernel, 1, 0, stream, words, as<std::uint64_t>() + start / sizeof(std::uint64_t),
           static_cast<unsigned>(words_of(size)));
  }
}

Scratch::~Scratch() { cudaFreeAsync(data_, static_cast<cudaStream_t>(stream_)); }

void Scratch::download(void* host) const {
  const auto stream = static_cast<cudaStream_t>(stream_);
  check(cudaMemcpyAsync(host, data_, bytes_, cudaMemcpyDeviceToHost, stream), "a result");
  check(cudaStreamSynchronize(stream), "a result");
}

}  // namespace bainite::cuda
