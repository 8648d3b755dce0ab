/* store_codes.cu - keys and values into quantized pages, keys after their rotary position encoding.

   Formats, formulas and bytes of a row: engines/memory/kv_layer.py. Rotation: rope.cu.

   in       q [T, HEADS, DIM], k, v [T, KV_HEADS, DIM] SCALAR; rows of a token contiguous, tokens `*_stride` elements apart
            cos, sin [T, ROTARY] fp32   slots [T] int64: page * PAGE_TOKENS + offset; negative: not written
   out      q_out [T, HEADS, DIM] contiguous, rotated (rope_store_codes)
            keys, values [pages, KV_HEADS, PAGE_TOKENS, bytes of a row], key_scales, value_scales [.., 2 or 1]: rows of `slots`
   -D       SCALAR = bf16 | fp16; HEADS, KV_HEADS, DIM, ROTARY, multiples of 8 the last two; PAGE_TOKENS; KV_FORMAT = 1 int8 | 2 int4
            | 3 fp8 (from sm_89 on) | 4 bf12 (SCALAR bf16)
   launch   grid (T, ceil(rows of a token * kRowLanes / 256)), block 256; a lane holds 8 elements of a row
   moves    T * (2 * HEADS + 2 * KV_HEADS) * DIM elements, T * 2 * KV_HEADS rows of codes
   numbers  fp32 inside; keys are rounded to SCALAR between rotation and quantization: the torch twin's codes, save where the
            rotation's fused multiply-add moves one by 1
*/
#if !defined(SCALAR) || !defined(HEADS) || !defined(KV_HEADS) || !defined(DIM) || !defined(ROTARY) || !defined(PAGE_TOKENS) || \
    !defined(KV_FORMAT)
#error "store_codes.cu needs -DSCALAR -DHEADS -DKV_HEADS -DDIM -DROTARY -DPAGE_TOKENS -DKV_FORMAT"
#endif

#include "device/new_row.cuh"

constexpr int kThreads = 256;

struct Codes {  // of keys or values
    unsigned char* rows;
    fp16* scales;
};

// Row `index` of a token's 2 * KV_HEADS: its keys, then its values.
DEVICE void store_keys_or_values(int index, int piece, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin,
                                 Codes keys, Codes values, long long slot) {
    const bool of_value = index >= KV_HEADS, real = index >= 0 && index < 2 * KV_HEADS && slot >= 0;
    const int head = of_value ? index - KV_HEADS : index;
    float x[8] = {};
    if (real && piece < kPieces) load_piece((of_value ? v : k) + head * DIM, piece * 8, of_value ? nullptr : cos, sin, x);
    const Piece made = encode_row(x, piece < kPieces);  // all lanes of the warp come here
    if (!real || piece >= kPieces) return;
    const Codes to = of_value ? values : keys;
    const long long row = row_of(slot, head, KV_HEADS);
    store_piece(to.rows + row * kRowBytes, piece, made);
    if (piece == 0) store_parameters(to.scales + row * kScaleBytes / 2, made);
}

extern "C" __global__ __launch_bounds__(kThreads) void store_codes(
    const SCALAR* k, const SCALAR* v, unsigned char* keys, unsigned char* values, fp16* key_scales, fp16* value_scales,
    const long long* slots, long long k_stride, long long v_stride) {
    dependents_may_start();
    wait_for_predecessor();
    const long long t = blockIdx.x;
    const int work = blockIdx.y * kThreads + threadIdx.x;
    store_keys_or_values(work / kRowLanes, work % kRowLanes, k + t * k_stride, v + t * v_stride, nullptr, nullptr,
                         {keys, key_scales}, {values, value_scales}, slots[t]);
}

extern "C" __global__ __launch_bounds__(kThreads) void rope_store_codes(
    const SCALAR* q, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin, SCALAR* q_out, unsigned char* keys,
    unsigned char* values, fp16* key_scales, fp16* value_scales, const long long* slots, long long q_stride, long long k_stride,
    long long v_stride) {
    dependents_may_start();
    wait_for_predecessor();
    const long long t = blockIdx.x;
    const int work = blockIdx.y * kThreads + threadIdx.x, index = work / kRowLanes, piece = work % kRowLanes;
    cos += t * ROTARY;
    sin += t * ROTARY;
    if (index < HEADS && piece < kPieces) {
        float x[8];
        load_piece(q + t * q_stride + index * DIM, piece * 8, cos, sin, x);
        store16(q_out + (t * HEADS + index) * DIM + piece * 8, pack16<SCALAR>(x));
    }
    store_keys_or_values(index - HEADS, piece, k + t * k_stride, v + t * v_stride, cos, sin, {keys, key_scales},
                         {values, value_scales}, slots[t]);
}
