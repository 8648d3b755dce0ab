/* linear_skinny_bf12.cu - a linear layer of bf16 weights kept in 12 bits (`device/bf12.cuh`) for few rows, from sm_80 on: the weights are
   read once, at the speed of memory (`device/few_rows.cuh`).

   out[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o]

   in       x [num_rows, INPUTS] bf16 contiguous
            tiles: of engines/quant/bf12_tiles.py, [INPUTS / 128, num_outputs / 16, 3072 bytes]
            factors [num_outputs] bf16: powers of two   num_outputs: a multiple of 16
            bias [num_outputs] bf16, or null
   out      out [num_rows, num_outputs] bf16
   -D       INPUTS, multiple of 128; COLUMNS, eight rows of x each: num_rows <= 8 * COLUMNS; TILES, 16-output tiles a pass; PASSES; WARPS;
            STAGES
   launch   grid ceil(num_outputs / (16 * TILES * PASSES)), block 32 * WARPS, one block an SM, shared as the launcher computes
   moves    12 bits a number of the weight once: all else stays in L2
   numbers  weights exactly as in bf16 but for those the packer rounds; products summed in fp32, one rounding at the end

   A tile of the format is a stage, and a lane multiplies the words that it has fetched itself.
*/
#if !defined(INPUTS) || !defined(COLUMNS) || !defined(TILES) || !defined(PASSES) || !defined(WARPS) || !defined(STAGES)
#error "linear_skinny_bf12.cu needs -DINPUTS -DCOLUMNS -DTILES -DPASSES -DWARPS -DSTAGES"
#endif
#define SCALAR bf16

#include "device/bf12.cuh"
#include "device/few_rows.cuh"

constexpr int kSteps = kSlab / 16;  // of a slab, a product each

// Inputs 2c, 2c + 1 and those 8 behind them of each 16, as the format has them.
struct TurnedSlab {
    unsigned x[COLUMNS][kSteps][2];

    DEVICE explicit TurnedSlab(const LoadedSlab& loaded) {
#pragma unroll
        for (int n = 0; n < COLUMNS; n++)
#pragma unroll
            for (int k = 0; k < 4; k++) {
                unsigned words[4] = {loaded.x[n][k].x, loaded.x[n][k].y, loaded.x[n][k].z, loaded.x[n][k].w};
                turn_over(words);
#pragma unroll
                for (int i = 0; i < 4; i++) x[n][2 * k + i / 2][i % 2] = words[i];
            }
    }
};

struct Tiles {
    using Slab = TurnedSlab;
    static constexpr int kStageBytes = 3072;

    const unsigned char* tiles;
    const bf16* factors;
    int num_outputs;
    unsigned factor[TILES][2];  // of the lane's outputs of a pass, a pair each

    DEVICE Tiles(const unsigned char* tiles, const bf16* factors, int num_outputs)
        : tiles(tiles), factors(factors), num_outputs(num_outputs) {}

    DEVICE void start_pass(int first_output) {
#pragma unroll
        for (int i = 0; i < 2 * TILES; i++) {
            const int output = first_output + i * 8 + threadIdx.x % 32 / 4;
            factor[i / 2][i % 2] = output < num_outputs ? factors[output].bits * 0x10001u : 0u;
        }
    }

    DEVICE void fetch(unsigned char* stage, int first_output, int slab) const {
        const bool valid = first_output < num_outputs;
        const long long tile = valid ? (long long)slab * (num_outputs / 16) + first_output / 16 : 0;
        const unsigned char* from = tiles + tile * kStageBytes + threadIdx.x % 32 * 16;
#pragma unroll
        for (int i = 0; i < 6; i++) copy16_async(stage + i * 512 + threadIdx.x % 32 * 16, from + i * 512, valid);
    }

    DEVICE void multiply(float (&sum)[COLUMNS][4], const unsigned char* stage, const Slab& slab, int t) const {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned words[12];
#pragma unroll
            for (int i = 0; i < 3; i++) {
                const uint4 four = load16(stage + (3 * half + i) * 512 + threadIdx.x % 32 * 16);
                words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
            }
#pragma unroll
            for (int k = 0; k < 4; k++) {
                unsigned a[4];
                unpack_bf12(a, words[3 * k], words[3 * k + 1], words[3 * k + 2], factor[t][0], factor[t][1]);
#pragma unroll
                for (int n = 0; n < COLUMNS; n++) mma16816<bf16>(sum[n], a, slab.x[n][4 * half + k][0], slab.x[n][4 * half + k][1]);
            }
        }
    }
};

extern "C" __global__ __launch_bounds__(32 * WARPS, 1) void linear_skinny_bf12(
    const bf16* x, const unsigned char* tiles, const bf16* factors, const bf16* bias, bf16* out, int num_rows, int num_outputs) {
    DYNAMIC_SHARED(memory);
    multiply_few_rows(Tiles(tiles, factors, num_outputs), memory, x, bias, out, num_rows, num_outputs);
}
