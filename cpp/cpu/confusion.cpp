#include "bainite/confusion.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <vector>

#include "bainite/device.hpp"
#include "bainite/parallel.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kRun = 4096;           // pixels handled at once: codes stay in L1
constexpr std::int64_t kBlock = 1 << 18;      // pixels of one chunk of work
constexpr std::int64_t kSerial = 1 << 18;     // below this many pixels a helper thread costs more than it brings
constexpr std::int64_t kByteClasses = 15;     // most classes whose pairs, and two more codes, fit a byte
constexpr std::int64_t kComparedCodes = 16;   // up to here, comparing with every code beats a histogram
constexpr std::int64_t kTables = 4;           // histograms filled in turn: equal neighbours do not wait for each other
constexpr std::int64_t kManyCodes = 1 << 14;  // above, one histogram is enough: four would leave L2
constexpr std::uint16_t kNone = 0xffff;

BAINITE_CLONES void encode_bytes(const std::uint8_t* truth, const std::uint8_t* pred, std::int64_t count,
                                 const Coding<std::uint8_t>& coding, std::uint8_t* codes) {
  const auto k = static_cast<std::uint8_t>(coding.classes);
  const std::uint8_t left_out = coding.left_out();
  const std::uint8_t outside = coding.outside();
  for (std::int64_t i = 0; i < count; ++i) codes[i] = pair_code(truth[i], pred[i], k, outside);
  if (!coding.has_ignore || coding.ignore < 0 || coding.ignore > 255) return;
  const auto ignore = static_cast<std::uint8_t>(coding.ignore);
  for (std::int64_t i = 0; i < count; ++i) codes[i] = truth[i] == ignore ? left_out : codes[i];
}

template <class T>
BAINITE_CLONES void encode(const T* labels, std::int64_t count, std::int64_t classes, std::uint16_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) codes[i] = label_code(labels[i], classes);
}

template <class T>
BAINITE_CLONES void leave_out(const T* truth, std::int64_t count, std::int64_t ignore, std::uint32_t left_out,
                              std::uint32_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) {
    codes[i] = static_cast<std::int64_t>(truth[i]) == ignore ? left_out : codes[i];
  }
}

BAINITE_CLONES void combine(const std::uint16_t* truth, const std::uint16_t* pred, std::int64_t count,
                            std::uint32_t classes, std::uint32_t outside, std::uint32_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) {
    codes[i] = pair_code<std::uint32_t>(truth[i], pred[i], classes, outside);
  }
}

template <class T, class P>
void encode_pairs(const T* truth, const P* pred, std::int64_t count, const Coding<std::uint32_t>& coding,
                  std::uint32_t* codes) {
  std::uint16_t t[kRun];
  std::uint16_t p[kRun];
  encode(truth, count, coding.classes, t);
  encode(pred, count, coding.classes, p);
  combine(t, p, count, static_cast<std::uint32_t>(coding.classes), coding.outside(), codes);
  if (coding.has_ignore) leave_out(truth, count, coding.ignore, coding.left_out(), codes);
}

#if defined(__GNUC__)
using Bytes = std::uint8_t __attribute__((vector_size(64)));  // whatever the instruction set makes of it
#endif

// counts[c] += how often c occurs, for the codes 0 .. n-1: one comparison of 64 pixels per code.
BAINITE_CLONES void count_compared(const std::uint8_t* codes, std::int64_t count, std::int64_t n,
                                   std::int64_t* counts) {
  std::int64_t i = 0;
#if defined(__GNUC__)
  static_assert(kRun / 64 <= 255, "a byte counts the hits of one lane");
  const std::int64_t whole = count / 64 * 64;
  for (std::int64_t c = 0; c < n; ++c) {
    const Bytes wanted = Bytes{} + static_cast<std::uint8_t>(c);
    Bytes hits{};
    for (std::int64_t at = 0; at < whole; at += 64) {
      Bytes here;
      std::memcpy(&here, codes + at, sizeof here);
      hits -= reinterpret_cast<Bytes>(here == wanted);  // true is -1
    }
    std::uint8_t lanes[64];
    std::memcpy(lanes, &hits, sizeof lanes);
    std::int64_t sum = 0;
    for (const std::uint8_t lane : lanes) sum += lane;
    counts[c] += sum;
  }
  i = whole;
#endif
  for (; i < count; ++i) ++counts[codes[i]];
}

template <class Code>
BAINITE_INLINE bool all_equal(const Code* codes) {
  Code difference = 0;
  for (std::int64_t i = 0; i < 64; ++i) difference = static_cast<Code>(difference | (codes[i] ^ codes[0]));
  return difference == 0;
}

// tables: kTables histograms, `stride` entries apart (0: one). Label images are mostly uniform: 64 equal codes count as
// one.
template <class Code>
BAINITE_CLONES void count_histogram(const Code* codes, std::int64_t count, std::uint32_t* tables, std::int64_t stride) {
  std::int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    if (all_equal(codes + i)) {
      tables[codes[i]] += 64;
      continue;
    }
    for (std::int64_t j = i; j < i + 64; j += kTables) {
      ++tables[codes[j]];
      ++tables[stride + codes[j + 1]];
      ++tables[2 * stride + codes[j + 2]];
      ++tables[3 * stride + codes[j + 3]];
    }
  }
  for (; i < count; ++i) ++tables[codes[i]];
}

// Counts of one chunk of work: pixels of each code.
class Counter {
 public:
  explicit Counter(std::int64_t codes) : codes_(codes), counts_(static_cast<std::size_t>(codes)) {
    if (codes > kComparedCodes + 2) make_tables();
  }
  template <class Code>
  void add(const Code* codes, std::int64_t count) {
    if constexpr (std::is_same_v<Code, std::uint8_t>) {
      if (tables_.empty()) return count_compared(codes, count, codes_, counts_.data());
    }
    if (tables_.empty()) make_tables();
    count_histogram(codes, count, tables_.data(), codes_ > kManyCodes ? 0 : codes_);
    pending_ += count;
    if (pending_ > std::int64_t{1} << 30) empty_tables();
  }
  // counts: all but the codes "left out" and "outside"; returns the pixels that were outside.
  std::int64_t give(std::int64_t* counts) {
    empty_tables();
    for (std::int64_t i = 0; i + 2 < codes_; ++i) counts[i] += counts_[static_cast<std::size_t>(i)];
    return counts_.back();
  }

 private:
  void make_tables() { tables_.resize(static_cast<std::size_t>((codes_ > kManyCodes ? 1 : kTables) * codes_)); }
  void empty_tables() {
    for (std::size_t i = 0; i < tables_.size(); ++i) counts_[i % counts_.size()] += tables_[i];
    std::fill(tables_.begin(), tables_.end(), 0u);
    pending_ = 0;
  }

  std::int64_t codes_;
  std::vector<std::int64_t> counts_;
  std::vector<std::uint32_t> tables_;
  std::int64_t pending_ = 0;  // pixels in the tables, whose entries hold 32 bits
};

// Calls a chunk's own counter(row, column, pixels) for runs of at most kRun pixels.
template <class MakeCounter>
void for_each_run(std::int64_t rows, std::int64_t cols, std::int64_t codes, int threads, const MakeCounter& make) {
  // A row may be a whole flattened image: chunks are cut along both axes. Large tables want large chunks.
  const std::int64_t block = std::max(kBlock, 64 * codes);
  const std::int64_t width = std::min(cols, block);
  if (rows == 0 || width == 0) return;
  const std::int64_t pieces = (cols + width - 1) / width;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    auto counter = make();
    for (std::int64_t item = begin; item < end; ++item) {
      const std::int64_t y = item / pieces;
      const std::int64_t last = std::min(cols, (item % pieces + 1) * width);
      for (std::int64_t x = item % pieces * width; x < last; x += kRun) counter(y, x, std::min(kRun, last - x));
    }
  };
  parallel_for(rows * pieces, std::max<std::int64_t>(1, block / width), rows * cols < kSerial ? 1 : threads, body);
}

// Shared by the chunks of one call.
struct Total {
  std::int64_t* counts;
  std::mutex lock;
  std::int64_t outside = 0;

  void add(Counter& counter) {
    const std::lock_guard<std::mutex> guard(lock);
    outside += counter.give(counts);
  }
};

// A chunk's counter that hands its counts over when the chunk is done.
template <class Visit>
struct Chunk {
  Total& total;
  Counter counter;
  Visit visit;

  Chunk(Total& sum, std::int64_t codes, const Visit& function) : total(sum), counter(codes), visit(function) {}
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;
  ~Chunk() { total.add(counter); }
  void operator()(std::int64_t y, std::int64_t x, std::int64_t count) { visit(counter, y, x, count); }
};

}  // namespace

template <class T, class P>
std::int64_t confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore,
                       std::int64_t ignore, std::int64_t* counts, int threads) {
  Total total{counts, {}};
  if constexpr (std::is_same_v<T, std::uint8_t> && std::is_same_v<P, std::uint8_t>) {
    if (classes <= kByteClasses) {
      const Coding<std::uint8_t> coding{classes, has_ignore, ignore};
      const auto visit = [&](Counter& counter, std::int64_t y, std::int64_t x, std::int64_t count) {
        std::uint8_t codes[kRun];
        encode_bytes(truth.row(y) + x, pred.row(y) + x, count, coding, codes);
        counter.add(codes, count);
      };
      for_each_run(truth.rows, truth.cols, coding.codes(), threads,
                   [&] { return Chunk<decltype(visit)>(total, coding.codes(), visit); });
      return total.outside;
    }
  }
  const Coding<std::uint32_t> coding{classes, has_ignore, ignore};
  const auto visit = [&](Counter& counter, std::int64_t y, std::int64_t x, std::int64_t count) {
    std::uint32_t codes[kRun];
    encode_pairs(truth.row(y) + x, pred.row(y) + x, count, coding, codes);
    counter.add(codes, count);
  };
  for_each_run(truth.rows, truth.cols, coding.codes(), threads,
               [&] { return Chunk<decltype(visit)>(total, coding.codes(), visit); });
  return total.outside;
}

template <class T>
std::int64_t class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, int threads) {
  Total total{counts, {}};
  const std::int64_t codes = classes + 2;  // as for pairs: none is left out, the last one is outside
  const auto visit = [&](Counter& counter, std::int64_t y, std::int64_t x, std::int64_t count) {
    std::uint16_t wide[kRun];
    encode(labels.row(y) + x, count, classes, wide);
    const auto outside = static_cast<std::uint16_t>(classes + 1);
    for (std::int64_t i = 0; i < count; ++i) wide[i] = wide[i] == kNone ? outside : wide[i];
    if (codes > kComparedCodes) return counter.add(wide, count);
    std::uint8_t narrow[kRun];
    for (std::int64_t i = 0; i < count; ++i) narrow[i] = static_cast<std::uint8_t>(wide[i]);
    counter.add(narrow, count);
  };
  for_each_run(labels.rows, labels.cols, codes, threads, [&] { return Chunk<decltype(visit)>(total, codes, visit); });
  return total.outside;
}

#define BAINITE_CONFUSION(T, P)                                                                                      \
  template std::int64_t confusion(View2D<const T>, View2D<const P>, std::int64_t, bool, std::int64_t, std::int64_t*, \
                                  int);
#define BAINITE_LABELS(T)                                                                \
  template std::int64_t class_counts(View2D<const T>, std::int64_t, std::int64_t*, int); \
  BAINITE_CONFUSION(T, std::uint8_t)                                                     \
  BAINITE_CONFUSION(T, std::uint16_t)                                                    \
  BAINITE_CONFUSION(T, std::int32_t)                                                     \
  BAINITE_CONFUSION(T, std::int64_t)
BAINITE_LABELS(std::uint8_t)
BAINITE_LABELS(std::uint16_t)
BAINITE_LABELS(std::int32_t)
BAINITE_LABELS(std::int64_t)
#undef BAINITE_LABELS
#undef BAINITE_CONFUSION

}  // namespace bainite
