/* new_row.cuh - a new key or value on its way into the pages: rotated, rounded, quantized.

   A row of a head is spread over kRowLanes lanes of a warp, 8 elements each. Formats and formulas: engines/memory/kv_layer.py.
   The kernels that include this file define SCALAR, DIM, ROTARY, PAGE_TOKENS and KV_FORMAT, and say which values they take.
*/
#pragma once
#include "device/bf12.cuh"
#include "device/codes.cuh"
#include "device/rotation.cuh"
#include "device/vector.cuh"

constexpr int kPieces = DIM / 8;
constexpr int kRowLanes = kPieces <= 1 ? 1 : kPieces <= 2 ? 2 : kPieces <= 4 ? 4 : kPieces <= 8 ? 8 : kPieces <= 16 ? 16 : 32;
constexpr bool kPlain = KV_FORMAT == 0, kNibbles = KV_FORMAT == 2, kFloats = KV_FORMAT == 3, kTwelve = KV_FORMAT == 4;
constexpr bool kZeros = KV_FORMAT == 1 || kNibbles;  // a row has a zero
constexpr int kPieceBytes = kPlain || kTwelve ? 16 : kNibbles ? 4 : 8;  // of a row as it is stored; of kTwelve three of four have them
constexpr int kRowBytes = kPieces * kPieceBytes * (kTwelve ? 3 : 4) / 4;
constexpr int kScaleBytes = kPlain ? 0 : kZeros ? 4 : 2;                // of a row's parameters
constexpr int kLastCode = kNibbles ? 15 : 255, kMiddleCode = (kLastCode + 1) / 2;
constexpr float kLargestHalf = 65504.f;
static_assert(!kTwelve || DIM % 32 == 0, "whole groups of 32 elements");
static_assert(DIM % 8 == 0 && ROTARY % 8 == 0 && 2 * ROTARY <= DIM && kPieces <= 32, "heads of whole pieces, 256 elements at most");

struct Piece {  // what a lane stores of a row
    unsigned words[kPieceBytes / 4];
    unsigned parameters;  // of the whole row: scale and zero
};

// Where a slot's row of one head stands among the rows of keys or values.
DEVICE long long row_of(long long slot, int head, int num_heads) {
    return (slot / PAGE_TOKENS * num_heads + head) * PAGE_TOKENS + slot % PAGE_TOKENS;
}

// Elements at .. at + 7 of a head, rotated where `cos` is not null, as numbers that SCALAR holds.
DEVICE void load_piece(const SCALAR* head, int at, const float* cos, const float* sin, float (&x)[8]) {
    unpack16<SCALAR>(load16(head + at), x);
    if (cos == nullptr || at >= 2 * ROTARY) return;
    const bool second = at >= ROTARY;
    const int pair = second ? at - ROTARY : at;
    float other[8];
    unpack16<SCALAR>(load16(head + (second ? pair : pair + ROTARY)), other);
    float c[8], s[8];
    load_floats8(cos + pair, c);
    load_floats8(sin + pair, s);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float first = second ? other[j] : x[j], last = second ? x[j] : other[j];
        rotate(first, last, c[j], s[j]);
        x[j] = second ? last : first;
    }
    round_to<SCALAR>(x);
}

template <class T, class Join>
DEVICE T over_row(T x, Join join) {
#pragma unroll
    for (int distance = 1; distance < kRowLanes; distance *= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

DEVICE float as_half(float x) { return low_half<fp16>(pack2<fp16>(min(max(x, -kLargestHalf), kLargestHalf), 0.f)); }

#if KV_FORMAT == 4
// The last of four lanes gives its numbers to the gaps of the others'.
DEVICE void encode_bf12(const float (&x)[8], bool held, Piece& out) {
    int top = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) top = max(top, held ? int(__float_as_uint(x[j]) >> 16 & 0x7fff) : 0);
    const int base = max((over_row(top, [](int a, int b) { return max(a, b); }) >> 7) - 15, 0), lane = threadIdx.x % 32;
    out.parameters = (base + 15) << 7;  // bf16: 2^(base - 112)
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const unsigned low = number_bf12(__float_as_uint(x[2 * j]) >> 16, base), high = number_bf12(__float_as_uint(x[2 * j + 1]) >> 16, base);
        const unsigned pair = low | high << 16;
        out.words[j] = pair | share_bf12(__shfl_sync(0xffffffffu, pair, lane | 3), lane % 4);
    }
}
#endif

// What is stored of a row; all lanes of a warp come here. The last lanes of a row may hold nothing of it.
DEVICE Piece encode_row(const float (&x)[8], bool held) {
    Piece out{};
#if KV_FORMAT == 0
    const uint4 bytes = pack16<SCALAR>(x);
    out.words[0] = bytes.x, out.words[1] = bytes.y, out.words[2] = bytes.z, out.words[3] = bytes.w;
#elif KV_FORMAT == 4
    encode_bf12(x, held, out);
#else
    float low = held ? x[0] : 1e38f, high = held ? x[0] : -1e38f;
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (held) {
            low = min(low, x[j]);
            high = max(high, x[j]);
        }
    low = over_row(low, [](float a, float b) { return min(a, b); });
    high = over_row(high, [](float a, float b) { return max(a, b); });
    const float scale = as_half(kFloats ? max(high, -low) / 448.f : (high - low) / float(kLastCode));
    const float zero = kFloats ? 0.f : as_half(low + float(kMiddleCode) * scale);
    const float inverse = scale > 0.f ? 1.f / scale : 0.f;
    out.parameters = pack2<fp16>(scale, zero);
#if KV_FORMAT == 3
    out.words[0] = pack_codes<e4m3>(x[0] * inverse, x[1] * inverse, x[2] * inverse, x[3] * inverse);
    out.words[1] = pack_codes<e4m3>(x[4] * inverse, x[5] * inverse, x[6] * inverse, x[7] * inverse);
#else
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const int code = min(max(__float2int_rn((x[j] - zero) * inverse) + kMiddleCode, 0), kLastCode);
        if (kNibbles) out.words[0] |= unsigned(code) << 4 * (j % 2 * 4 + j / 2);  // elements 0, 2, 4, 6, 1, 3, 5, 7
        else out.words[j / 4] |= unsigned(code) << 8 * (j % 4);
    }
#endif
#endif
    return out;
}

// A lane's piece into a row, anywhere.
DEVICE void store_piece(unsigned char* row, int piece, const Piece& from) {
    unsigned char* at = row + piece * kPieceBytes;
    if constexpr (kTwelve) {
        if (piece % 4 < 3) store16(row + piece / 4 * 48 + piece % 4 * 16, make_uint4(from.words[0], from.words[1], from.words[2], from.words[3]));
    } else if constexpr (kPlain) store16(at, make_uint4(from.words[0], from.words[1], from.words[2], from.words[3]));
    else if constexpr (kNibbles) *reinterpret_cast<unsigned*>(at) = from.words[0];
    else *reinterpret_cast<uint2*>(at) = make_uint2(from.words[0], from.words[1]);
}

// The parameters of a row to where they stand, anywhere.
DEVICE void store_parameters(void* at, const Piece& from) {
    if (!kZeros) *reinterpret_cast<unsigned short*>(at) = (unsigned short)from.parameters;
    else *reinterpret_cast<unsigned*>(at) = from.parameters;
}
