/* decode_codes.cuh - what a warp of `attention_decode.cu` does with 16 tokens whose keys and values are codes of 8 or 4 bits.

   A row is x = scale * u + zero with u a small number: int8 code - 128, int4 code - 8, or the value of an e4m3 code / 256, all
   exact in fp16 (`engines/kv_layer.py`). Codes are multiplied as they are; the parameters of a token enter beside the products:

     score = scale_t * (q . u_t) + zero_t * sum(q)        result = sum_t (p_t * scale_t) * u_t + sum_t p_t * zero_t

   Products are fp16 whatever SCALAR is: queries are brought to [1, 2) by a power of two, and p_t * scale_t is taken relative to
   the largest scale of the 16 tokens.

   Which element of a head a register holds is free as long as both operands agree, so lanes read whole words: of keys, 4
   elements a step from word c + 4 * step; of values, the words g + 8 w of the tokens 2c, 2c + 1, 2c + 8, 2c + 9.
*/
#pragma once
#include "device/decode_softmax.cuh"

constexpr bool kFloats = KV_FORMAT == 3, kNibbles = KV_FORMAT == 2;
constexpr int kRowBytes = DIM / (kNibbles ? 2 : 1);
constexpr int kPitch = kRowBytes + 16;         // bytes of a row in shared memory; 16 more keep loads of words free of conflicts
constexpr int kScaleBytes = kFloats ? 2 : 4;   // of a token's parameters
constexpr int kScales = 2 * kRows * kPitch;    // where they stand in a stage: keys', then values'
constexpr int kStageBytes = kScales + 2 * kRows * kScaleBytes;
constexpr int kWords = kRowBytes / 4 / 8;      // of a value that a lane reads
constexpr float kUnit = kFloats ? 256.f : 1.f;
static_assert(kRowBytes % 32 == 0, "a row has a word for each of 8 lanes");

DEVICE void fetch(unsigned char* stage, long long row, int num_rows, const Pool& pool) {
    const int lane = threadIdx.x % 32;
    constexpr int kPieces = kRowBytes / 16;
#pragma unroll
    for (int i = lane; i < kRows * kPieces; i += 32) {
        const int r = i / kPieces, column = i % kPieces;
        unsigned char* to = stage + r * kPitch + column * 16;
        copy16_async(to, pool.keys + row * kRowBytes + i * 16, r < num_rows);
        copy16_async(to + kRows * kPitch, pool.values + row * kRowBytes + i * 16, r < num_rows);
    }
    if (lane < 2 * kScaleBytes) {  // the parameters of 16 tokens are kScaleBytes pieces
        const fp16* from = lane < kScaleBytes ? pool.key_scales : pool.value_scales;
        copy16_async(stage + kScales + lane * 16, reinterpret_cast<const unsigned char*>(from) + row * kScaleBytes + lane % kScaleBytes * 16,
                     true);
    }
}

// Two neighbouring numbers of a word as fp16: bytes 2p and 2p + 1, or the p-th pair of an int4 word.
DEVICE unsigned pair_of(unsigned word, int p) {
    if (kNibbles) return sub_halves((word >> 4 * p & 0x000f000f) | 0x64006400u, 0x64086408u);  // 1024 + code, less 1032
    if (kFloats) {
        const unsigned high = __byte_perm(word, 0, p ? 0x3424 : 0x1404);  // s eeee mmm in the upper half of each 16 bits
        return (high & 0x80008000u) | (high >> 1 & 0x3f803f80u);
    }
    return sub_halves(__byte_perm(word, 0x64646464u, p ? 0x4342 : 0x4140), 0x64806480u);  // 1024 + code, less 1152
}

// First of the 4 elements of a query or key that lane 4g + c multiplies in a step.
DEVICE int element_of(int step) {
    const int c = threadIdx.x % 4;
    return kNibbles ? step / 2 * 32 + c * 8 + step % 2 * 4 : step * 16 + c * 4;
}

struct Rows : Softmax {
    unsigned query[kColumns][kSteps][2];
    float unscale[kColumns][2], query_sum[kColumns][2], bias[kColumns][2];  // of this lane's queries; bias: its tokens only

    // Result row that sum[n][i][2 * half] is of.
    DEVICE static int dim_of(int i, int half) {
        const int g = threadIdx.x % 32 / 4;
        return (kNibbles ? 8 * (g + i / 4 * 8) + 2 * (i % 4) : 4 * (g + i / 2 * 8) + 2 * (i % 2)) + half;
    }

    DEVICE float bias_of(int n, int j) const { return sum_of_tokens(bias[n][j]); }

    DEVICE void open(const SCALAR* q) {
        const int lane = threadIdx.x % 32, g = lane / 4;
        reset();
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            float x[kSteps][4], top = 0.f, total = 0.f;
#pragma unroll
            for (int i = 0; i < kSteps; i++) {
                uint2 words = make_uint2(0, 0);
                if (8 * n + g < GROUP) words = *reinterpret_cast<const uint2*>(q + (8 * n + g) * DIM + element_of(i));
                x[i][0] = low_half<SCALAR>(words.x);
                x[i][1] = high_half<SCALAR>(words.x);
                x[i][2] = low_half<SCALAR>(words.y);
                x[i][3] = high_half<SCALAR>(words.y);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    top = max(top, max(x[i][j], -x[i][j]));
                    total += x[i][j];
                }
            }
#pragma unroll
            for (int distance = 1; distance < 4; distance *= 2) {
                top = max(top, __shfl_xor_sync(0xffffffffu, top, distance));
                total += __shfl_xor_sync(0xffffffffu, total, distance);
            }
            const unsigned exponent = __float_as_uint(top) >> 23;
            const float scale = __uint_as_float((254u - exponent) << 23), inverse = __uint_as_float(exponent << 23);
#pragma unroll
            for (int i = 0; i < kSteps; i++) {
                query[n][i][0] = pack2<fp16>(x[i][0] * scale, x[i][1] * scale);
                query[n][i][1] = pack2<fp16>(x[i][2] * scale, x[i][3] * scale);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {  // from the lanes of query g to those that hold query 2c + j of a score
                const int from = (lane % 4 * 2 + j) * 4;
                unscale[n][j] = __shfl_sync(0xffffffffu, inverse, from) * kUnit;
                query_sum[n][j] = __shfl_sync(0xffffffffu, total, from);
                bias[n][j] = 0.f;
            }
        }
    }

    DEVICE void multiply_keys(const unsigned char* stage, float (&score)[kColumns][2][4]) const {
        const int lane = threadIdx.x % 32;
        const unsigned char* row = stage + lane / 4 * kPitch;
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            const int at = element_of(i) / (kNibbles ? 8 : 4) * 4, p = kNibbles ? i % 2 * 2 : 0;
            const unsigned low = load4(row + at), high = load4(row + 8 * kPitch + at);
            const unsigned a[4] = {pair_of(low, p), pair_of(high, p), pair_of(low, p + 1), pair_of(high, p + 1)};
#pragma unroll
            for (int n = 0; n < kColumns; n++) mma16816<fp16>(score[n][i % 2], a, query[n][i][0], query[n][i][1]);
        }
    }

    DEVICE void multiply_values(const unsigned char* stage, const unsigned (&chance)[kColumns][2], const float (&fade)[kColumns][2],
                                float unit) {
        const int lane = threadIdx.x % 32;
        const unsigned char* row = stage + kRows * kPitch + lane % 4 * 2 * kPitch + lane / 4 * 4;
#pragma unroll
        for (int w = 0; w < kWords; w++) {
            unsigned word[4];  // tokens 2c, 2c + 1, 2c + 8, 2c + 9
#pragma unroll
            for (int j = 0; j < 4; j++) word[j] = load4(row + (j % 2 + j / 2 * 8) * kPitch + w * 32);
            constexpr int tiles = kSteps / kWords;  // of 16 result rows, in a word
#pragma unroll
            for (int p = 0; p < tiles; p++) {
                unsigned a[4];
#pragma unroll
                for (int half = 0; half < 2; half++) {  // two tokens each: an even element, then the odd one
                    const unsigned first = word[2 * half], second = word[2 * half + 1];
                    if (kNibbles) {
                        const unsigned x = pair_of(first, p), y = pair_of(second, p);
                        a[2 * half] = __byte_perm(x, y, 0x5410);
                        a[2 * half + 1] = __byte_perm(x, y, 0x7632);
                    } else {
                        const unsigned mixed = __byte_perm(first, second, p ? 0x7362 : 0x5140);
                        a[2 * half] = pair_of(mixed, 0);
                        a[2 * half + 1] = pair_of(mixed, 1);
                    }
                }
                const int i = w * tiles + p;
#pragma unroll
                for (int n = 0; n < kColumns; n++) {
                    float product[4] = {};
                    mma16816<fp16>(product, a, chance[n][0], chance[n][1]);
#pragma unroll
                    for (int j = 0; j < 4; j++) sum[n][i][j] = sum[n][i][j] * fade[n][j % 2] + product[j] * unit;
                }
            }
        }
    }

    DEVICE void take(const unsigned char* stage, int token, int first, int len, float scale_log2) {
        const int g = threadIdx.x % 32 / 4;
        float score[kColumns][2][4] = {};
        multiply_keys(stage, score);
        float key_scale[2], key_zero[2], value_scale[2], value_zero[2];
        bool seen[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int t = g + 8 * half;
            const unsigned char* at = stage + kScales + t * kScaleBytes;
            seen[half] = token + t >= first && token + t < len;
            load_parameters(at, true, key_scale[half], key_zero[half]);
            load_parameters(at + kRows * kScaleBytes, seen[half], value_scale[half], value_zero[half]);
        }
        float largest = max(value_scale[0], value_scale[1]);
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        const float inverse = largest > 0.f ? 1.f / largest : 0.f;
        unsigned chance[kColumns][2];
        float fade[kColumns][2];
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            float s[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float product = (score[n][0][j] + score[n][1][j]) * unscale[n][j % 2];
                s[j] = seen[j / 2] ? (product * key_scale[j / 2] + query_sum[n][j % 2] * key_zero[j / 2]) * scale_log2 : kNone;
            }
            soften(n, s, fade[n]);
#pragma unroll
            for (int j = 0; j < 2; j++) bias[n][j] = bias[n][j] * fade[n][j] + s[j] * value_zero[0] + s[j + 2] * value_zero[1];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float share = value_scale[half] * inverse;
                chance[n][half] = transpose8(pack2<fp16>(s[2 * half] * share, s[2 * half + 1] * share));
            }
        }
        multiply_values(stage, chance, fade, largest * kUnit);
    }

    // Scale and zero of one token; zeros where it is nobody's, since what stands there may be NaN.
    DEVICE static void load_parameters(const unsigned char* at, bool real, float& scale, float& zero) {
        const unsigned word = kFloats ? *reinterpret_cast<const unsigned short*>(at) : load4(at);
        scale = real ? low_half<fp16>(word) : 0.f;
        zero = real && !kFloats ? high_half<fp16>(word) : 0.f;
    }
};
