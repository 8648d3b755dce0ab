/* decode_codes.cuh - what a warp of `attention_decode.cu` does with 16 tokens whose keys and values are codes of 8 or 4 bits.

   A row is x = scale * (u - middle) + zero with codes u of int8 (middle 128) or int4 (8), or x = scale * e4m3(u); the formats are
   those of `engines/memory/kv_layer.py`. Codes are multiplied as they are, and what belongs to a token or to all codes enters beside
   the products:

     score = scale_t * (q . u_t) + (zero_t - middle * scale_t) * sum(q)
     result = sum_t (p_t * scale_t) * u_t - middle * sum_t (p_t * scale_t) + sum_t p_t * zero_t

   Products are fp16 whatever SCALAR is. The bits of an integer code are, as fp16, the subnormal number u * 2^-24: nothing is
   converted, codes only get a register half each. Codes of 4 bits that stay in bits 4-7 count 16 times; their queries are divided
   by 16, their results at the end. Queries are brought below 2^15 by a power of two, p_t * scale_t is taken relative to `unit`.

   Sums fade only where a token exceeds the known maximum by far: probabilities may reach 2^kSlack and scales kScaleSlack units,
   so a warp agrees by one vote that nothing is to be done.

   Which element of a head a register holds is free as long as both operands agree: lane 4g + c multiplies words c and c + 4 of each
   32 bytes of key g, and gets the two bytes (four 4-bit codes) g of each 16 bytes of values 2c and 2c + 1.
*/
#pragma once
#include "device/decode_queries.cuh"

constexpr int kPitch = kRowBytes + 16;         // bytes of a row in shared memory; 16 more keep ldmatrix free of conflicts
constexpr int kScales = 2 * kRows * kPitch;    // where they stand in a stage: keys', then values'
constexpr int kStageBytes = kScales + 2 * kRows * kScaleBytes;
constexpr float kUnit = kFloats ? 1.f : 16777216.f;  // what a multiplied number is taken times, 2^24
constexpr float kMiddle = kFloats ? 0.f : kNibbles ? 8.f : 128.f;
constexpr unsigned kMiddlePair = kNibbles ? 0x00080008u : 0x00800080u;
constexpr float kTiny = 16777216.f;            // 1 / the smallest scale that is not 0
constexpr float kSlack = 8.f, kScaleSlack = 32.f;  // 2^8 * 32 stays far below what fp16 holds
static_assert(kRowBytes % 32 == 0, "four matrices of 8 rows of 16 bytes at a time");

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
        const unsigned char* from = lane < kScaleBytes ? pool.key_scales : pool.value_scales;
        copy16_async(stage + kScales + lane * 16, from + row * kScaleBytes + lane % kScaleBytes * 16, true);
    }
}

// Pair p of a word as two fp16: of int8 codes p and p + 2, of e4m3 2p and 2p + 1, of int4 the pair of nibbles p and p + 4.
DEVICE unsigned pair_of(unsigned word, int p) {
#if KV_FORMAT == 3
    return halves_of_e4m3(word >> p * 16);
#else
    if (kNibbles) return word >> p / 2 * 8 & (p % 2 ? 0x00f000f0u : 0x000f000fu);
    return p ? __byte_perm(word, 0, 0x4341) : word & 0x00ff00ffu;
#endif
}

// Where the numbers of pair p stand among the elements of a word.
DEVICE constexpr int place_of(int p, int half) { return kNibbles || kFloats ? 2 * p + half : p + 2 * half; }

struct Rows : Queries {
    float query_sum[kColumns][2], bias[kColumns][2];  // of this lane's queries; bias: its tokens only
    float key_unit[kColumns];
    float middle[kColumns][4];  // kMiddle * the sum of what the values were multiplied by
    float unit, per_unit;       // of the scales of values, and 1 / unit

    // Result row that sum[n][i][2 * half] is of.
    DEVICE static int dim_of(int i, int half) {
        const int g = threadIdx.x % 32 / 4;
        return kNibbles ? i / 2 * 32 + g / 2 * 8 + i % 2 * 4 + half * 2 + g % 2 : i * 16 + g * 2 + half;
    }

    DEVICE float result_of(int n, int i, int half, int j) const {
        const float sixteenth = kNibbles && half ? 0.0625f : 1.f;
        return (sum[n][i][j + 2 * half] * sixteenth - (kFloats ? 0.f : middle[n][j])) * (unit * kUnit);
    }

    DEVICE float bias_of(int n, int j) const { return sum_of_tokens(bias[n][j]); }

    // Until now the queries stood as SCALARs in the order of their words.
    DEVICE void open(float scale_log2) {
        reset();
        unit = 1.f / kTiny;
        per_unit = kTiny;
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            scale_queries(n, scale_log2);
#pragma unroll
            for (int j = 0; j < 4; j++) middle[n][j] = bias[n][j % 2] = 0.f;
        }
    }

    DEVICE void scale_queries(int n, float scale_log2) {
        const int lane = threadIdx.x % 32;
        float tops[4] = {}, totals[4] = {};  // four chains each
#pragma unroll
        for (int i = 0; i < kSteps; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float a = low_half<SCALAR>(query[n][i][half]), b = high_half<SCALAR>(query[n][i][half]);
                float &top = tops[i % 2 * 2 + half], &total = totals[i % 2 * 2 + half];
                top = max(top, max(fabsf(a), fabsf(b)));
                total += a + b;
            }
        float top = max(max(tops[0], tops[1]), max(tops[2], tops[3])), total = totals[0] + totals[1] + (totals[2] + totals[3]);
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            top = max(top, __shfl_xor_sync(0xffffffffu, top, distance));
            if (distance < 4) total += __shfl_xor_sync(0xffffffffu, total, distance);
        }
        const unsigned exponent = max(__float_as_uint(top) >> 23, 14u);
        const float scale = __uint_as_float((268u - exponent) << 23);  // brings `top` to [2^14, 2^15)
        key_unit[n] = __uint_as_float((exponent - 14u) << 23) * kUnit * scale_log2;
#pragma unroll
        for (int j = 0; j < 2; j++)  // from the lanes of query g to those that hold query 2c + j of a score
            query_sum[n][j] = __shfl_sync(0xffffffffu, total, (lane % 4 * 2 + j) * 4) * scale_log2;
#pragma unroll
        for (int i = 0; i < kSteps; i += kPairs)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float x[2 * kPairs];  // what a word of codes is multiplied with
#pragma unroll
                for (int p = 0; p < kPairs; p++) {
                    x[2 * p] = low_half<SCALAR>(query[n][i + p][half]) * scale;
                    x[2 * p + 1] = high_half<SCALAR>(query[n][i + p][half]) * scale;
                }
#pragma unroll
                for (int p = 0; p < kPairs; p++) {
                    const float by = kNibbles && p % 2 ? 0.0625f : 1.f;
                    query[n][i + p][half] = pack2<fp16>(x[place_of(p, 0)] * by, x[place_of(p, 1)] * by);
                }
            }
    }

    DEVICE void take(const unsigned char* stage, int token, int first, int len) {
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
            key_zero[half] -= kMiddle * key_scale[half];
        }
        float s[kColumns][4];
        bool calm = max(value_scale[0], value_scale[1]) <= unit * kScaleSlack;
#pragma unroll
        for (int n = 0; n < kColumns; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float product = (score[n][0][j] + score[n][1][j]) * (key_scale[j / 2] * key_unit[n]);
                s[n][j] = seen[j / 2] ? (kFloats ? product : product + query_sum[n][j % 2] * key_zero[j / 2]) : kNone;
                calm = calm && s[n][j] <= peak[n][j % 2] + kSlack;
            }
        if (__ballot_sync(0xffffffffu, !calm)) fade(s, max(value_scale[0], value_scale[1]));
        unsigned chance[kColumns][2];
#pragma unroll
        for (int n = 0; n < kColumns; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const float a = exp2_fast(s[n][2 * half] - peak[n][0]), b = exp2_fast(s[n][2 * half + 1] - peak[n][1]);
                weight[n][0] += a;
                weight[n][1] += b;
                if (!kFloats) {
                    bias[n][0] += a * value_zero[half];
                    bias[n][1] += b * value_zero[half];
                }
                const float share = value_scale[half] * per_unit;
                chance[n][half] = transpose8(pack2<fp16>(a * share, b * share));
            }
        multiply_values(stage + kRows * kPitch, chance);
    }

    DEVICE void multiply_keys(const unsigned char* keys, float (&score)[kColumns][2][4]) const {
        const unsigned char* row = keys + threadIdx.x % 16 * kPitch + threadIdx.x % 32 / 16 * 16;
#pragma unroll
        for (int i = 0; i < kRowBytes / 32; i++) {
            unsigned word[4];
            load_matrix4(word, row + i * 32);
#pragma unroll
            for (int p = 0; p < kPairs; p++) {
                const unsigned a[4] = {pair_of(word[0], p), pair_of(word[1], p), pair_of(word[2], p), pair_of(word[3], p)};
#pragma unroll
                for (int n = 0; n < kColumns; n++) {
                    const auto& b = query[n][i * kPairs + p];
                    mma16816<fp16>(score[n][p % 2], a, b[0], b[1]);
                }
            }
        }
    }

    DEVICE void multiply_values(const unsigned char* values, const unsigned (&chance)[kColumns][2]) {
        const unsigned char* row = values + threadIdx.x % 16 * kPitch + threadIdx.x % 32 / 16 * 16;
        constexpr int kTiles = kPairs / 2;  // of 16 result rows, in 16 bytes of a value
#pragma unroll
        for (int i = 0; i < kRowBytes / 32; i++) {
            unsigned word[4];  // of tokens 2c and 2c + 1: two bytes each of the first 16 and, word[2], the second; of 2c + 8 and 2c + 9
            load_matrix4_transposed(word, row + i * 32);
#pragma unroll
            for (int p = 0; p < 2 * kTiles; p++) {
                unsigned a[4];
                pair_tokens(word[p / kTiles * 2], p % kTiles, a[0], a[1]);
                pair_tokens(word[p / kTiles * 2 + 1], p % kTiles, a[2], a[3]);
#pragma unroll
                for (int n = 0; n < kColumns; n++) mma16816<fp16>(sum[n][i * 2 * kTiles + p], a, chance[n][0], chance[n][1]);
            }
        }
        const unsigned middles[4] = {kMiddlePair, kMiddlePair, kMiddlePair, kMiddlePair};
        if (!kFloats)
#pragma unroll
            for (int n = 0; n < kColumns; n++) mma16816<fp16>(middle[n], middles, chance[n][0], chance[n][1]);
    }

    // From two bytes each of two tokens: an element of both, and the next.
    DEVICE static void pair_tokens(unsigned word, int tile, unsigned& even, unsigned& odd) {
        if (kFloats) word = __byte_perm(word, 0, 0x3120);
        even = pair_of(word, 2 * tile);
        odd = pair_of(word, 2 * tile + 1);
    }

    // Raise the maxima and the unit to what these tokens ask for; what was summed so far fades.
    DEVICE void fade(const float (&s)[kColumns][4], float largest) {
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        largest = max(largest, unit);
        const float shrunk = unit / largest;
        unit = largest;
        per_unit = 1.f / largest;
#pragma unroll
        for (int n = 0; n < kColumns; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float top = max(s[n][j], s[n][j + 2]);
#pragma unroll
                for (int distance = 4; distance < 32; distance *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, distance));
                top = max(top, peak[n][j]);
                const float by = exp2_fast(peak[n][j] - top);
                peak[n][j] = top;
                weight[n][j] *= by;
                bias[n][j] *= by;
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    middle[n][j + 2 * half] *= by * shrunk;
#pragma unroll
                    for (int i = 0; i < kSteps; i++) sum[n][i][j + 2 * half] *= by * shrunk;
                }
            }
    }

    // Scale and zero of one token; zeros where it is nobody's, since what stands there may be NaN.
    DEVICE static void load_parameters(const unsigned char* at, bool real, float& scale, float& zero) {
        const unsigned word = kFloats ? *reinterpret_cast<const unsigned short*>(at) : load4(at);
        scale = real ? low_half<fp16>(word) : 0.f;
        zero = real && !kFloats ? high_half<fp16>(word) : 0.f;
    }
};
