#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "bainite/finite.hpp"
#include "bainite/tiling.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

PadMode pad_mode(int pad) {
  if (pad < 0 || pad > 3) throw py::value_error("pad must be 0 to 3; got " + std::to_string(pad));
  return static_cast<PadMode>(pad);
}

constexpr std::int64_t kFarthest = std::int64_t{1} << 60;  // of corners and axes: sums and doubles of them fit

TileGrid tile_grid(const Borrowed& tiles, Pair origin, Pair image_shape, int pad) {
  tiles.require(DType::int64, 2, "int64 [n, 2]");
  if (tiles.shape(1) != 2 || !tiles.contiguous(0)) tiles.refuse("contiguous int64 [n, 2]");
  const auto fits = [](std::int64_t length) { return length >= 1 && length <= kFarthest; };
  if (!fits(image_shape.first) || !fits(image_shape.second)) {
    throw py::value_error("image_shape must be (1, 1) to (2^60, 2^60); got (" + std::to_string(image_shape.first) +
                          ", " + std::to_string(image_shape.second) + ")");
  }
  const auto* corners = tiles.data<const std::int64_t>();
  for (std::int64_t i = 0; i < tiles.size(); ++i) {
    if (corners[i] >= -kFarthest && corners[i] <= kFarthest) continue;
    throw py::value_error("tile " + std::to_string(i / 2) + " has the corner " + std::to_string(corners[i]) +
                          "; corners are pixels of the image or near it, -2^60 to 2^60");
  }
  TileGrid grid;
  grid.image_rows = image_shape.first;
  grid.image_cols = image_shape.second;
  grid.origin_y = origin.first;
  grid.origin_x = origin.second;
  grid.corners = corners;
  grid.n = tiles.shape(0);
  grid.pad = pad_mode(pad);
  return grid;
}

void require_inside(Pair origin, Pair image_shape, std::int64_t rows, std::int64_t cols) {
  if (origin.first < 0 || origin.second < 0 || origin.first > image_shape.first - rows ||
      origin.second > image_shape.second - cols) {
    throw py::value_error("the region must lie inside the image: origin (" + std::to_string(origin.first) + ", " +
                          std::to_string(origin.second) + "), region [" + std::to_string(rows) + ", " +
                          std::to_string(cols) + "], image [" + std::to_string(image_shape.first) + ", " +
                          std::to_string(image_shape.second) + "]");
  }
}

void require_covered(const TileGrid& grid, std::int64_t rows, std::int64_t cols, std::int64_t tile_rows,
                     std::int64_t tile_cols) {
  const std::int64_t tile = first_uncovered(grid, rows, cols, tile_rows, tile_cols);
  if (tile < 0) return;
  throw py::value_error("tile " + std::to_string(tile) + " at (" + std::to_string(grid.corners[2 * tile]) + ", " +
                        std::to_string(grid.corners[2 * tile + 1]) + ") of " + std::to_string(tile_rows) + " x " +
                        std::to_string(tile_cols) + " needs pixels outside of the region [" + std::to_string(rows) +
                        ", " + std::to_string(cols) + "] at (" + std::to_string(grid.origin_y) + ", " +
                        std::to_string(grid.origin_x) + "); read a larger region (geometry.source_range says which)");
}

// What a gather needs besides its arrays; the tables are in host memory.
struct Gathering {
  TileGrid grid;
  const float* gain;
  const float* offset;
  std::int64_t channels;
  float fill;
  int threads;
  Where where;
};

// The raw value of the constant mode must be one of the region's type.
template <class In>
void require_value(float fill, PadMode pad) {
  if constexpr (std::is_integral_v<In>) {
    constexpr In most = std::numeric_limits<In>::max();
    if (pad != PadMode::constant || (fill >= 0.0F && fill <= static_cast<float>(most))) return;
    throw py::value_error("fill is " + std::to_string(fill) + "; it is a raw value of the region's type, 0 to " +
                          std::to_string(most));
  }
}

template <class In, class Out>
void run_gather(const Borrowed& region, const Borrowed& out, const Gathering& g) {
  const auto from = region.view3d<const In>();
  const auto to = out.view4d<Out>();
  require_covered(g.grid, from.rows, from.cols, to.rows, to.cols);
  if (!g.where.device()) {
    without_gil([&] { gather<In, Out>(from, to, g.grid, g.gain, g.offset, g.fill, g.threads); });
    return;
  }
  on_device(out, g.where, [&](cuda::Stream stream) {
    // One table of corners, gains and offsets: each of its own would be a launch more.
    std::vector<unsigned char> table;
    const auto add = [&](const auto* values, std::int64_t count) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(values);
      table.insert(table.end(), bytes, bytes + static_cast<std::size_t>(count) * sizeof *values);
    };
    add(g.grid.corners, 2 * g.grid.n);
    add(g.gain, g.channels);
    add(g.offset, g.channels);
    const cuda::Scratch there(table.data(), table.size(), stream);
    TileGrid grid = g.grid;
    grid.corners = there.as<const std::int64_t>();
    const auto* gain = reinterpret_cast<const float*>(grid.corners + 2 * grid.n);
    cuda::gather<In, Out>(from, to, grid, gain, gain + g.channels, g.fill, stream);
  });
}

template <class In>
void dispatch_out(const Borrowed& region, const Borrowed& out, const Gathering& g) {
  require_value<In>(g.fill, g.grid.pad);
  switch (out.dtype()) {
    case DType::float32:
      return run_gather<In, float>(region, out, g);
    case DType::bfloat16:
      return run_gather<In, bfloat16>(region, out, g);
    case DType::float16:
      return run_gather<In, float16>(region, out, g);
    default:
      out.refuse("float32, bfloat16 or float16");
  }
}

// Rows of `out` must be written without overlap: columns contiguous (NCHW), or channels contiguous (NHWC).
View4D<std::uint8_t> checked_layout(const Borrowed& out) {
  View4D<std::uint8_t> view = out.view4d<std::uint8_t>();
  const bool planar = view.cols <= 1 || view.stride_x == 1;
  const bool interleaved = (view.channels <= 1 || view.stride_c == 1) && view.stride_x == view.channels;
  if (out.size() > 0 && !planar && !interleaved) out.refuse("contiguous in its columns (NCHW) or channels (NHWC)");
  return view;
}

void bind_gather(const py::object& region_object, const py::object& out_object, Pair origin, Pair image_shape,
                 const py::object& tiles_object, const py::object& gain_object, const py::object& offset_object,
                 int pad, float fill, int threads, const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed region(region_object, "region", false, where);
  const Borrowed out(out_object, "out", true, where);
  out.require_device_of(region);
  const Borrowed tiles(tiles_object, "tiles", false);
  const Borrowed gain(gain_object, "gain", false);
  const Borrowed offset(offset_object, "offset", false);
  const TileGrid grid = tile_grid(tiles, origin, image_shape, pad);
  const auto view = checked_layout(out);
  if (view.n != grid.n) out.refuse("as many tiles as corners, " + std::to_string(grid.n));
  const auto bytes = region.view3d<const std::uint8_t>();
  require_inside(origin, image_shape, bytes.rows, bytes.cols);
  const std::int64_t in = bytes.channels;
  if (in != view.channels && !(in == 3 && view.channels == 1) && !(in == 1 && view.channels == 3)) {
    out.refuse("of the region's " + std::to_string(in) + " channels (or 3 to 1, or 1 to 3)");
  }
  gain.require(DType::float32, 1, "float32, one value per output channel");
  offset.require(DType::float32, 1, "float32, one value per output channel");
  const float* gains = gain.vector<float>(view.channels);
  const float* offsets = offset.vector<float>(view.channels);
  const Gathering g{grid, gains, offsets, view.channels, fill, checked_threads(threads), where};
  switch (region.dtype()) {
    case DType::uint8:
      return dispatch_out<std::uint8_t>(region, out, g);
    case DType::uint16:
      return dispatch_out<std::uint16_t>(region, out, g);
    case DType::float32:
      return dispatch_out<float>(region, out, g);
    default:
      region.refuse("uint8, uint16 or float32");
  }
}

void bind_tile_copy(const py::object& image_object, const py::object& out_object, const py::object& tiles_object,
                    int pad, const py::object& fill_object, int threads) {
  const Borrowed image(image_object, "image", false);
  const Borrowed out(out_object, "out", true);
  const Borrowed tiles(tiles_object, "tiles", false);
  const Borrowed fill(fill_object, "fill", false);
  if (image.dtype() != DType::uint8) image.refuse("uint8 (a view of the items' bytes)");
  out.require(DType::uint8, 4, "uint8 [n, rows, cols, item bytes]");
  fill.require(DType::uint8, 1, "uint8 [item bytes]");
  const auto from = image.view3d<const std::uint8_t>();
  const Pair shape{from.rows, from.cols};
  const TileGrid grid = tile_grid(tiles, {0, 0}, shape, pad);
  if (!out.contiguous(0) || out.shape(0) != grid.n || out.shape(3) != from.channels) {
    out.refuse("contiguous, one tile per corner, with the image's item bytes");
  }
  const auto* fill_bytes = fill.vector<std::uint8_t>(from.channels);
  checked_threads(threads);
  without_gil(
      [&] { tile_copy(from, out.data<std::uint8_t>(), out.shape(1), out.shape(2), grid, fill_bytes, threads); });
}

py::object bind_nonfinite(const py::object& region_object, int threads) {
  const Borrowed region(region_object, "region", false);
  if (region.dtype() != DType::float32) region.refuse("float32");
  const auto view = region.view3d<const float>();
  checked_threads(threads);
  const std::int64_t at = without_gil([&] { return nonfinite(view, threads); });
  if (at < 0) return py::none();
  const std::int64_t pixel = at / view.channels;
  return py::make_tuple(pixel / view.cols, pixel % view.cols, at % view.channels);
}

}  // namespace

void bind_tiling(py::module_& m) {
  m.def("gather", &bind_gather, py::arg("region"), py::arg("out"), py::kw_only(), py::arg("origin"),
        py::arg("image_shape"), py::arg("tiles"), py::arg("gain"), py::arg("offset"), py::arg("pad") = 0,
        py::arg("fill") = 0.0F, py::arg("threads") = 0, py::arg("stream") = py::none());
  m.def("tile_copy", &bind_tile_copy, py::arg("image"), py::arg("out"), py::kw_only(), py::arg("tiles"),
        py::arg("pad") = 0, py::arg("fill"), py::arg("threads") = 0);
  m.def("nonfinite", &bind_nonfinite, py::arg("region"), py::kw_only(), py::arg("threads") = 0);
}

}  // namespace bainite::bind
