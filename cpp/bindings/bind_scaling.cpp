#include <pybind11/stl.h>

#include <optional>

#include "bainite/pyramid.hpp"
#include "bainite/resample.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

void bind_downsample(const py::object& labels_object, const py::object& out_object, int threads,
                     const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed labels(labels_object, "labels", false, where);
  const Borrowed out(out_object, "out", true, where);
  out.require_device_of(labels);
  labels.require(DType::uint8, 2, "uint8 [rows, cols]");
  out.require(DType::uint8, 2, "uint8 [rows, cols]");
  const auto from = labels.view2d<const std::uint8_t>();
  const auto to = out.view2d<std::uint8_t>();
  if (to.rows != (from.rows + 1) / 2 || to.cols != (from.cols + 1) / 2) out.refuse("half of the labels, rounded up");
  checked_threads(threads);
  if (where.device()) {
    on_device(labels, where, [&](cuda::Stream queue) { cuda::downsample_labels(from, to, queue); });
    return;
  }
  without_gil([&] { downsample_labels(from, to, threads); });
}

void require_placeable(const Axis& axis, std::int64_t stop) {
  if (placeable(axis, stop)) return;
  throw py::value_error("axes of " + std::to_string(axis.n) + " samples scaled to " + std::to_string(axis.scaled) +
                        " are too long: places up to " + std::to_string(stop) +
                        " would leave integers of 64 bits; scale the image in parts");
}

// `size` output samples from `start` of an axis must exist, and their sources must lie in [origin, origin + extent).
void check_axis(const char* name, const Axis& axis, std::int64_t start, std::int64_t size, std::int64_t origin,
                std::int64_t extent) {
  if (axis.n < 1 || axis.scaled < 1) throw py::value_error("image_shape and scaled_shape must be at least (1, 1)");
  if (start < 0 || size > axis.scaled || start > axis.scaled - size) {
    throw py::value_error(std::string(name) + ": " + std::to_string(size) + " samples from " + std::to_string(start) +
                          " on leave the scaled axis of " + std::to_string(axis.scaled));
  }
  if (size == 0) return;
  require_placeable(axis, start + size);
  const std::int64_t first = taps(axis, start).first;
  const std::int64_t last = taps(axis, start + size - 1).last;
  if (origin < 0 || origin > first || last > origin + extent || origin + extent > axis.n) {
    throw py::value_error(std::string(name) + ": source samples " + std::to_string(first) + " to " +
                          std::to_string(last) + " are needed; the block holds " + std::to_string(origin) + " to " +
                          std::to_string(origin + extent) + " of " + std::to_string(axis.n) +
                          " (resample_source_range says what to read)");
  }
}

template <class In>
void run_resample(const Borrowed& source, const View3D<float>& out, const Placement& place, int threads) {
  const auto from = source.view3d<const In>();
  without_gil([&] { resample<In>(from, out, place, threads); });
}

void bind_resample(const py::object& source_object, const py::object& out_object, Pair origin, Pair image_shape,
                   Pair scaled_shape, Pair out_origin, int threads) {
  const Borrowed source(source_object, "source", false);
  const Borrowed out(out_object, "out", true);
  if (out.dtype() != DType::float32) out.refuse("float32");
  const auto from = source.view3d<const std::uint8_t>();
  const auto to = out.view3d<float>();
  if (to.channels != from.channels) out.refuse("of the source's " + std::to_string(from.channels) + " channels");
  const Placement place{{image_shape.first, scaled_shape.first},
                        {image_shape.second, scaled_shape.second},
                        origin.first,
                        origin.second,
                        out_origin.first,
                        out_origin.second};
  check_axis("rows", place.y, place.out_y, to.rows, place.origin_y, from.rows);
  check_axis("columns", place.x, place.out_x, to.cols, place.origin_x, from.cols);
  checked_threads(threads);
  switch (source.dtype()) {
    case DType::uint8:
      return run_resample<std::uint8_t>(source, to, place, threads);
    case DType::uint16:
      return run_resample<std::uint16_t>(source, to, place, threads);
    case DType::float32:
      return run_resample<float>(source, to, place, threads);
    default:
      source.refuse("uint8, uint16 or float32");
  }
}

Pair source_range(std::int64_t start, std::int64_t stop, std::int64_t n, std::int64_t scaled) {
  if (n < 1 || scaled < 1 || start < 0 || stop <= start || stop > scaled) {
    throw py::value_error("0 <= start < stop <= n_scaled and n >= 1 are needed; got start " + std::to_string(start) +
                          ", stop " + std::to_string(stop) + ", n " + std::to_string(n) + ", n_scaled " +
                          std::to_string(scaled));
  }
  const Axis axis{n, scaled};
  require_placeable(axis, stop);
  return {taps(axis, start).first, taps(axis, stop - 1).last};
}

}  // namespace

void bind_scaling(py::module_& m) {
  m.def("downsample_labels", &bind_downsample, py::arg("labels"), py::arg("out"), py::kw_only(), py::arg("threads") = 0,
        py::arg("stream") = py::none());
  m.def("resample", &bind_resample, py::arg("source"), py::arg("out"), py::kw_only(), py::arg("origin"),
        py::arg("image_shape"), py::arg("scaled_shape"), py::arg("out_origin"), py::arg("threads") = 0);
  m.def("resample_source_range", &source_range, py::arg("start"), py::arg("stop"), py::arg("n"), py::arg("n_scaled"));
}

}  // namespace bainite::bind
