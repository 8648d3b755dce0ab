/* flash_layout.cuh - sizes and shared memory of attention on Hopper; what the constants mean stands in `flash_hopper.cuh`.

   Whoever includes it has an `Item` already: a stretch of query rows, and the tiles of keys that it meets.
*/
#pragma once
#include "device/hopper.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(DIM) || !defined(KEYS) || !defined(CONSUMERS) || !defined(STAGES) || !defined(QUERIES) || \
    !defined(OVERLAP) || !defined(TURNS) || !defined(TENSOR_COPIES) || !defined(SLACK)
#error "flash_layout.cuh needs -DSCALAR -DDIM -DKEYS -DCONSUMERS -DSTAGES -DQUERIES -DOVERLAP -DTURNS -DTENSOR_COPIES -DSLACK"
#endif

constexpr int kRows = 64 * CONSUMERS;
constexpr int kThreads = 128 * (CONSUMERS + 1);
constexpr int kBlocks = (DIM + 63) / 64;        // column blocks of 64 elements
constexpr int kSteps = (DIM + 15) / 16;         // of the summed index of a score
constexpr int kColumns = kSteps < 4 ? 64 : kSteps * 16;  // of the values that are multiplied
constexpr int kPieces = DIM / 8;                // of 16 bytes, in a row
constexpr float kNone = -1e30f;                 // the score of a hidden key
constexpr float kLow = -1e20f;                  // below every score, so far above scaled kNone that hidden keys weigh 0 from the start
constexpr int kProducerRegisters = CONSUMERS == 3 ? 56 : 40;  // together 512 a lane for 16 warps, 504 for 12
constexpr int kConsumerRegisters = CONSUMERS == 3 ? 152 : 232;
constexpr int kProducerName = 1, kConsumerName = 2, kTurnName = 5;  // named barriers
static_assert(DIM % 8 == 0 && KEYS % 16 == 0 && CONSUMERS <= 3, "see the header");

struct Tile {
    unsigned char block[kBlocks][KEYS * 128];
};

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    unsigned char query[QUERIES][kBlocks][kRows * 128];
    Tile keys[STAGES], values[STAGES];
    Barrier query_full[QUERIES], query_empty[QUERIES];
    Barrier keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
    Item items[QUERIES];
    int next[2];
};

struct Ring {  // a place among STAGES tiles, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

DEVICE int swizzled(int row, int piece) { return row * 128 + (piece % 8 ^ row % 8) * 16; }
