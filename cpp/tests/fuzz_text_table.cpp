// Random damage to tables of numbers, under the sanitizers: `fuzz_text_table [cases] [seed]`.
//
// Each case is a table that is damaged at random, copied into a block of exactly its size, so that AddressSanitizer
// sees the first byte read beyond it. What comes out is compared with a slow reading by the C library.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "bainite/parallel.hpp"
#include "bainite/text_table.hpp"

using namespace bainite;

namespace {

// xorshift64*, Marsaglia 2003 and Vigna 2016: the same cases from the same seed, everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return (state_ * 0x2545F4914F6CDD1Du >> 16) % limit;
  }

 private:
  std::uint64_t state_;
};

std::string number(Random& random, char decimal) {
  static const char* const odd[] = {"nan", "inf", "-inf",  "1e308", "1e309", "-1e-320", "+5",  "0x1p3", "1e",    ".",
                                    "-",   "--3", "1.2.3", "12,5",  "1;2",   "\"3\"",   "NaN", "1e+",   "infin", "-.5",
                                    "+-1", "00",  "5.",    "1_0",   "\xff",  "1e99999", "1d5", "#3",    "4#",    ""};
  if (random.below(40) == 0) return odd[random.below(sizeof odd / sizeof *odd)];
  std::string text = random.below(4) == 0 ? "-" : "";
  for (std::uint64_t i = random.below(random.below(20) == 0 ? 60 : 6) + 1; i > 0; --i) {
    text += static_cast<char>('0' + random.below(10));
  }
  if (random.below(3) != 0) {
    text += decimal;
    for (std::uint64_t i = random.below(random.below(20) == 0 ? 60 : 6); i > 0; --i) {
      text += static_cast<char>('0' + random.below(10));
    }
  }
  if (random.below(30) == 0) text += "e" + std::to_string(static_cast<int>(random.below(700)) - 350);
  return text;
}

std::string table(Random& random, std::int64_t columns, char decimal) {
  std::string text;
  for (std::uint64_t row = random.below(12); row > 0; --row) {
    if (random.below(15) == 0) text += "# comment";
    const std::int64_t cells = random.below(60) == 0 ? static_cast<std::int64_t>(random.below(20)) : columns;
    for (std::int64_t i = 0; i < cells; ++i) {
      text += random.below(6) == 0 ? "\t" : " ";
      text += number(random, decimal);
    }
    text += random.below(4) == 0 ? "\r\n" : "\n";
  }
  return text;
}

void damage(Random& random, std::string& text) {
  for (std::uint64_t hits = random.below(4); hits > 0 && !text.empty(); --hits) {
    const auto at = static_cast<std::size_t>(random.below(text.size()));
    switch (random.below(6)) {
      case 0:
        text[at] = static_cast<char>(random.below(256));
        break;
      case 1:
        text.erase(at, static_cast<std::size_t>(random.below(9)));
        break;
      case 2:
        text.insert(at, static_cast<std::size_t>(random.below(9)), static_cast<char>(random.below(256)));
        break;
      case 3:
        text.resize(at);
        break;
      case 4:
        text.insert(at, text.substr(static_cast<std::size_t>(random.below(text.size())), random.below(40)));
        break;
      default:
        text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
    }
  }
}

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

bool looks_like_number(const std::string& word) {
  std::size_t at = word.find_first_not_of("+-");
  if (at == std::string::npos || at > 1) return false;
  const std::string bare = word.substr(at);
  std::string low;
  for (const char c : bare) low += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  if (low == "inf" || low == "infinity" || low == "nan" || low.compare(0, 4, "nan(") == 0) return true;
  return bare.find_first_not_of("0123456789.eE+-") == std::string::npos;
}

struct Slow {
  std::int64_t lines = 0;
  std::vector<double> values;
  bool fault = false;
  std::int64_t line = 0;
};

Slow read_slowly(const std::string& text, std::int64_t columns, char decimal) {
  Slow slow;
  for (std::size_t at = 0; at < text.size(); ++slow.lines) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::vector<std::string> words;
    for (std::size_t i = at; i < end;) {
      if (blank(text[i])) {
        ++i;
        continue;
      }
      const std::size_t start = i;
      while (i < end && !blank(text[i])) ++i;
      words.push_back(text.substr(start, i - start));
    }
    at = end + 1;
    if (slow.fault || words.empty() || words[0][0] == '#') continue;
    bool good = static_cast<std::int64_t>(words.size()) == columns;
    for (std::size_t i = 0; i < words.size() && good; ++i) {
      std::string word = words[i];
      if (decimal == ',') {
        good = word.find('.') == std::string::npos;
        for (char& c : word) c = c == ',' ? '.' : c;
      }
      char* stop = nullptr;
      const double value = std::strtod(word.c_str(), &stop);
      // The C library takes hexadecimal and gives infinity for what is too large; a table of numbers has neither.
      good = good && looks_like_number(word) && word.size() - (word[0] == '+' ? 1 : 0) < 65 &&
             stop == word.c_str() + word.size();
      const bool named = word.find_first_of("iInN") != std::string::npos;
      const bool nonzero = word.substr(0, word.find_first_of("eE")).find_first_of("123456789") != std::string::npos;
      good = good && (named || (std::isfinite(value) && !(nonzero && value == 0)));
      slow.values.push_back(value);
    }
    if (!good) {
      slow.fault = true;
      slow.line = slow.lines;
    }
  }
  return slow;
}

[[noreturn]] void fail(const char* what, const std::string& text, unsigned long long seed,
                       unsigned long long number_of) {
  std::fprintf(stderr, "seed %llu, case %llu: %s\n<<<%s>>>\n", seed, number_of, what, text.c_str());
  std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long long cases = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 20000;
  const unsigned long long seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Random random(seed);
  unsigned long long faults = 0;
  const auto start = std::chrono::steady_clock::now();
  for (unsigned long long i = 0; i < cases; ++i) {
    const auto columns = static_cast<std::int64_t>(random.below(12) + 1);
    const char decimal = random.below(5) == 0 ? ',' : '.';
    std::string text = table(random, columns, decimal);
    damage(random, text);
    const std::unique_ptr<char[]> exact(new char[text.size()]);
    std::memcpy(exact.get(), text.data(), text.size());
    const auto size = static_cast<std::int64_t>(text.size());
    const TextLayout layout{decimal, '#'};
    const TextSize found = measure_text(exact.get(), size, layout, 1);
    const auto length = static_cast<std::size_t>(found.rows * columns);
    const std::unique_ptr<double[]> out(new double[length]);
    const TextReport report = read_text(exact.get(), size, layout, {out.get(), found.rows, columns, columns}, 1);
    if (report.lines != found.lines || report.rows > found.rows) fail("counts differ", text, seed, i);
    const Slow slow = read_slowly(text, columns, decimal);
    if (slow.lines != report.lines) fail("lines differ", text, seed, i);
    if (slow.fault != (report.fault != TextFault::none)) fail("one reading has a fault", text, seed, i);
    if (slow.fault && slow.line != report.line) fail("the faults are in different lines", text, seed, i);
    const auto good = static_cast<std::size_t>(report.rows * columns);
    for (std::size_t k = 0; k < good; ++k) {
      if (!(out[k] == slow.values[k] || (std::isnan(out[k]) && std::isnan(slow.values[k])))) {
        fail("a value differs", text, seed, i);
      }
    }
    faults += slow.fault ? 1 : 0;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%llu cases, %llu of them damaged, %.0f per second: no fault of ours\n", cases, faults,
              static_cast<double>(cases) / took.count());
  return 0;
}
