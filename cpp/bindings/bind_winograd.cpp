#include <deque>

#include "bainite/winograd.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

constexpr const char* kImages = "contiguous float32 [n, rows, cols, channels]";

void bind_kernels(const py::object& weight_object, const py::object& out_object) {
  const Borrowed weight(weight_object, "weight", false);
  const Borrowed out(out_object, "out", true);
  weight.require(DType::float32, 4, "contiguous float32 [out_channels, in_channels, 3, 3]");
  if (weight.shape(2) != 3 || weight.shape(3) != 3 || !weight.contiguous(0)) {
    weight.refuse("contiguous float32 [out_channels, in_channels, 3, 3]");
  }
  out.require(DType::float32, 3, "contiguous float32 [36, in_channels, out_channels]");
  if (out.shape(0) != 36 || out.shape(1) != weight.shape(1) || out.shape(2) != weight.shape(0) || !out.contiguous(0)) {
    out.refuse("contiguous float32 [36, in_channels, out_channels]");
  }
  without_gil(
      [&] { winograd_kernels(weight.data<const float>(), weight.shape(0), weight.shape(1), out.data<float>()); });
}

// An image of whole channel groups, `rows` × `cols` px and as much more as `margin` on each side; returns the margin.
std::int64_t check_image(const Borrowed& image, std::int64_t n, std::int64_t rows, std::int64_t cols, bool more) {
  image.require(DType::float32, 4, kImages);
  if (!image.contiguous(0)) image.refuse(kImages);
  const std::int64_t margin = (image.shape(1) - rows) / 2;
  if (image.shape(0) != n || image.shape(1) != rows + 2 * margin || image.shape(2) != cols + 2 * margin || margin < 0 ||
      (margin > 0 && !more)) {
    image.refuse("[" + std::to_string(n) + ", " + std::to_string(rows) + ", " + std::to_string(cols) + ", channels]" +
                 (more ? ", or larger by the same even number of rows and columns" : ""));
  }
  if (image.shape(3) < 1 || image.shape(3) % kWinogradChannels != 0) {
    image.refuse("of a multiple of " + std::to_string(kWinogradChannels) + " channels");
  }
  return margin;
}

void bind_convolve(const py::sequence& input_objects, const py::object& out_object, const py::object& kernels_object,
                   const py::object& bias_object, bool relu, const py::object& pooled_object, int threads) {
  if (!winograd_available()) throw py::value_error("this build or this CPU has no Winograd convolution");
  const Borrowed out(out_object, "out", true);
  out.require(DType::float32, 4, kImages);
  const std::int64_t n = out.shape(0), rows = out.shape(1), cols = out.shape(2);
  check_image(out, n, rows, cols, false);
  std::deque<Borrowed> inputs;
  WinogradConv conv{};
  std::int64_t depth = 0;
  for (const py::handle object : input_objects) {
    const Borrowed& input = inputs.emplace_back(object, "inputs", false);
    const std::int64_t margin = check_image(input, n, rows, cols, true);
    conv.inputs.push_back({input.data<const float>(), input.shape(3), margin});
    depth += input.shape(3);
  }
  const Borrowed kernels(kernels_object, "kernels", false);
  kernels.require(DType::float32, 3, "contiguous float32 [36, in_channels, out_channels]");
  if (kernels.shape(0) != 36 || kernels.shape(1) != depth || kernels.shape(2) != out.shape(3) ||
      !kernels.contiguous(0)) {
    kernels.refuse("contiguous float32 [36, " + std::to_string(depth) + ", " + std::to_string(out.shape(3)) + "]");
  }
  const Borrowed bias(bias_object, "bias", false);
  bias.require(DType::float32, 1, "contiguous float32 [out_channels]");
  conv.n = n;
  conv.rows = rows;
  conv.cols = cols;
  conv.out_channels = out.shape(3);
  conv.kernels = kernels.data<const float>();
  conv.bias = bias.vector<float>(out.shape(3));
  conv.relu = relu;
  conv.out = out.data<float>();
  checked_threads(threads);
  if (pooled_object.is_none()) {
    without_gil([&] { winograd_convolve(conv, threads); });
    return;
  }
  const Borrowed pooled(pooled_object, "pooled", true);
  check_image(pooled, n, rows / 2, cols / 2, false);
  if (pooled.shape(3) != out.shape(3)) pooled.refuse("of the output's channels");
  conv.pooled = pooled.data<float>();
  without_gil([&] { winograd_convolve(conv, threads); });
}

}  // namespace

void bind_winograd(py::module_& m) {
  m.def("winograd_available", &winograd_available);
  m.def("winograd_kernels", &bind_kernels, py::arg("weight"), py::arg("out"));
  m.def("winograd_convolve", &bind_convolve, py::arg("inputs"), py::arg("out"), py::kw_only(), py::arg("kernels"),
        py::arg("bias"), py::arg("relu"), py::arg("pooled") = py::none(), py::arg("threads") = 0);
}

}  // namespace bainite::bind
