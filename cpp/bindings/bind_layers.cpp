#include <deque>

#include "bainite/layers.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

constexpr const char* kImages = "contiguous float32 or bfloat16 [n, rows, cols, channels]";

// Bytes of a pixel of an image of a kind that the kernels take.
std::int64_t bytes_of(const Borrowed& image) {
  if (image.ndim() != 4 || !image.contiguous(0)) image.refuse(kImages);
  switch (image.dtype()) {
    case DType::float32:
      return 4 * image.shape(3);
    case DType::bfloat16:
      return 2 * image.shape(3);
    default:
      image.refuse(kImages);
  }
}

void bind_join(const py::sequence& input_objects, const py::object& out_object, int threads) {
  const Borrowed out(out_object, "out", true);
  bytes_of(out);
  const std::int64_t n = out.shape(0), rows = out.shape(1), cols = out.shape(2);
  std::deque<Borrowed> borrowed;
  std::vector<JoinInput> inputs;
  std::int64_t channels = 0;
  for (const py::handle object : input_objects) {
    const Borrowed& input = borrowed.emplace_back(object, "inputs", false);
    const std::int64_t margin = (input.ndim() == 4 ? input.shape(1) - rows : 0) / 2;
    inputs.push_back({input.data<const void>(), bytes_of(input), margin});
    if (input.dtype() != out.dtype() || input.shape(0) != n || margin < 0 || input.shape(1) != rows + 2 * margin ||
        input.shape(2) != cols + 2 * margin) {
      input.refuse("of the output's dtype and shape " + out.describe() +
                   ", or larger by the same even number of rows and columns");
    }
    channels += input.shape(3);
  }
  if (channels != out.shape(3)) out.refuse("of " + std::to_string(channels) + " channels, as the inputs together");
  checked_threads(threads);
  auto* to = out.data<void>();
  without_gil([&] { join_channels(inputs, to, n, rows, cols, threads); });
}

void bind_pool(const py::object& image_object, const py::object& out_object, int threads) {
  const Borrowed image(image_object, "image", false);
  const Borrowed out(out_object, "out", true);
  const std::int64_t bytes = bytes_of(image);
  bytes_of(out);
  if (out.dtype() != image.dtype() || out.shape(0) != image.shape(0) || out.shape(1) != image.shape(1) / 2 ||
      out.shape(2) != image.shape(2) / 2 || out.shape(3) != image.shape(3)) {
    out.refuse("of the image's dtype and half its rows and columns, rounded down: " + image.describe());
  }
  checked_threads(threads);
  const auto* from = image.data<const void>();
  auto* to = out.data<void>();
  without_gil([&] {
    max_pool2x2(from, to, image.shape(0), image.shape(1), image.shape(2), bytes, image.dtype() == DType::float32,
                threads);
  });
}

}  // namespace

void bind_layers(py::module_& m) {
  m.def("join_channels", &bind_join, py::arg("inputs"), py::arg("out"), py::kw_only(), py::arg("threads") = 0);
  m.def("max_pool2x2", &bind_pool, py::arg("image"), py::arg("out"), py::kw_only(), py::arg("threads") = 0);
}

}  // namespace bainite::bind
