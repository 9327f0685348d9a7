#include "bainite/confusion.hpp"

#include "launch.cuh"
#include "pack.cuh"

namespace bainite::cuda {
namespace {

constexpr int kSharedCounters = 12288;        // 48 KiB: what every device gives a block unasked
constexpr std::int64_t kMostCounting = 1024;  // blocks: each ends by adding its table to the counts
constexpr std::uint16_t kNone = 0xffff;
constexpr std::int64_t kRowOfBytes = 2 * kLongPiece;  // of a piece, where labels are bytes

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

// Labels of one byte each, kArrays arrays of them (truth and prediction, or labels alone): by far the commonest. Codes
// are those of Coding: truth · classes + pred, or the label. As long as these are few, kTogether neighbours are counted
// as one pattern, whose number has their codes as digits; with kWide, codes are too large for a byte.
template <int kArrays, int kTogether, bool kWide>
struct Bytes {
  static constexpr int kCount = 16;
  static constexpr std::uint32_t kDigits = kTogether;
  using Labels = Words<std::uint8_t, kCount>;

  View2D<const std::uint8_t> arrays[kArrays];
  std::uint32_t classes;
  bool has_ignore;
  std::int64_t ignore;
  // Of a table of counters: lanes of a warp meet neither in a counter nor in a bank with 32, for which only wide codes
  // can be too many.
  std::uint32_t wide_copies;

  BAINITE_HD std::uint32_t copies() const { return kWide ? wide_copies : std::uint32_t{kWarp}; }

  // A table: patterns, then the codes of single pixels (where patterns are not just these), then outside.
  BAINITE_HD std::uint32_t codes() const { return kArrays == 2 ? classes * classes : classes; }
  BAINITE_HD std::uint32_t first_code() const {
    return kTogether == 1 ? 0 : (kTogether == 2 ? codes() * codes() : codes() * codes() * codes() * codes());
  }
  BAINITE_HD std::uint32_t rows() const { return first_code() + codes() + 1; }

  __device__ __forceinline__ bool left_out(std::uint32_t truth) const {
    return kArrays == 2 && has_ignore && truth == ignore;
  }

  // `table` is this lane's column, here and below.
  __device__ __forceinline__ void add(std::uint32_t* table, std::uint32_t row, std::uint32_t number) const {
    atomicAdd(table + row * copies(), number);
  }
  __device__ __forceinline__ void add_pixels(std::uint32_t* table, std::uint32_t truth, std::uint32_t pred,
                                             std::uint32_t number) const {
    if (left_out(truth)) return;
    const bool inside = truth < classes && (kArrays == 1 || pred < classes);
    const std::uint32_t code = kArrays == 1 ? truth : truth * classes + pred;
    add(table, first_code() + (inside ? code : codes()), number);
  }

  // All of a row's pixels, those at the ends one by one.
  __device__ __forceinline__ void count_row(std::uint32_t* table, std::int64_t y, std::int64_t begin,
                                            std::int64_t end) const {
    const std::uint8_t* truth = arrays[0].row(y);
    const std::uint8_t* pred = arrays[kArrays - 1].row(y);
    const Split<kCount> split(begin, end, begin, end, Labels::Items::skew(truth));
    if (Labels::Items::aligned(pred + split.middle)) {
      count_packs<true>(table, truth + split.middle, pred + split.middle, split.packs);
    } else {
      count_packs<false>(table, truth + split.middle, pred + split.middle, split.packs);
    }
    split.for_each_at_the_ends([&](std::int64_t x) { add_pixels(table, truth[x], pred[x], 1); });
  }

 private:
  struct Packs {
    Labels of[kArrays];
  };

  template <bool kWords>
  __device__ __forceinline__ void count_packs(std::uint32_t* table, const std::uint8_t* truth, const std::uint8_t* pred,
                                              int packs) const {
    const auto fetch = [&](int pack, Packs& labels) {
      labels.of[0].load(truth + pack * kCount, true);
      if constexpr (kArrays == 2) labels.of[1].load(pred + pack * kCount, kWords);
    };
    const auto write = [&](int pack, int, const Packs& labels) {
      std::uint32_t first[kArrays], differing = 0, beyond = 0;
#pragma unroll
      for (int k = 0; k < kArrays; ++k) {
        first[k] = labels.of[k].bits[0] & 0xffu;
#pragma unroll
        for (int i = 0; i < Labels::kNumber; ++i) {
          differing |= labels.of[k].bits[i] ^ first[k] * 0x01010101u;
          beyond |= not_below(labels.of[k].bits[i]);
        }
      }
      if (differing == 0) {  // label images are mostly uniform
        add_pixels(table, first[0], first[kArrays - 1], kCount);
      } else if ((beyond & 0x80808080u) != 0) {
#pragma unroll 1
        for (int i = pack * kCount; i < (pack + 1) * kCount; ++i) add_pixels(table, truth[i], pred[i], 1);
      } else {
#pragma unroll
        for (int i = 0; i < Labels::kNumber; ++i) {
          count_four(table, labels.of[0].bits[i], labels.of[kArrays - 1].bits[i]);
        }
      }
    };
    for_each_pack<Packs, kArrays == 1 ? 2 : 1>(packs, fetch, write);
  }

  // In the highest bit of every byte: whether it is no class. For up to 128 classes.
  __device__ __forceinline__ std::uint32_t not_below(std::uint32_t four) const {
    return ((four & 0x7f7f7f7fu) + (128u - classes) * 0x01010101u) | four;
  }

  // Four pixels, all of them classes.
  __device__ __forceinline__ void count_four(std::uint32_t* table, std::uint32_t truth, std::uint32_t pred) const {
    if constexpr (kWide) {  // two codes in the halves of a word
      constexpr std::uint32_t kHalves = 0x00ff00ffu;
      const std::uint32_t even = (truth & kHalves) * classes + (pred & kHalves);
      const std::uint32_t odd = (truth >> 8 & kHalves) * classes + (pred >> 8 & kHalves);
      add(table, even & 0xffffu, 1);
      add(table, odd & 0xffffu, 1);
      add(table, even >> 16, 1);
      add(table, odd >> 16, 1);
      return;
    }
    const std::uint32_t four = kArrays == 2 ? truth * classes + pred : truth;
    if constexpr (kTogether == 4) {
      const std::uint32_t square = codes() * codes();
      add(table, __dp4a(four, 1u | codes() << 8 | square << 16 | square * codes() << 24, 0u), 1);
    } else if constexpr (kTogether == 2) {
      const std::uint32_t weights = 1u | codes() << 8;
      add(table, __dp4a(four, weights, 0u), 1);
      add(table, __dp4a(four, weights << 16, 0u), 1);
    } else {
      constexpr std::uint32_t kRow = kWarp * sizeof(std::uint32_t);  // bytes: times a code, a sum of one product
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        unsigned char* const counter = reinterpret_cast<unsigned char*>(table) + __dp4a(four, kRow << (8 * i), 0u);
        atomicAdd(reinterpret_cast<std::uint32_t*>(counter), 1u);
      }
    }
  }
};

// A block counts in shared memory, and ends by adding its table to the counts.
template <class Source>
__global__ void __launch_bounds__(kThreads)
    count_bytes_kernel(Source source, std::int64_t* counts, std::int64_t* outside) {
  std::uint32_t* table = shared_memory<std::uint32_t>();  // [rows, copies]
  const std::uint32_t copies = source.copies(), codes = source.codes(), patterns = source.first_code();
  for (std::uint32_t i = threadIdx.x; i < source.rows() * copies; i += kThreads) table[i] = 0;
  __syncthreads();
  std::uint32_t* const column = table + (threadIdx.x & (copies - 1));
  const View2D<const std::uint8_t>& array = source.arrays[0];
  for_each_piece<kRowOfBytes>(array.rows, array.cols, [&](std::int64_t y, std::int64_t begin, std::int64_t end) {
    source.count_row(column, y, begin, end);
  });
  __syncthreads();
  const auto total = [&](std::uint32_t row) {
    std::uint32_t sum = 0;
    for (std::uint32_t i = 0; i < copies; ++i) sum += table[row * copies + ((i + threadIdx.x) & (copies - 1))];
    return sum;
  };
  for (std::uint32_t row = threadIdx.x; row < patterns; row += kThreads) {
    const std::uint32_t number = total(row);
    if (number == 0) continue;
    for (std::uint32_t rest = row, i = 0; i < Source::kDigits; ++i, rest /= codes) {
      source.add(column, patterns + rest % codes, number);
    }
  }
  __syncthreads();
  for (std::uint32_t code = threadIdx.x; code <= codes; code += kThreads) {
    const std::uint32_t number = total(patterns + code);
    if (number == 0 || (code < codes && source.left_out(code / source.classes))) continue;
    add_to(code == codes ? outside : counts + code, number);
  }
}

template <class Source>
void count_bytes(Source source, std::int64_t* counts, std::int64_t* outside, Stream stream, const char* what) {
  source.wide_copies = kWarp;
  while (source.wide_copies * source.rows() > kSharedCounters) source.wide_copies /= 2;
  const std::size_t shared = source.copies() * source.rows() * sizeof(std::uint32_t);
  const auto kernel = count_bytes_kernel<Source>;
  // As many as run at the same time: what a block does at its end is then done but once.
  const unsigned blocks =
      blocks_for<kRowOfBytes>(source.arrays[0].rows, source.arrays[0].cols, resident_blocks(kernel, shared));
  launch(what, kernel, blocks, shared, stream, source, counts, outside);
}

// Whether it was done: not for more classes than not_below() or shared memory takes.
template <int kArrays>
bool count_bytes(const View2D<const std::uint8_t> (&arrays)[kArrays], std::int64_t classes, bool has_ignore,
                 std::int64_t ignore, std::int64_t* counts, std::int64_t* outside, Stream stream, const char* what) {
  const std::int64_t codes = kArrays == 2 ? classes * classes : classes;
  if (classes < 1 || classes > 128 || codes >= kSharedCounters) return false;
  if (arrays[0].rows == 0 || arrays[0].cols == 0) return true;
  const auto run = [&](auto source) {
    for (int i = 0; i < kArrays; ++i) source.arrays[i] = arrays[i];
    source.classes = static_cast<std::uint32_t>(classes);
    source.has_ignore = has_ignore;
    source.ignore = ignore;
    count_bytes(source, counts, outside, stream, what);
  };
  if (codes <= 4) {
    run(Bytes<kArrays, 4, false>());
  } else if (codes <= 16) {
    run(Bytes<kArrays, 2, false>());
  } else if (codes <= 256) {
    run(Bytes<kArrays, 1, false>());
  } else if constexpr (kArrays == 2) {
    run(Bytes<kArrays, 1, true>());
  }
  return true;
}

}  // namespace

template <class T, class P>
void confusion(View2D<const T> truth, View2D<const P> pred, std::int64_t classes, bool has_ignore, std::int64_t ignore,
               std::int64_t* counts, std::int64_t* outside, Stream stream) {
  if constexpr (sizeof(T) == 1 && sizeof(P) == 1) {
    if (count_bytes<2>({truth, pred}, classes, has_ignore, ignore, counts, outside, stream, "confusion")) return;
  }
  const Pairs<T, P> source{truth, pred, {classes, has_ignore, ignore}};
  count(source, truth.rows, truth.cols, counts, outside, stream, "confusion");
}

template <class T>
void class_counts(View2D<const T> labels, std::int64_t classes, std::int64_t* counts, std::int64_t* outside,
                  Stream stream) {
  if constexpr (sizeof(T) == 1) {
    if (count_bytes<1>({labels}, classes, false, 0, counts, outside, stream, "class_counts")) return;
  }
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
