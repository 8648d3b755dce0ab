/* dequantize_int4.cu - 4-bit codes as the matrix that they stand for, for products of many rows.

   out[o, i] = (code[o, i] - zero[g, o]) * scale[g, o], g = i / GROUP_INPUTS

   in       tiles uint8 [ceil(num_outputs / 16), INPUTS / 64, 512], as engines/quant/int4_tiles.py packs them
            scales fp16, zeros uint8 [INPUTS / GROUP_INPUTS, num_outputs]
   out      out [num_outputs, INPUTS] SCALAR
   -D       SCALAR = bf16 | fp16; INPUTS, multiple of 64; GROUP_INPUTS, multiple of 16 that divides INPUTS
   launch   grid (ceil(num_outputs / 16), ceil(INPUTS / 64 / 32)), block 256; a warp unpacks four tiles
   moves    2.5 * num_outputs * INPUTS bytes
   numbers  fp32, rounded once: equal to the torch twin
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(INPUTS) || !defined(GROUP_INPUTS)
#error "dequantize_int4.cu needs -DSCALAR=bf16|fp16 -DINPUTS=<inputs> -DGROUP_INPUTS=<inputs of a scale>"
#endif

constexpr int kWarps = 8, kEach = 4;  // tiles of a warp, one behind the other along the inputs
constexpr int kTiles = INPUTS / 64;   // along the inputs
constexpr int kPitch = 64 * 2 + 16;   // bytes from one row of a tile to the next in shared memory
static_assert(INPUTS % 64 == 0 && GROUP_INPUTS % 16 == 0 && INPUTS % GROUP_INPUTS == 0, "see the header");

struct Group {  // of inputs: scale and zero point of a lane's two outputs
    float scale[2], above[2];

    DEVICE Group(const unsigned short* scales, const unsigned char* zeros, long long first, const int (&outputs)[2]) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            scale[r] = to_float(fp16{scales[first + outputs[r]]});
            above[r] = kAbove + zeros[first + outputs[r]];
        }
    }

    // Of the code `bits` of output r: 2^23 + code is a float whose last bits are the code.
    DEVICE float number(unsigned bits, int r) const { return (__uint_as_float(0x4b000000u | (bits & 15)) - above[r]) * scale[r]; }

    static constexpr float kAbove = 8388608.f;
};

extern "C" __global__ __launch_bounds__(32 * kWarps) void dequantize_int4(
    const unsigned char* tiles, const unsigned short* scales, const unsigned char* zeros, SCALAR* out, int num_outputs) {
    __shared__ uint4 turned_tiles[kWarps][16 * kPitch / 16];
    dependents_may_start();
    wait_for_predecessor();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    const int opening = (blockIdx.y * kWarps + warp) * kEach, first = blockIdx.x * 16;
    const int outputs[2] = {min(first + g, num_outputs - 1), min(first + g + 8, num_outputs - 1)};
    unsigned char* turned = reinterpret_cast<unsigned char*>(turned_tiles[warp]);
    uint4 loaded[kEach];
#pragma unroll
    for (int i = 0; i < kEach; i++)
        if (opening + i < kTiles) loaded[i] = load16(tiles + ((long long)blockIdx.x * kTiles + opening + i) * 512 + lane * 16);
#pragma unroll
    for (int i = 0; i < kEach; i++) {
        const int tile = opening + i;
        if (tile >= kTiles) return;
        const unsigned words[4] = {loaded[i].x, loaded[i].y, loaded[i].z, loaded[i].w};
        constexpr int kParts = GROUP_INPUTS % 64 == 0 ? 1 : 4;  // of a tile, each within a group
#pragma unroll
        for (int part = 0; part < kParts; part++) {
            const long long at = (long long)((tile * 64 + part * 16) / GROUP_INPUTS) * num_outputs;
            const Group group(scales, zeros, at, outputs);
#pragma unroll
            for (int k = part; k < part + 4 / kParts; k++) {
#pragma unroll
                for (int nibble = 0; nibble < 4; nibble++) {  // 2 h + r
                    const int h = nibble / 2, r = nibble % 2;
                    const unsigned low = words[k] >> 4 * nibble;
                    *reinterpret_cast<unsigned*>(turned + (g + 8 * r) * kPitch + (k * 16 + h * 8 + 2 * c) * 2) =
                        pack2<SCALAR>(group.number(low, r), group.number(low >> 16, r));
                }
            }
        }
        __syncwarp();
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = j * 4 + lane / 8, column = lane % 8;
            if (first + row < num_outputs)
                store16(out + (long long)(first + row) * INPUTS + tile * 64 + column * 8, load16(turned + row * kPitch + column * 16));
        }
        __syncwarp();
    }
}
