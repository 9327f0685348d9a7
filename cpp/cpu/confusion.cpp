#include "bainite/confusion.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "bainite/device.hpp"
#include "bainite/parallel.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kRun = 4096;  // pixels handled at once: codes stay in L1
constexpr std::uint16_t kNone = 0xffff;
constexpr std::uint16_t kLeftOut = 0xfffe;

// Labels of a run as codes: 0 .. k-1, kNone out of range, kLeftOut ignored.
template <class T>
BAINITE_CLONES void encode(const T* labels, std::int64_t count, std::int64_t classes, bool has_ignore,
                           std::int64_t ignore, std::uint16_t* codes) {
  for (std::int64_t i = 0; i < count; ++i) codes[i] = label_code(labels[i], classes);
  if (!has_ignore) return;
  for (std::int64_t i = 0; i < count; ++i) {
    if (static_cast<std::int64_t>(labels[i]) == ignore) codes[i] = kLeftOut;
  }
}

// Counts of one thread, merged under a lock at its end.
struct Counts {
  std::vector<std::int64_t> table;
  std::int64_t outside = 0;
};

void merge(std::mutex& lock, const Counts& from, std::int64_t* counts, std::int64_t& outside) {
  const std::lock_guard<std::mutex> guard(lock);
  for (std::size_t i = 0; i < from.table.size(); ++i) counts[i] += from.table[i];
  outside += from.outside;
}

}  // namespace

template <class T, class P>
std::int64_t confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore,
                       std::int64_t ignore, std::int64_t* counts, int threads) {
  std::mutex lock;
  std::int64_t outside = 0;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    Counts own;
    own.table.resize(static_cast<std::size_t>(classes * classes));
    std::uint16_t truth_codes[kRun];
    std::uint16_t pred_codes[kRun];
    for (std::int64_t y = begin; y < end; ++y) {
      for (std::int64_t x = 0; x < truth.cols; x += kRun) {
        const std::int64_t count = std::min(kRun, truth.cols - x);
        encode(truth.row(y) + x, count, classes, has_ignore, ignore, truth_codes);
        encode(pred.row(y) + x, count, classes, false, 0, pred_codes);
        for (std::int64_t i = 0; i < count; ++i) {
          const std::uint16_t t = truth_codes[i];
          const std::uint16_t p = pred_codes[i];
          if (t == kLeftOut) continue;
          if (t == kNone || p == kNone) {
            ++own.outside;
          } else {
            ++own.table[static_cast<std::size_t>(t * classes + p)];
          }
        }
      }
    }
    merge(lock, own, counts, outside);
  };
  parallel_for(truth.rows, std::max<std::int64_t>(1, (1 << 20) / std::max<std::int64_t>(truth.cols, 1)), threads, body);
  return outside;
}

template <class T>
std::int64_t class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, int threads) {
  std::mutex lock;
  std::int64_t outside = 0;
  const auto body = [&](std::int64_t begin, std::int64_t end) {
    Counts own;
    own.table.resize(static_cast<std::size_t>(classes));
    std::uint16_t codes[kRun];
    for (std::int64_t y = begin; y < end; ++y) {
      for (std::int64_t x = 0; x < labels.cols; x += kRun) {
        const std::int64_t count = std::min(kRun, labels.cols - x);
        encode(labels.row(y) + x, count, classes, false, 0, codes);
        for (std::int64_t i = 0; i < count; ++i) {
          if (codes[i] == kNone) {
            ++own.outside;
          } else {
            ++own.table[codes[i]];
          }
        }
      }
    }
    merge(lock, own, counts, outside);
  };
  parallel_for(labels.rows, std::max<std::int64_t>(1, (1 << 20) / std::max<std::int64_t>(labels.cols, 1)), threads,
               body);
  return outside;
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
