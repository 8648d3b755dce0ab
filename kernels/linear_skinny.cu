/* linear_skinny.cu - a linear layer for few rows: the weights are read once, at the speed of memory.

   out[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o]

   in       x [num_rows, INPUTS] SCALAR contiguous   weight [num_outputs, INPUTS] SCALAR contiguous
            bias [num_outputs] SCALAR, or null
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; INPUTS, multiple of 128; COLUMNS, eight rows of x each: num_rows <= 8 * COLUMNS;
            TILES, 16-output tiles a pass; PASSES; WARPS; STAGES
   launch   grid ceil(num_outputs / (16 * TILES * PASSES)), block 32 * WARPS, one block an SM, shared as the launcher computes
   moves    num_outputs * INPUTS elements: all else stays in L2
   numbers  products summed in fp32, one rounding at the end

   A block owns its outputs from first to last input, so blocks never meet. Its warps share the inputs out in slabs of 128 and
   are summed at the end of a pass. The weights of a warp come through a ring of its own, 16 outputs x 128 inputs a stage. They
   are the rows of the matrix product and x its 8 columns: up to 8 rows of x cost one instruction.

   A product may take the inputs in any order as long as both sides agree. Here lane 4g + c takes inputs 8c .. 8c + 7 of each
   32, so that both sides are read 16 bytes at a time.
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(INPUTS) || !defined(COLUMNS) || !defined(TILES) || !defined(PASSES) || !defined(WARPS) || \
    !defined(STAGES)
#error "linear_skinny.cu needs -DSCALAR -DINPUTS -DCOLUMNS -DTILES -DPASSES -DWARPS -DSTAGES"
#endif

constexpr int kThreads = 32 * WARPS;
constexpr int kSlab = 128;                 // inputs of a stage
constexpr int kSlabs = INPUTS / kSlab;
constexpr int kStageBytes = 16 * kSlab * 2;
constexpr int kBlockOutputs = 16 * TILES * PASSES;
constexpr int kPassOutputs = 16 * TILES;
constexpr int kSumPitch = 8 * COLUMNS + 1;  // floats; odd, so that neighbouring outputs lie in other banks
static_assert(INPUTS % kSlab == 0 && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory
    unsigned char ring[WARPS][STAGES][kStageBytes];
    float sums[WARPS][kPassOutputs][kSumPitch];
};

// Where 16-byte piece `column` of row `row` stands in a stage: rows of odd number have their halves of 64 bytes exchanged, so
// that the eight lanes of one access reach eight different groups of banks.
DEVICE int piece_at(int row, int column) { return row * kSlab * 2 + (column ^ (row % 2 * 4)) * 16; }

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

DEVICE void fetch(unsigned char* stage, const SCALAR* weight, int first_output, int num_outputs, int slab) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int row = 2 * i + lane / 16, column = lane % 16;
        const bool valid = first_output + row < num_outputs;
        const long long start = valid ? (long long)(first_output + row) * INPUTS : 0;
        copy16_async(stage + piece_at(row, column), weight + start + slab * kSlab + column * 8, valid);
    }
}

// A slab of x as the second operand: four blocks of 32 inputs for each eight rows.
struct Slab {
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

DEVICE void multiply(float (&sum)[COLUMNS][4], const unsigned char* stage, const Slab& slab) {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const uint4 upper = load16(stage + piece_at(g, 4 * k + c)), lower = load16(stage + piece_at(g + 8, 4 * k + c));
        const unsigned first[4] = {upper.x, lower.x, upper.y, lower.y}, second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
        for (int n = 0; n < COLUMNS; n++) {
            mma16816<SCALAR>(sum[n], first, slab.x[n][k].x, slab.x[n][k].y);
            mma16816<SCALAR>(sum[n], second, slab.x[n][k].z, slab.x[n][k].w);
        }
    }
}

// Sum the warps and write the outputs of one pass.
DEVICE void finish(Layout& shared, float (&sum)[TILES][COLUMNS][4], const SCALAR* bias, SCALAR* out, int first_output,
                   int num_rows, int num_outputs) {
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

extern "C" __global__ __launch_bounds__(32 * WARPS, 1) void linear_skinny(
    const SCALAR* x, const SCALAR* weight, const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    const int warp = threadIdx.x / 32, block_output = blockIdx.x * kBlockOutputs;
    const int own_slabs = (kSlabs - warp + WARPS - 1) / WARPS, num_stages = PASSES * own_slabs * TILES;
    dependents_may_start();

    Cursor ahead;
    ahead.slab = warp;
    int fetched = 0;
    const auto fetch_next = [&] {
        if (fetched < num_stages) {
            const int first = block_output + ahead.pass * kPassOutputs + ahead.tile * 16;
            fetch(shared.ring[warp][fetched % STAGES], weight, first, num_outputs, ahead.slab);
            ahead.step(warp);
            fetched++;
        }
        copies_commit();
    };
    for (int i = 0; i < STAGES - 1; i++) fetch_next();  // weights do not depend on what ran before

    wait_for_predecessor();
    Slab slab, next;
    if (own_slabs > 0) next.load(x, num_rows, warp);
    float sum[TILES][COLUMNS][4] = {};
    int stage = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (int s = warp; s < kSlabs; s += WARPS) {
            slab = next;
            next.load(x, num_rows, s + WARPS < kSlabs ? s + WARPS : warp);  // the last one begins the next pass
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                copies_wait<STAGES - 2>();
                __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
                fetch_next();
                multiply(sum[t], shared.ring[warp][stage % STAGES], slab);
                stage++;
            }
        }
        finish(shared, sum, bias, out, block_output + pass * kPassOutputs, num_rows, num_outputs);
    }
    copies_wait<0>();
}
