/* dequantize_int4.cu - 4-bit codes as the matrix that they stand for, for products of many rows.

   out[o, i] = (code[o, i] - zero[g, o]) * scale[g, o], g = i / GROUP_INPUTS

   in       tiles uint8 [ceil(num_outputs / 16), INPUTS / 64, 512], as engines/quant/int4_tiles.py packs them
            scales fp16, zeros uint8 [INPUTS / GROUP_INPUTS, num_outputs]
   out      out [num_outputs, INPUTS] SCALAR
   -D       SCALAR = bf16 | fp16; INPUTS, multiple of 64; GROUP_INPUTS, multiple of 16 that divides INPUTS
   launch   grid (ceil(num_outputs / 16), ceil(INPUTS / 64 / 8)), block 256; a warp unpacks a tile
   moves    2.5 * num_outputs * INPUTS bytes
   numbers  fp32, rounded once: equal to the torch twin
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(INPUTS) || !defined(GROUP_INPUTS)
#error "dequantize_int4.cu needs -DSCALAR=bf16|fp16 -DINPUTS=<inputs> -DGROUP_INPUTS=<inputs of a scale>"
#endif

constexpr int kWarps = 8;
constexpr int kTiles = INPUTS / 64;  // along the inputs
constexpr int kPitch = 64 * 2 + 16;  // bytes from one row of a tile to the next in shared memory
static_assert(INPUTS % 64 == 0 && GROUP_INPUTS % 16 == 0 && INPUTS % GROUP_INPUTS == 0, "see the header");

extern "C" __global__ __launch_bounds__(32 * kWarps) void dequantize_int4(
    const unsigned char* tiles, const unsigned short* scales, const unsigned char* zeros, SCALAR* out, int num_outputs) {
    __shared__ uint4 turned_tiles[kWarps][16 * kPitch / 16];
    dependents_may_start();
    wait_for_predecessor();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    const int tile = blockIdx.y * kWarps + warp, first = blockIdx.x * 16;
    if (tile >= kTiles) return;
    unsigned char* turned = reinterpret_cast<unsigned char*>(turned_tiles[warp]);
    const uint4 loaded = load16(tiles + ((long long)blockIdx.x * kTiles + tile) * 512 + lane * 16);
    const unsigned words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const long long group = (tile * 64 + k * 16) / GROUP_INPUTS;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int output = first + g + 8 * r;
            const long long at = group * num_outputs + min(output, num_outputs - 1);
            const float scale = to_float(fp16{scales[at]}), zero = zeros[at];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int nibble = 2 * h + r;
                const float low = ((words[k] >> 4 * nibble) & 15) - zero, high = ((words[k] >> (4 * nibble + 16)) & 15) - zero;
                *reinterpret_cast<unsigned*>(turned + (g + 8 * r) * kPitch + (k * 16 + h * 8 + 2 * c) * 2) =
                    pack2<SCALAR>(low * scale, high * scale);
            }
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = i * 4 + lane / 8, column = lane % 8;
        if (first + row < num_outputs)
            store16(out + (long long)(first + row) * INPUTS + tile * 64 + column * 8, load16(turned + row * kPitch + column * 16));
    }
}
