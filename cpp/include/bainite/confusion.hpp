// Counts over label arrays: confusion matrix of two, class counts of one.
#pragma once

#include <cstdint>

#include "bainite/device.hpp"
#include "bainite/view.hpp"

namespace bainite {

constexpr std::int64_t kMaxClasses = 4096;  // the matrix is counted as 64-bit integers: 128 MiB at this size

// An integer label of any type as 0 .. classes - 1, or 0xffff when it is none of these.
template <class T>
BAINITE_HD BAINITE_INLINE std::uint16_t label_code(T label, std::int64_t classes) {
  const auto wide = static_cast<std::int64_t>(label);  // uint64 beyond 2^63 turns negative: also out of range
  return wide >= 0 && wide < classes ? static_cast<std::uint16_t>(wide) : std::uint16_t{0xffff};
}

// Codes of pairs: truth · k + pred, then k² for "left out", then k² + 1 for "outside of 0 .. k - 1".
template <class Code>
struct Coding {
  std::int64_t classes;
  bool has_ignore;
  std::int64_t ignore;

  BAINITE_HD Code left_out() const { return static_cast<Code>(classes * classes); }
  BAINITE_HD Code outside() const { return static_cast<Code>(classes * classes + 1); }
  BAINITE_HD std::int64_t codes() const { return classes * classes + 2; }
};

// Code of a pair of label codes, which are both below `classes`, or else `outside`.
template <class Code>
BAINITE_HD BAINITE_INLINE Code pair_code(Code truth, Code pred, Code classes, Code outside) {
  const bool inside = (truth < classes) & (pred < classes);
  return inside ? static_cast<Code>(truth * classes + pred) : outside;
}

// truth, pred: [rows, cols], any integer types; counts: [k, k] int64, row = truth, added to. Pixels whose truth is
// `ignore` are left out, whatever the prediction (has_ignore == false: none is).
// Returns the number of pixels, among the others, with a label outside of 0 .. k - 1; these are not counted.
template <class T, class P>
std::int64_t confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore,
                       std::int64_t ignore, std::int64_t* counts, int threads);

// labels: [rows, cols]; counts: [k], added to. Returns the number of pixels outside of 0 .. k - 1.
template <class T>
std::int64_t class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, int threads);

}  // namespace bainite
