// The order in which tiles are filled: neighbours in a strip advance together, a few rows at a time, so that image rows
// are read as long runs and every tile is written as a few long ones.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "bainite/parallel.hpp"
#include "bainite/tiling.hpp"
#include "stream.hpp"

namespace bainite::cpu {

constexpr std::int64_t kChunkBytes = 1 << 18;   // work of one chunk: large against a thread's start, small against L2
constexpr std::int64_t kSerialBytes = 1 << 20;  // below this a helper thread costs more than it brings
constexpr std::int64_t kGroupBytes = 2048;      // of one tile at a time, at most, where rows are several

inline int useful_threads(std::int64_t bytes, int threads) { return bytes < kSerialBytes ? 1 : threads; }

// Columns of one tile: [first, last) is one contiguous run inside the image, from region column `source` on; the others
// are padding, whose region columns (-1: constant) stand in `left` and `right`.
struct Columns {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t width = 0;
  std::int64_t source = 0;
  std::vector<std::int64_t> left;
  std::vector<std::int64_t> right;

  Columns(const TileGrid& grid, std::int64_t corner, std::int64_t tile_cols) : width(tile_cols) {
    first = std::clamp<std::int64_t>(-corner, 0, width);
    last = std::clamp<std::int64_t>(grid.image_cols - corner, first, width);
    source = corner + first - grid.origin_x;
    const auto padding = [&](std::int64_t x) {
      const std::int64_t column = mirror_index(corner + x, grid.image_cols, grid.pad);
      return column < 0 ? -1 : column - grid.origin_x;
    };
    for (std::int64_t x = 0; x < first; ++x) left.push_back(padding(x));
    for (std::int64_t x = last; x < width; ++x) right.push_back(padding(x));
  }
  bool whole() const { return first == 0 && last == width; }
};

template <std::size_t kBytes>
void copy_fixed(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill,
                const std::vector<std::int64_t>& columns) {
  for (const std::int64_t column : columns) {
    std::memcpy(to, column < 0 ? fill : row + static_cast<std::size_t>(column) * kBytes, kBytes);
    to += kBytes;
  }
}

// Padding of one row, item by item.
inline void copy_items(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill,
                       const std::vector<std::int64_t>& columns, std::int64_t bytes) {
  switch (bytes) {
    case 1:
      return copy_fixed<1>(to, row, fill, columns);
    case 2:
      return copy_fixed<2>(to, row, fill, columns);
    case 3:
      return copy_fixed<3>(to, row, fill, columns);
    case 4:
      return copy_fixed<4>(to, row, fill, columns);
    case 8:
      return copy_fixed<8>(to, row, fill, columns);
    default:
      for (const std::int64_t column : columns) {
        std::memcpy(to, column < 0 ? fill : row + column * bytes, static_cast<std::size_t>(bytes));
        to += bytes;
      }
  }
}

// One padded row of a tile: a memcpy for the run inside the image, items for the rest. row == nullptr: all constant.
inline void copy_row(std::uint8_t* to, const std::uint8_t* row, const std::uint8_t* fill, const Columns& columns,
                     std::int64_t bytes) {
  if (row == nullptr) {
    for (std::int64_t x = 0; x < columns.width; ++x) std::memcpy(to + x * bytes, fill, static_cast<std::size_t>(bytes));
    return;
  }
  copy_items(to, row, fill, columns.left, bytes);
  if (columns.last > columns.first) {
    std::memcpy(to + columns.first * bytes, row + columns.source * bytes,
                static_cast<std::size_t>((columns.last - columns.first) * bytes));
  }
  copy_items(to + columns.last * bytes, row, fill, columns.right, bytes);
}

// Where each strip (a run of tiles at one height) begins, and the end.
inline std::vector<std::int64_t> strips_of(const TileGrid& grid) {
  std::vector<std::int64_t> starts;
  for (std::int64_t i = 0; i < grid.n; ++i) {
    if (i == 0 || grid.corners[2 * i] != grid.corners[2 * i - 2]) starts.push_back(i);
  }
  starts.push_back(grid.n);
  return starts;
}

// Rows [begin, end) of one tile.
struct Group {
  std::int64_t tile, begin, end;
};

// Calls fill(group, columns) for every group of rows of every tile, on up to `threads` threads. `make_fill` is called
// once per chunk of work and gives its own `fill`, which may hold scratch memory.
template <class MakeFill>
void for_each_group(const TileGrid& grid, std::int64_t tile_rows, std::int64_t tile_cols, std::int64_t row_bytes,
                    int threads, const MakeFill& make_fill) {
  if (grid.n == 0 || tile_rows == 0 || row_bytes == 0) return;
  const std::vector<std::int64_t> starts = strips_of(grid);
  const auto strips = static_cast<std::int64_t>(starts.size()) - 1;
  // Rows that end within a cache line are written in longer groups: each group's ends are lines written twice.
  const std::int64_t group_bytes = row_bytes % 64 == 0 ? kGroupBytes / 2 : kGroupBytes;
  const std::int64_t step = std::clamp<std::int64_t>(group_bytes / row_bytes, 1, tile_rows);
  const std::int64_t groups = (tile_rows + step - 1) / step;
  const auto body = [&](std::int64_t first, std::int64_t last) {
    auto fill = make_fill();
    std::vector<Columns> columns;
    std::int64_t placed = -1;
    for (std::int64_t item = first; item < last; ++item) {
      const std::int64_t strip = item / groups;
      const std::int64_t begin = item % groups * step;
      const std::int64_t tiles = starts[static_cast<std::size_t>(strip)];
      const std::int64_t tiles_end = starts[static_cast<std::size_t>(strip) + 1];
      if (strip != placed) {
        columns.clear();
        for (std::int64_t i = tiles; i < tiles_end; ++i) columns.emplace_back(grid, grid.corners[2 * i + 1], tile_cols);
        placed = strip;
      }
      for (std::int64_t i = tiles; i < tiles_end; ++i) {
        fill(Group{i, begin, std::min(begin + step, tile_rows)}, columns[static_cast<std::size_t>(i - tiles)]);
      }
    }
    stream_fence();
  };
  const std::int64_t total = grid.n * tile_rows * row_bytes;
  const std::int64_t item_bytes = std::max<std::int64_t>(1, total / (strips * groups));
  parallel_for(strips * groups, std::max<std::int64_t>(1, kChunkBytes / item_bytes), useful_threads(total, threads),
               body);
}

// Region row that shows at row y of a tile; -1: constant.
inline std::int64_t source_row(const TileGrid& grid, std::int64_t tile, std::int64_t y) {
  const std::int64_t row = mirror_index(grid.corners[2 * tile] + y, grid.image_rows, grid.pad);
  return row < 0 ? -1 : row - grid.origin_y;
}

}  // namespace bainite::cpu
