/* chain_rounds.cuh - of `linear_chain_int4_hopper.cu`: which outputs and inputs of each layer a block has, and the rings through which they come.

   A round is what four warpgroups multiply beside each other: of gate_up a slab of 128 inputs of four groups of 64 outputs, two of gates
   and two of what they gate; of the others four slabs of one group. So a stage of codes has a quarter for each warpgroup, whatever the layer.
*/
#pragma once
#include "device/folded_norm.cuh"
#include "device/grid_words.cuh"
#include "device/narrow_products.cuh"
#include "device/silu.cuh"
#include "device/summed_rows.cuh"
#include "device/tile_copies.cuh"

constexpr int kConsumers = 512, kThreads = kConsumers + 128;
// Rows that this kernel hands on lie beside their sums, so that unpacking takes five instructions for eight codes in place of nine. Of 64 rows
// the further products take as long.
constexpr bool kSums = ROWS < 64;
constexpr int kLine = 128 * ROWS;                               // bytes: 64 columns of x
constexpr int kFirstLine = kSums, kPlaceLines = kFirstLine + 8;  // of four slabs: their sums, then two lines each
constexpr int kLinesTogether = kSums ? 3 : 2;                   // that gate_up waits for: with the third three there is the fourth slab, too
constexpr int kQuarter = 4096;         // bytes of codes: a slab of a group
constexpr int kPitch = 64 + 4;         // floats from one row of sums to the next
constexpr int kOwn = 32;               // outputs of a group that each block of a pair writes
constexpr int kParts = HIDDEN / kOwn;  // in which the squares of a row are left
constexpr int kCopyRegisters = 32, kRegisters = 112;
static_assert(HIDDEN % 512 == 0 && ATTENDED % 1024 == 0 && FFN % 1024 == 0 && QKV % 64 == 0, "whole rounds");
static_assert(HIDDEN / 32 <= RESIDENT && FFN / 128 <= RESIDENT && QKV / 64 <= RESIDENT && RESIDENT % 2 == 0, "one item a block and layer");
static_assert((X_PLACES & (X_PLACES - 1)) == 0 && X_PLACES >= 2 && (STAGES & (STAGES - 1)) == 0 && kParts % 4 == 0 && kParts <= 128, "see the header");

struct alignas(1024) Stage {  // of codes: a quarter a warpgroup
    unsigned char codes[4 * kQuarter];
    unsigned short scales[4][64];  // fp16
    unsigned char zeros[4][64];
};

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    Stage ring[STAGES];
    union {  // nobody multiplies while sums are added up
        unsigned char x[X_PLACES][kPlaceLines * kLine];  // four slabs each
        float sums[4][ROWS][kPitch];
    };
    float received[ROWS][kOwn];  // of the peer's sums
    float row_scales[ROWS];
    bf16 weights[2][kOwn];       // of the norms behind o and down
    Barrier codes_full[STAGES], codes_empty[STAGES];
    Barrier slabs_full[X_PLACES][kPlaceLines / kLinesTogether], slabs_empty[X_PLACES];  // of gate_up
    Barrier round_full[X_PLACES], round_empty[X_PLACES];                                // of the others
    Barrier received_full, weighed, met, scaled;
};

struct Scratch {  // of a launch: rows of x that layers hand to each other are tensors of their own
    float squares[2][ROWS][kParts];  // of h1 and of h
    unsigned counts[3][32];          // blocks that have ended o, gate_up and down, each in a line of its own
    unsigned exits;
};

enum Layer { kO, kGateUp, kDown, kQkv, kLayers };

template <class T>
DEVICE T pick(int layer, T o, T gate_up, T down, T qkv) {
    return layer == kO ? o : layer == kGateUp ? gate_up : layer == kDown ? down : qkv;
}

DEVICE int items_of(int layer) { return pick(layer, HIDDEN / 64, FFN / 128, HIDDEN / 64, QKV / 64); }
DEVICE bool is_paired(int layer) { return layer == kO || layer == kDown; }
DEVICE int slabs_a_round(int layer) { return layer == kGateUp ? 1 : 4; }

struct Share {  // of a layer: outputs of an item, slabs [first, first + rounds * slabs_a_round)
    int item, first, rounds;

    DEVICE explicit Share(int layer) {
        const int slabs = pick(layer, ATTENDED, HIDDEN, FFN, HIDDEN) / 128, blocks = is_paired(layer) ? 2 : 1, own = slabs / blocks;
        item = blockIdx.x / blocks;
        first = blockIdx.x % blocks * own;
        rounds = item < items_of(layer) ? own / slabs_a_round(layer) : 0;
    }
};

struct Weight {
    const TensorMap* codes;
    const unsigned short* scales;
    const unsigned char* zeros;
};

// The warp that copies codes, with their scales and zero points: it waits for nobody but those that multiply.
struct CodeCopier {
    Layout& shared;
    const CachePolicy policy = read_once();
    const int lane = threadIdx.x % 32;
    int stage = 0, parity = 0, asked = 0;

    DEVICE void stream(int layer, const Weight& weight) {
        const Share share(layer);
        const int num_outputs = pick(layer, HIDDEN, 2 * FFN, HIDDEN, QKV), slabs = slabs_a_round(layer);
        const unsigned short* scales = weight.scales + place(layer, share, lane / 8, num_outputs) + lane % 8 * 8;
        const unsigned char* zeros = weight.zeros + place(layer, share, lane / 4 % 4, num_outputs) + lane % 4 * 16;
#pragma unroll 1
        for (int round = 0; round < share.rounds; round++) {
            if (asked >= STAGES) barrier_wait(shared.codes_empty[stage], parity ^ 1);
            Barrier& full = shared.codes_full[stage];
            Stage& to = shared.ring[stage];
            if (lane == 0) {
                const int line = (share.first + round * slabs) * 8;
                barrier_expect(full, 4 * kQuarter);
                if (layer == kGateUp) {
                    copy_box(to.codes, *weight.codes, 0, line, share.item * 8, 0, full, policy);
                    copy_box(to.codes + 2 * kQuarter, *weight.codes, 0, line, share.item * 8 + FFN / 16, 0, full, policy);
                } else {
                    copy_box(to.codes, *weight.codes, 0, line, share.item * 4, 0, full, policy);
                }
            }
            copy16_async(&to.scales[lane / 8][lane % 8 * 8], scales, true);
            if (lane < 16) copy16_async(&to.zeros[lane / 4][lane % 4 * 16], zeros, true);
            copies_arrive(full);
            scales += slabs * num_outputs, zeros += slabs * num_outputs;
            asked++;
            if (++stage == STAGES) stage = 0, parity ^= 1;
        }
    }

    // Where a quarter's numbers of the first round stand.
    DEVICE static long long place(int layer, const Share& share, int quarter, int num_outputs) {
        return layer == kGateUp ? (long long)share.first * num_outputs + quarter / 2 * FFN + share.item * 128 + quarter % 2 * 64
                                : (long long)(share.first + quarter) * num_outputs + share.item * 64;
    }
};

// One lane: the rows of x, once they are written. All warpgroups read all slabs of gate_up, so the first lines of a place are used while the
// others come; of the other layers a warpgroup reads a slab of each place.
struct XCopier {
    Layout& shared;
    const int num_rows;
    int rounds = 0;  // asked for

    DEVICE void stream_slabs(const TensorMap& map) {
        const Share share(kGateUp);
#pragma unroll 1
        for (int place = 0; place < share.rounds / 4; place++) {
            const int at = place % X_PLACES;
            if (place >= X_PLACES) barrier_wait(shared.slabs_empty[at], place / X_PLACES & 1 ^ 1);
#pragma unroll 1
            for (int part = 0; part < kPlaceLines / kLinesTogether; part++) {
                const int line = part * kLinesTogether;
                barrier_expect(shared.slabs_full[at][part], kLinesTogether * kLine);
                copy_box(shared.x[at] + line * kLine, map, 0, 0, place * kPlaceLines + line, 0, shared.slabs_full[at][part]);
            }
        }
    }

    // Rows that this kernel wrote.
    DEVICE void stream_rounds(int layer, const TensorMap& map) {
        const Share share(layer);
#pragma unroll 1
        for (int round = 0; round < share.rounds; round++) {
            const int at = free_place();
            barrier_expect(shared.round_full[at], kPlaceLines * kLine);
            copy_box(shared.x[at], map, 0, 0, (share.first / 4 + round) * kPlaceLines, 0, shared.round_full[at]);
        }
    }

    // Rows without sums, `lines` of 128 bytes of each row a copy.
    DEVICE void stream_attended(const TensorMap& map, int lines) {
        const Share share(kO);
#pragma unroll 1
        for (int round = 0; round < share.rounds; round++) {
            const int at = free_place();
            barrier_expect(shared.round_full[at], 8 * 128 * num_rows);
#pragma unroll 1
            for (int line = 0; line < 8; line += lines)
                copy_box(shared.x[at] + (kFirstLine + line) * kLine, map, 0, 0, (share.first + 4 * round) * 2 + line, 0, shared.round_full[at]);
        }
    }

    DEVICE int free_place() {
        const int at = rounds % X_PLACES;
        if (rounds >= X_PLACES) barrier_wait(shared.round_empty[at], rounds / X_PLACES & 1 ^ 1);
        rounds++;
        return at;
    }
};
