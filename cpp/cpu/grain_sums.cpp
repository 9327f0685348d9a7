#include <array>
#include <cmath>
#include <limits>

#include "bainite/grains.hpp"
#include "rows.hpp"

namespace bainite {
namespace {

constexpr std::int64_t kChunk = 1 << 14;
using Q = Quaternion<double>;

Q load(const double* q) { return {q[0], q[1], q[2], q[3]}; }

// A run of points in one grain is added up before it comes to the table, which all threads share.
void add_atomic(std::int64_t* to, std::int64_t value) {
  if (value != 0) __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
}

struct Operators {
  std::vector<Q> all;
  double identity_wins = 1.0;  // |w| from which on the identity is nearest
};

// Proper rotations of a Laue group: powers of an axis along z (c), and what is perpendicular to it.
Operators axial(int n, bool dihedral) {
  constexpr double kPi = 3.14159265358979323846;
  Operators found;
  for (int k = 0; k < n; ++k) {
    const double half = kPi * k / n;
    found.all.push_back({std::cos(half), 0.0, 0.0, std::sin(half)});
    if (dihedral) found.all.push_back({0.0, std::cos(half), std::sin(half), 0.0});
  }
  found.identity_wins = std::cos(kPi / (2.0 * std::max(n, dihedral ? 2 : 1)));
  return found;
}

Operators cubic(bool fourfold) {
  Operators found = axial(2, true);
  for (int signs = 0; signs < 8; ++signs) {
    const auto sign = [signs](int bit) { return (signs >> bit & 1) != 0 ? -0.5 : 0.5; };
    found.all.push_back({0.5, sign(0), sign(1), sign(2)});
  }
  found.identity_wins = std::cos(3.14159265358979323846 / (fourfold ? 8.0 : 6.0));
  if (!fourfold) return found;
  const double root = std::sqrt(0.5);
  for (int i = 0; i < 4; ++i) {
    for (int j = i + 1; j < 4; ++j) {
      for (const double sign : {root, -root}) {
        std::array<double, 4> s{};
        s[static_cast<std::size_t>(i)] = root;
        s[static_cast<std::size_t>(j)] = sign;
        found.all.push_back({s[0], s[1], s[2], s[3]});
      }
    }
  }
  return found;
}

Operators monoclinic() { return {{{1.0, 0.0, 0.0, 0.0}, {0.0, 0.0, 1.0, 0.0}}, std::cos(3.14159265358979323846 / 4)}; }

const Operators& operators(std::uint8_t laue) {
  static const std::array<Operators, kLaueGroups> table = {
      axial(1, false), monoclinic(),    axial(2, true), axial(4, false), axial(4, true), axial(3, false),
      axial(3, true),  axial(6, false), axial(6, true), cubic(false),    cubic(true)};
  return table[laue];
}

// The symmetric copy s · d nearest to `mean`; both relative to one reference.
Q nearest(const Q& d, const Q& mean, const Operators& group) {
  const Q off = misorientation(d, mean);
  if (std::fabs(off.w) >= group.identity_wins) return d;
  double best = -1.0;
  const Q* winner = &group.all.front();
  for (const Q& s : group.all) {
    const double cosine = std::fabs((s.w * off.w - s.x * off.x) - (s.y * off.y + s.z * off.z));
    if (cosine > best) {
      best = cosine;
      winner = &s;
    }
  }
  return product(*winner, d);
}

struct Moments {
  std::array<std::int64_t, kMoments> sum{};

  void add(const Q& u) {
    const double v[4] = {u.w, u.x, u.y, u.z};
    std::size_t k = 0;
    for (int i = 0; i < 4; ++i) {
      for (int j = i; j < 4; ++j) sum[k++] += std::llrint(v[i] * v[j] * kMomentOne);
    }
  }
  void flush(std::int64_t* to) {
    for (std::size_t k = 0; k < kMoments; ++k) add_atomic(to + k, sum[k]);
    sum = {};
  }
};

// One turn of the plane (p, q) that makes m[p][q] vanish, of a symmetric matrix and its eigenvectors' columns.
void rotate(double (&m)[4][4], double (&vectors)[4][4], int p, int q) {
  if (m[p][q] == 0.0) return;
  const double theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
  const double t = (theta < 0.0 ? -1.0 : 1.0) / (std::fabs(theta) + std::sqrt(theta * theta + 1.0));
  const double c = 1.0 / std::sqrt(t * t + 1.0), s = t * c;
  for (auto& row : m) {
    const double a = row[p], b = row[q];
    row[p] = c * a - s * b;
    row[q] = s * a + c * b;
  }
  for (int k = 0; k < 4; ++k) {
    const double a = m[p][k], b = m[q][k];
    m[p][k] = c * a - s * b;
    m[q][k] = s * a + c * b;
  }
  for (auto& row : vectors) {
    const double a = row[p], b = row[q];
    row[p] = c * a - s * b;
    row[q] = s * a + c * b;
  }
}

// Eigenvector of the largest eigenvalue by Jacobi's method (Golub and Van Loan, Matrix Computations, 8.5).
Q largest_eigenvector(const std::int64_t* moments) {
  double m[4][4];
  std::size_t k = 0;
  for (int i = 0; i < 4; ++i) {
    for (int j = i; j < 4; ++j) m[i][j] = m[j][i] = static_cast<double>(moments[k++]) / kMomentOne;
  }
  double v[4][4] = {{1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}};
  for (int sweep = 0; sweep < 12; ++sweep) {
    double off = 0.0, trace = 0.0;
    for (int i = 0; i < 4; ++i) {
      trace += m[i][i];
      for (int j = i + 1; j < 4; ++j) off += std::fabs(m[i][j]);
    }
    if (off <= 1e-17 * trace) break;
    for (int p = 0; p < 3; ++p) {
      for (int q = p + 1; q < 4; ++q) rotate(m, v, p, q);
    }
  }
  int best = 0;
  for (int i = 1; i < 4; ++i) best = m[i][i] > m[best][best] ? i : best;
  const double sign = v[0][best] < 0.0 ? -1.0 : 1.0;
  return {sign * v[0][best], sign * v[1][best], sign * v[2][best], sign * v[3][best]};
}

}  // namespace

void add_moments(const Grains& grains, const double* reference, const double* mean, std::int64_t* moments,
                 int threads) {
  parallel_for(grains.points, kChunk, threads, [&](std::int64_t begin, std::int64_t end) {
    Moments run;
    std::int32_t current = -1;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int32_t id = grains.ids[i];
      if (id != current && current >= 0) run.flush(moments + kMoments * std::int64_t{current});
      current = id;
      if (id < 0) continue;
      const Q d = misorientation(load(grains.quaternions + 4 * i), load(reference + 4 * std::int64_t{id}));
      const Q u = nearest(d, load(mean + 4 * std::int64_t{id}), operators(grains.laue[id]));
      if (std::isfinite(u.w)) run.add(u);  // NaN in one component is NaN in all
    }
    if (current >= 0) run.flush(moments + kMoments * std::int64_t{current});
  });
}

void moment_means(const std::int64_t* moments, std::int64_t grains, double* means, int threads) {
  parallel_for(grains, 256, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      const Q mean = largest_eigenvector(moments + kMoments * g);
      double* to = means + 4 * g;
      to[0] = mean.w, to[1] = mean.x, to[2] = mean.y, to[3] = mean.z;
    }
  });
}

void grain_deviation(const Grains& grains, const double* mean, float* grod, int threads) {
  parallel_for(grains.points, kChunk, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int32_t id = grains.ids[i];
      grod[i] = std::numeric_limits<float>::quiet_NaN();
      if (id < 0) continue;
      const double sin2 =
          pair_sin2(grains.quaternions + 4 * i, mean + 4 * std::int64_t{id}, static_cast<Laue>(grains.laue[id]));
      grod[i] = static_cast<float>(std::asin(std::sqrt(least(sin2, 1.0))) * 114.59155902616464175);  // up to 180°
    }
  });
}

void add_values(const float* values, const std::int32_t* ids, std::int64_t points, std::int64_t* sums,
                std::int64_t* counts, int threads) {
  parallel_for(points, kChunk, threads, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t sum = 0, count = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      if (ids[i] >= 0 && values[i] == values[i]) {
        sum += std::llrint(static_cast<double>(values[i]) * kDegree);
        ++count;
      }
      if (ids[i] >= 0 && (i + 1 == end || ids[i + 1] != ids[i])) {
        add_atomic(sums + ids[i], sum);
        add_atomic(counts + ids[i], count);
        sum = count = 0;
      }
    }
  });
}

void add_pairs(const float* angles, const std::int32_t* ids, const PointGrid& grid, Neighbourhood neighbourhood,
               std::int64_t* sums, std::int64_t* counts, int threads) {
  const std::vector<Offset> ahead = half_stencil(neighbourhood, 1, 1);
  const auto stride = static_cast<std::int64_t>(ahead.size());
  cpu::for_each_band(grid, 1, threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t start = grid.row_start(row), length = grid.row_length(row);
      std::int64_t sum = 0, count = 0;
      for (std::int64_t c = 0; c < length; ++c) {
        const std::int32_t id = ids[start + c];
        if (id < 0) continue;
        for (std::int64_t k = 0; k < stride; ++k) {
          const Offset& offset = ahead[static_cast<std::size_t>(k)];
          const float angle = angles[(start + c) * stride + k];
          if (angle != angle) continue;  // no pair
          const std::int64_t y = row + offset.dy, x = c + offset.dx[row % 2];
          if (y >= grid.rows || x < 0 || x >= grid.row_length(y) || ids[grid.row_start(y) + x] != id) continue;
          sum += std::llrint(static_cast<double>(angle) * kDegree);
          ++count;
        }
        if (c + 1 == length || ids[start + c + 1] != id) {
          add_atomic(sums + id, sum);
          add_atomic(counts + id, count);
          sum = count = 0;
        }
      }
    }
  });
}

}  // namespace bainite
