/* quantize_rows.cu - rows of activations as 8-bit codes with one scale a row.

   quantize_rows    x as it is
   silu_mul_codes   x[t, i] = cast(cast(silu(gate_up[t, i])) * gate_up[t, HIDDEN + i]), never written itself
   scale[t] = max(max over i of |x[t, i]| / largest code, 1e-12)        code[t, i] = round(x[t, i] / scale[t])

   in       x [T, HIDDEN], gate_up [T, 2 * HIDDEN] SCALAR, contiguous rows
   out      codes [T, HIDDEN] CODE   scale [T] fp32
   -D       SCALAR = bf16 | fp16; CODE = e4m3 (from sm_89 on) | int8; HIDDEN, multiple of 8; THREADS, multiple of 32, a row's
            pieces of 16 bytes at most 8 a thread
   launch   grid T; block THREADS; one row a block, held in registers between the two passes
   moves    3 * T * HIDDEN bytes; silu_mul_codes: 5 * T * HIDDEN
   numbers  codes and scales equal the torch twin's; those of silu_mul_codes the ones of silu_mul and quantize_rows in turn
*/
#include "device/codes.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(CODE) || !defined(HIDDEN) || !defined(THREADS)
#error "quantize_rows.cu needs -DSCALAR=bf16|fp16 -DCODE=e4m3|int8 -DHIDDEN=<row length> -DTHREADS=<block size>"
#endif

constexpr int kPieces = HIDDEN / 8;  // of a row
constexpr int kPerThread = (kPieces + THREADS - 1) / THREADS;
static_assert(HIDDEN % 8 == 0 && THREADS % 32 == 0 && kPerThread <= 8, "see the header");

using Row = float[kPerThread][8];

// Call body(i, offset) for each piece of the row that belongs to this thread.
template <class Body>
DEVICE void each_piece(Body body) {
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
        const int piece = i * THREADS + threadIdx.x;
        if (piece < kPieces) body(i, piece * 8);
    }
}

DEVICE void write_codes(const Row& row, unsigned char* codes, float* scale) {
    __shared__ float partial[32];
    float largest = 0.f;
    each_piece([&](int i, int) {
#pragma unroll
        for (int j = 0; j < 8; j++) largest = max(largest, fabsf(row[i][j]));
    });
    const float step = max(block_max(largest, partial) / kLargest<CODE>, 1e-12f);
    if (threadIdx.x == 0) scale[blockIdx.x] = step;
    each_piece([&](int i, int at) {
        const float* r = row[i];
        *reinterpret_cast<uint2*>(codes + (long long)blockIdx.x * HIDDEN + at) =
            make_uint2(pack_codes<CODE>(r[0] / step, r[1] / step, r[2] / step, r[3] / step),
                       pack_codes<CODE>(r[4] / step, r[5] / step, r[6] / step, r[7] / step));
    });
}

extern "C" __global__ __launch_bounds__(THREADS) void quantize_rows(const SCALAR* x, unsigned char* codes, float* scale) {
    dependents_may_start();
    wait_for_predecessor();
    Row row;
    each_piece([&](int i, int at) { unpack16<SCALAR>(load16(x + (long long)blockIdx.x * HIDDEN + at), row[i]); });
    write_codes(row, codes, scale);
}

extern "C" __global__ __launch_bounds__(THREADS) void silu_mul_codes(
    const SCALAR* gate_up, unsigned char* codes, float* scale) {
    dependents_may_start();
    wait_for_predecessor();
    const SCALAR* gates = gate_up + (long long)blockIdx.x * 2 * HIDDEN;
    Row row;
    each_piece([&](int i, int at) {
        float up[8];
        unpack16<SCALAR>(load16(gates + at), row[i]);
        unpack16<SCALAR>(load16(gates + HIDDEN + at), up);
#pragma unroll
        for (int j = 0; j < 8; j++) row[i][j] = row[i][j] / (1.f + __expf(-row[i][j]));
        round_to<SCALAR>(row[i]);
#pragma unroll
        for (int j = 0; j < 8; j++) row[i][j] *= up[j];
        round_to<SCALAR>(row[i]);
    });
    write_codes(row, codes, scale);
}
