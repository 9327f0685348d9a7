#define BAINITE_LANES 16
#define BAINITE_TILES 12
#define BAINITE_BLOCK block_avx512
#include "winograd_block.inl"
