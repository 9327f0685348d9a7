#include "bainite/confusion.hpp"
#include "support.hpp"

using namespace bainite;
using bainite::test::at;

namespace {

template <class T, class P>
void check_confusion(std::int64_t classes, std::int64_t rows, std::int64_t cols, bool has_ignore, int threads) {
  const std::int64_t pitch = cols + 5;
  auto truth = test::random_labels<T>(rows * pitch - 5, static_cast<int>(classes), 6);
  const auto pred = test::random_labels<P>(rows * pitch - 5, static_cast<int>(classes), 7);
  for (std::int64_t i = 0; i < cols / 2; ++i) truth[static_cast<std::size_t>(i)] = T{0};  // a uniform run
  if (classes < 100) truth[static_cast<std::size_t>(cols - 1)] = static_cast<T>(120);
  const std::int64_t ignore = classes - 1;
  std::vector<std::int64_t> expected(static_cast<std::size_t>(classes * classes));
  std::int64_t outside = 0;
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < cols; ++x) {
      const auto t = static_cast<std::int64_t>(at(truth, y * pitch + x));
      const auto p = static_cast<std::int64_t>(at(pred, y * pitch + x));
      if (has_ignore && t == ignore) continue;
      if (t >= classes) {
        ++outside;
      } else {
        ++expected[static_cast<std::size_t>(t * classes + p)];
      }
    }
  }
  std::vector<std::int64_t> counts(expected.size());
  const std::int64_t found = confusion<T, P>({truth.data(), rows, cols, pitch}, {pred.data(), rows, cols, pitch},
                                             classes, has_ignore, ignore, counts.data(), threads);
  CHECK(found == outside);
  CHECK(counts == expected);

  std::vector<std::int64_t> singles(static_cast<std::size_t>(classes));
  CHECK(class_counts<P>({pred.data(), rows, cols, pitch}, classes, singles.data(), threads) == 0);
  std::int64_t total = 0;
  for (const std::int64_t count : singles) total += count;
  CHECK(total == rows * cols);
}

}  // namespace

TEST_CASE("confusion counts every pair") {
  for (const std::int64_t classes : {1, 2, 4, 5, 15, 16, 60, 200}) {
    for (const bool has_ignore : {false, true}) {
      check_confusion<std::uint8_t, std::uint8_t>(classes, 3, 70, has_ignore, 1);
      check_confusion<std::uint8_t, std::uint8_t>(classes, 700, 900, has_ignore, 2);
      check_confusion<std::uint8_t, std::uint8_t>(classes, 1, 600001, has_ignore, 3);
      check_confusion<std::int64_t, std::uint16_t>(classes, 500, 1100, has_ignore, 2);
      check_confusion<std::int32_t, std::int32_t>(classes, 5, 4097, has_ignore, 0);
    }
  }
}
