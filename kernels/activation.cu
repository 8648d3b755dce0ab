/* activation.cu - elementwise functions between the two halves of an FFN, and behind it.

   silu_mul   out[t, f] = cast(silu(gate_up[t, f])) * gate_up[t, FFN + f]
   gelu       out[i] = x[i] * Phi(x[i]), the exact form
   scaled_add out[t, c] = residual[t, c] + y[t, c] * scale[c]

   in       gate_up [T, 2 * FFN] SCALAR; x [num] SCALAR, num a multiple of 16 bytes; residual, y [T, columns], scale [columns] SCALAR, columns a
            multiple of 16 bytes, num_pieces of 16 bytes in all
   out      out [T, FFN]; out [num], may alias x; out [T, columns], may alias residual or y
   -D       SCALAR = bf16 | fp16 | fp32; FFN (silu_mul; 0 where only others are wanted), a multiple of 16 bytes
   launch   silu_mul: grid (T, ceil(FFN / pieces of a block)); others: grid ceil(pieces / pieces of a block); block 256,
            one 16-byte piece a thread
   moves    silu_mul: 3 * T * FFN elements; gelu: 2 * num; scaled_add: 3 * T * columns
   numbers  fp32 inside; silu is rounded to SCALAR before the product, as two torch ops would
*/
#include "device/silu.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(FFN)
#error "activation.cu needs -DSCALAR=bf16|fp16|fp32 -DFFN=<width of one half, or 0>"
#endif

constexpr int kThreads = 256;
constexpr int kN = kLanes<SCALAR>;
static_assert(FFN % kN == 0, "FFN must be a multiple of 16 bytes");

extern "C" __global__ __launch_bounds__(kThreads) void silu_mul(const SCALAR* gate_up, SCALAR* out) {
    dependents_may_start();
    wait_for_predecessor();
    const int at = (blockIdx.y * kThreads + threadIdx.x) * kN;
    if (at >= FFN) return;
    const long long row = blockIdx.x;
    float gate[kN], up[kN];
    unpack16<SCALAR>(load16(gate_up + row * 2 * FFN + at), gate);
    unpack16<SCALAR>(load16(gate_up + row * 2 * FFN + FFN + at), up);
#pragma unroll
    for (int j = 0; j < kN; j++) gate[j] = silu(gate[j]);
    round_to<SCALAR>(gate);
#pragma unroll
    for (int j = 0; j < kN; j++) gate[j] *= up[j];
    store16(out + row * FFN + at, pack16<SCALAR>(gate));
}

extern "C" __global__ __launch_bounds__(kThreads) void gelu(const SCALAR* x, SCALAR* out, long long num) {
    dependents_may_start();
    wait_for_predecessor();
    const long long at = ((long long)blockIdx.x * kThreads + threadIdx.x) * kN;
    if (at >= num) return;
    float v[kN];
    unpack16<SCALAR>(load16(x + at), v);
#pragma unroll
    for (int j = 0; j < kN; j++) v[j] = 0.5f * v[j] * (1.f + erff(v[j] * 0.70710678118654752f));
    store16(out + at, pack16<SCALAR>(v));
}

extern "C" __global__ __launch_bounds__(kThreads) void scaled_add(
    const SCALAR* residual, const SCALAR* y, const SCALAR* scale, SCALAR* out, int num_pieces, int pieces_a_row) {
    dependents_may_start();
    const unsigned piece = blockIdx.x * kThreads + threadIdx.x;
    if (piece >= unsigned(num_pieces)) return;
    float sum[kN], product[kN], factor[kN];
    unpack16<SCALAR>(load16(scale + piece % unsigned(pieces_a_row) * kN), factor);
    wait_for_predecessor();
    const long long at = (long long)piece * kN;
    unpack16<SCALAR>(load16(residual + at), sum);
    unpack16<SCALAR>(load16(y + at), product);
#pragma unroll
    for (int j = 0; j < kN; j++) sum[j] += product[j] * factor[j];
    store16(out + at, pack16<SCALAR>(sum));
}
