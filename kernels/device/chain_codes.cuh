/* chain_codes.cuh - of `linear_chain_int4.cu`: which outputs of each layer a block owns, and the ring through which their codes come.

   Its sizes are the constants that the kernel is compiled with.
*/
#pragma once
#include "device/codes.cuh"
#include "device/narrow_products.cuh"

constexpr int kWarps = 16;                                             // that multiply: a slab of a stage each
constexpr int kThreads = 32 * (kWarps + 4);                            // one more copies, one finishes; registers come by four warps
constexpr int kRows = 4;                                               // that x has room for
constexpr int kSharing = kRows / ROWS;                                 // rounds that share x: a row has place number r of each
constexpr int kSets = ROWS == kRows ? 2 : 1;                           // of x
constexpr int kChunk = kSets * kSharing;                               // rounds whose x is kept
constexpr int kPieces = GROUP_INPUTS < 128 ? 128 / GROUP_INPUTS : 1;   // of a slab, under one scale each
constexpr int kSteps = 8 / kPieces;                                    // of 16 inputs in a piece
constexpr int kStageGroups = 128 * kWarps / GROUP_INPUTS;
constexpr int kPitch = 20;                                             // floats from one row of sums to the next: other banks
static_assert(2048 % GROUP_INPUTS == 0 && GROUP_INPUTS >= 32, "see the header");
static_assert(ROWS == 1 || ROWS == 2 || ROWS == 4, "see the header");
static_assert(UNDER_WAY >= 1 && UNDER_WAY <= STAGES && STAGES >= 2, "see the header");
static_assert(HIDDEN % 128 == 0 && ATTENDED % 128 == 0 && FFN % 128 == 0 && QKV % 16 == 0, "see the header");
static_assert(HIDDEN <= 256 * kWarps && ATTENDED <= 256 * kWarps, "x is kept for two rounds at least");

struct Stage {
    uint4 codes[kWarps][2][32];
    unsigned short scales[kStageGroups][16];  // fp16
    unsigned char zeros[kStageGroups][16];
};

struct Layout {  // of the dynamic shared memory, from a multiple of 128 on
    Stage ring[STAGES];
    float sums[2][2][kWarps][kRows][kPitch];  // by turns, of two tiles; output o of 16 at place o % 8 * 2 + o / 8
    Barrier full[STAGES], empty[STAGES], sums_full[2], sums_empty[2];
};

struct Handed {  // from block to block, as `grid_words.cuh` says: rows of what is multiplied next, 1,024 bytes a slab
    unsigned char ffn_x[HIDDEN * 8], gated[FFN * 8], qkv_x[HIDDEN * 8];
    float squares[2][RESIDENT][kRows];  // of h1 and of h: the sums of a block's outputs
};

struct Weight {
    const unsigned char* tiles;
    const unsigned short* scales;
    const unsigned char* zeros;
};

enum Layer { kO, kGateUp, kDown, kQkv, kLayers };

template <class T>
DEVICE T pick(int layer, T o, T gate_up, T down, T qkv) {
    return layer == kO ? o : layer == kGateUp ? gate_up : layer == kDown ? down : qkv;
}

// What a block does of a layer: passes of up to two tiles of 16 outputs; gates and what they gate make a pass.
struct Share {
    int num_outputs, num_slabs, num_rounds, first, num_tiles, step, apart;

    DEVICE explicit Share(int layer) {
        const bool gated = layer == kGateUp;
        num_outputs = pick(layer, HIDDEN, 2 * FFN, HIDDEN, QKV);
        num_slabs = pick(layer, ATTENDED, HIDDEN, FFN, HIDDEN) / 128;
        num_rounds = (num_slabs + kWarps - 1) / kWarps;
        const int num_units = num_outputs / (gated ? 32 : 16);
        first = int(blockIdx.x) * num_units / RESIDENT;
        num_tiles = (int(blockIdx.x + 1) * num_units / RESIDENT - first) * (gated ? 2 : 1);
        step = gated ? 1 : 2;
        apart = gated ? num_units : 1;
    }
    DEVICE int num_passes() const { return (num_tiles + 1) / 2; }
    DEVICE int tiles_of(int pass) const { return min(2, num_tiles - 2 * pass); }
    DEVICE int tile(int pass, int t) const { return first + pass * step + t * apart; }
};

DEVICE void step_on(int& place, int& parity) {
    if (++place < STAGES) return;
    place = 0;
    parity ^= 1;
}

// The warp that copies.
struct Copier {
    Layout& shared;
    const CachePolicy policy = read_once();
    const int lane = threadIdx.x % 32, row = lane % 16;  // lanes below 16 copy scales, the others zero points
    int place = 0, parity = 0;                           // of the stage that is asked for
    int past = 0, past_parity = 0, num_asked = 0;        // of the one UNDER_WAY before it

    DEVICE void stream(int layer, const Weight& weight) {
        const Share share(layer);
        const bool is_zeros = lane >= 16;
        const int row_bytes = share.num_outputs * (is_zeros ? 1 : 2), tile_bytes = is_zeros ? 16 : 32;
        const unsigned char* groups = is_zeros ? weight.zeros : reinterpret_cast<const unsigned char*>(weight.scales);
        groups += (long long)row * row_bytes;
        for (int pass = 0; pass < share.num_passes(); pass++)
            for (int round = 0; round < share.num_rounds; round++)
                for (int t = 0; t < share.tiles_of(pass); t++) {
                    const int tile = share.tile(pass, t), first_slab = round * kWarps;
                    fill(weight.tiles + ((long long)tile * share.num_slabs + first_slab) * 1024, min(kWarps, share.num_slabs - first_slab),
                         groups + (long long)round * kStageGroups * row_bytes + tile * tile_bytes, row_bytes);
                }
    }

    DEVICE void fill(const unsigned char* codes, int num_slabs, const unsigned char* groups, int row_bytes) {
        if (num_asked >= UNDER_WAY) {
            barrier_wait(shared.full[past], past_parity);
            step_on(past, past_parity);
        }
        if (num_asked >= STAGES) barrier_wait(shared.empty[place], parity ^ 1);
        Stage& stage = shared.ring[place];
        Barrier& full = shared.full[place];
        if (lane == 0) {
            barrier_expect(full, num_slabs * 1024);
            copy_bytes(&stage.codes[0][0][0], codes, num_slabs * 1024, full, policy);
        }
        const int num_groups = num_slabs * 128 / GROUP_INPUTS;
#pragma unroll
        for (int first = 0; first < kStageGroups; first += 16) {
            const unsigned char* from = groups + (long long)first * row_bytes;
            if (first + row >= num_groups) break;
            if (lane < 16) {
                copy16_async(stage.scales[first + row], from, true);
                copy16_async(stage.scales[first + row] + 8, from + 16, true);
            } else {
                copy16_async(stage.zeros[first + row], from, true);
            }
        }
        copies_arrive(full);
        step_on(place, parity);
        num_asked++;
    }
};
