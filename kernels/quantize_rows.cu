/* quantize_rows.cu - rows of activations as 8-bit codes with one scale a row.

   quantize_rows        x as it is
   silu_mul_codes       x[t, i] = cast(cast(silu(gate_up[t, i])) * gate_up[t, HIDDEN + i]), never written itself
   add_rms_norm_codes   sum[t] = cast(a[t] + residual[t]); x[t] = cast(cast(rms_norm(sum[t])) * w), never written itself
   scale[t] = max(max over i of |x[t, i]| / largest code, 1e-12)        code[t, i] = round(x[t, i] / scale[t])

   in       x, a, residual [T, HIDDEN], gate_up [T, 2 * HIDDEN], w [HIDDEN] SCALAR, contiguous rows   eps float
   out      codes [T, HIDDEN] CODE   scale [T] fp32   sum [T, HIDDEN] SCALAR, may alias a and residual
   -D       SCALAR = bf16 | fp16; CODE = e4m3 (from sm_89 on) | int8; HIDDEN, multiple of 8; THREADS, multiple of 32, a row's
            pieces of 16 bytes at most 8 a thread
   launch   grid T; block THREADS; one row a block, held in registers as SCALAR
   moves    3 * T * HIDDEN bytes; silu_mul_codes: 5 * T * HIDDEN; add_rms_norm_codes: 7 * T * HIDDEN
   numbers  codes and scales equal the torch twin's; those of the others the ones of silu_mul and of add_rms_norm, and
            quantize_rows, in turn
*/
#if !defined(SCALAR) || !defined(CODE) || !defined(HIDDEN) || !defined(THREADS)
#error "quantize_rows.cu needs -DSCALAR=bf16|fp16 -DCODE=e4m3|int8 -DHIDDEN=<row length> -DTHREADS=<block size>"
#endif
#include "device/packed_row.cuh"
#include "device/silu.cuh"

static_assert(kN == 8, "codes are made of 16 bits");

extern "C" __global__ __launch_bounds__(THREADS) void quantize_rows(const SCALAR* x, unsigned char* codes, float* scale) {
    dependents_may_start();
    wait_for_predecessor();
    Row row;
    each_piece([&](int i, int at) { row[i] = load16(x + (long long)blockIdx.x * HIDDEN + at); });
    write_codes<CODE>(row, codes, scale);
}

extern "C" __global__ __launch_bounds__(THREADS) void silu_mul_codes(
    const SCALAR* gate_up, unsigned char* codes, float* scale) {
    dependents_may_start();
    wait_for_predecessor();
    const SCALAR* gates = gate_up + (long long)blockIdx.x * 2 * HIDDEN;
    Row row, ups;
    each_piece([&](int i, int at) { row[i] = load16(gates + at); });
    each_piece([&](int i, int at) { ups[i] = load16(gates + HIDDEN + at); });
    each_piece([&](int i, int) {
        float gate[8], up[8];
        unpack16<SCALAR>(row[i], gate);
        unpack16<SCALAR>(ups[i], up);
#pragma unroll
        for (int j = 0; j < 8; j++) gate[j] = silu(gate[j]);
        round_to<SCALAR>(gate);
#pragma unroll
        for (int j = 0; j < 8; j++) gate[j] *= up[j];
        row[i] = pack16<SCALAR>(gate);
    });
    write_codes<CODE>(row, codes, scale);
}

extern "C" __global__ __launch_bounds__(THREADS) void add_rms_norm_codes(
    const SCALAR* a, const SCALAR* residual, const SCALAR* w, SCALAR* sum, unsigned char* codes, float* scale, float eps) {
    __shared__ float partial[32];
    dependents_may_start();
    Row row, weights;
    each_piece([&](int i, int at) { weights[i] = load16(w + at); });  // no kernel writes it
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    float squares = 0.f;
    each_piece([&](int i, int at) {
        float x[8], addend[8];
        unpack16<SCALAR>(load16(a + start + at), x);
        unpack16<SCALAR>(load16(residual + start + at), addend);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] += addend[j];
        row[i] = pack16<SCALAR>(x);
        store16(sum + start + at, row[i]);
        unpack16<SCALAR>(row[i], x);
#pragma unroll
        for (int j = 0; j < 8; j++) squares += x[j] * x[j];
    });
    const float factor = rsqrtf(block_sum(squares, partial) / HIDDEN + eps);
    scale_row(row, weights, factor);
    write_codes<CODE>(row, codes, scale);
}
