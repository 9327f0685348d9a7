#include "bainite/cleanup.hpp"

#include <array>
#include <atomic>

#include "rows.hpp"

namespace bainite {
namespace {

constexpr std::size_t kMostNeighbours = 8;

std::int32_t label_at(const Labels& labels, std::int64_t i) {
  if (labels.data == nullptr) return 0;
  if (labels.bytes == 2) return static_cast<const std::int16_t*>(labels.data)[i];
  return static_cast<const std::int32_t*>(labels.data)[i];
}

// The neighbours of a point in raster order, -1 outside of the map.
class Ring {
 public:
  Ring(const PointGrid& grid, Neighbourhood neighbourhood) : grid_(grid), offsets_(shell(neighbourhood, 1)) {}

  std::size_t size() const { return offsets_.size(); }

  void find(std::int64_t row, std::int64_t column, std::array<std::int64_t, kMostNeighbours>& found) const {
    for (std::size_t k = 0; k < offsets_.size(); ++k) {
      const std::int64_t y = row + offsets_[k].dy, x = column + offsets_[k].dx[row % 2];
      const bool inside = y >= 0 && y < grid_.rows && x >= 0 && x < grid_.row_length(y);
      found[k] = inside ? grid_.row_start(y) + x : -1;
    }
  }

 private:
  PointGrid grid_;
  std::vector<Offset> offsets_;
};

// Calls choose(row, column, point, neighbours) for every point; what it returns is the point's source.
template <class Choose>
std::int64_t for_each_point(const PointGrid& grid, int threads, std::int64_t* source, const Choose& choose) {
  std::atomic<std::int64_t> changed{0};
  cpu::for_each_band(grid, 1, threads, [&](std::int64_t begin, std::int64_t end) {
    std::array<std::int64_t, kMostNeighbours> neighbours{};
    std::int64_t here = 0;
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t start = grid.row_start(row), length = grid.row_length(row);
      for (std::int64_t c = 0; c < length; ++c) {
        source[start + c] = choose(row, c, start + c, neighbours);
        here += source[start + c] >= 0 ? 1 : 0;
      }
    }
    changed.fetch_add(here, std::memory_order_relaxed);
  });
  return changed.load();
}

}  // namespace

std::int64_t nci_sources(const float* ci, const Labels& labels, const PointGrid& grid, Neighbourhood neighbourhood,
                         float least_ci, std::int64_t* source, int threads) {
  const Ring ring(grid, neighbourhood);
  return for_each_point(grid, threads, source,
                        [&](std::int64_t row, std::int64_t column, std::int64_t i, auto& neighbours) -> std::int64_t {
                          if (!(ci[i] < least_ci)) return -1;
                          ring.find(row, column, neighbours);
                          std::int64_t best = -1;
                          float highest = ci[i];
                          for (std::size_t k = 0; k < ring.size(); ++k) {
                            const std::int64_t j = neighbours[k];
                            if (j < 0 || label_at(labels, j) < 0 || !(ci[j] > highest)) continue;
                            best = j;
                            highest = ci[j];
                          }
                          return best;
                        });
}

std::int64_t noc_sources(const double* quaternions, const Labels& labels, const std::uint8_t* links,
                         const std::uint8_t* laue, const PointGrid& grid, Neighbourhood neighbourhood, double tolerance,
                         int level, std::int64_t* source, int threads) {
  const Ring ring(grid, neighbourhood);
  const auto limit = sin2_limit<double>(tolerance);
  const std::size_t count = ring.size(), half = count / 2;
  const int needed = static_cast<int>(count) - level;
  const auto alike = [&](std::int64_t a, std::int64_t b) {
    const std::int32_t label = label_at(labels, a);
    if (label < 0 || label != label_at(labels, b)) return false;
    return pair_sin2(quaternions + 4 * a, quaternions + 4 * b, static_cast<Laue>(laue[label])) <= limit;
  };
  // Neighbour k ahead of the point is number half + k of the ring, and its link is bit k of the point; neighbour
  // half - 1 - k lies behind, and the link is bit k of the neighbour.
  const auto different = [&](std::int64_t i, const std::array<std::int64_t, kMostNeighbours>& neighbours) {
    int found = 0;
    for (std::size_t k = 0; k < half; ++k) {
      const std::int64_t ahead = neighbours[half + k], behind = neighbours[half - 1 - k];
      found += ahead >= 0 && (links[i] >> k & 1) == 0 ? 1 : 0;
      found += behind >= 0 && (links[behind] >> k & 1) == 0 ? 1 : 0;
    }
    return found;
  };
  return for_each_point(grid, threads, source,
                        [&](std::int64_t row, std::int64_t column, std::int64_t i, auto& neighbours) -> std::int64_t {
                          ring.find(row, column, neighbours);
                          if (different(i, neighbours) < needed) return -1;
                          std::array<int, kMostNeighbours> group{};
                          for (std::size_t a = 0; a < count; ++a) {
                            if (neighbours[a] < 0 || label_at(labels, neighbours[a]) < 0) continue;
                            ++group[a];
                            for (std::size_t b = a + 1; b < count; ++b) {
                              if (neighbours[b] < 0 || !alike(neighbours[a], neighbours[b])) continue;
                              ++group[a];
                              ++group[b];
                            }
                          }
                          std::size_t most_alike = 0;
                          for (std::size_t k = 1; k < count; ++k)
                            most_alike = group[k] > group[most_alike] ? k : most_alike;
                          return needed > 0 && group[most_alike] >= needed ? neighbours[most_alike] : -1;
                        });
}

}  // namespace bainite
