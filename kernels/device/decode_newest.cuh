/* decode_newest.cuh - the newest token of a sequence in `attention_decode.cu`: its key and value, on their way into the pages.

   The one warp that reads the tile in which a segment ends makes both rows, writes them into the pages for later steps, and keeps
   what it wrote in shared memory: the numbers that it attends to are those that are stored.
*/
#pragma once
#include "device/decode_softmax.cuh"

constexpr int kNewestBytes = 2 * kRowBytes + (kPlain ? 0 : 16);  // both rows, then their parameters, four bytes each
static_assert(kNewestBytes <= GROUP * (DIM + 4) * 4, "they stand where a warp's sums are laid out later");
static_assert(kRowBytes % 16 == 0, "rows are copied by pieces of 16 bytes");

struct Newest {  // of all sequences: what the step brings of keys and values
    const SCALAR *k, *v;        // heads of a token contiguous
    const float *cos, *sin;     // [sequences, ROTARY]
    const long long* slots;     // negative: not written
    long long k_stride, v_stride;

    // The two rows of a head of sequence `seq`, into the pages and `place`; by a whole warp.
    DEVICE void make(unsigned char* place, int seq, int head, const Pool& pool) const {
        const int lane = threadIdx.x % 32, piece = lane % kRowLanes;
        const long long slot = slots[seq], row = row_of(slot, head, KV_HEADS);
#pragma unroll
        for (int first = 0; first < 2; first += 32 / kRowLanes) {
            const int which = first + lane / kRowLanes;  // 0: the key, 1: the value
            const bool real = which < 2 && piece < kPieces;
            float x[8] = {};
            if (real)
                load_piece((which ? v + seq * v_stride : k + seq * k_stride) + head * DIM, piece * 8,
                           which ? nullptr : cos + (long long)seq * ROTARY, sin + (long long)seq * ROTARY, x);
            const Piece made = encode_row(x, piece < kPieces);
            if (!real) continue;
            store_piece(place + which * kRowBytes, piece, made);
            if (!kPlain && piece == 0) store_parameters(place + 2 * kRowBytes + which * 4, made);
            if (slot < 0) continue;
            store_piece((which ? pool.values : pool.keys) + row * kRowBytes, piece, made);
            if (!kPlain && piece == 0) store_parameters((which ? pool.value_scales : pool.key_scales) + row * kScaleBytes, made);
        }
    }

    // Both rows into row `r` of a stage, whose copies have landed; by a whole warp.
    DEVICE static void insert(unsigned char* stage, int r, const unsigned char* place) {
        constexpr int kParts = kRowBytes / 16;
        const int lane = threadIdx.x % 32;
#pragma unroll 1
        for (int i = lane; i < 2 * kParts; i += 32)
            store16(stage + (i / kParts * kRows + r) * kPitch + i % kParts * 16, load16(place + i * 16));
#if KV_FORMAT != 0
        if (lane < 2) {
            const Piece from{{}, load4(place + 2 * kRowBytes + lane * 4)};
            store_parameters(stage + kScales + (lane * kRows + r) * kScaleBytes, from);
        }
#endif
        __syncwarp();
    }
};
