// Counts over label arrays: confusion matrix of two, class counts of one.
#pragma once

#include <cstdint>

#include "bainite/view.hpp"

namespace bainite {

constexpr std::int64_t kMaxClasses = 4096;  // the matrix is counted as 64-bit integers: 128 MiB at this size

// An integer label of any type as 0 .. classes - 1, or 0xffff when it is none of these.
template <class T>
inline std::uint16_t label_code(T label, std::int64_t classes) {
  const auto wide = static_cast<std::int64_t>(label);  // uint64 beyond 2^63 turns negative: also out of range
  return wide >= 0 && wide < classes ? static_cast<std::uint16_t>(wide) : std::uint16_t{0xffff};
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
