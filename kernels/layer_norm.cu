/* layer_norm.cu - layer norm of rows that fit into the registers of a warp, such as those of vision towers.

   out[t] = (x[t] - mean) * rsqrt(var + eps) * w + b

   in       x [T, HIDDEN] SCALAR with contiguous rows   w, b [HIDDEN] SCALAR   eps float
   out      out [T, HIDDEN] SCALAR, may alias x
   -D       SCALAR = bf16 | fp16 | fp32; HIDDEN, a multiple of 16 bytes, at most 8 x 32 x 16 bytes
   launch   grid: blocks that stay; block 256: 8 warps, a row each at a time, which keep their part of w and b
   moves    2 * T * HIDDEN elements
   numbers  statistics in fp32; rounding points are those of the torch twin, so results differ by at most 1 ulp of SCALAR

   Wider rows are a block's each: `layer_norm` of norm.cu. A warp waits for nobody.
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(HIDDEN)
#error "layer_norm.cu needs -DSCALAR=bf16|fp16|fp32 -DHIDDEN=<row length>"
#endif

constexpr int kN = kLanes<SCALAR>;
constexpr int kChunks = HIDDEN / kN;  // 16-byte pieces of a row
constexpr int kPerLane = (kChunks + 31) / 32;
constexpr int kWarps = 8;
static_assert(HIDDEN % kN == 0 && kPerLane <= 8, "see the header");

// Call body(i, offset) for each piece of a row that belongs to this lane.
template <class Body>
DEVICE void each_piece(Body body) {
#pragma unroll
    for (int i = 0; i < kPerLane; i++) {
        const int chunk = i * 32 + int(threadIdx.x) % 32;
        if (kChunks % 32 == 0 || chunk < kChunks) body(i, chunk * kN);
    }
}

extern "C" __global__ __launch_bounds__(32 * kWarps) void layer_norm_narrow(
    const SCALAR* x, const SCALAR* w, const SCALAR* b, SCALAR* out, int num_rows, float eps) {
    uint4 weight[kPerLane], bias[kPerLane];
    dependents_may_start();
    each_piece([&](int i, int at) {
        weight[i] = load16(w + at);
        bias[i] = load16(b + at);
    });
    wait_for_predecessor();
    for (int t = blockIdx.x * kWarps + threadIdx.x / 32; t < num_rows; t += gridDim.x * kWarps) {
        const long long start = (long long)t * HIDDEN;
        float row[kPerLane][kN], total = 0.f, squares = 0.f;
        each_piece([&](int i, int at) { unpack16<SCALAR>(load16(x + start + at), row[i]); });
        each_piece([&](int i, int) {
#pragma unroll
            for (int j = 0; j < kN; j++) total += row[i][j];
        });
        const float mean = warp_sum(total) / HIDDEN;
        each_piece([&](int i, int) {
#pragma unroll
            for (int j = 0; j < kN; j++) squares += (row[i][j] - mean) * (row[i][j] - mean);
        });
        const float scale = rsqrtf(warp_sum(squares) / HIDDEN + eps);
        each_piece([&](int i, int at) {
            float factor[kN], addend[kN];
            unpack16<SCALAR>(weight[i], factor);
            unpack16<SCALAR>(bias[i], addend);
#pragma unroll
            for (int j = 0; j < kN; j++) row[i][j] = (row[i][j] - mean) * scale * factor[j] + addend[j];
            store16(out + start + at, pack16<SCALAR>(row[i]));
        });
    }
}
