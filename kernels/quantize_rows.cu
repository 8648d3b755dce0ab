/* quantize_rows.cu - rows of activations as 8-bit codes with one scale a row.

   scale[t] = max(max over i of |x[t, i]| / largest code, 1e-12)        code[t, i] = round(x[t, i] / scale[t])

   in       x [T, HIDDEN] SCALAR, contiguous rows
   out      codes [T, HIDDEN] CODE   scale [T] fp32
   -D       SCALAR = bf16 | fp16; CODE = e4m3 (from sm_89 on) | int8; HIDDEN, multiple of 8; THREADS, multiple of 32, a row's
            pieces of 16 bytes at most 8 a thread
   launch   grid T; block THREADS; one row a block, held in registers between the two passes
   moves    3 * T * HIDDEN bytes
   numbers  codes and scales equal the torch twin's
*/
#include "device/codes.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(CODE) || !defined(HIDDEN) || !defined(THREADS)
#error "quantize_rows.cu needs -DSCALAR=bf16|fp16 -DCODE=e4m3|int8 -DHIDDEN=<row length> -DTHREADS=<block size>"
#endif

constexpr int kPieces = HIDDEN / 8;  // of a row
constexpr int kPerThread = (kPieces + THREADS - 1) / THREADS;
static_assert(HIDDEN % 8 == 0 && THREADS % 32 == 0 && kPerThread <= 8, "see the header");

extern "C" __global__ __launch_bounds__(THREADS) void quantize_rows(const SCALAR* x, unsigned char* codes, float* scale) {
    __shared__ float partial[32];
    dependents_may_start();
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    float row[kPerThread][8];
    float largest = 0.f;
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
        const int piece = i * THREADS + threadIdx.x;
        if (piece >= kPieces) continue;
        unpack16<SCALAR>(load16(x + start + piece * 8), row[i]);
#pragma unroll
        for (int j = 0; j < 8; j++) largest = max(largest, fabsf(row[i][j]));
    }
    const float step = max(block_max(largest, partial) / kLargest<CODE>, 1e-12f);
    if (threadIdx.x == 0) scale[blockIdx.x] = step;
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
        const int piece = i * THREADS + threadIdx.x;
        if (piece >= kPieces) continue;
        const float* r = row[i];
        *reinterpret_cast<uint2*>(codes + start + piece * 8) =
            make_uint2(pack_codes<CODE>(r[0] / step, r[1] / step, r[2] / step, r[3] / step),
                       pack_codes<CODE>(r[4] / step, r[5] / step, r[6] / step, r[7] / step));
    }
}
