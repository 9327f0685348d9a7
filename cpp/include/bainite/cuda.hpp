// The CUDA back end: the kernels of tiling, stitching, confusion, pyramid and layers on arrays in device memory, with
// the same values as on the CPU, bit for bit. Compiles without CUDA's headers; links where BAINITE_HAS_CUDA is 1.
//
// Every pointer, also those within views, points to memory of the current device: corners, gain, offset, crops and
// counts too. Calls queue their work on the stream and return; nothing is allocated, copied to the host or waited for.
// A launch that fails throws std::runtime_error with CUDA's message.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bainite/layers.hpp"
#include "bainite/stitching.hpp"
#include "bainite/tiling.hpp"
#include "bainite/view.hpp"

namespace bainite::cuda {

using Stream = void*;  // a cudaStream_t; null: the default stream

// Devices that this process can use: 0 without a driver. Never throws.
int device_count() noexcept;

// Makes a device current for a scope. Throws where there is none of this number.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

// Device that owns an address.
int device_of(const void* address);

// What is queued on `then` from now on waits for what is queued on `first`.
void order(Stream first, Stream then);

// Device memory for a scope, in the order of a stream: taken and given back without waiting for it.
class Scratch {
 public:
  // Zeros.
  Scratch(std::size_t bytes, Stream stream);
  // Garbage.
  static Scratch uninitialised(std::size_t bytes, Stream stream) { return Scratch(stream, bytes); }
  // A copy of host memory, which may change again as soon as this returns. It travels as arguments of launches, and is
  // meant for tables of some kilobytes: a copy from pageable memory may wait for all that is queued on the stream.
  Scratch(const void* host, std::size_t bytes, Stream stream);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  // Waits for the stream.
  void download(void* host) const;

 private:
  Scratch(Stream stream, std::size_t bytes);  // garbage

  void* data_ = nullptr;
  std::size_t bytes_;
  Stream stream_;
};

// region: [h, w, C]; out: [n, C', th, tw], columns or channels contiguous; gain, offset: [C'].
// C == C', or C == 3 with C' == 1 (luma), or C == 1 with C' == 3 (repeated). `fill` is a raw value (constant mode).
// Precondition: first_uncovered(...) < 0, asked with the corners in host memory.
template <class In, class Out>
void gather(View3D<const In> region, View4D<Out> out, const TileGrid& grid, const float* gain, const float* offset,
            float fill, Stream stream);

// logits: [n, K, th, tw], any strides; crops: [n]; labels, confidence: [h, w] (confidence.data may be null).
// What the CPU returns, the number of pixels with a NaN or infinite logit, is added to *bad_pixels.
template <class In>
void scatter(View4D<const In> logits, const Crop* crops, View2D<std::uint8_t> labels, View2D<std::uint8_t> confidence,
             float sharpness, std::int64_t* bad_pixels, Stream stream);

// truth, pred: [rows, cols]; counts: [k, k], row = truth, added to. What the CPU returns, the number of pixels with a
// label outside of 0 .. k - 1, is added to *outside.
template <class T, class P>
void confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore, std::int64_t ignore,
               std::int64_t* counts, std::int64_t* outside, Stream stream);

// labels: [rows, cols]; counts: [k], added to, as is *outside.
template <class T>
void class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, std::int64_t* outside,
                  Stream stream);

// labels: [h, w]; out: [ceil(h/2), ceil(w/2)]: the mode of every 2x2 cell.
void downsample_labels(View2D<const std::uint8_t> labels, View2D<std::uint8_t> out, Stream stream);

// Concatenate the middles of the inputs along the channels: out [n, rows, cols, sum of bytes]. The vector is host
// memory.
void join_channels(const std::vector<JoinInput>& inputs, void* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, Stream stream);

// image: [n, rows, cols, channels]; out: [n, rows / 2, cols / 2, channels], rounded down. NaN if one of the four is.
template <class T>
void max_pool2x2(const T* image, T* out, std::int64_t n, std::int64_t rows, std::int64_t cols, std::int64_t channels,
                 Stream stream);

// The 3×3 convolution of an image of one channel, [n, rows, cols], with zeros around it: out [n, rows, cols, channels],
// which are a multiple of 16 bytes and at most 256 of those. weights: [9, channels], bias: [channels]. In float32,
// rounded once; `relu`: what is negative becomes 0.
template <class T>
void convolve_gray(const T* image, const float* weights, const float* bias, T* out, std::int64_t n, std::int64_t rows,
                   std::int64_t cols, std::int64_t channels, bool relu, Stream stream);

}  // namespace bainite::cuda
