#include <pybind11/stl.h>

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
  if (out.format != py::format_descriptor<double>::format() || out.ndim != 2 ||
      out.strides[1] != static_cast<py::ssize_t>(sizeof(double)) || out.strides[0] != out.shape[1] * out.strides[1]) {
    throw py::value_error("out must be contiguous float64 [rows, columns]");
  }
  checked_threads(threads);
  const View2D<double> view{static_cast<double*>(out.ptr), out.shape[0], out.shape[1], out.shape[1]};
  const TextReport report =
      without_gil([&] { return read_text(text.data(), text.size(), checked_layout(decimal_comma), view, threads); });
  return py::make_tuple(report.rows, report.lines, static_cast<int>(report.fault), report.line, report.offset,
                        report.column);
}

}  // namespace

void bind_text_table(py::module_& m) {
  m.def("measure_text", &bind_measure, py::arg("text"), py::kw_only(), py::arg("threads") = 0);
  m.def("read_text", &bind_read, py::arg("text"), py::arg("out"), py::kw_only(), py::arg("decimal_comma") = false,
        py::arg("threads") = 0);
}

}  // namespace bainite::bind
