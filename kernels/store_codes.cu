/* store_codes.cu - keys and values into quantized pages, keys after their rotary position encoding.

   Formats, formulas and bytes of a row: engines/memory/kv_layer.py. Rotation: rope.cu.

   in       q [T, HEADS, DIM], k, v [T, KV_HEADS, DIM] SCALAR; rows of a token contiguous, tokens `*_stride` elements apart
            cos, sin [T, ROTARY] fp32   slots [T] int64: page * PAGE_TOKENS + offset; negative: not written
   out      q_out [T, HEADS, DIM] contiguous, rotated (rope_store_codes)
            keys, values [pages, KV_HEADS, PAGE_TOKENS, bytes of a row], key_scales, value_scales [.., 2 or 1] fp16: rows of `slots`
   -D       SCALAR = bf16 | fp16; HEADS, KV_HEADS, DIM, ROTARY, multiples of 8 the last two; PAGE_TOKENS; KV_FORMAT = 1 int8 | 2 int4
            | 3 fp8 (from sm_89 on)
   launch   grid (T, ceil(rows of a token * kRowLanes / 256)), block 256; a lane holds 8 elements of a row
   moves    T * (2 * HEADS + 2 * KV_HEADS) * DIM elements, T * 2 * KV_HEADS rows of codes
   numbers  fp32 inside; keys are rounded to SCALAR between rotation and quantization: the torch twin's codes, save where the
            rotation's fused multiply-add moves one by 1
*/
#include "device/codes.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(HEADS) || !defined(KV_HEADS) || !defined(DIM) || !defined(ROTARY) || !defined(PAGE_TOKENS) || \
    !defined(KV_FORMAT)
#error "store_codes.cu needs -DSCALAR -DHEADS -DKV_HEADS -DDIM -DROTARY -DPAGE_TOKENS -DKV_FORMAT"
#endif

constexpr int kThreads = 256;
constexpr int kPieces = DIM / 8;
constexpr int kRowLanes = kPieces <= 1 ? 1 : kPieces <= 2 ? 2 : kPieces <= 4 ? 4 : kPieces <= 8 ? 8 : kPieces <= 16 ? 16 : 32;
constexpr bool kFloats = KV_FORMAT == 3, kNibbles = KV_FORMAT == 2;
constexpr int kRowBytes = DIM / (kNibbles ? 2 : 1);
constexpr int kSteps = kNibbles ? 15 : 255, kMiddle = (kSteps + 1) / 2;
constexpr float kLargestHalf = 65504.f;
static_assert(DIM % 8 == 0 && ROTARY % 8 == 0 && 2 * ROTARY <= DIM && kPieces <= 32, "see the header");

struct Codes {  // of keys or values
    unsigned char* rows;
    fp16* scales;
};

// Elements at .. at + 7 of a head, rotated where `cos` is not null.
DEVICE void load_piece(const SCALAR* head, int at, const float* cos, const float* sin, float (&x)[8]) {
    unpack16<SCALAR>(load16(head + at), x);
    if (cos == nullptr || at >= 2 * ROTARY) return;
    const bool second = at >= ROTARY;
    const int pair = second ? at - ROTARY : at;
    float other[8];
    unpack16<SCALAR>(load16(head + (second ? pair : pair + ROTARY)), other);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const float c = cos[pair + j], s = sin[pair + j];
        x[j] = second ? x[j] * c + other[j] * s : x[j] * c - other[j] * s;
    }
    round_to<SCALAR>(x);
}

template <class Join>
DEVICE float over_row(float x, Join join) {
#pragma unroll
    for (int distance = 1; distance < kRowLanes; distance *= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

DEVICE float as_half(float x) { return low_half<fp16>(pack2<fp16>(min(max(x, -kLargestHalf), kLargestHalf), 0.f)); }

// Quantize a row that is spread over kRowLanes lanes and write it where `real`; all lanes of the warp come here.
DEVICE void store_row(const float (&x)[8], int piece, bool real, Codes to, long long row) {
    const bool held = piece < kPieces;  // the last lanes of a row may have nothing
    float low = held ? x[0] : 1e38f, high = held ? x[0] : -1e38f;
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (held) {
            low = min(low, x[j]);
            high = max(high, x[j]);
        }
    low = over_row(low, [](float a, float b) { return min(a, b); });
    high = over_row(high, [](float a, float b) { return max(a, b); });
    const float scale = as_half(kFloats ? max(high, -low) / 448.f : (high - low) / float(kSteps));
    const float zero = kFloats ? 0.f : as_half(low + float(kMiddle) * scale);
    const float inverse = scale > 0.f ? 1.f / scale : 0.f;
    if (!real || !held) return;
    unsigned word[2] = {0, 0};
#if KV_FORMAT == 3
    word[0] = pack_codes<e4m3>(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse);
    word[1] = pack_codes<e4m3>(x[4] * inverse, x[5] * inverse, x[6] * inverse, x[7] * inverse);
#else
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int code = min(max(__float2int_rn((x[j] - zero) * inverse) + kMiddle, 0), kSteps);
        if (kNibbles) word[0] |= unsigned(code) << 4 * (j % 2 * 4 + j / 2);  // elements 0, 2, 4, 6, 1, 3, 5, 7
        else word[j / 4] |= unsigned(code) << 8 * (j % 4);
    }
#endif
    unsigned char* at = to.rows + row * kRowBytes + piece * (kNibbles ? 4 : 8);
    if (kNibbles) *reinterpret_cast<unsigned*>(at) = word[0];
    else *reinterpret_cast<uint2*>(at) = make_uint2(word[0], word[1]);
    if (piece > 0) return;
    if (kFloats) to.scales[row].bits = (unsigned short)pack2<fp16>(scale, 0.f);
    else *reinterpret_cast<unsigned*>(to.scales + 2 * row) = pack2<fp16>(scale, zero);
}

DEVICE long long row_of(long long slot, int head) {
    return (slot / PAGE_TOKENS * KV_HEADS + head) * PAGE_TOKENS + slot % PAGE_TOKENS;
}

// Row `index` of a token's 2 * KV_HEADS: its keys, then its values.
DEVICE void store_keys_or_values(int index, int piece, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin,
                                 Codes keys, Codes values, long long slot) {
    const bool of_value = index >= KV_HEADS, real = index >= 0 && index < 2 * KV_HEADS && slot >= 0;
    const int head = of_value ? index - KV_HEADS : index;
    float x[8] = {};
    if (real && piece < kPieces) load_piece((of_value ? v : k) + head * DIM, piece * 8, of_value ? nullptr : cos, sin, x);
    const Codes to{of_value ? values.rows : keys.rows, of_value ? values.scales : keys.scales};
    store_row(x, piece, real, to, real ? row_of(slot, head) : 0);
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
