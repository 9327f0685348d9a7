#include "bainite/text_table.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <system_error>
#include <vector>

#include "bainite/parallel.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kPiece = 1 << 18;  // bytes handled at once
constexpr std::int64_t kLongest = 64;     // characters of the longest number taken
constexpr int kExactDigits = 15;          // any integer of so many digits is a double

// Powers of ten that are doubles: dividing one exact double by another rounds once, so it is the nearest double.
constexpr double kPower[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

const char* skip_blanks(const char* at, const char* end) {
  while (at < end && is_blank(*at)) ++at;
  return at;
}

const char* token_end(const char* at, const char* end) {
  while (at < end && !is_blank(*at)) ++at;
  return at;
}

const char* line_end(const char* at, const char* end) {
  const void* found = std::memchr(at, '\n', static_cast<std::size_t>(end - at));
  return found == nullptr ? end : static_cast<const char*>(found);
}

// Any way of writing a number, by the standard library: exponents, inf, nan, many digits.
TextFault read_any(const char* first, const char* last, char decimal, double& value) {
  if (first < last && *first == '+') {
    ++first;
    if (first < last && *first == '-') return TextFault::number;
  }
  if (last - first > kLongest || first == last) return TextFault::number;
  char text[kLongest];
  const std::int64_t length = last - first;
  for (std::int64_t i = 0; i < length; ++i) {
    // With a decimal comma a point would group thousands, which no writer of tables does.
    if (decimal != '.' && first[i] == '.') return TextFault::number;
    text[i] = first[i] == decimal ? '.' : first[i];
  }
  const auto result = std::from_chars(text, text + length, value);
  if (result.ec == std::errc::result_out_of_range) return TextFault::range;
  return result.ec == std::errc() && result.ptr == text + length ? TextFault::none : TextFault::number;
}

// Reads the number at `at`, and leaves `at` behind it.
TextFault read_number(const char*& at, const char* end, char decimal, double& value) {
  const char* p = at;
  const bool negative = *p == '-';
  if (negative) ++p;
  std::uint64_t digits = 0;
  int count = 0;
  int fraction = 0;
  for (; p < end && is_digit(*p) && count <= kExactDigits; ++p, ++count) {
    digits = digits * 10 + static_cast<std::uint64_t>(*p - '0');
  }
  if (p < end && *p == decimal) {
    const int whole = count;
    for (++p; p < end && is_digit(*p) && count <= kExactDigits; ++p, ++count) {
      digits = digits * 10 + static_cast<std::uint64_t>(*p - '0');
    }
    fraction = count - whole;
  }
  if (count > 0 && count <= kExactDigits && (p == end || is_blank(*p))) {
    const double size = static_cast<double>(digits) / kPower[fraction];
    value = negative ? -size : size;
    at = p;
    return TextFault::none;
  }
  const char* last = token_end(at, end);
  const TextFault fault = read_any(at, last, decimal, value);
  at = last;
  return fault;
}

struct Piece {
  const char* begin;
  const char* end;
  TextReport report;
};

bool is_row(const char* at, const char* end, char comment) { return at < end && !(comment != '\0' && *at == comment); }

// Reads one row; what is wrong with it goes to the report.
void read_row(const char* at, const char* end, char decimal, double* row, std::int64_t columns, TextReport& report) {
  std::int64_t column = 0;
  for (; at < end; at = skip_blanks(at, end), ++column) {
    if (column >= columns) {
      at = token_end(at, end);  // counted only
      continue;
    }
    const TextFault fault = read_number(at, end, decimal, row[column]);
    if (fault != TextFault::none) {
      report.fault = fault;
      report.column = column;
      return;
    }
  }
  if (column != columns) {
    report.fault = TextFault::columns;
    report.column = column;
  }
}

// Calls visit(first character that is no blank, end) for every line of a piece, until it returns false.
template <class Visit>
void for_each_line(const Piece& piece, const Visit& visit) {
  for (const char* at = piece.begin; at < piece.end;) {
    const char* end = line_end(at, piece.end);
    if (!visit(at, skip_blanks(at, end), end)) return;
    at = end + 1;
  }
}

// Pieces that start where a line starts, with their rows and lines counted.
std::vector<Piece> cut(const char* text, std::int64_t size, char comment, int threads) {
  std::vector<Piece> pieces;
  const char* end = text + size;
  for (const char* at = text; at < end;) {
    const char* aim = end - at > kPiece ? at + kPiece : end;
    const char* last = aim == end ? end : line_end(aim, end);
    last = last == end ? end : last + 1;
    pieces.push_back({at, last, {}});
    at = last;
  }
  const auto count = static_cast<std::int64_t>(pieces.size());
  parallel_for(count, 1, count < 4 ? 1 : threads, [&](std::int64_t first, std::int64_t stop) {
    for (std::int64_t i = first; i < stop; ++i) {
      Piece& piece = pieces[static_cast<std::size_t>(i)];
      for_each_line(piece, [&](const char*, const char* at, const char* line) {
        ++piece.report.lines;
        piece.report.rows += is_row(at, line, comment) ? 1 : 0;
        return true;
      });
    }
  });
  return pieces;
}

}  // namespace

TextSize measure_text(const char* text, std::int64_t size, TextLayout layout, int threads) {
  TextSize total;
  for (const Piece& piece : cut(text, size, layout.comment, threads)) {
    total.rows += piece.report.rows;
    total.lines += piece.report.lines;
  }
  return total;
}

TextReport read_text(const char* text, std::int64_t size, TextLayout layout, View2D<double> out, int threads) {
  std::vector<Piece> pieces = cut(text, size, layout.comment, threads);
  const auto count = static_cast<std::int64_t>(pieces.size());
  std::vector<std::int64_t> first_row(pieces.size());
  TextReport total;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    first_row[i] = total.rows;
    total.rows += pieces[i].report.rows;
    total.lines += pieces[i].report.lines;
  }
  if (total.rows > out.rows) {  // the caller's mistake, but never a write out of bounds
    total.fault = TextFault::range;
    total.rows = 0;
    return total;
  }
  parallel_for(count, 1, count < 4 ? 1 : threads, [&](std::int64_t first, std::int64_t stop) {
    for (std::int64_t i = first; i < stop; ++i) {
      Piece& piece = pieces[static_cast<std::size_t>(i)];
      TextReport& report = piece.report;
      report.rows = 0;
      for_each_line(piece, [&](const char* begin, const char* at, const char* line) {
        if (is_row(at, line, layout.comment)) {
          double* row = out.row(first_row[static_cast<std::size_t>(i)] + report.rows);
          read_row(at, line, layout.decimal, row, out.cols, report);
          if (report.fault != TextFault::none) {
            report.offset = begin - text;
            return false;
          }
          ++report.rows;
        }
        ++report.line;
        return true;
      });
    }
  });
  std::int64_t lines = 0;
  std::int64_t rows = 0;
  for (const Piece& piece : pieces) {
    if (piece.report.fault != TextFault::none) {
      total.fault = piece.report.fault;
      total.line = lines + piece.report.line;
      total.offset = piece.report.offset;
      total.column = piece.report.column;
      total.rows = rows + piece.report.rows;
      return total;
    }
    lines += piece.report.lines;
    rows += piece.report.rows;
  }
  return total;
}

}  // namespace bainite
