/* linear_skinny.cu - a linear layer for few rows: the weights are read once, at the speed of memory (`device/few_rows.cuh`).

   out[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o]

   in       x [num_rows, INPUTS] SCALAR contiguous   weight [num_outputs, INPUTS] SCALAR contiguous
            bias [num_outputs] SCALAR, or null
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; INPUTS, multiple of 128; COLUMNS, eight rows of x each: num_rows <= 8 * COLUMNS;
            TILES, 16-output tiles a pass; PASSES; WARPS; STAGES
   launch   grid ceil(num_outputs / (16 * TILES * PASSES)), block 32 * WARPS, one block an SM, shared as the launcher computes
   moves    num_outputs * INPUTS elements: all else stays in L2
   numbers  products summed in fp32, one rounding at the end

   A product may take the inputs in any order as long as both sides agree. Here lane 4g + c takes inputs 8c .. 8c + 7 of each
   32, so that both sides are read 16 bytes at a time.
*/
#if !defined(SCALAR) || !defined(INPUTS) || !defined(COLUMNS) || !defined(TILES) || !defined(PASSES) || !defined(WARPS) || \
    !defined(STAGES)
#error "linear_skinny.cu needs -DSCALAR -DINPUTS -DCOLUMNS -DTILES -DPASSES -DWARPS -DSTAGES"
#endif

#include "device/few_rows.cuh"

// Where 16-byte piece `column` of row `row` stands in a stage: rows of odd number have their halves of 64 bytes exchanged, so
// that the eight lanes of one access reach eight different groups of banks.
DEVICE int piece_at(int row, int column) { return row * kSlab * 2 + (column ^ (row % 2 * 4)) * 16; }

struct Rows {  // of the weight, as they lie
    using Slab = LoadedSlab;
    static constexpr int kStageBytes = 16 * kSlab * 2;

    const SCALAR* weight;
    int num_outputs;

    DEVICE void start_pass(int) const {}

    DEVICE void fetch(unsigned char* stage, int first_output, int slab) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int row = 2 * i + lane / 16, column = lane % 16;
            const bool valid = first_output + row < num_outputs;
            const long long start = valid ? (long long)(first_output + row) * INPUTS : 0;
            copy16_async(stage + piece_at(row, column), weight + start + slab * kSlab + column * 8, valid);
        }
    }

    DEVICE void multiply(float (&sum)[COLUMNS][4], const unsigned char* stage, const Slab& slab, int) const {
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
};

extern "C" __global__ __launch_bounds__(32 * WARPS, 1) void linear_skinny(
    const SCALAR* x, const SCALAR* weight, const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs) {
    DYNAMIC_SHARED(memory);
    multiply_few_rows(Rows{weight, num_outputs}, memory, x, bias, out, num_rows, num_outputs);
}
