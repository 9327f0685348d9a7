#include <optional>
#include <stdexcept>

#include "bainite/cuda_ebsd.hpp"
#include "ebsd_arguments.hpp"

namespace bainite::bind {
namespace {

// Calls call(orientations) with the quaternions in their own type; all arrays lie where `out` does.
template <class Call>
void with_map(const py::object& quaternions_object, const py::object& labels_object, const PointGrid& grid,
              const Borrowed& out, Where where, const Call& call) {
  const Borrowed quaternions(quaternions_object, "quaternions", false, where);
  out.require_device_of(quaternions);
  per_point(quaternions, grid, 4);
  const auto run = [&](const Labels& labels) {
    if (quaternions.dtype() == DType::float32) {
      call(Orientations<float>{quaternions.data<const float>(), labels, grid});
    } else if (quaternions.dtype() == DType::float64) {
      call(Orientations<double>{quaternions.data<const double>(), labels, grid});
    } else {
      quaternions.refuse("float32 or float64");
    }
  };
  if (labels_object.is_none()) return run({});
  const Borrowed labels(labels_object, "labels", false, where);
  out.require_device_of(labels);
  run(labels_of(labels, grid));
}

KamOptions kam_options(const PointGrid& grid, int neighbourhood, int order, bool perimeter, double max_angle,
                       bool keep) {
  if (order < 1 || order > 10) throw py::value_error("order must be 1 to 10; got " + std::to_string(order));
  return {checked_neighbourhood(neighbourhood, grid), order, perimeter, max_angle, keep};
}

void bind_kam(const py::object& quaternions, const py::object& labels, const py::object& out_object,
              const GridArgument& grid_argument, int laue_code, int neighbourhood, int order, bool perimeter,
              double max_angle, bool keep, int threads, const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const PointGrid grid = checked_grid(grid_argument);
  const Laue laue = checked_laue(laue_code);
  const KamOptions options = kam_options(grid, neighbourhood, order, perimeter, max_angle, keep);
  const Borrowed out(out_object, "out", true, where);
  if (out.dtype() != DType::float32) out.refuse("float32 [points]");
  per_point(out, grid, 0);
  checked_threads(threads);
  with_map(quaternions, labels, grid, out, where, [&](const auto& map) {
    if (!where.device()) return without_gil([&] { kam(map, laue, options, out.data<float>(), threads); });
    on_device(out, where, [&](cuda::Stream queue) { cuda::kam(map, laue, options, out.data<float>(), queue); });
  });
}

void bind_kam_cuda(const py::object& quaternions, const py::object& labels, const py::object& out_object,
                   const GridArgument& grid_argument, int laue_code, int neighbourhood, int order, bool perimeter,
                   double max_angle, bool keep) {
  const PointGrid grid = checked_grid(grid_argument);
  const Laue laue = checked_laue(laue_code);
  const KamOptions options = kam_options(grid, neighbourhood, order, perimeter, max_angle, keep);
  const Borrowed out(out_object, "out", true);
  if (out.dtype() != DType::float32) out.refuse("float32 [points]");
  per_point(out, grid, 0);
#if BAINITE_HAS_CUDA
  with_map(quaternions, labels, grid, out, {},
           [&](const auto& map) { without_gil([&] { cuda::kam_from_host(map, laue, options, out.data<float>()); }); });
#else
  static_cast<void>(quaternions);
  static_cast<void>(labels);
  static_cast<void>(laue);
  static_cast<void>(options);
  throw std::runtime_error("this build of bainite_fast has no CUDA kernels");
#endif
}

void bind_neighbour_angles(const py::object& quaternions, const py::object& labels, const py::object& out_object,
                           const GridArgument& grid_argument, int laue_code, int neighbourhood_code, bool keep,
                           int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Laue laue = checked_laue(laue_code);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed out(out_object, "out", true);
  out.require(DType::float32, 2, "float32 [points, forward neighbours]");
  per_point(out, grid, static_cast<std::int64_t>(half_stencil(neighbourhood, 1, 1).size()));
  checked_threads(threads);
  with_map(quaternions, labels, grid, out, {}, [&](const auto& map) {
    without_gil([&] { neighbour_angles(map, laue, neighbourhood, keep, out.data<float>(), threads); });
  });
}

void bind_links(const py::object& quaternions, const py::object& labels, const py::object& out_object,
                const GridArgument& grid_argument, int laue_code, int neighbourhood_code, double tolerance,
                int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Laue laue = checked_laue(laue_code);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed out(out_object, "out", true);
  out.require(DType::uint8, 1, "uint8 [points]");
  per_point(out, grid, 0);
  checked_threads(threads);
  with_map(quaternions, labels, grid, out, {}, [&](const auto& map) {
    without_gil([&] { links(map, laue, neighbourhood, tolerance, out.data<std::uint8_t>(), threads); });
  });
}

template <class Real>
void run_disorientation(const Borrowed& q1, const Borrowed& q2, const Borrowed& out, Laue laue, int threads) {
  without_gil([&] {
    disorientation(q1.data<const Real>(), q2.data<const Real>(), out.shape(0), laue, out.data<Real>(), threads);
  });
}

void bind_disorientation(const py::object& q1_object, const py::object& q2_object, const py::object& out_object,
                         int laue_code, int threads) {
  const Borrowed q1(q1_object, "q1", false), q2(q2_object, "q2", false), out(out_object, "out", true);
  const Laue laue = checked_laue(laue_code);
  checked_threads(threads);
  if (out.ndim() != 1 || !out.contiguous(0)) out.refuse("contiguous [pairs]");
  for (const Borrowed* q : {&q1, &q2}) {
    if (q->ndim() != 2 || q->shape(0) != out.shape(0) || q->shape(1) != 4 || !q->contiguous(0) ||
        q->dtype() != out.dtype()) {
      q->refuse("contiguous [pairs, 4], of the output's type");
    }
  }
  if (out.dtype() == DType::float32) return run_disorientation<float>(q1, q2, out, laue, threads);
  if (out.dtype() == DType::float64) return run_disorientation<double>(q1, q2, out, laue, threads);
  out.refuse("float32 or float64");
}

}  // namespace

void bind_ebsd(py::module_& m) {
  m.def("kam", &bind_kam, py::arg("quaternions"), py::arg("labels"), py::arg("out"), py::kw_only(), py::arg("grid"),
        py::arg("laue"), py::arg("neighbourhood"), py::arg("order"), py::arg("perimeter"), py::arg("max_angle"),
        py::arg("keep") = false, py::arg("threads") = 0, py::arg("stream") = py::none());
  m.def("kam_cuda", &bind_kam_cuda, py::arg("quaternions"), py::arg("labels"), py::arg("out"), py::kw_only(),
        py::arg("grid"), py::arg("laue"), py::arg("neighbourhood"), py::arg("order"), py::arg("perimeter"),
        py::arg("max_angle"), py::arg("keep") = false);
  m.def("neighbour_angles", &bind_neighbour_angles, py::arg("quaternions"), py::arg("labels"), py::arg("out"),
        py::kw_only(), py::arg("grid"), py::arg("laue"), py::arg("neighbourhood"), py::arg("keep") = false,
        py::arg("threads") = 0);
  m.def("links", &bind_links, py::arg("quaternions"), py::arg("labels"), py::arg("out"), py::kw_only(), py::arg("grid"),
        py::arg("laue"), py::arg("neighbourhood"), py::arg("tolerance"), py::arg("threads") = 0);
  m.def("disorientation", &bind_disorientation, py::arg("q1"), py::arg("q2"), py::arg("out"), py::kw_only(),
        py::arg("laue"), py::arg("threads") = 0);
}

}  // namespace bainite::bind
