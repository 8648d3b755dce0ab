/* two_rings.cuh - the frame of linear layers whose weight and rows of x come through a ring of shared memory each.

   A block multiplies 64 * GROUPS outputs, in warpgroups of 64, by ROWS rows; TURNS warpgroups take turns at the slabs of 128 inputs of
   a group, and CLUSTER blocks share the inputs of an output. Here: which outputs, rows and slabs are a block's, the ring of x, and the end,
   where sums of turns and blocks are added, biased, gated and written, beside a norm where the kernel is compiled for one
   (`folded_norm.cuh`). The kernel brings what makes operands of its weight's numbers.

   Its `Layout` of shared memory has `x[X_STAGES][kXBytes]` with barriers `x_full` and `x_empty`, `sums[TURNS][ROWS][kPitch]`, which
   may lie over the rings, and last `NormPart norm`, which may not. Consumers are the first threads of a block.
*/
#pragma once
#include "device/folded_norm.cuh"
#include "device/narrow_products.cuh"
#include "device/silu.cuh"
#include "device/vector.cuh"

constexpr int kWarpgroups = GROUPS * TURNS;          // that multiply
constexpr int kConsumers = 128 * kWarpgroups;
constexpr int kThreads = kConsumers + 128;
constexpr int kOutputs = 64 * GROUPS;                // that a block multiplies
constexpr int kWidth = GATED ? kOutputs / 2 : kOutputs;  // that it and its cluster write
constexpr int kOwn = kWidth / CLUSTER;               // that it writes
constexpr int kXBytes = 256 * ROWS;
constexpr int kPitch = kOutputs + 4;                 // floats from one row of sums to the next; neighbours lie in other banks
// A block starts with equal shares of an SM's registers; what the warpgroup that copies leaves goes to the others.
constexpr int kEqualRegisters = 512 / (kWarpgroups + 1) / 8 * 8;
constexpr int registers_beside(int copying) {
    const int free = (kEqualRegisters * (kWarpgroups + 1) - copying) / kWarpgroups / 8 * 8;
    return free < 240 ? free : 240;
}
static_assert(!GATED || (GROUPS % 2 == 0 && CLUSTER == 1), "a block has the gates of what it gates");
static_assert(ROWS % 8 == 0 && X_STAGES % TURNS == 0 && kWarpgroups <= 4 && kOwn % 4 == 0, "see the kernel's header");

struct Tile {  // of the result; all rows of some outputs come one after another, so that their codes are read once
    int first_output, first_row;

    DEVICE explicit Tile(int num_rows) {
        const int along_rows = (num_rows + ROWS - 1) / ROWS, index = blockIdx.x / CLUSTER;
        first_output = index / along_rows * kWidth;
        // A box that leaves x is slow: the last block takes rows of the one before once more, and writes them as that does.
        first_row = min(index % along_rows * ROWS, max(num_rows - ROWS, 0));
    }

    // Which of all outputs output `o` of the block is; -1 past the last. GATED: what is gated stands behind all gates.
    DEVICE int output(int o, int num_outputs) const {
        const int output = first_output + o % kWidth;
        return output < num_outputs ? output + o / kWidth * num_outputs : -1;
    }
};

struct Share {  // of the inputs: slabs [first, end)
    int first, end;

    DEVICE explicit Share(int num_slabs) {
        const int rank = blockIdx.x % CLUSTER;
        first = rank * num_slabs / CLUSTER;
        end = (rank + 1) * num_slabs / CLUSTER;
    }
};

// A place in a ring, for one that visits every STEP-th stage.
template <int STAGES, int STEP>
struct Place {
    int stage, parity = 0;

    DEVICE explicit Place(int first) : stage(first) {}
    DEVICE void next() {
        stage += STEP;
        if (stage < STAGES) return;
        stage -= STAGES;
        parity ^= 1;
    }
};

// One lane: the rows of x.
template <class Layout>
DEVICE void copy_x(Layout& shared, const TensorMap& map, Share share, int first_row, int num_rows) {
    Place<X_STAGES, 1> at(0);
    wait_for_predecessor();
#pragma unroll 1
    for (int slab = share.first; slab < share.end; slab++, at.next()) {
        if (slab - share.first >= X_STAGES) barrier_wait(shared.x_empty[at.stage], at.parity ^ 1);
        barrier_expect(shared.x_full[at.stage], 256 * min(ROWS, num_rows));
#pragma unroll
        for (int line = 0; line < 2; line++)
            copy_box(shared.x[at.stage] + line * ROWS * 128, map, slab * 128 + line * 64, first_row, shared.x_full[at.stage]);
    }
}

// Every lane of the warp is done with the stage.
DEVICE void release(Barrier& empty) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

#if ADDED
using NormPart = NormWeight<kOwn>;
#else
using NormPart = RowScales<NORMED>;
#endif

// What a norm needs at the end, by the two warps that copy nothing.
template <class Layout>
DEVICE void prepare_norm(Layout& shared, const FoldedNorm& norm, Tile tile, int num_rows, int num_outputs, int num_inputs) {
    const int warp = threadIdx.x / 32 % 4 - 2;
    if constexpr (ADDED) {
        if (warp == 0) shared.norm.fetch(norm.weight, tile.first_output + blockIdx.x % CLUSTER * kOwn, num_outputs);
    } else if constexpr (NORMED > 0) {
        if (warp >= 0) shared.norm.make(norm, warp, tile.first_row, num_rows, num_inputs);
    }
}

constexpr int kColumns = kOwn / 4;             // of four outputs that a block writes; a thread keeps to one of them
constexpr int kRowStep = kConsumers / kColumns;
constexpr int kItems = CLUSTER > 1 ? 2 : 1;    // rows of a thread whose parts are under way
static_assert(kConsumers % kColumns == 0, "see finish");
static_assert(!ADDED || (!GATED && !NORMED && 32 % kColumns == 0), "a warp has all of a block's outputs of its rows");

// Add up the turns of other blocks' outputs, so that they fetch one part of each: what crosses a cluster takes long.
template <class Layout>
DEVICE void fold(Layout& shared) {
    meet_named(1, kConsumers);
#pragma unroll 1
    for (int other = 1; other < CLUSTER; other++) {
        const int o = (blockIdx.x + other) % CLUSTER * kOwn + threadIdx.x % kColumns * 4;
#pragma unroll 1
        for (int row = threadIdx.x / kColumns; row < ROWS; row += kRowStep) {
            float parts[TURNS][4];
#pragma unroll
            for (int turn = 0; turn < TURNS; turn++) unpack16<fp32>(load16(&shared.sums[turn][row][o]), parts[turn]);
#pragma unroll
            for (int turn = 1; turn < TURNS; turn++)
#pragma unroll
                for (int j = 0; j < 4; j++) parts[0][j] += parts[turn][j];
            store16(&shared.sums[0][row][o], as_words(parts[0][0], parts[0][1], parts[0][2], parts[0][3]));
        }
    }
}

// Leave the sums of this block where the cluster finds them.
template <class Layout>
DEVICE void leave(Layout& shared, const float (&sum)[ROWS / 2]) {
    const int lane = threadIdx.x % 32, output = threadIdx.x / 32 % (4 * GROUPS) * 16 + lane / 4;
    auto& sums = shared.sums[threadIdx.x / 128 / GROUPS];
    meet_named(1, kConsumers);  // nobody multiplies from the rings any more
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sums[j / 4 * 8 + lane % 4 * 2 + j % 2][output + j / 2 % 2 * 8] = sum[j];
    if constexpr (CLUSTER > 1 && TURNS > 1) fold(shared);
}

constexpr int kShares = TURNS + CLUSTER - 1;

// The parts of four outputs of a row: of each turn, and of other blocks.
template <class Layout>
DEVICE void load_parts(float (&parts)[kShares][4], Layout& shared, int row, int o) {
#pragma unroll
    for (int other = 1; other < CLUSTER; other++) load_peer4(parts[TURNS + other - 1], &shared.sums[0][row][o], (blockIdx.x + other) % CLUSTER);
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) unpack16<fp32>(load16(&shared.sums[turn][row][o]), parts[turn]);
}

// Their sum, scaled where a norm is due, and the bias, rounded.
DEVICE uint2 add_up(const float (&parts)[kShares][4], const float (&bias)[4], float scale) {
    float total[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        total[j] = parts[0][j];
#pragma unroll
        for (int share = 1; share < kShares; share++) total[j] += parts[share][j];
        if constexpr (NORMED > 0) total[j] *= scale;
        total[j] += bias[j];
    }
    return make_uint2(pack2<SCALAR>(total[0], total[1]), pack2<SCALAR>(total[2], total[3]));
}

// A pair of gates applied, rounded where ops apart round.
DEVICE unsigned gate2(unsigned gate, unsigned up) {
    const unsigned open = pack2<SCALAR>(silu(low_half<SCALAR>(gate)), silu(high_half<SCALAR>(gate)));
    return pack2<SCALAR>(low_half<SCALAR>(open) * low_half<SCALAR>(up), high_half<SCALAR>(open) * high_half<SCALAR>(up));
}

// What the end of a product reads and writes.
struct Result {
    const SCALAR* bias;
    SCALAR* out;
    FoldedNorm norm;
    Tile tile;
    int num_rows, num_outputs;

    DEVICE int end() const { return min(ROWS, num_rows - tile.first_row); }  // of the block's rows
    DEVICE long long at(int row, int output) const { return (long long)(tile.first_row + row) * num_outputs + output; }
};

DEVICE int own_output() { return blockIdx.x % CLUSTER * kOwn + threadIdx.x % kColumns * 4; }  // of the block's, a thread's first

// Add up the sums of this block's own outputs and write them.
template <class Layout>
DEVICE void finish(Layout& shared, const Result& result) {
    const int o = own_output(), output = result.tile.first_output + o, end = result.end();
    if (output >= result.num_outputs) return;
    float added[1 + GATED][4] = {};
    if (result.bias) {
#pragma unroll
        for (int j = 0; j < 4 * (1 + GATED); j++) added[j / 4][j % 4] = to_float(result.bias[j / 4 * result.num_outputs + output + j % 4]);
    }
#pragma unroll 1
    for (int first = threadIdx.x / kColumns; first < end; first += kItems * kRowStep) {
        float parts[kItems][1 + GATED][kShares][4];
#pragma unroll
        for (int i = 0; i < kItems; i++)
#pragma unroll
            for (int half = 0; half <= GATED; half++) load_parts(parts[i][half], shared, min(first + i * kRowStep, end - 1), half * kWidth + o);
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const int row = first + i * kRowStep;
            if (row >= end) continue;
            const float scale = shared.norm.of(row);
            uint2 y = add_up(parts[i][0], added[0], scale);
            if constexpr (GATED) {
                const uint2 up = add_up(parts[i][GATED], added[GATED], scale);
                y = make_uint2(gate2(y.x, up.x), gate2(y.y, up.y));
            }
            *reinterpret_cast<uint2*>(result.out + result.at(row, output)) = y;
        }
    }
}

// ADDED: what a thread's rows from `first` on are added to; rows past the end are read as the last.
DEVICE void fetch_residual(uint2 (&residual)[kItems], const Result& result, int first) {
    const int output = min(result.tile.first_output + own_output(), result.num_outputs - 4);
#pragma unroll
    for (int i = 0; i < kItems; i++) residual[i] = load8(result.norm.residual + result.at(min(first + i * kRowStep, result.end() - 1), output));
}

// ADDED: the same as `finish` with the residual added. The rows of a warp go on together, for sums over its lanes. Blocks write whole.
template <class Layout>
DEVICE void finish_added(Layout& shared, uint2 (&residual)[kItems], const Result& result) {
    const int o = own_output(), output = result.tile.first_output + o, end = result.end(), parts_a_row = result.num_outputs / kOwn;
    if (output >= result.num_outputs) return;
    float bias[4] = {}, weight[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (result.bias) bias[j] = to_float(result.bias[output + j]);
        weight[j] = to_float(shared.norm.of[threadIdx.x % kColumns * 4 + j]);
    }
#pragma unroll 1
    for (int first = threadIdx.x / kColumns; first - threadIdx.x % 32 / kColumns < end; first += kItems * kRowStep) {
        float parts[kItems][kShares][4];
        if (first >= kRowStep) fetch_residual(residual, result, first);
#pragma unroll
        for (int i = 0; i < kItems; i++) load_parts(parts[i], shared, min(first + i * kRowStep, end - 1), o);
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const int row = first + i * kRowStep;
            const uint2 h = add_pairs(add_up(parts[i], bias, 1.f), residual[i]);
            const float squares = sum_neighbours<kColumns>(squares_of(h));
            if (row >= end) continue;
            *reinterpret_cast<uint2*>(result.norm.h + result.at(row, output)) = h;
            *reinterpret_cast<uint2*>(result.out + result.at(row, output)) = weighted(h, weight);
            if (threadIdx.x % kColumns == 0) result.norm.squares[(result.tile.first_row + row) * parts_a_row + output / kOwn] = squares;
        }
    }
}

DEVICE void meet() {
    if constexpr (CLUSTER == 1) {
        __syncthreads();
    } else {
        cluster_meet();
    }
}

// From the sums of each consumer to what the block writes.
template <class Layout>
DEVICE void write(Layout& shared, const float (&sum)[ROWS / 2], const Result& result) {
    uint2 residual[kItems];
    if constexpr (ADDED) {
        wait_for_predecessor();
        fetch_residual(residual, result, threadIdx.x / kColumns);  // comes while blocks meet
    }
    leave(shared, sum);
    wait_for_predecessor();  // it may still read what this kernel writes
    meet();
    if constexpr (ADDED) finish_added(shared, residual, result);
    else finish(shared, result);
}
