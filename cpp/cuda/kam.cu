#include <vector>

#include "bainite/cuda_ebsd.hpp"

#include "launch.cuh"

namespace bainite::cuda {
namespace {

constexpr int kTileCols = 32;  // of the points that a block takes at a time
constexpr int kTileRows = kThreads / kTileCols;
constexpr int kMostNeighbours = 440;  // of order 10

// Neighbours of a point in the order in which the CPU adds their angles: those of the rows above, row by row, then
// those of its own row and below. Handed to the kernel by value.
struct Neighbours {
  int count = 0;
  std::int8_t dy[kMostNeighbours];
  std::int8_t dx[2][kMostNeighbours];  // from a point of an even, of an odd row

  void add(std::int64_t down, std::int64_t from_even, std::int64_t from_odd) {
    dy[count] = static_cast<std::int8_t>(down);
    dx[0][count] = static_cast<std::int8_t>(from_even);
    dx[1][count] = static_cast<std::int8_t>(from_odd);
    ++count;
  }
};

Neighbours neighbours_of(const KamOptions& options) {
  const std::vector<Offset> ahead =
      half_stencil(options.neighbourhood, options.perimeter ? options.order : 1, options.order);
  Neighbours found;
  for (std::int64_t dy = options.order; dy > 0; --dy) {
    for (const Offset& offset : ahead) {
      // Seen from below: an even row is met from an odd one above where dy is odd.
      if (offset.dy == dy) found.add(-dy, -offset.dx[dy % 2], -offset.dx[(dy + 1) % 2]);
    }
  }
  for (const Offset& offset : ahead) {
    found.add(offset.dy, offset.dx[0], offset.dx[1]);
    if (offset.dy == 0) found.add(0, -offset.dx[0], -offset.dx[1]);
  }
  return found;
}

template <class Label>
__device__ std::int32_t label_of(const Labels& labels, std::int64_t i) {
  return static_cast<const Label*>(labels.data)[i];
}

// The arithmetic of cpu::load_planes.
template <class In>
__global__ void unit_kernel(Orientations<In> map, std::int64_t points, double* unit, std::int32_t* labels) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < points; i += step) {
    const In* q = map.quaternions + 4 * i;
    const In norm2 = (q[0] * q[0] + q[1] * q[1]) + (q[2] * q[2] + q[3] * q[3]);
    const bool good = norm2 > In(1e-12) && norm2 < In(1e12);
    const In scale = In{1} / std::sqrt(good ? norm2 : In{1});
    for (int k = 0; k < 4; ++k) unit[4 * i + k] = good ? static_cast<double>(q[k] * scale) : 0.0;
    std::int32_t label = 0;
    if (map.labels.bytes == 2) label = label_of<std::int16_t>(map.labels, i);
    if (map.labels.bytes == 4) label = label_of<std::int32_t>(map.labels, i);
    labels[i] = good ? label : -1;
  }
}

__device__ Quaternion<double> load(const double* q, std::int64_t i) {
  const auto* pair = reinterpret_cast<const double2*>(q + 4 * i);  // 16 bytes at a time
  const double2 a = pair[0], b = pair[1];
  return {a.x, a.y, b.x, b.y};
}

template <class Work>
__device__ Quaternion<Work> between(const Quaternion<double>& a, const Quaternion<double>& b) {
  const Quaternion<double> d = misorientation(a, b);
  return {static_cast<Work>(d.w), static_cast<Work>(d.x), static_cast<Work>(d.y), static_cast<Work>(d.z)};
}

BAINITE_HD std::int64_t tiles_of(std::int64_t length, std::int64_t tile) { return (length + tile - 1) / tile; }

BAINITE_HD std::int64_t longest_row(const PointGrid& grid) {
  return grid.cols > grid.cols_even ? grid.cols : grid.cols_even;
}

// Calls visit(row, column) for every point: a block takes a tile of them, so that neighbours lie in its cache.
template <class Visit>
__device__ void for_each_point(const PointGrid& grid, const Visit& visit) {
  const std::int64_t across = tiles_of(longest_row(grid), kTileCols);
  const std::int64_t tiles = across * tiles_of(grid.rows, kTileRows);
  for (std::int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const std::int64_t down = quotient(tile, across);
    const std::int64_t row = down * kTileRows + threadIdx.x / kTileCols;
    const std::int64_t column = (tile - down * across) * kTileCols + threadIdx.x % kTileCols;
    if (row < grid.rows && column < grid.row_length(row)) visit(row, column);
  }
}

template <Laue group, class Work>
__global__ void kam_kernel(UnitOrientations map, Neighbours neighbours, Work limit, bool keep, float* out) {
  for_each_point(map.grid, [&](std::int64_t row, std::int64_t column) {
    const std::int64_t i = map.grid.row_start(row) + column;
    const std::int32_t label = map.labels[i];
    if (label < 0) {
      if (!keep) out[i] = nanf("");
      return;
    }
    const Quaternion<double> here = load(map.quaternions, i);
    Work sum{0}, count{0};
    const std::int8_t* dx = neighbours.dx[row % 2];
    for (int k = 0; k < neighbours.count; ++k) {
      const std::int64_t y = row + neighbours.dy[k], x = column + dx[k];
      if (y < 0 || y >= map.grid.rows || x < 0 || x >= map.grid.row_length(y)) continue;
      const std::int64_t j = map.grid.row_start(y) + x;
      if (map.labels[j] != label) continue;
      const Quaternion<Work> d = between<Work>(here, load(map.quaternions, j));
      const Work sin2 = disorientation_sin2<Work, group>(d);
      if (!(sin2 <= limit)) continue;
      sum += disorientation_degrees<Work, group>(d, sin2);
      count += Work{1};
    }
    out[i] = count > Work{0} ? static_cast<float>(sum / count) : nanf("");
  });
}

struct Ahead {
  int count = 0;
  Offset offset[4];
};

template <Laue group>
__global__ void angles_kernel(UnitOrientations map, Ahead ahead, bool keep, float* out) {
  for_each_point(map.grid, [&](std::int64_t row, std::int64_t column) {
    const std::int64_t i = map.grid.row_start(row) + column;
    const std::int32_t label = map.labels[i];
    if (keep && label < 0) return;
    const Quaternion<double> here = load(map.quaternions, i);
    for (int k = 0; k < ahead.count; ++k) {
      const std::int64_t y = row + ahead.offset[k].dy, x = column + ahead.offset[k].dx[row % 2];
      float angle = nanf("");
      if (label >= 0 && y < map.grid.rows && x >= 0 && x < map.grid.row_length(y)) {
        const std::int64_t j = map.grid.row_start(y) + x;
        if (map.labels[j] == label) {
          const Quaternion<double> d = between<double>(here, load(map.quaternions, j));
          angle = static_cast<float>(disorientation_degrees<double, group>(d, disorientation_sin2<double, group>(d)));
        }
      }
      out[i * ahead.count + k] = angle;
    }
  });
}

unsigned blocks_of(const PointGrid& grid) {
  const std::int64_t tiles = tiles_of(longest_row(grid), kTileCols) * tiles_of(grid.rows, kTileRows);
  return static_cast<unsigned>(std::min(tiles, kMostBlocks));
}

// Calls call.template run<group>() for the Laue group.
template <class Call>
void with_group(Laue laue, const Call& call) {
  switch (laue) {
    case Laue::triclinic:
      return call.template run<Laue::triclinic>();
    case Laue::monoclinic:
      return call.template run<Laue::monoclinic>();
    case Laue::orthorhombic:
      return call.template run<Laue::orthorhombic>();
    case Laue::tetragonal_low:
      return call.template run<Laue::tetragonal_low>();
    case Laue::tetragonal:
      return call.template run<Laue::tetragonal>();
    case Laue::trigonal_low:
      return call.template run<Laue::trigonal_low>();
    case Laue::trigonal:
      return call.template run<Laue::trigonal>();
    case Laue::hexagonal_low:
      return call.template run<Laue::hexagonal_low>();
    case Laue::hexagonal:
      return call.template run<Laue::hexagonal>();
    case Laue::cubic_low:
      return call.template run<Laue::cubic_low>();
    case Laue::cubic:
      return call.template run<Laue::cubic>();
  }
}

struct KamCall {
  UnitOrientations map;
  KamOptions options;
  float* out;
  Stream stream;

  template <Laue group>
  void run() const {
    if (options.max_angle <= kMostInFloat) return in<group, float>();
    in<group, double>();
  }

  template <Laue group, class Work>
  void in() const {
    launch("kam", kam_kernel<group, Work>, blocks_of(map.grid), 0, stream, map, neighbours_of(options),
           sin2_limit<Work>(options.max_angle), options.keep, out);
  }
};

struct AnglesCall {
  UnitOrientations map;
  Ahead ahead;
  bool keep;
  float* out;
  Stream stream;

  template <Laue group>
  void run() const {
    launch("neighbour_angles", angles_kernel<group>, blocks_of(map.grid), 0, stream, map, ahead, keep, out);
  }
};

// Device memory that is given back at the end.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::int64_t count) {
    check(cudaMalloc(&data_, static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * sizeof(T)),
          "memory for an EBSD map");
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
};

void copy(void* to, const void* from, std::int64_t bytes, cudaMemcpyKind kind) {
  check(cudaMemcpy(to, from, static_cast<std::size_t>(bytes), kind), "copy of an EBSD map");
}

}  // namespace

template <class In>
void unit_orientations(const Orientations<In>& map, double* unit, std::int32_t* labels, Stream stream) {
  const std::int64_t points = map.grid.size();
  if (points == 0) return;
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>((points + kThreads - 1) / kThreads, kMostBlocks));
  launch("unit_orientations", unit_kernel<In>, blocks, 0, stream, map, points, unit, labels);
}

void neighbour_angles(const UnitOrientations& map, Laue laue, Neighbourhood neighbourhood, bool keep, float* out,
                      Stream stream) {
  if (map.grid.size() == 0) return;
  Ahead ahead;
  for (const Offset& offset : half_stencil(neighbourhood, 1, 1)) ahead.offset[ahead.count++] = offset;
  with_group(laue, AnglesCall{map, ahead, keep, out, stream});
}

void kam(const UnitOrientations& map, Laue laue, const KamOptions& options, float* out, Stream stream) {
  if (map.grid.size() == 0) return;
  with_group(laue, KamCall{map, options, out, stream});
}

template <class In>
void kam(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out, Stream stream) {
  const auto points = static_cast<std::size_t>(map.grid.size());
  if (points == 0) return;
  const Scratch unit = Scratch::uninitialised(4 * points * sizeof(double), stream);
  const Scratch labels = Scratch::uninitialised(points * sizeof(std::int32_t), stream);
  unit_orientations(map, unit.as<double>(), labels.as<std::int32_t>(), stream);
  kam(UnitOrientations{unit.as<double>(), labels.as<std::int32_t>(), map.grid}, laue, options, out, stream);
}

template <class In>
void kam_from_host(const Orientations<In>& map, Laue laue, const KamOptions& options, float* out) {
  const std::int64_t points = map.grid.size();
  if (points == 0) return;
  const Buffer<In> quaternions(4 * points);
  const Buffer<std::uint8_t> given(map.labels.bytes * points);
  const Buffer<float> result(points);
  copy(quaternions.get(), map.quaternions, 4 * points * static_cast<std::int64_t>(sizeof(In)), cudaMemcpyHostToDevice);
  if (map.labels.data != nullptr) {
    copy(given.get(), map.labels.data, map.labels.bytes * points, cudaMemcpyHostToDevice);
  }
  const std::int64_t result_bytes = points * static_cast<std::int64_t>(sizeof(float));
  if (options.keep) copy(result.get(), out, result_bytes, cudaMemcpyHostToDevice);
  const Labels on_device{map.labels.data == nullptr ? nullptr : given.get(), map.labels.bytes};
  kam(Orientations<In>{quaternions.get(), on_device, map.grid}, laue, options, result.get(), nullptr);
  copy(out, result.get(), result_bytes, cudaMemcpyDeviceToHost);
}

template void unit_orientations<float>(const Orientations<float>&, double*, std::int32_t*, Stream);
template void unit_orientations<double>(const Orientations<double>&, double*, std::int32_t*, Stream);
template void kam<float>(const Orientations<float>&, Laue, const KamOptions&, float*, Stream);
template void kam<double>(const Orientations<double>&, Laue, const KamOptions&, float*, Stream);
template void kam_from_host<float>(const Orientations<float>&, Laue, const KamOptions&, float*);
template void kam_from_host<double>(const Orientations<double>&, Laue, const KamOptions&, float*);

}  // namespace bainite::cuda
