#include <pybind11/stl.h>

#include <optional>

#include "bainite/stitching.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

bool inside(std::int64_t start, std::int64_t size, std::int64_t extent) {
  return start >= 0 && size >= 0 && size <= extent && start <= extent - size;
}

const Crop* checked_crops(const Borrowed& crops, const View4D<const std::uint8_t>& logits,
                          const View2D<std::uint8_t>& labels) {
  static_assert(sizeof(Crop) == 6 * sizeof(std::int64_t), "a crop is a row of six integers");
  crops.require(DType::int64, 2, "int64 [n, 6]");
  if (crops.shape(0) != logits.n || crops.shape(1) != 6 || !crops.contiguous(0)) {
    crops.refuse("contiguous int64 [" + std::to_string(logits.n) + ", 6], one row per tile of logits");
  }
  const auto* crop = reinterpret_cast<const Crop*>(crops.data<const std::int64_t>());
  for (std::int64_t i = 0; i < logits.n; ++i) {
    const Crop& c = crop[i];
    if (!inside(c.src_y, c.height, logits.rows) || !inside(c.src_x, c.width, logits.cols) ||
        !inside(c.dst_y, c.height, labels.rows) || !inside(c.dst_x, c.width, labels.cols)) {
      throw py::value_error("crop " + std::to_string(i) + " of " + std::to_string(c.height) + " x " +
                            std::to_string(c.width) + " from (" + std::to_string(c.src_y) + ", " +
                            std::to_string(c.src_x) + ") to (" + std::to_string(c.dst_y) + ", " +
                            std::to_string(c.dst_x) + ") leaves the tile [" + std::to_string(logits.rows) + ", " +
                            std::to_string(logits.cols) + "] or the labels [" + std::to_string(labels.rows) + ", " +
                            std::to_string(labels.cols) + "]");
    }
  }
  return crop;
}

// Where a scatter writes, and what it needs besides its arrays; the crops are in host memory.
struct Scattering {
  const Crop* crops;
  View2D<std::uint8_t> labels;
  View2D<std::uint8_t> confidence;
  float sharpness;    // 1 / temperature
  std::int64_t* bad;  // on the device, to be added to without waiting; null: the number is returned
  int threads;
  Where where;
};

template <class In>
std::int64_t run_scatter(const Borrowed& logits, const Scattering& s) {
  const auto from = logits.view4d<const In>();
  if (!s.where.device()) {
    return without_gil([&] { return scatter<In>(from, s.crops, s.labels, s.confidence, s.sharpness, s.threads); });
  }
  return on_device(logits, s.where, [&](cuda::Stream stream) {
    const cuda::Scratch crops(s.crops, static_cast<std::size_t>(from.n) * sizeof(Crop), stream);
    std::optional<cuda::Scratch> count;  // where the caller has no place for it
    if (s.bad == nullptr) count.emplace(sizeof(std::int64_t), stream);
    auto* bad = count ? count->as<std::int64_t>() : s.bad;
    cuda::scatter<In>(from, crops.as<const Crop>(), s.labels, s.confidence, s.sharpness, bad, stream);
    std::int64_t number = 0;
    if (count) count->download(&number);
    return number;
  });
}

std::int64_t dispatch_scatter(const Borrowed& logits, const Scattering& s) {
  switch (logits.dtype()) {
    case DType::float32:
      return run_scatter<float>(logits, s);
    case DType::bfloat16:
      return run_scatter<bfloat16>(logits, s);
    case DType::float16:
      return run_scatter<float16>(logits, s);
    default:
      logits.refuse("float32, bfloat16 or float16");
  }
}

std::int64_t bind_scatter(const py::object& logits_object, const py::object& labels_object,
                          const py::object& crops_object, const py::object& confidence_object, double temperature,
                          int threads, const std::optional<std::uint64_t>& stream, const py::object& bad_object) {
  const Where where(stream);
  const Borrowed logits(logits_object, "logits", false, where);
  const Borrowed labels(labels_object, "labels", true, where);
  labels.require_device_of(logits);
  const Borrowed crops(crops_object, "crops", false);
  labels.require(DType::uint8, 2, "uint8 [rows, cols]");
  const auto label_view = labels.view2d<std::uint8_t>();
  const auto shape = logits.view4d<const std::uint8_t>();
  if (shape.channels < 1 || shape.channels > 256) logits.refuse("[n, classes, rows, cols] with 1 to 256 classes");
  const Crop* crop = checked_crops(crops, shape, label_view);
  if (!(temperature >= 1e-3 && temperature <= 1e3)) {
    throw py::value_error("temperature is " + std::to_string(temperature) + "; it must be 0.001 to 1000");
  }
  Scattering s{crop, label_view, {}, static_cast<float>(1.0 / temperature), nullptr, checked_threads(threads), where};
  std::optional<Borrowed> confidence, bad;  // until the call is over
  if (!confidence_object.is_none()) {
    confidence.emplace(confidence_object, "confidence", true, where);
    confidence->require_device_of(logits);
    confidence->require(DType::uint8, 2, "uint8 [rows, cols]");
    s.confidence = confidence->view2d<std::uint8_t>();
    if (s.confidence.rows != label_view.rows || s.confidence.cols != label_view.cols) {
      confidence->refuse("of the labels' shape");
    }
  }
  if (!bad_object.is_none()) {
    if (!where.device())
      throw py::value_error("bad is for arrays in device memory; on the host the number is returned");
    bad.emplace(bad_object, "bad", true, where);
    bad->require_device_of(logits);
    bad->require(DType::int64, 1, "int64 [1]");
    if (bad->shape(0) != 1) bad->refuse("int64 [1]");
    s.bad = bad->data<std::int64_t>();
  }
  return dispatch_scatter(logits, s);
}

void bind_stitch_copy(const py::object& tiles_object, const py::object& image_object, Pair core, std::int64_t halo,
                      int threads) {
  const Borrowed tiles(tiles_object, "tiles", false);
  const Borrowed image(image_object, "image", true);
  tiles.require(DType::uint8, 4, "uint8 [n, rows, cols, item bytes]");
  if (image.dtype() != DType::uint8) image.refuse("uint8 (a view of the items' bytes)");
  const auto to = image.view3d<std::uint8_t>();
  if (core.first < 1 || core.second < 1 || halo < 0) throw py::value_error("tile must be at least 1, halo at least 0");
  const std::int64_t count = ((to.rows + core.first - 1) / core.first) * ((to.cols + core.second - 1) / core.second);
  if (!tiles.contiguous(0) || tiles.shape(0) != count || tiles.shape(1) != core.first + 2 * halo ||
      tiles.shape(2) != core.second + 2 * halo || tiles.shape(3) != to.channels) {
    tiles.refuse("contiguous, " + std::to_string(count) + " tiles of core + 2 halo with the image's item bytes");
  }
  checked_threads(threads);
  without_gil([&] { stitch_copy(tiles.data<const std::uint8_t>(), core.first, core.second, halo, to, threads); });
}

}  // namespace

void bind_stitching(py::module_& m) {
  m.def("scatter", &bind_scatter, py::arg("logits"), py::arg("labels"), py::kw_only(), py::arg("crops"),
        py::arg("confidence") = py::none(), py::arg("temperature") = 1.0, py::arg("threads") = 0,
        py::arg("stream") = py::none(), py::arg("bad") = py::none());
  m.def("stitch_copy", &bind_stitch_copy, py::arg("tiles"), py::arg("image"), py::kw_only(), py::arg("core"),
        py::arg("halo") = 0, py::arg("threads") = 0);
}

}  // namespace bainite::bind
