// Arrays and numbers for the tests.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "bainite/view.hpp"

namespace bainite::test {

// Heap memory of exactly the size a view needs, so that a sanitizer sees one step too far.
template <class T>
std::vector<T> random_labels(std::int64_t count, int classes, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<T> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = static_cast<T>(generator() % static_cast<unsigned>(classes));
  return values;
}

inline std::vector<float> random_floats(std::int64_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (auto& value : values) value = normal(generator);
  return values;
}

template <class T>
T at(const std::vector<T>& values, std::int64_t index) {
  return values[static_cast<std::size_t>(index)];
}

}  // namespace bainite::test
