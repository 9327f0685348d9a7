#define BAINITE_LANES 8
#define BAINITE_TILES 6
#define BAINITE_BLOCK block_avx2
#include "winograd_block.inl"
