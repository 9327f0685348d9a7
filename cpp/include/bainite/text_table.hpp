// Tables of numbers in text: what the data part of .ang and .ctf files is.
//
// A row is a line that is neither blank nor a comment; its columns are separated by spaces and tabs. Lines end in LF or
// CRLF. Any bytes may come: whatever is not such a table is reported by its place, never guessed at.
#pragma once

#include <cstdint>

#include "bainite/view.hpp"

namespace bainite {

struct TextLayout {
  char decimal = '.';  // or ','
  char comment = '#';  // first character of a line to skip; '\0': none
};

enum class TextFault : int {
  none = 0,
  columns = 1,  // a row has too few or too many columns; TextReport::column is how many
  number = 2,   // what stands in TextReport::column is no number
  range = 3,    // what stands there is a number beyond those of a double
};

struct TextReport {
  std::int64_t rows = 0;   // rows read before the fault, or all
  std::int64_t lines = 0;  // lines of the text, blank ones and comments included
  TextFault fault = TextFault::none;
  std::int64_t line = 0;    // of the first fault, from 0
  std::int64_t offset = 0;  // where that line starts
  std::int64_t column = 0;
};

struct TextSize {
  std::int64_t rows = 0;
  std::int64_t lines = 0;
};

// text: [size].
TextSize measure_text(const char* text, std::int64_t size, TextLayout layout, int threads);

// text: [size]; out: [at least the rows of measure_text, columns]. The first fault in the order of the text is
// reported, whatever the number of threads; rows after it may or may not have been written.
TextReport read_text(const char* text, std::int64_t size, TextLayout layout, View2D<double> out, int threads);

}  // namespace bainite
