#include <atomic>
#include <vector>

#include "bainite/grains.hpp"
#include "rows.hpp"

namespace bainite {
namespace {

// Parents within an array of ids; a parent is never a later point than its child (M. Rem's union, with splicing).
void unite(std::int32_t* parent, std::int32_t a, std::int32_t b) {
  while (parent[a] != parent[b]) {
    if (parent[a] < parent[b]) std::swap(a, b);
    const std::int32_t above = parent[a];
    if (above == a) {
      parent[a] = parent[b];
      return;
    }
    parent[a] = parent[b];
    a = above;
  }
}

std::int32_t label_at(const Labels& labels, std::int64_t i) {
  if (labels.data == nullptr) return 0;
  if (labels.bytes == 2) return static_cast<const std::int16_t*>(labels.data)[i];
  return static_cast<const std::int32_t*>(labels.data)[i];
}

class Forest {
 public:
  Forest(const std::uint8_t* links, const PointGrid& grid, std::vector<Offset> ahead, std::int32_t* parent)
      : links_(links), grid_(grid), ahead_(std::move(ahead)), parent_(parent) {}

  // Points of a row, each linked to its left neighbour: the run's first point is their parent.
  void add_row(const Labels& labels, std::int64_t row) {
    const std::int64_t start = grid_.row_start(row), end = start + grid_.row_length(row);
    bool linked = false;
    std::int32_t run = 0;
    for (std::int64_t i = start; i < end; ++i) {
      if (!linked) run = static_cast<std::int32_t>(i);
      const bool usable = label_at(labels, i) >= 0;
      parent_[i] = usable ? run : -1;
      linked = usable && (links_[i] & 1) != 0;
    }
  }

  // Links from `row` to the one below it; those that lead out of the map or to a point of no grain are none.
  void join_below(std::int64_t row) {
    if (row + 1 >= grid_.rows) return;
    const std::int64_t below = grid_.row_start(row + 1), length_below = grid_.row_length(row + 1);
    const std::int64_t start = grid_.row_start(row), length = grid_.row_length(row);
    for (std::int64_t c = 0; c < length; ++c) {
      const int bits = links_[start + c];
      if (bits < 2) continue;
      for (std::size_t k = 1; k < ahead_.size(); ++k) {
        if ((bits >> k & 1) == 0) continue;
        const std::int64_t x = c + ahead_[k].dx[row % 2];
        if (x < 0 || x >= length_below || parent_[start + c] < 0 || parent_[below + x] < 0) continue;
        unite(parent_, static_cast<std::int32_t>(start + c), static_cast<std::int32_t>(below + x));
      }
    }
  }

  // Numbers the trees in the order of their first points, which are their roots.
  std::int64_t number(std::int64_t points) {
    std::int32_t grains = 0;
    for (std::int64_t i = 0; i < points; ++i) {
      const std::int32_t above = parent_[i];
      if (above < 0) continue;
      parent_[i] = above == i ? grains++ : parent_[above];
    }
    return grains;
  }

 private:
  const std::uint8_t* links_;
  const PointGrid& grid_;
  std::vector<Offset> ahead_;
  std::int32_t* parent_;
};

}  // namespace

std::int64_t label_grains(const std::uint8_t* links, const Labels& labels, const PointGrid& grid,
                          Neighbourhood neighbourhood, std::int32_t* ids, int threads) {
  Forest forest(links, grid, half_stencil(neighbourhood, 1, 1), ids);
  std::vector<std::uint8_t> begins(static_cast<std::size_t>(grid.rows));  // rows where a band begins
  cpu::for_each_band(grid, 1, threads, [&](std::int64_t begin, std::int64_t end) {
    begins[static_cast<std::size_t>(begin)] = 1;
    for (std::int64_t row = begin; row < end; ++row) {
      forest.add_row(labels, row);
      if (row > begin) forest.join_below(row - 1);
    }
  });
  for (std::int64_t row = 1; row < grid.rows; ++row) {
    if (begins[static_cast<std::size_t>(row)] != 0) forest.join_below(row - 1);
  }
  return forest.number(grid.size());
}

void grain_table(const std::int32_t* ids, std::int64_t points, std::int64_t grains, std::int64_t* first,
                 std::int64_t* sizes) {
  std::fill(first, first + grains, -1);
  std::fill(sizes, sizes + grains, 0);
  for (std::int64_t i = 0; i < points; ++i) {
    const std::int32_t id = ids[i];
    if (id < 0) continue;
    if (sizes[id]++ == 0) first[id] = i;
  }
}

}  // namespace bainite
