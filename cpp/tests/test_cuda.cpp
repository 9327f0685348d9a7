// The kernels of the GPU, compiled as C++, against those of the CPU: the same bits for random shapes, strides,
// addresses and values.
#include "bainite/cuda.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "bainite/confusion.hpp"
#include "bainite/cuda_ebsd.hpp"
#include "bainite/pyramid.hpp"
#include "support.hpp"

using namespace bainite;

namespace {

class Random {
 public:
  explicit Random(unsigned seed) : generator_(seed) {}
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(generator_);
  }
  bool coin() { return between(0, 1) == 1; }
  // A number of columns: less than a warp takes, a few times that, or more than one warp takes of a row.
  std::int64_t columns(std::int64_t few, std::int64_t many) { return between(1, coin() ? few : coin() ? many : 9000); }
  float normal() { return normal_(generator_); }

 private:
  std::mt19937 generator_;
  std::normal_distribution<float> normal_{0.0f, 3.0f};
};

// Memory that begins a few items behind an aligned address, and ends where its last item does.
template <class T>
struct Buffer {
  Buffer(std::int64_t size, Random& random)
      : skip(static_cast<std::size_t>(random.coin() ? 0 : random.between(1, 5))),
        items(skip + static_cast<std::size_t>(size)) {}
  T* data() { return items.data() + skip; }
  template <class Draw>
  void fill(const Draw& draw) {
    for (auto& item : items) item = draw();
  }

  std::size_t skip;
  std::vector<T> items;
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
T intensity(Random& random) {
  if constexpr (std::is_same_v<T, float>) {
    return 100.0f * random.normal();
  } else {
    return static_cast<T>(random.between(0, std::numeric_limits<T>::max()));
  }
}

// A number, now and then one that is not finite, and with ties when `coarse`.
template <class T>
T logit(Random& random, bool coarse) {
  if (random.between(0, 199) == 0) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float odd[] = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()};
    return from_float<T>(odd[random.between(0, 2)]);
  }
  return from_float<T>(coarse ? static_cast<float>(random.between(-3, 3)) : random.normal());
}

// [n, channels, rows, cols]: planes with contiguous columns, or interleaved channels; `apart` puts room between rows.
template <class T>
View4D<T> layout(std::int64_t n, std::int64_t channels, std::int64_t rows, std::int64_t cols, bool last,
                 std::int64_t apart) {
  View4D<T> view{nullptr, n, channels, rows, cols, 0, 0, 0, 0};
  view.stride_x = last ? channels : 1;
  view.stride_c = last ? 1 : rows * (cols + apart);
  view.stride_y = last ? (cols + apart) * channels : cols + apart;
  view.stride_n = rows * channels * (cols + apart);
  return view;
}

template <class T>
std::int64_t extent(const View4D<T>& view) {
  return view.n * view.stride_n;
}

template <class In, class Out>
int check_gather(Random& random) {
  const std::int64_t pairs[][2] = {{1, 1}, {3, 3}, {3, 1}, {1, 3}, {2, 2}, {5, 5}};
  const auto* channels = pairs[random.between(0, 5)];
  const std::int64_t image_rows = random.between(1, 60), image_cols = random.columns(90, 1500);
  TileGrid grid;
  grid.image_rows = image_rows;
  grid.image_cols = image_cols;
  grid.pad = static_cast<PadMode>(random.between(0, 3));
  const bool whole = random.coin();
  grid.origin_y = whole ? 0 : random.between(0, image_rows - 1);
  grid.origin_x = whole ? 0 : random.between(0, image_cols - 1);
  const std::int64_t rows = image_rows - grid.origin_y, cols = image_cols - grid.origin_x;
  const std::int64_t tile_cols = random.columns(40, 1500);
  const std::int64_t tile_rows = random.between(1, tile_cols > 1500 ? 4 : 24);
  std::vector<std::int64_t> corners(static_cast<std::size_t>(2 * random.between(0, 3)));
  for (auto& corner : corners) corner = random.between(-50, 100);
  grid.corners = corners.data();
  grid.n = static_cast<std::int64_t>(corners.size() / 2);
  if (first_uncovered(grid, rows, cols, tile_rows, tile_cols) >= 0) return 0;

  const std::int64_t pitch = cols * channels[0] + random.between(0, 4);
  Buffer<In> image(rows * pitch, random);
  image.fill([&] { return intensity<In>(random); });
  std::vector<float> gain(static_cast<std::size_t>(channels[1])), offset(gain);
  for (auto& value : gain) value = random.normal();
  for (auto& value : offset) value = random.normal();
  const View3D<const In> region{image.data(), rows, cols, channels[0], pitch};
  View4D<Out> out = layout<Out>(grid.n, channels[1], tile_rows, tile_cols, random.coin(), random.between(0, 3));
  Buffer<Out> cpu(extent(out), random);
  Buffer<Out> gpu = cpu;
  const float fill = random.coin() ? 7.0f : 0.0f;
  out.data = cpu.data();
  gather<In, Out>(region, out, grid, gain.data(), offset.data(), fill, 1);
  out.data = gpu.data();
  cuda::gather<In, Out>(region, out, grid, gain.data(), offset.data(), fill, nullptr);
  CHECK(same_bits(cpu.items, gpu.items));
  return 1;
}

template <class In>
void check_scatter(Random& random) {
  const std::int64_t choices[] = {1, 2, 3, 4, 5, 9};
  const std::int64_t n = random.between(0, 3), classes = choices[random.between(0, 5)];
  const std::int64_t cols = random.columns(60, 1400), rows = random.between(1, cols > 1400 ? 4 : 20);
  View4D<In> logits = layout<In>(n, classes, rows, cols, random.coin(), random.between(0, 3));
  Buffer<In> memory(extent(logits), random);
  const bool coarse = random.coin();
  memory.fill([&] { return logit<In>(random, coarse); });
  logits.data = memory.data();
  if (logits.stride_x == classes && classes > 1 && random.between(0, 3) == 0) {  // neither planes nor interleaved
    logits.cols /= 2;
    logits.stride_x *= 2;
    if (logits.cols == 0) return;
  }
  std::vector<Crop> crops;
  std::int64_t below = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    Crop crop{random.between(0, rows - 1), random.between(0, logits.cols - 1), 0, 0, below, random.between(0, 5)};
    crop.height = random.between(0, rows - crop.src_y);
    crop.width = random.between(0, logits.cols - crop.src_x);
    below += crop.height;
    crops.push_back(crop);
  }
  const std::int64_t pitch = logits.cols + 5 + random.between(0, 20);
  Buffer<std::uint8_t> cpu(below * pitch, random), cpu_sure(below * pitch, random);
  cpu.fill([] { return std::uint8_t{251}; });
  cpu_sure.fill([] { return std::uint8_t{252}; });
  Buffer<std::uint8_t> gpu = cpu, gpu_sure = cpu_sure;
  const bool want = random.coin();
  const auto labels = [&](Buffer<std::uint8_t>& buffer) {
    return View2D<std::uint8_t>{buffer.data(), below, logits.cols + 5, pitch};
  };
  const auto sure = [&](Buffer<std::uint8_t>& buffer) { return want ? labels(buffer) : View2D<std::uint8_t>{}; };
  const View4D<const In> from{logits.data,     logits.n,        logits.channels, logits.rows,    logits.cols,
                              logits.stride_n, logits.stride_c, logits.stride_y, logits.stride_x};
  const float sharpness = random.coin() ? 1.0f : 0.625f;
  const std::int64_t expected = scatter<In>(from, crops.data(), labels(cpu), sure(cpu_sure), sharpness, 1);
  std::int64_t bad = 40;
  cuda::scatter<In>(from, crops.data(), labels(gpu), sure(gpu_sure), sharpness, &bad, nullptr);
  CHECK(bad == 40 + expected);
  CHECK(same_bits(cpu_sure.items, gpu_sure.items));
  CHECK(same_bits(cpu.items, gpu.items));
}

template <class T, class P>
void check_counts(Random& random, std::int64_t classes) {
  const std::int64_t cols = random.columns(50, 1500) - 1, rows = random.between(0, cols > 1500 ? 5 : 30);
  const std::int64_t pitch = cols + random.between(0, 3);
  Buffer<T> truth(rows * pitch, random);
  Buffer<P> pred(rows * pitch, random);
  // Runs of a label, as in a picture, and in most some labels that are none.
  const std::int64_t longest = random.coin()   ? 20
                               : random.coin() ? 0
                                               : 200,
                     odd = random.between(0, 3) == 0 ? 1000 : 30;
  std::int64_t run = 0, label = 0;
  const auto draw = [&] {
    if (run-- <= 0) {
      run = random.between(0, longest);
      const bool none = random.between(0, odd) == 0;
      label = none ? (random.coin() ? 255 : random.between(classes, 255)) : random.between(0, classes - 1);
    }
    return label;
  };
  truth.fill([&] { return static_cast<T>(draw()); });
  pred.fill([&] { return static_cast<P>(draw()); });
  const bool has_ignore = random.coin();
  const std::int64_t ignore = random.coin() ? 255 : random.between(0, classes - 1);
  const View2D<const T> t{truth.data(), rows, cols, pitch};
  const View2D<const P> p{pred.data(), rows, cols, pitch};
  std::vector<std::int64_t> cpu(static_cast<std::size_t>(classes * classes), 3), gpu(cpu);
  const std::int64_t expected = confusion<T, P>(t, p, classes, has_ignore, ignore, cpu.data(), 1);
  std::int64_t outside = 5;
  cuda::confusion<T, P>(t, p, classes, has_ignore, ignore, gpu.data(), &outside, nullptr);
  CHECK(outside == 5 + expected);
  CHECK(cpu == gpu);

  std::vector<std::int64_t> singles(static_cast<std::size_t>(classes), 2), gpu_singles(singles);
  const std::int64_t beyond = class_counts<T>(t, classes, singles.data(), 1);
  outside = 0;
  cuda::class_counts<T>(t, classes, gpu_singles.data(), &outside, nullptr);
  CHECK(outside == beyond);
  CHECK(singles == gpu_singles);
}

void check_downsampling(Random& random) {
  const std::int64_t cols = random.columns(60, 3000) - 1, rows = random.between(0, cols > 3000 ? 7 : 30);
  const std::int64_t pitch = cols + random.between(0, 20);
  const std::int64_t half_rows = (rows + 1) / 2, half_cols = (cols + 1) / 2, half_pitch = half_cols + 3;
  Buffer<std::uint8_t> labels(rows * pitch, random);
  labels.fill([&] { return static_cast<std::uint8_t>(random.between(0, 3)); });
  Buffer<std::uint8_t> cpu(half_rows * half_pitch, random);
  Buffer<std::uint8_t> gpu = cpu;
  downsample_labels({labels.data(), rows, cols, pitch}, {cpu.data(), half_rows, half_cols, half_pitch}, 1);
  cuda::downsample_labels({labels.data(), rows, cols, pitch}, {gpu.data(), half_rows, half_cols, half_pitch}, nullptr);
  CHECK(same_bits(cpu.items, gpu.items));
}

// Images of any width behind any address, with margins.
void check_joining(Random& random) {
  const std::int64_t n = random.between(0, 2), rows = random.between(1, 9), cols = random.between(1, 200);
  const std::int64_t sizes[] = {1, 2, 6, 8, 12, 16, 32, 128, 144};
  const bool even = random.coin();  // words of 16 bytes throughout
  std::vector<Buffer<std::uint8_t>> images;
  std::vector<JoinInput> inputs;
  std::int64_t step = 0;
  const std::int64_t count = random.between(1, 6);
  images.reserve(static_cast<std::size_t>(count));
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t bytes = sizes[random.between(even ? 5 : 0, 8)], margin = random.between(0, 3);
    const bool quads = rows % 2 == 0 && cols % 2 == 0 && random.coin();
    auto& image = images.emplace_back(n * (rows + 2 * margin) * (cols + 2 * margin) * bytes, random);
    image.fill([&] { return static_cast<std::uint8_t>(random.between(0, 255)); });
    inputs.push_back({image.data(), bytes, margin, quads});
    step += bytes;
  }
  Buffer<std::uint8_t> cpu(n * rows * cols * step, random);
  Buffer<std::uint8_t> gpu = cpu;
  join_channels(inputs, cpu.data(), n, rows, cols, 1);
  cuda::join_channels(inputs, gpu.data(), n, rows, cols, nullptr);
  CHECK(same_bits(cpu.items, gpu.items));
}

template <class T>
void check_pooling(Random& random) {
  const std::int64_t n = random.between(0, 2), rows = random.between(1, 9), cols = random.between(1, 40);
  const std::int64_t channels = random.coin() ? 8 * random.between(1, 9) : random.between(1, 30);
  Buffer<T> image(n * rows * cols * channels, random);
  const bool coarse = random.coin();
  image.fill([&] { return logit<T>(random, coarse); });
  Buffer<T> out(n * (rows / 2) * (cols / 2) * channels, random);
  Buffer<T> cpu = out;
  cuda::max_pool2x2(static_cast<const T*>(image.data()), out.data(), n, rows, cols, channels, nullptr);
  if constexpr (std::is_same_v<T, float16>) {  // not of the CPU's layers
    std::size_t at = 0;
    const auto value = [&](std::int64_t i, std::int64_t y, std::int64_t x, std::int64_t c) {
      return to_float(image.data()[((i * rows + y) * cols + x) * channels + c]);
    };
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t y = 0; y + 1 < rows; y += 2) {
        for (std::int64_t x = 0; x + 1 < cols; x += 2) {
          for (std::int64_t c = 0; c < channels; ++c, ++at) {
            const float four[] = {value(i, y, x, c), value(i, y, x + 1, c), value(i, y + 1, x, c),
                                  value(i, y + 1, x + 1, c)};
            const bool nan = std::any_of(four, four + 4, [](float v) { return std::isnan(v); });
            const float found = to_float(out.data()[at]);
            CHECK((nan ? std::isnan(found) : found == *std::max_element(four, four + 4)));
          }
        }
      }
    }
  } else {
    max_pool2x2(image.data(), cpu.data(), n, rows, cols, channels * static_cast<std::int64_t>(sizeof(T)),
                sizeof(T) == 4, 1);
    CHECK(same_bits(cpu.items, out.items));
  }
}

template <class T>
void check_gray(Random& random) {
  const std::int64_t n = random.between(0, 2), rows = random.between(1, 6), cols = random.between(1, 150);
  constexpr std::int64_t kItems = 16 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t channels = kItems * (random.between(0, 9) == 0 ? 200 : random.between(1, 9));
  const bool relu = random.coin();
  Buffer<T> image(n * rows * cols, random), out(n * rows * cols * channels, random);
  image.fill([&] { return from_float<T>(random.normal()); });
  std::vector<float> weights(static_cast<std::size_t>(9 * channels)), bias(static_cast<std::size_t>(channels));
  for (auto& value : weights) value = random.normal();
  for (auto& value : bias) value = random.normal();
  cuda::convolve_gray(static_cast<const T*>(image.data()), weights.data(), bias.data(), out.data(), n, rows, cols,
                      channels, relu, nullptr);
  double worst = 0.0;
  for (std::int64_t i = 0; i < n * rows * cols * channels; ++i) {
    const std::int64_t c = i % channels, x = i / channels % cols, row = i / channels / cols, y = row % rows;
    double sum = bias[static_cast<std::size_t>(c)], scale = 1.0 + std::abs(sum);
    for (std::int64_t tap = 0; tap < 9; ++tap) {
      const std::int64_t yy = y + tap / 3 - 1, xx = x + tap % 3 - 1;
      if (yy < 0 || yy >= rows || xx < 0 || xx >= cols) continue;
      const double part = static_cast<double>(weights[static_cast<std::size_t>(tap * channels + c)]) *
                          static_cast<double>(to_float(image.data()[(row + tap / 3 - 1) * cols + xx]));
      sum += part;
      scale += std::abs(part);
    }
    if (relu && sum < 0.0) sum = 0.0;
    worst = std::max(worst, std::abs(sum - static_cast<double>(to_float(out.data()[i]))) / scale);
  }
  CHECK(worst < (sizeof(T) == 4 ? 1e-6 : std::is_same_v<T, bfloat16> ? 4e-3 : 5e-4));
}

// Orientations about a few centres, so that pairs lie on both sides of every limit; some are no rotation.
template <class In>
void check_orientations(Random& random) {
  const bool hexagonal = random.coin();
  const std::int64_t cols = random.between(1, 70);
  const PointGrid grid{hexagonal, random.between(1, 20), cols, hexagonal ? cols - random.between(0, 1) : cols};
  const std::int64_t points = grid.size();
  Buffer<In> q(4 * points, random);
  for (std::int64_t i = 0; i < points; ++i) {
    for (int k = 0; k < 4; ++k) q.data()[4 * i + k] = static_cast<In>(k == i / 50 % 4) + In(0.02) * random.normal();
    if (random.between(0, 30) == 0) q.data()[4 * i] = std::numeric_limits<In>::quiet_NaN();
  }
  Buffer<std::int16_t> labels(points, random);
  labels.fill([&] { return static_cast<std::int16_t>(random.between(0, 9) - 1); });
  for (std::int64_t i = 0; i < points; ++i) labels.data()[i] = std::min<std::int16_t>(labels.data()[i], 1);
  const bool labelled = random.coin();
  const Orientations<In> map{q.data(), {labelled ? labels.data() : nullptr, labelled ? 2 : 0}, grid};
  const auto laue = static_cast<Laue>(random.between(0, kLaueGroups - 1));
  const auto square = random.coin() ? Neighbourhood::square8 : Neighbourhood::square4;
  const Neighbourhood neighbourhood = hexagonal ? Neighbourhood::hexagonal : square;
  const double limits[] = {2.0, 5.0, 10.0, 11.0, std::numeric_limits<double>::infinity()};
  const KamOptions options{neighbourhood, static_cast<int>(random.between(1, 10)), random.coin(),
                           limits[random.between(0, 4)], random.coin()};
  std::vector<float> cpu(static_cast<std::size_t>(points), -1.0f), gpu = cpu;
  kam(map, laue, options, cpu.data(), 1);
  cuda::kam_from_host(map, laue, options, gpu.data());
  CHECK(same_bits(cpu, gpu));

  const std::size_t ahead = half_stencil(neighbourhood, 1, 1).size();
  std::vector<double> unit(static_cast<std::size_t>(4 * points));
  std::vector<std::int32_t> plain(static_cast<std::size_t>(points));
  cpu.assign(static_cast<std::size_t>(points) * ahead, -1.0f);
  gpu = cpu;
  neighbour_angles(map, laue, neighbourhood, options.keep, cpu.data(), 1);
  cuda::unit_orientations(map, unit.data(), plain.data(), nullptr);
  cuda::neighbour_angles({unit.data(), plain.data(), grid}, laue, neighbourhood, options.keep, gpu.data(), nullptr);
  CHECK(same_bits(cpu, gpu));
}

}  // namespace

TEST_CASE("cuda gather: the bits of the CPU") {
  Random random(1);
  int checked = 0;
  for (int i = 0; i < 30; ++i) {
    checked += check_gather<std::uint8_t, float>(random);
    checked += check_gather<std::uint8_t, bfloat16>(random);
    checked += check_gather<std::uint8_t, float16>(random);
    checked += check_gather<std::uint16_t, float>(random);
    checked += check_gather<std::uint16_t, bfloat16>(random);
    checked += check_gather<std::uint16_t, float16>(random);
    checked += check_gather<float, float>(random);
    checked += check_gather<float, bfloat16>(random);
    checked += check_gather<float, float16>(random);
  }
  CHECK(checked > 130);
}

TEST_CASE("cuda scatter: the bits of the CPU") {
  Random random(2);
  for (int i = 0; i < 70; ++i) {
    check_scatter<float>(random);
    check_scatter<bfloat16>(random);
    check_scatter<float16>(random);
  }
}

TEST_CASE("cuda counts: those of the CPU, within shared memory and beyond it") {
  Random random(3);
  // All kinds of tables for bytes: patterns of four labels, of two, single codes, wide ones, and too many for a table.
  for (const std::int64_t classes : {1, 2, 3, 4, 5, 7, 16, 17, 31, 110, 111, 128, 129, 150}) {
    for (int i = 0; i < 4; ++i) check_counts<std::uint8_t, std::uint8_t>(random, classes);
    check_counts<std::int64_t, std::uint16_t>(random, classes);
    check_counts<std::int32_t, std::int32_t>(random, classes);
    check_counts<std::uint16_t, std::int64_t>(random, classes);
  }
}

TEST_CASE("cuda pyramid: the labels of the CPU") {
  Random random(4);
  for (int i = 0; i < 80; ++i) check_downsampling(random);
}

TEST_CASE("cuda layers: the bits of the CPU") {
  Random random(6);
  for (int i = 0; i < 80; ++i) {
    check_joining(random);
    check_pooling<float>(random);
    check_pooling<bfloat16>(random);
    check_pooling<float16>(random);
    check_gray<float>(random);
    check_gray<bfloat16>(random);
    check_gray<float16>(random);
  }
}

TEST_CASE("cuda kam and misorientations: the bits of the CPU") {
  Random random(5);
  for (int i = 0; i < 100; ++i) {
    check_orientations<float>(random);
    check_orientations<double>(random);
  }
}

TEST_CASE("cuda scratch: a table of any size arrives whole, and counters begin at zero") {
  for (const std::size_t bytes : {1, 7, 8, 2040, 2048, 2049, 5000}) {
    std::vector<unsigned char> table(bytes), back(bytes);
    for (std::size_t i = 0; i < bytes; ++i) table[i] = static_cast<unsigned char>(i * 31 + 1);
    const cuda::Scratch copy(table.data(), bytes, nullptr);
    copy.download(back.data());
    CHECK(back == table);
    const cuda::Scratch zeros(bytes, nullptr);
    zeros.download(back.data());
    CHECK(back == std::vector<unsigned char>(bytes));
  }
  CHECK(cuda::device_count() == 1);
  CHECK_THROWS_AS(cuda::CurrentDevice(3), std::runtime_error);
  const std::uint64_t word = 1;
  CHECK_NOTHROW(cuda::Scratch(&word, sizeof(word), nullptr));  // a launch: what failed before is not its failure
}
