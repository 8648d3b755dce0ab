/* few_rows.cuh - the frame of linear layers for few rows on `mma.sync`, whose weights are read once, at the speed of memory.

   A block owns its outputs from first to last input, so blocks never meet: PASSES times TILES tiles of 16. Its WARPS share the inputs out
   in slabs of 128 and are summed at the end of a pass. The weights of a warp come through a ring of its own, 16 outputs x 128 inputs a
   stage. They are the rows of the matrix product and x its 8 columns: up to 8 rows of x cost one instruction.

   The kernel brings a `Weight`:  kStageBytes of a stage;  a `Slab`, the second operand, made of a slab of x as it was loaded;
   fetch(stage, first_output, slab), by a warp, asynchronous;  start_pass(first_output);  multiply(sum, stage, slab, tile).
*/
#pragma once
#include "device/vector.cuh"

constexpr int kThreads = 32 * WARPS;
constexpr int kSlab = 128;  // inputs of a stage
constexpr int kSlabs = INPUTS / kSlab;
constexpr int kPassOutputs = 16 * TILES;
constexpr int kBlockOutputs = kPassOutputs * PASSES;
constexpr int kSumPitch = 8 * COLUMNS + 1;  // floats; odd, so that neighbouring outputs lie in other banks
static_assert(INPUTS % kSlab == 0 && STAGES >= 2, "see the kernel's header");

template <int STAGE_BYTES>
struct Layout {  // of the dynamic shared memory
    unsigned char ring[WARPS][STAGES][STAGE_BYTES];
    float sums[WARPS][kPassOutputs][kSumPitch];
};

// The stages of one warp, in order: pass by pass, slab by slab of its own, tile by tile.
struct Cursor {
    int pass = 0, slab, tile = 0;

    DEVICE void step(int warp) {
        if (++tile < TILES) return;
        tile = 0;
        slab += WARPS;
        if (slab < kSlabs) return;
        slab = warp;
        pass++;
    }
};

// A slab of x: lane 4g + c has inputs 8c .. 8c + 7 of each 32 of row g of each eight.
struct LoadedSlab {
    uint4 x[COLUMNS][4];

    DEVICE void load(const SCALAR* from, int num_rows, int slab) {
        const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < COLUMNS; n++)
#pragma unroll
            for (int k = 0; k < 4; k++)
                x[n][k] = 8 * n + g < num_rows
                              ? load16(from + (8LL * n + g) * INPUTS + slab * kSlab + k * 32 + c * 8)
                              : make_uint4(0, 0, 0, 0);
    }
};

// Sum the warps and write the outputs of one pass.
template <class Layout>
DEVICE void finish(Layout& shared, float (&sum)[TILES][COLUMNS][4], const SCALAR* bias, SCALAR* out, int first_output, int num_rows,
                   int num_outputs) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int n = 0; n < COLUMNS; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                shared.sums[warp][16 * t + g + j / 2 * 8][8 * n + 2 * c + j % 2] = sum[t][n][j];
                sum[t][n][j] = 0.f;
            }
    __syncthreads();
    for (int item = threadIdx.x; item < kPassOutputs / 2 * num_rows; item += kThreads) {
        const int row = item / (kPassOutputs / 2), o = item % (kPassOutputs / 2) * 2, output = first_output + o;
        if (output >= num_outputs) continue;
        float low = bias ? to_float(bias[output]) : 0.f, high = bias ? to_float(bias[output + 1]) : 0.f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            low += shared.sums[w][o][row];
            high += shared.sums[w][o + 1][row];
        }
        *reinterpret_cast<unsigned*>(out + (long long)row * num_outputs + output) = pack2<SCALAR>(low, high);
    }
    __syncthreads();
}

// The whole kernel, `memory` its dynamic shared memory.
template <class Weight>
DEVICE void multiply_few_rows(Weight weight, unsigned char* memory, const SCALAR* x, const SCALAR* bias, SCALAR* out, int num_rows,
                              int num_outputs) {
    auto& shared = *reinterpret_cast<Layout<Weight::kStageBytes>*>(memory);
    const int warp = threadIdx.x / 32, block_output = blockIdx.x * kBlockOutputs;
    const int own_slabs = (kSlabs - warp + WARPS - 1) / WARPS, num_stages = PASSES * own_slabs * TILES;
    dependents_may_start();

    Cursor ahead;
    ahead.slab = warp;
    int fetched = 0;
    const auto fetch_next = [&] {
        if (fetched < num_stages) {
            const int first = block_output + ahead.pass * kPassOutputs + ahead.tile * 16;
            weight.fetch(shared.ring[warp][fetched % STAGES], first, ahead.slab);
            ahead.step(warp);
            fetched++;
        }
        copies_commit();
    };
    for (int i = 0; i < STAGES - 1; i++) fetch_next();  // weights do not depend on what ran before
    weight.start_pass(block_output);

    wait_for_predecessor();
    LoadedSlab next;
    if (own_slabs > 0) next.load(x, num_rows, warp);
    float sum[TILES][COLUMNS][4] = {};
    int stage = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (int s = warp; s < kSlabs; s += WARPS) {
            const typename Weight::Slab slab(next);
            next.load(x, num_rows, s + WARPS < kSlabs ? s + WARPS : warp);  // the last one begins the next pass
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                copies_wait<STAGES - 2>();
                __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
                fetch_next();
                weight.multiply(sum[t], shared.ring[warp][stage % STAGES], slab, t);
                stage++;
            }
        }
        weight.start_pass(block_output + (pass + 1) * kPassOutputs);
        finish(shared, sum, bias, out, block_output + pass * kPassOutputs, num_rows, num_outputs);
    }
    copies_wait<0>();
}
