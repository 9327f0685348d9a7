#include "bainite/confusion.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

constexpr int kSharedCounters = 12288;        // 48 KiB: what every device gives a block unasked
constexpr std::int64_t kMostCounting = 1024;  // blocks: each ends by adding its table to the counts
constexpr std::uint16_t kNone = 0xffff;

// Each kind of source gives the codes of its pixels: 0 .. n - 3 are counted, n - 2 is left out, n - 1 is outside.
template <class T, class P>
struct Pairs {
  static constexpr int kPixels = 16 / static_cast<int>(sizeof(T) > sizeof(P) ? sizeof(T) : sizeof(P));
  View2D<const T> truth;
  View2D<const P> pred;
  Coding<std::uint32_t> coding;

  std::int64_t codes() const { return coding.codes(); }

  __device__ __forceinline__ std::uint32_t code(T t, P p) const {
    if (coding.has_ignore && static_cast<std::int64_t>(t) == coding.ignore) return coding.left_out();
    return pair_code<std::uint32_t>(label_code(t, coding.classes), label_code(p, coding.classes),
                                    static_cast<std::uint32_t>(coding.classes), coding.outside());
  }
  // Calls visit(code) for pixels [begin, end) of a row, of which this lane takes packs.
  template <class Visit>
  __device__ __forceinline__ void for_each_code(std::int64_t y, std::int64_t begin, std::int64_t end,
                                                const Visit& visit) const {
    const T* t = truth.row(y);
    const P* p = pred.row(y);
    const bool t_words = Pack<T, kPixels>::aligned(t);
    const bool p_words = Pack<P, kPixels>::aligned(p);
    for (std::int64_t x = begin + lane() * kPixels; x < end; x += kWarp * kPixels) {
      if (x + kPixels > end) {
        for (std::int64_t i = x; i < end; ++i) visit(code(t[i], p[i]));
        continue;
      }
      Pack<T, kPixels> truths;
      Pack<P, kPixels> preds;
      truths.load(t + x, t_words);
      preds.load(p + x, p_words);
#pragma unroll
      for (int i = 0; i < kPixels; ++i) visit(code(truths.items[i], preds.items[i]));
    }
  }
};

template <class T>
struct Singles {
  static constexpr int kPixels = 16 / static_cast<int>(sizeof(T));
  View2D<const T> labels;
  std::int64_t classes;

  std::int64_t codes() const { return classes + 2; }

  __device__ __forceinline__ std::uint32_t code(T label) const {
    const std::uint16_t known = label_code(label, classes);
    return known == kNone ? static_cast<std::uint32_t>(classes + 1) : known;
  }
  template <class Visit>
  __device__ __forceinline__ void for_each_code(std::int64_t y, std::int64_t begin, std::int64_t end,
                                                const Visit& visit) const {
    const T* in = labels.row(y);
    const bool words = Pack<T, kPixels>::aligned(in);
    for (std::int64_t x = begin + lane() * kPixels; x < end; x += kWarp * kPixels) {
      if (x + kPixels > end) {
        for (std::int64_t i = x; i < end; ++i) visit(code(in[i]));
        continue;
      }
      Pack<T, kPixels> pack;
      pack.load(in + x, words);
#pragma unroll
      for (int i = 0; i < kPixels; ++i) visit(code(pack.items[i]));
    }
  }
};

// Adds to the counts what one code occurred.
__device__ __forceinline__ void give(std::uint32_t code, std::int64_t number, std::uint32_t codes, std::int64_t* counts,
                                     std::int64_t* outside) {
  if (number == 0 || code == codes - 2) return;
  add_to(code == codes - 1 ? outside : counts + code, number);
}

// A block counts in shared memory, in `copies` tables side by side (a power of two): threads of a warp meet neither in
// a counter nor in a bank as long as there are 32. copies == 0: the codes are too many, and go to the counts at once.
template <class Source>
__global__ void __launch_bounds__(kThreads)
    count_kernel(Source source, std::int64_t rows, std::int64_t cols, std::uint32_t codes, std::uint32_t copies,
                 std::int64_t* counts, std::int64_t* outside) {
  std::uint32_t* table = shared_memory<std::uint32_t>();  // [codes, copies]
  for (std::uint32_t i = threadIdx.x; i < codes * copies; i += kThreads) table[i] = 0;
  __syncthreads();
  // Label images are mostly uniform: a run of equal codes is counted once, where it ends.
  std::uint32_t current = 0;
  std::uint32_t run = 0;
  const auto flush = [&] {
    if (copies == 0) {
      give(current, run, codes, counts, outside);
    } else if (run > 0) {
      atomicAdd(table + current * copies + (threadIdx.x & (copies - 1)), run);
    }
  };
  const auto visit = [&](std::uint32_t code) {
    if (code != current) {
      flush();
      current = code;
      run = 0;
    }
    ++run;
  };
  for_each_piece(rows, cols, [&](std::int64_t y, std::int64_t begin, std::int64_t end) {
    source.for_each_code(y, begin, end, visit);
  });
  flush();
  if (copies == 0) return;
  __syncthreads();
  for (std::uint32_t code = threadIdx.x; code < codes; code += kThreads) {
    std::int64_t sum = 0;
    for (std::uint32_t i = 0; i < copies; ++i) sum += table[code * copies + ((i + threadIdx.x) & (copies - 1))];
    give(code, sum, codes, counts, outside);
  }
}

template <class Source>
void count(const Source& source, std::int64_t rows, std::int64_t cols, std::int64_t* counts, std::int64_t* outside,
           Stream stream, const char* what) {
  if (rows == 0 || cols == 0) return;
  const auto codes = static_cast<std::uint32_t>(source.codes());
  std::uint32_t copies = codes > kSharedCounters ? 0 : kThreads;
  while (copies * codes > kSharedCounters) copies /= 2;
  const std::size_t shared = copies * codes * sizeof(std::uint32_t);
  launch(what, count_kernel<Source>, blocks_for(rows, cols, kMostCounting), shared, stream, source, rows, cols, codes,
         copies, counts, outside);
}

}  // namespace

template <class T, class P>
void confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore, std::int64_t ignore,
               std::int64_t* counts, std::int64_t* outside, Stream stream) {
  const Pairs<T, P> source{truth, pred, {classes, has_ignore, ignore}};
  count(source, truth.rows, truth.cols, counts, outside, stream, "confusion");
}

template <class T>
void class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, std::int64_t* outside,
                  Stream stream) {
  count(Singles<T>{labels, classes}, labels.rows, labels.cols, counts, outside, stream, "class_counts");
}

#define BAINITE_CONFUSION(T, P)                                                                              \
  template void confusion(View2D<const T>, View2D<const P>, std::int64_t, bool, std::int64_t, std::int64_t*, \
                          std::int64_t*, Stream);
#define BAINITE_LABELS(T)                                                                          \
  template void class_counts(View2D<const T>, std::int64_t, std::int64_t*, std::int64_t*, Stream); \
  BAINITE_CONFUSION(T, std::uint8_t)                                                               \
  BAINITE_CONFUSION(T, std::uint16_t)                                                              \
  BAINITE_CONFUSION(T, std::int32_t)                                                               \
  BAINITE_CONFUSION(T, std::int64_t)
BAINITE_LABELS(std::uint8_t)
BAINITE_LABELS(std::uint16_t)
BAINITE_LABELS(std::int32_t)
BAINITE_LABELS(std::int64_t)
#undef BAINITE_LABELS
#undef BAINITE_CONFUSION

}  // namespace bainite::cuda
