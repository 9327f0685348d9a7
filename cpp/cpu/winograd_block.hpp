// What the paths of winograd_block.inl share with winograd.cpp.
#pragma once

#include <cstdint>

#include "bainite/winograd.hpp"

namespace bainite::winograd {

// Tiles [first, first + count) of a batch, numbered along rows of tiles; scratch holds scratch_floats(...) floats.
using Block = void (*)(const WinogradConv& conv, std::int64_t first, std::int64_t count, float* scratch);

void block_avx2(const WinogradConv& conv, std::int64_t first, std::int64_t count, float* scratch);
void block_avx512(const WinogradConv& conv, std::int64_t first, std::int64_t count, float* scratch);

// Floats from one of the 36 planes of a block to the next. The odd end keeps the planes out of one cache set.
inline std::int64_t plane_stride(std::int64_t tiles, std::int64_t channels) { return tiles * channels + 16; }

}  // namespace bainite::winograd
