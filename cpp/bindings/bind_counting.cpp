#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "bainite/confusion.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

constexpr const char* kLabelTypes = "uint8, uint16, int32 or int64";

std::int64_t* checked_counts(const Borrowed& counts, int ndim, std::int64_t classes) {
  if (classes < 1 || classes > kMaxClasses) {
    throw py::value_error("n_classes must be 1 to " + std::to_string(kMaxClasses) + "; got " + std::to_string(classes));
  }
  counts.require(DType::int64, ndim, "int64, n_classes along every axis");
  for (int axis = 0; axis < ndim; ++axis) {
    if (counts.shape(axis) != classes) counts.refuse("int64, n_classes along every axis");
  }
  if (!counts.contiguous(0)) counts.refuse("contiguous");
  return counts.data<std::int64_t>();
}

// Calls visit(view) with the labels in their own type.
template <class Visit>
std::int64_t with_labels(const Borrowed& labels, const Visit& visit) {
  switch (labels.dtype()) {
    case DType::uint8:
      return visit(labels.view2d<const std::uint8_t>());
    case DType::uint16:
      return visit(labels.view2d<const std::uint16_t>());
    case DType::int32:
      return visit(labels.view2d<const std::int32_t>());
    case DType::int64:
      return visit(labels.view2d<const std::int64_t>());
    default:
      labels.refuse(kLabelTypes);
  }
}

// Counts on the device, added to a table in host memory; returns the pixels outside. count(table, outside, stream).
template <class Count>
std::int64_t count_on_device(const Borrowed& labels, Where where, std::int64_t* table, std::int64_t size,
                             const Count& count) {
  std::vector<std::int64_t> found(static_cast<std::size_t>(size) + 1);  // the pixels outside at the end
  on_device(labels, where, [&](cuda::Stream stream) {
    const cuda::Scratch counts(found.size() * sizeof(std::int64_t), stream);
    count(counts.as<std::int64_t>(), counts.as<std::int64_t>() + size, stream);
    counts.download(found.data());
  });
  for (std::int64_t i = 0; i < size; ++i) table[i] += found[static_cast<std::size_t>(i)];
  return found.back();
}

std::int64_t bind_confusion(const py::object& truth_object, const py::object& pred_object,
                            const py::object& counts_object, std::int64_t classes,
                            const std::optional<std::int64_t>& ignore, int threads,
                            const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed truth(truth_object, "truth", false, where);
  const Borrowed pred(pred_object, "pred", false, where);
  pred.require_device_of(truth);
  const Borrowed counts(counts_object, "counts", true);
  std::int64_t* table = checked_counts(counts, 2, classes);
  checked_threads(threads);
  return with_labels(truth, [&](const auto& t) {
    return with_labels(pred, [&](const auto& p) {
      if (p.rows != t.rows || p.cols != t.cols) pred.refuse("of the truth's shape");
      const bool has_ignore = ignore.has_value();
      if (where.device()) {
        return count_on_device(truth, where, table, classes * classes,
                               [&](std::int64_t* to, std::int64_t* outside, cuda::Stream queue) {
                                 cuda::confusion(t, p, classes, has_ignore, ignore.value_or(0), to, outside, queue);
                               });
      }
      return without_gil([&] { return confusion(t, p, classes, has_ignore, ignore.value_or(0), table, threads); });
    });
  });
}

std::int64_t bind_class_counts(const py::object& labels_object, const py::object& counts_object, std::int64_t classes,
                               int threads, const std::optional<std::uint64_t>& stream) {
  const Where where(stream);
  const Borrowed labels(labels_object, "labels", false, where);
  const Borrowed counts(counts_object, "counts", true);
  std::int64_t* table = checked_counts(counts, 1, classes);
  checked_threads(threads);
  return with_labels(labels, [&](const auto& view) {
    if (where.device()) {
      return count_on_device(labels, where, table, classes,
                             [&](std::int64_t* to, std::int64_t* outside, cuda::Stream queue) {
                               cuda::class_counts(view, classes, to, outside, queue);
                             });
    }
    return without_gil([&] { return class_counts(view, classes, table, threads); });
  });
}

}  // namespace

void bind_counting(py::module_& m) {
  m.def("confusion", &bind_confusion, py::arg("truth"), py::arg("pred"), py::arg("counts"), py::kw_only(),
        py::arg("n_classes"), py::arg("ignore") = py::none(), py::arg("threads") = 0, py::arg("stream") = py::none());
  m.def("class_counts", &bind_class_counts, py::arg("labels"), py::arg("counts"), py::kw_only(), py::arg("n_classes"),
        py::arg("threads") = 0, py::arg("stream") = py::none());
}

}  // namespace bainite::bind
