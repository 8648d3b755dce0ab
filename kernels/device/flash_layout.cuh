/* flash_layout.cuh - sizes and shared memory of attention on Hopper; what the constants mean stands in `flash_hopper.cuh`.

   Whoever includes it has an `Item` already: a stretch of query rows, and the tiles of keys that it meets.
*/
#pragma once
#include "device/hopper.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(DIM) || !defined(KEYS) || !defined(CONSUMERS) || !defined(STAGES) || !defined(QUERIES) || \
    !defined(OVERLAP) || !defined(TURNS) || !defined(TENSOR_COPIES) || !defined(SLACK) || !defined(CODE_STAGES) || !defined(PRODUCERS) || !defined(LEAST_TILES) || \
    !defined(LONE)
#error "flash_layout.cuh needs -DSCALAR -DDIM -DKEYS -DCONSUMERS -DSTAGES -DQUERIES -DOVERLAP -DTURNS -DTENSOR_COPIES -DSLACK -DCODE_STAGES -DPRODUCERS -DLEAST_TILES -DLONE"
#endif
#if CODE_STAGES > 0 && !defined(KV_FORMAT)
#error "codes need -DKV_FORMAT"
#endif

constexpr int kRows = 64 * CONSUMERS;
constexpr int kThreads = 128 * (CONSUMERS + PRODUCERS);
constexpr int kBlocks = (DIM + 63) / 64;        // column blocks of 64 elements
constexpr int kSteps = (DIM + 15) / 16;         // of the summed index of a score
constexpr int kColumns = kSteps < 4 ? 64 : kSteps * 16;  // of the values that are multiplied
constexpr int kShare = 64 * (kColumns + 8);     // floats of 64 rows that are left for others: sums, peaks and weights
constexpr int kPieces = DIM / 8;                // of 16 bytes, in a row
constexpr float kNone = -1e30f;                 // the score of a hidden key
constexpr float kLow = -1e20f;                  // below every score, so far above scaled kNone that hidden keys weigh 0 from the start
// Together 480 a lane for 20 warps, 512 for 16, 504 for 12.
constexpr int kProducerRegisters =
    PRODUCERS == 2 ? 56 : CODE_STAGES ? 72 : CONSUMERS == 4 ? 64 : CONSUMERS == 3 ? (LONE ? 80 : 56) : LONE ? 88 : 40;
constexpr int kConsumerRegisters =
    PRODUCERS == 2 ? 200 : CODE_STAGES ? 216 : CONSUMERS == 4 ? 104 : CONSUMERS == 3 ? (LONE ? 144 : 152) : LONE ? 208 : 232;
constexpr int kProducerName = 1, kConsumerName = 2, kTurnName = 6;  // named barriers
constexpr bool kByEngine = TENSOR_COPIES && !CODE_STAGES;  // tiles come as the products read them
static_assert(!LONE || kByEngine, "warps are idle only where the copy engine works");
constexpr int kTileArrivals = CODE_STAGES ? 4 * PRODUCERS : TENSOR_COPIES ? 1 : 128;
static_assert(DIM % 8 == 0 && KEYS % 16 == 0 && CONSUMERS + PRODUCERS <= 5 && PRODUCERS <= (CODE_STAGES ? 2 : 1), "see the header");

struct Tile {
    unsigned char block[kBlocks][KEYS * 128];
};

#if CODE_STAGES
constexpr bool kNibbles = KV_FORMAT == 2, kFloats = KV_FORMAT == 3, kTwelve = KV_FORMAT == 4, kZeros = !kFloats && !kTwelve;
constexpr int kDecoders = 4 * PRODUCERS;  // warps
constexpr int kRowBytes = kTwelve ? DIM / 2 * 3 : kNibbles ? DIM / 2 : DIM, kScaleBytes = kZeros ? 4 : 2;

struct CodeTile {  // rows and their parameters, as they are in the pages
    alignas(16) unsigned char rows[KEYS * kRowBytes];
    alignas(16) unsigned char parameters[KEYS * kScaleBytes];
};
#endif

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    unsigned char query[QUERIES][kBlocks][kRows * 128];
    Tile keys[STAGES], values[STAGES];
#if CODE_STAGES
    CodeTile codes[CODE_STAGES];
    Barrier codes_full[CODE_STAGES][kDecoders];
#endif
    Barrier query_full[QUERIES], query_empty[QUERIES];
    Barrier keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
    Item items[QUERIES];
    int next[2], is_last[CONSUMERS];
};

template <int COUNT>
struct RingOf {  // a place among COUNT tiles, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance() {
        if (++stage == COUNT) {
            stage = 0;
            parity ^= 1;
        }
    }
};
using Ring = RingOf<STAGES>;

DEVICE int swizzled(int row, int piece) { return row * 128 + (piece % 8 ^ row % 8) * 16; }
