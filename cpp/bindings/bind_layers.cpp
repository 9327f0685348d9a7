#include <pybind11/stl.h>

#include <deque>
#include <optional>

#include "bainite/layers.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

constexpr const char* kImages = "contiguous float32 or bfloat16 [n, rows, cols, channels]";

// Bytes of a pixel of an image of a kind that the kernels take, channels on axis `channels`; float16 on a device only.
std::int64_t bytes_of(const Borrowed& image, Where where, int channels = 3) {
  if (image.ndim() != channels + 1 || !image.contiguous(0)) image.refuse(kImages);
  switch (image.dtype()) {
    case DType::float32:
      return 4 * image.shape(channels);
    case DType::float16:
      if (!where.device()) image.refuse(kImages);
      [[fallthrough]];
    case DType::bfloat16:
      return 2 * image.shape(channels);
    default:
      image.refuse(kImages);
  }
}

void bind_join(const py::sequence& input_objects, const py::object& out_object, int threads,
               const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed out(out_object, "out", true, where);
  bytes_of(out, where);
  const std::int64_t n = out.shape(0), rows = out.shape(1), cols = out.shape(2);
  std::deque<Borrowed> borrowed;
  std::vector<JoinInput> inputs;
  std::int64_t channels = 0;
  for (const py::handle object : input_objects) {
    const Borrowed& input = borrowed.emplace_back(object, "inputs", false, where);
    out.require_device_of(input);
    // [n, rows, cols, channels], or [n, rows / 2, cols / 2, 2, 2, channels]
    const bool quads = input.ndim() == 6 && input.shape(3) == 2 && input.shape(4) == 2;
    const std::int64_t bytes = bytes_of(input, where, quads ? 5 : 3), scale = quads ? 2 : 1;
    const std::int64_t margin = (scale * input.shape(1) - rows) / 2;
    inputs.push_back({input.data<const void>(), bytes, margin, quads});
    if (input.dtype() != out.dtype() || input.shape(0) != n || margin < 0 ||
        scale * input.shape(1) != rows + 2 * margin || scale * input.shape(2) != cols + 2 * margin) {
      input.refuse("of the output's dtype and shape " + out.describe() +
                   ", or larger by the same even number of rows and columns");
    }
    channels += input.shape(quads ? 5 : 3);
  }
  if (channels != out.shape(3)) out.refuse("of " + std::to_string(channels) + " channels, as the inputs together");
  checked_threads(threads);
  auto* to = out.data<void>();
  if (!where.device()) return without_gil([&] { join_channels(inputs, to, n, rows, cols, threads); });
  on_device(out, where, [&](cuda::Stream queue) { cuda::join_channels(inputs, to, n, rows, cols, queue); });
}

template <class T>
void pool_on_device(const Borrowed& image, const Borrowed& out, Where where) {
  on_device(out, where, [&](cuda::Stream queue) {
    cuda::max_pool2x2(image.data<const T>(), out.data<T>(), image.shape(0), image.shape(1), image.shape(2),
                      image.shape(3), queue);
  });
}

void bind_pool(const py::object& image_object, const py::object& out_object, int threads,
               const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed image(image_object, "image", false, where);
  const Borrowed out(out_object, "out", true, where);
  out.require_device_of(image);
  const std::int64_t bytes = bytes_of(image, where);
  bytes_of(out, where);
  if (out.dtype() != image.dtype() || out.shape(0) != image.shape(0) || out.shape(1) != image.shape(1) / 2 ||
      out.shape(2) != image.shape(2) / 2 || out.shape(3) != image.shape(3)) {
    out.refuse("of the image's dtype and half its rows and columns, rounded down: " + image.describe());
  }
  checked_threads(threads);
  const bool wide = image.dtype() == DType::float32;
  if (where.device()) {
    if (wide) return pool_on_device<float>(image, out, where);
    if (image.dtype() == DType::bfloat16) return pool_on_device<bfloat16>(image, out, where);
    return pool_on_device<float16>(image, out, where);
  }
  const auto* from = image.data<const void>();
  auto* to = out.data<void>();
  without_gil([&] { max_pool2x2(from, to, image.shape(0), image.shape(1), image.shape(2), bytes, wide, threads); });
}

template <class T>
void gray_on_device(const Borrowed& image, const float* weights, const float* bias, const Borrowed& out, bool relu,
                    Where where) {
  on_device(out, where, [&](cuda::Stream queue) {
    cuda::convolve_gray(image.data<const T>(), weights, bias, out.data<T>(), out.shape(0), out.shape(1), out.shape(2),
                        out.shape(3), relu, queue);
  });
}

void bind_gray(const py::object& image_object, const py::object& out_object, const py::object& weights_object,
               const py::object& bias_object, bool relu, std::uint64_t stream) {
  const Where where(stream);
  const Borrowed image(image_object, "image", false, where), out(out_object, "out", true, where);
  const Borrowed weights(weights_object, "weights", false, where), bias(bias_object, "bias", false, where);
  for (const Borrowed* other : {&image, &weights, &bias}) out.require_device_of(*other);
  const std::int64_t bytes = bytes_of(out, where), channels = out.shape(3);
  if (bytes % 16 != 0 || bytes > 16 * 256) out.refuse("of pixels of 16, 32 … 4096 bytes");
  if (image.dtype() != out.dtype() || image.ndim() != 3 || !image.contiguous(0) || image.shape(0) != out.shape(0) ||
      image.shape(1) != out.shape(1) || image.shape(2) != out.shape(2)) {
    image.refuse("contiguous [n, rows, cols] of the output's dtype and size: " + out.describe());
  }
  weights.require(DType::float32, 2, "float32 [9, channels]");
  if (weights.shape(0) != 9 || weights.shape(1) != channels || !weights.contiguous(0)) {
    weights.refuse("contiguous [9, " + std::to_string(channels) + "]");
  }
  const float* first = weights.data<const float>();
  bias.require(DType::float32, 1, "float32 [channels]");
  const auto* start = bias.vector<float>(channels);
  if (out.dtype() == DType::float32) return gray_on_device<float>(image, first, start, out, relu, where);
  if (out.dtype() == DType::bfloat16) return gray_on_device<bfloat16>(image, first, start, out, relu, where);
  gray_on_device<float16>(image, first, start, out, relu, where);
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("join_channels", &bind_join, py::arg("inputs"), py::arg("out"), py::kw_only(), py::arg("threads") = 0,
        py::arg("stream") = py::none());
  m.def("max_pool2x2", &bind_pool, py::arg("image"), py::arg("out"), py::kw_only(), py::arg("threads") = 0,
        py::arg("stream") = py::none());
  m.def("convolve_gray", &bind_gray, py::arg("image"), py::arg("out"), py::kw_only(), py::arg("weights"),
        py::arg("bias"), py::arg("relu"), py::arg("stream"));
}

}  // namespace bainite::bind
