#include <algorithm>
#include <cmath>
#include <limits>

#include "bainite/cleanup.hpp"
#include "bainite/ebsd.hpp"
#include "bainite/grains.hpp"
#include "support.hpp"

using namespace bainite;

namespace {

using Q = Quaternion<double>;

Q unit(double w, double x, double y, double z) {
  const double length = std::sqrt(w * w + x * x + y * y + z * z);
  return {w / length, x / length, y / length, z / length};
}

Q turn(double x, double y, double z, int fold) {
  const double half = 3.14159265358979323846 / fold;
  const double length = std::sqrt(x * x + y * y + z * z);
  return {std::cos(half), std::sin(half) * x / length, std::sin(half) * y / length, std::sin(half) * z / length};
}

// The proper rotations of a Laue group: products of its generators until nothing new comes.
std::vector<Q> rotations(Laue laue) {
  std::vector<Q> generators;
  switch (laue) {
    case Laue::triclinic:
      break;
    case Laue::monoclinic:
      generators = {turn(0, 1, 0, 2)};
      break;
    case Laue::orthorhombic:
      generators = {turn(0, 0, 1, 2), turn(1, 0, 0, 2)};
      break;
    case Laue::tetragonal_low:
      generators = {turn(0, 0, 1, 4)};
      break;
    case Laue::tetragonal:
      generators = {turn(0, 0, 1, 4), turn(1, 0, 0, 2)};
      break;
    case Laue::trigonal_low:
      generators = {turn(0, 0, 1, 3)};
      break;
    case Laue::trigonal:
      generators = {turn(0, 0, 1, 3), turn(1, 0, 0, 2)};
      break;
    case Laue::hexagonal_low:
      generators = {turn(0, 0, 1, 6)};
      break;
    case Laue::hexagonal:
      generators = {turn(0, 0, 1, 6), turn(1, 0, 0, 2)};
      break;
    case Laue::cubic_low:
      generators = {turn(0, 0, 1, 2), turn(1, 0, 0, 2), turn(1, 1, 1, 3)};
      break;
    case Laue::cubic:
      generators = {turn(0, 0, 1, 4), turn(1, 0, 0, 4), turn(1, 1, 1, 3)};
      break;
  }
  std::vector<Q> found = {{1, 0, 0, 0}};
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const Q& generator : generators) {
      const Q fresh = product(found[i], generator);
      const bool known = std::any_of(found.begin(), found.end(), [&](const Q& q) {
        return std::fabs(q.w * fresh.w + q.x * fresh.x + q.y * fresh.y + q.z * fresh.z) > 1 - 1e-9;
      });
      if (!known) found.push_back(fresh);
    }
  }
  return found;
}

double brute_force(const Q& a, const Q& b, const std::vector<Q>& group) {
  const Q between = misorientation(a, b);
  double least_angle = 1000.0;
  for (const Q& s : group) {
    const Q copy = product(s, between);
    const double sine = std::sqrt(copy.x * copy.x + copy.y * copy.y + copy.z * copy.z);
    least_angle = std::min(least_angle, 2 * std::atan2(sine, std::fabs(copy.w)));
  }
  return least_angle * 180.0 / 3.14159265358979323846;
}

std::vector<double> orientations(std::int64_t count, double spread, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> q;
  for (std::int64_t i = 0; i < count; ++i) {
    const Q u = unit(spread > 0 ? 1.0 : normal(generator), (spread > 0 ? spread : 1.0) * normal(generator),
                     (spread > 0 ? spread : 1.0) * normal(generator), (spread > 0 ? spread : 1.0) * normal(generator));
    q.insert(q.end(), {u.w, u.x, u.y, u.z});
  }
  return q;
}

Q at4(const std::vector<double>& q, std::int64_t i) {
  const double* p = q.data() + 4 * i;
  return {p[0], p[1], p[2], p[3]};
}

const PointGrid kGrids[] = {{false, 13, 21, 21}, {true, 13, 21, 20}, {true, 14, 33, 33}, {false, 1, 1, 1},
                            {true, 2, 1, 0},     {false, 40, 3, 3},  {true, 5, 2, 1}};

}  // namespace

TEST_CASE("the groups have as many rotations as they should") {
  const std::size_t orders[] = {1, 2, 4, 4, 8, 3, 6, 6, 12, 12, 24};
  for (int laue = 0; laue < kLaueGroups; ++laue) CHECK(rotations(static_cast<Laue>(laue)).size() == orders[laue]);
}

TEST_CASE("disorientation is the least of all symmetric copies") {
  constexpr std::int64_t kPairs = 4000;
  for (const double spread : {0.0, 0.02}) {
    const auto q1 = orientations(kPairs, spread, 1), q2 = orientations(kPairs, spread, 2);
    const std::vector<float> f1(q1.begin(), q1.end()), f2(q2.begin(), q2.end());
    for (int code = 0; code < kLaueGroups; ++code) {
      const auto laue = static_cast<Laue>(code);
      const auto group = rotations(laue);
      std::vector<double> wide(kPairs);
      std::vector<float> narrow(kPairs);
      disorientation(q1.data(), q2.data(), kPairs, laue, wide.data(), 1);
      disorientation(f1.data(), f2.data(), kPairs, laue, narrow.data(), 2);
      double worst = 0, worst_float = 0;
      for (std::int64_t i = 0; i < kPairs; ++i) {
        const double expected = brute_force(at4(q1, i), at4(q2, i), group);
        worst = std::max(worst, std::fabs(wide[static_cast<std::size_t>(i)] - expected));
        worst_float = std::max(worst_float, std::fabs(narrow[static_cast<std::size_t>(i)] - expected));
      }
      CHECK(worst < 1e-10);
      CHECK(worst_float < (spread > 0 ? 1e-5 : 2e-5));  // near 180° a float32 is 1.5e-5° from the next
    }
  }
}

TEST_CASE("kernels stay within their arrays, and threads change nothing") {
  for (const PointGrid& grid : kGrids) {
    const std::int64_t points = grid.size();
    auto q = orientations(points, 0.02, 3);
    std::vector<std::int16_t> labels(static_cast<std::size_t>(points));
    for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<std::int16_t>(i % 11 == 5 ? -1 : 0);
    if (points > 7) q[4 * 7] = std::numeric_limits<double>::quiet_NaN();
    const Orientations<double> map{q.data(), {labels.data(), 2}, grid};
    const auto neighbourhood = grid.hexagonal ? Neighbourhood::hexagonal : Neighbourhood::square8;
    for (const int order : {1, 3, 10}) {
      std::vector<float> one(static_cast<std::size_t>(points), -1.0f), two = one;
      const KamOptions options{neighbourhood, order, false, order == 3 ? 180.0 : 5.0, false};
      kam(map, Laue::cubic, options, one.data(), 1);
      kam(map, Laue::cubic, options, two.data(), 2);
      for (std::size_t i = 0; i < one.size(); ++i) {
        CHECK((one[i] == two[i] || (std::isnan(one[i]) && std::isnan(two[i]))));
      }
    }
    const auto nearest = grid.hexagonal ? Neighbourhood::hexagonal : Neighbourhood::square4;
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(points));
    links(map, Laue::cubic, nearest, 5.0, bits.data(), 2);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(points));
    const std::int64_t count = label_grains(bits.data(), map.labels, grid, nearest, ids.data(), 2);
    std::vector<std::int64_t> first(static_cast<std::size_t>(count)), sizes = first;
    grain_table(ids.data(), points, count, first.data(), sizes.data());
    for (const std::int64_t size : sizes) CHECK(size > 0);
    CHECK(std::is_sorted(first.begin(), first.end()));
    std::vector<float> ci(static_cast<std::size_t>(points), 0.5f);
    for (std::size_t i = 0; i < ci.size(); i += 3) ci[i] = 0.001f * static_cast<float>(i);
    std::vector<std::int64_t> source(static_cast<std::size_t>(points));
    nci_sources(ci.data(), map.labels, grid, neighbourhood, 0.1f, source.data(), 2);
    for (const std::int64_t s : source) CHECK((s >= -1 && s < points));
    std::vector<std::uint8_t> around(static_cast<std::size_t>(points));
    links(map, Laue::cubic, neighbourhood, 2.0, around.data(), 1);
    const std::vector<std::uint8_t> laue(32768, 10);
    for (const int level : {0, 3, 5}) {
      noc_sources(q.data(), map.labels, around.data(), laue.data(), grid, neighbourhood, 2.0, level, source.data(), 2);
      for (const std::int64_t s : source) CHECK((s >= -1 && s < points));
    }
  }
}

TEST_CASE("a grain of one orientation has exactly it as its mean") {
  const auto one = orientations(1, 0.0, 9);
  std::vector<double> q;
  for (int i = 0; i < 1000; ++i) q.insert(q.end(), one.begin(), one.end());
  const std::vector<std::int32_t> ids(1000, 0);
  for (int code = 0; code < kLaueGroups; ++code) {
    const std::vector<std::uint8_t> laue = {static_cast<std::uint8_t>(code)};
    const std::vector<double> identity = {1, 0, 0, 0};
    std::vector<std::int64_t> moments(kMoments);
    add_moments({q.data(), ids.data(), 1000, laue.data()}, one.data(), identity.data(), moments.data(), 2);
    std::vector<double> mean(4);
    moment_means(moments.data(), 1, mean.data(), 1);
    CHECK(mean[0] == doctest::Approx(1.0).epsilon(1e-15));
    CHECK(std::fabs(mean[1]) + std::fabs(mean[2]) + std::fabs(mean[3]) < 1e-12);
  }
}
