#include <pybind11/stl.h>

#include "bainite/rotations.hpp"
#include "bainite/text_table.hpp"
#include "bind.hpp"

namespace bainite::bind {
namespace {

// Bytes of anything with the buffer protocol, read-only memory maps too.
class Text {
 public:
  explicit Text(const py::buffer& buffer) : info_(buffer.request()) {
    if (info_.itemsize != 1 || info_.ndim != 1 || (info_.shape[0] > 1 && info_.strides[0] != 1)) {
      throw py::value_error("text must be contiguous bytes");
    }
  }
  const char* data() const { return static_cast<const char*>(info_.ptr); }
  std::int64_t size() const { return info_.size; }

 private:
  py::buffer_info info_;
};

// [rows, columns] of float64 with contiguous rows.
View2D<double> rows_of(const py::buffer_info& info, const char* name, py::ssize_t columns) {
  if (info.format != py::format_descriptor<double>::format() || info.ndim != 2 || info.shape[1] < columns ||
      info.strides[1] != static_cast<py::ssize_t>(sizeof(double)) || info.strides[0] < 0 ||
      info.strides[0] % static_cast<py::ssize_t>(sizeof(double)) != 0) {
    throw py::value_error(std::string(name) + " must be float64 [rows, " + std::to_string(columns) +
                          " columns or more] with contiguous rows");
  }
  const py::ssize_t pitch = info.strides[0] / static_cast<py::ssize_t>(sizeof(double));
  return {static_cast<double*>(info.ptr), info.shape[0], info.shape[1], pitch};
}

TextLayout checked_layout(bool decimal_comma) { return {decimal_comma ? ',' : '.', '#'}; }

py::tuple bind_measure(const py::buffer& buffer, int threads) {
  const Text text(buffer);
  checked_threads(threads);
  const TextSize size = without_gil([&] { return measure_text(text.data(), text.size(), {}, threads); });
  return py::make_tuple(size.rows, size.lines);
}

py::tuple bind_read(const py::buffer& buffer, const py::buffer& out_buffer, bool decimal_comma, int threads) {
  const Text text(buffer);
  const py::buffer_info out = out_buffer.request(true);
  const View2D<double> view = rows_of(out, "out", 1);
  checked_threads(threads);
  const TextReport report =
      without_gil([&] { return read_text(text.data(), text.size(), checked_layout(decimal_comma), view, threads); });
  return py::make_tuple(report.rows, report.lines, static_cast<int>(report.fault), report.line, report.offset,
                        report.column);
}

void bind_euler(const py::buffer& euler_buffer, const py::buffer& out_buffer, double half, int threads) {
  const py::buffer_info euler_info = euler_buffer.request();
  const py::buffer_info out_info = out_buffer.request(true);
  const View2D<double> euler = rows_of(euler_info, "euler", 3);
  const View2D<double> out = rows_of(out_info, "out", 4);
  if (out.rows != euler.rows) throw py::value_error("euler and out must have as many rows");
  checked_threads(threads);
  const View2D<const double> angles{euler.data, euler.rows, euler.cols, euler.pitch};
  without_gil([&] { quaternions_of_euler(angles, half, out, threads); });
}

}  // namespace

void bind_text_table(py::module_& m) {
  m.def("measure_text", &bind_measure, py::arg("text"), py::kw_only(), py::arg("threads") = 0);
  m.def("read_text", &bind_read, py::arg("text"), py::arg("out"), py::kw_only(), py::arg("decimal_comma") = false,
        py::arg("threads") = 0);
  m.def("quaternions_of_euler", &bind_euler, py::arg("euler"), py::arg("out"), py::kw_only(), py::arg("half") = 0.5,
        py::arg("threads") = 0);
}

}  // namespace bainite::bind
