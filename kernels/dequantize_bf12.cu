/* dequantize_bf12.cu - numbers of 12 bits as the bf16 matrix that they stand for, for products of many rows.

   out[o, i] = number[o, i] * factor[o]

   in       tiles: of engines/quant/bf12_tiles.py, [INPUTS / 128, num_outputs / 16, 3072 bytes]
            factors [num_outputs] bf16: powers of two   num_outputs: a multiple of 16
   out      out [num_outputs, INPUTS] bf16
   -D       INPUTS, multiple of 128
   launch   grid (num_outputs / 16, ceil(INPUTS / 128 / 8)), block 256; a warp unpacks a tile
   moves    3.5 bytes a number
   numbers  exact: equal to the torch twin

   Weights are read while the kernel ahead still runs; the matrix is written once it has ended, as it may be reading it.
*/
#ifndef INPUTS
#error "dequantize_bf12.cu needs -DINPUTS=<inputs>"
#endif
#include "device/bf12.cuh"
#include "device/vector.cuh"

constexpr int kWarps = 8, kSlab = 128, kTileBytes = 3072;
static_assert(INPUTS % kSlab == 0, "see the header");

extern "C" __global__ __launch_bounds__(32 * kWarps) void dequantize_bf12(
    const unsigned char* tiles, const bf16* factors, bf16* out, int num_outputs) {
    dependents_may_start();
    const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4, first = blockIdx.x * 16;
    const int slab = blockIdx.y * kWarps + threadIdx.x / 32;
    if (slab >= INPUTS / kSlab) return;
    const unsigned char* from = tiles + ((long long)slab * (num_outputs / 16) + blockIdx.x) * kTileBytes + lane * 16;
    unsigned words[24];
#pragma unroll
    for (int i = 0; i < 6; i++) {
        const uint4 four = load16(from + i * 512);
        words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
    const unsigned factor = factors[first + g].bits * 0x10001u, factor_below = factors[first + g + 8].bits * 0x10001u;
    wait_for_predecessor();
    bf16* to = out + (long long)(first + g) * INPUTS + slab * kSlab + c * 8;
#pragma unroll
    for (int k = 0; k < 4; k++) {  // 32 inputs: of each 8 a lane has two, and stores all of one
        unsigned row[2][4];        // outputs g and g + 8
#pragma unroll
        for (int s = 0; s < 2; s++) {
            unsigned a[4];
            const unsigned* packed = words + 3 * (2 * k + s);
            unpack_bf12(a, packed[0], packed[1], packed[2], factor, factor_below);
#pragma unroll
            for (int i = 0; i < 4; i++) row[i % 2][2 * s + i / 2] = a[i];
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            turn_over(row[r]);
            store16(to + r * 8LL * INPUTS + k * 32, make_uint4(row[r][0], row[r][1], row[r][2], row[r][3]));
        }
    }
}
