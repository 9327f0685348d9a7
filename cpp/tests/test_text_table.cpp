#include <cmath>
#include <cstdlib>
#include <string>

#include "bainite/parallel.hpp"
#include "bainite/text_table.hpp"
#include "support.hpp"

using namespace bainite;

namespace {

struct Table {
  TextReport report;
  std::vector<double> values;
};

Table read(const std::string& text, std::int64_t columns, char decimal = '.', int threads = 1) {
  const TextLayout layout{decimal, '#'};
  const TextSize size = measure_text(text.data(), static_cast<std::int64_t>(text.size()), layout, threads);
  Table table;
  table.values.resize(static_cast<std::size_t>(size.rows * columns));
  table.report = read_text(text.data(), static_cast<std::int64_t>(text.size()), layout,
                           {table.values.data(), size.rows, columns, columns}, threads);
  CHECK(table.report.lines == size.lines);
  return table;
}

}  // namespace

TEST_CASE("rows are read, blank lines and comments are not") {
  const Table table = read("# head\n 1 2.5\t-3 \r\n\n  # more\n4 +5 6e1\n7 8 9", 3);
  CHECK(table.report.fault == TextFault::none);
  CHECK(table.report.rows == 3);
  CHECK(table.report.lines == 6);
  CHECK(table.values == std::vector<double>{1, 2.5, -3, 4, 5, 60, 7, 8, 9});
}

TEST_CASE("every way to write a number gives the nearest double") {
  for (const char* text : {"12.56637", "0.1", "-0.0", "123456789012345", "1234567890.12345", "0.000000000000001",
                           "9007199254740993", "3.141592653589793238", "1e-5", "-1.5E+10", ".5", "5.", "-.25",
                           "000000000000000000001.5", "0.1234567890123456789", "4.9e-324", "1.7976931348623157e308"}) {
    CAPTURE(text);
    const Table table = read(text, 1);
    REQUIRE(table.report.fault == TextFault::none);
    const double expected = std::strtod(text, nullptr);
    CHECK(table.values[0] == expected);
    CHECK(std::signbit(table.values[0]) == std::signbit(expected));
  }
  CHECK(std::isnan(read("nan", 1).values[0]));
  CHECK(std::isinf(read("-inf", 1).values[0]));
}

TEST_CASE("a decimal comma is read where it is expected, and only there") {
  CHECK(read("1,5\t-2,25e1\n", 2, ',').values == std::vector<double>{1.5, -22.5});
  CHECK(read("1.5\n", 1, ',').report.fault == TextFault::number);
  CHECK(read("1,5\n", 1).report.fault == TextFault::number);
}

TEST_CASE("what is no table is reported by its place") {
  const Table few = read("1 2 3\n\n4 5\n6 7 8\n", 3);
  CHECK(few.report.fault == TextFault::columns);
  CHECK(few.report.line == 2);
  CHECK(few.report.offset == 7);
  CHECK(few.report.column == 2);
  CHECK(few.report.rows == 1);
  const Table many = read("1 2 3 4 5\n", 3);
  CHECK(many.report.fault == TextFault::columns);
  CHECK(many.report.column == 5);
  for (const char* bad :
       {"-", "+", "++1", "+-1", "1-", "0x10", "1.2.3", "1e", "e5", ".", "--1", "1_000", "12a", "1;2"}) {
    CAPTURE(bad);
    const Table table = read(std::string("1 2\n3 ") + bad + "\n", 2);
    CHECK(table.report.fault == TextFault::number);
    CHECK(table.report.line == 1);
    CHECK(table.report.column == 1);
  }
  CHECK(read(std::string("1 \0 2\n", 6), 3).report.fault == TextFault::number);
  CHECK(read("1e999\n", 1).report.fault == TextFault::range);
  CHECK(read(std::string(5000, '1') + "\n", 1).report.fault == TextFault::number);
}

TEST_CASE("a table longer than a piece, on any number of threads") {
  set_num_threads(3);
  std::string text;
  for (int i = 0; i < 200000; ++i) text += std::to_string(i) + ".5 " + std::to_string(-i) + "\n";
  const Table one = read(text, 2, '.', 1);
  const Table three = read(text, 2, '.', 3);
  CHECK(one.report.rows == 200000);
  CHECK(one.values == three.values);
  for (std::size_t i = 0; i < 200000; ++i) {
    if (one.values[2 * i] != static_cast<double>(i) + 0.5 || one.values[2 * i + 1] != -static_cast<double>(i)) {
      FAIL("row " << i);
    }
  }
  const std::size_t first = text.find("\n150000.5");
  const std::size_t second = text.find("\n190000.5");
  text[first + 3] = 'x';
  text[second + 3] = 'x';
  const Table broken = read(text, 2, '.', 3);
  CHECK(broken.report.fault == TextFault::number);
  CHECK(broken.report.line == 150000);
  CHECK(broken.report.rows == 150000);
  CHECK(broken.report.offset == static_cast<std::int64_t>(first) + 1);
  set_num_threads(0);
}

TEST_CASE("too small an output is not written beyond") {
  const std::string text = "1\n2\n3\n";
  double out[2] = {0, 0};
  CHECK(read_text(text.data(), 6, {}, {out, 2, 1, 1}, 1).rows == 0);
  CHECK(read_text(text.data(), 0, {}, {out, 2, 1, 1}, 1).rows == 0);
}
