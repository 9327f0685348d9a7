#include "bainite/cleanup.hpp"
#include "bainite/grains.hpp"
#include "ebsd_arguments.hpp"

namespace bainite::bind {
namespace {

// An array of `dtype`, contiguous, [count] or [count, width].
template <class T>
T* checked(const Borrowed& array, DType dtype, std::int64_t count, std::int64_t width, const char* what) {
  const bool fits = array.dtype() == dtype && array.ndim() == (width == 0 ? 1 : 2) && array.shape(0) == count &&
                    (width == 0 || array.shape(1) == width) && array.contiguous(0);
  if (!fits) array.refuse(std::string(what) + " of " + std::to_string(count) + " rows, contiguous");
  return array.data<T>();
}

const std::int32_t* checked_ids(const Borrowed& ids, std::int64_t grains) {
  if (ids.ndim() != 1) ids.refuse("int32 [points]");
  const auto* values = checked<const std::int32_t>(ids, DType::int32, ids.shape(0), 0, "int32 [points]");
  std::int32_t highest = -1;
  for (std::int64_t i = 0; i < ids.shape(0); ++i) highest = values[i] > highest ? values[i] : highest;
  if (highest >= grains) {
    throw py::value_error("ids go up to " + std::to_string(highest) + "; there are " + std::to_string(grains) +
                          " grains");
  }
  return values;
}

std::int64_t bind_label_grains(const py::object& links_object, const py::object& labels_object,
                               const py::object& ids_object, const GridArgument& grid_argument, int neighbourhood_code,
                               int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed links(links_object, "links", false), labels(labels_object, "labels", false),
      ids(ids_object, "ids", true);
  if (grid.size() > 2147483647) throw py::value_error("grains of more than 2147483647 points at once are refused");
  const auto* link = checked<const std::uint8_t>(links, DType::uint8, grid.size(), 0, "uint8 [points]");
  auto* id = checked<std::int32_t>(ids, DType::int32, grid.size(), 0, "int32 [points]");
  const Labels label = labels_of(labels, grid);
  checked_threads(threads);
  return without_gil([&] { return label_grains(link, label, grid, neighbourhood, id, threads); });
}

void bind_grain_table(const py::object& ids_object, const py::object& first_object, const py::object& sizes_object) {
  const Borrowed ids(ids_object, "ids", false), first(first_object, "first", true), sizes(sizes_object, "sizes", true);
  if (first.ndim() != 1) first.refuse("int64 [grains]");
  const std::int64_t grains = first.shape(0);
  const auto* id = checked_ids(ids, grains);
  auto* to_first = checked<std::int64_t>(first, DType::int64, grains, 0, "int64 [grains]");
  auto* to_sizes = checked<std::int64_t>(sizes, DType::int64, grains, 0, "int64 [grains]");
  without_gil([&] { grain_table(id, ids.shape(0), grains, to_first, to_sizes); });
}

// Calls call(grains) with what is known of points and grains.
template <class Call>
void with_grains(const py::object& quaternions_object, const py::object& ids_object, const py::object& laue_object,
                 const Call& call) {
  const Borrowed quaternions(quaternions_object, "quaternions", false), ids(ids_object, "ids", false),
      laue(laue_object, "laue", false);
  if (laue.ndim() != 1) laue.refuse("uint8 [grains]");
  const std::int64_t grains = laue.shape(0);
  const auto* group = checked<const std::uint8_t>(laue, DType::uint8, grains, 0, "uint8 [grains]");
  for (std::int64_t g = 0; g < grains; ++g) checked_laue(group[g]);
  const auto* id = checked_ids(ids, grains);
  const auto* q = checked<const double>(quaternions, DType::float64, ids.shape(0), 4, "float64 [points, 4]");
  call(Grains{q, id, ids.shape(0), group}, grains);
}

void bind_add_moments(const py::object& quaternions, const py::object& ids, const py::object& laue,
                      const py::object& reference_object, const py::object& mean_object,
                      const py::object& moments_object, int threads) {
  const Borrowed reference(reference_object, "reference", false), mean(mean_object, "mean", false),
      moments(moments_object, "moments", true);
  checked_threads(threads);
  with_grains(quaternions, ids, laue, [&](const Grains& points, std::int64_t grains) {
    const auto* from = checked<const double>(reference, DType::float64, grains, 4, "float64 [grains, 4]");
    const auto* now = checked<const double>(mean, DType::float64, grains, 4, "float64 [grains, 4]");
    auto* to = checked<std::int64_t>(moments, DType::int64, grains, kMoments, "int64 [grains, 10]");
    without_gil([&] { add_moments(points, from, now, to, threads); });
  });
}

void bind_moment_means(const py::object& moments_object, const py::object& means_object, int threads) {
  const Borrowed moments(moments_object, "moments", false), means(means_object, "means", true);
  if (moments.ndim() != 2) moments.refuse("int64 [grains, 10]");
  const std::int64_t grains = moments.shape(0);
  const auto* from = checked<const std::int64_t>(moments, DType::int64, grains, kMoments, "int64 [grains, 10]");
  auto* to = checked<double>(means, DType::float64, grains, 4, "float64 [grains, 4]");
  checked_threads(threads);
  without_gil([&] { moment_means(from, grains, to, threads); });
}

void bind_grain_deviation(const py::object& quaternions, const py::object& ids, const py::object& laue,
                          const py::object& mean_object, const py::object& out_object, int threads) {
  const Borrowed mean(mean_object, "mean", false), out(out_object, "out", true);
  checked_threads(threads);
  with_grains(quaternions, ids, laue, [&](const Grains& points, std::int64_t grains) {
    const auto* now = checked<const double>(mean, DType::float64, grains, 4, "float64 [grains, 4]");
    auto* to = checked<float>(out, DType::float32, points.points, 0, "float32 [points]");
    without_gil([&] { grain_deviation(points, now, to, threads); });
  });
}

void bind_add_values(const py::object& values_object, const py::object& ids_object, const py::object& sums_object,
                     const py::object& counts_object, int threads) {
  const Borrowed values(values_object, "values", false), ids(ids_object, "ids", false), sums(sums_object, "sums", true),
      counts(counts_object, "counts", true);
  if (sums.ndim() != 1) sums.refuse("int64 [grains]");
  const std::int64_t grains = sums.shape(0);
  const auto* id = checked_ids(ids, grains);
  const auto* from = checked<const float>(values, DType::float32, ids.shape(0), 0, "float32 [points]");
  auto* sum = checked<std::int64_t>(sums, DType::int64, grains, 0, "int64 [grains]");
  auto* count = checked<std::int64_t>(counts, DType::int64, grains, 0, "int64 [grains]");
  checked_threads(threads);
  without_gil([&] { add_values(from, id, ids.shape(0), sum, count, threads); });
}

void bind_add_pairs(const py::object& angles_object, const py::object& ids_object, const py::object& sums_object,
                    const py::object& counts_object, const GridArgument& grid_argument, int neighbourhood_code,
                    int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed angles(angles_object, "angles", false), ids(ids_object, "ids", false), sums(sums_object, "sums", true),
      counts(counts_object, "counts", true);
  if (sums.ndim() != 1) sums.refuse("int64 [grains]");
  const std::int64_t grains = sums.shape(0);
  const auto* id = checked_ids(ids, grains);
  per_point(ids, grid, 0);
  const auto ahead = static_cast<std::int64_t>(half_stencil(neighbourhood, 1, 1).size());
  const auto* from = checked<const float>(angles, DType::float32, grid.size(), ahead, "float32 [points, neighbours]");
  auto* sum = checked<std::int64_t>(sums, DType::int64, grains, 0, "int64 [grains]");
  auto* count = checked<std::int64_t>(counts, DType::int64, grains, 0, "int64 [grains]");
  checked_threads(threads);
  without_gil([&] { add_pairs(from, id, grid, neighbourhood, sum, count, threads); });
}

std::int64_t bind_nci(const py::object& ci_object, const py::object& labels_object, const py::object& source_object,
                      const GridArgument& grid_argument, int neighbourhood_code, float least_ci, int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed ci(ci_object, "ci", false), labels(labels_object, "labels", false),
      source(source_object, "source", true);
  const auto* from = checked<const float>(ci, DType::float32, grid.size(), 0, "float32 [points]");
  auto* to = checked<std::int64_t>(source, DType::int64, grid.size(), 0, "int64 [points]");
  const Labels label = labels_of(labels, grid);
  checked_threads(threads);
  return without_gil([&] { return nci_sources(from, label, grid, neighbourhood, least_ci, to, threads); });
}

std::int64_t bind_noc(const py::object& quaternions_object, const py::object& labels_object,
                      const py::object& links_object, const py::object& laue_object, const py::object& source_object,
                      const GridArgument& grid_argument, int neighbourhood_code, double tolerance, int level,
                      int threads) {
  const PointGrid grid = checked_grid(grid_argument);
  const Neighbourhood neighbourhood = checked_neighbourhood(neighbourhood_code, grid);
  const Borrowed quaternions(quaternions_object, "quaternions", false), labels(labels_object, "labels", false),
      links(links_object, "links", false), laue(laue_object, "laue", false), source(source_object, "source", true);
  const auto* q = checked<const double>(quaternions, DType::float64, grid.size(), 4, "float64 [points, 4]");
  const auto* link = checked<const std::uint8_t>(links, DType::uint8, grid.size(), 0, "uint8 [points]");
  const auto* group = checked<const std::uint8_t>(laue, DType::uint8, 32768, 0, "uint8 [phase ids]");
  auto* to = checked<std::int64_t>(source, DType::int64, grid.size(), 0, "int64 [points]");
  if (level < 0) throw py::value_error("level must be 0 or more; got " + std::to_string(level));
  labels.require(DType::int16, 1, "int16 [points]");  // phase ids: all within the table of groups
  const Labels label = labels_of(labels, grid);
  for (std::int64_t i = 0; i < laue.shape(0); ++i) checked_laue(group[i]);
  checked_threads(threads);
  return without_gil(
      [&] { return noc_sources(q, label, link, group, grid, neighbourhood, tolerance, level, to, threads); });
}

}  // namespace

void bind_grains(py::module_& m) {
  m.def("label_grains", &bind_label_grains, py::arg("links"), py::arg("labels"), py::arg("ids"), py::kw_only(),
        py::arg("grid"), py::arg("neighbourhood"), py::arg("threads") = 0);
  m.def("grain_table", &bind_grain_table, py::arg("ids"), py::arg("first"), py::arg("sizes"));
  m.def("add_moments", &bind_add_moments, py::arg("quaternions"), py::arg("ids"), py::arg("laue"), py::arg("reference"),
        py::arg("mean"), py::arg("moments"), py::kw_only(), py::arg("threads") = 0);
  m.def("moment_means", &bind_moment_means, py::arg("moments"), py::arg("means"), py::kw_only(),
        py::arg("threads") = 0);
  m.def("grain_deviation", &bind_grain_deviation, py::arg("quaternions"), py::arg("ids"), py::arg("laue"),
        py::arg("mean"), py::arg("out"), py::kw_only(), py::arg("threads") = 0);
  m.def("add_values", &bind_add_values, py::arg("values"), py::arg("ids"), py::arg("sums"), py::arg("counts"),
        py::kw_only(), py::arg("threads") = 0);
  m.def("add_pairs", &bind_add_pairs, py::arg("angles"), py::arg("ids"), py::arg("sums"), py::arg("counts"),
        py::kw_only(), py::arg("grid"), py::arg("neighbourhood"), py::arg("threads") = 0);
  m.def("nci_sources", &bind_nci, py::arg("ci"), py::arg("labels"), py::arg("source"), py::kw_only(), py::arg("grid"),
        py::arg("neighbourhood"), py::arg("least_ci"), py::arg("threads") = 0);
  m.def("noc_sources", &bind_noc, py::arg("quaternions"), py::arg("labels"), py::arg("links"), py::arg("laue"),
        py::arg("source"), py::kw_only(), py::arg("grid"), py::arg("neighbourhood"), py::arg("tolerance"),
        py::arg("level"), py::arg("threads") = 0);
}

}  // namespace bainite::bind
