/* decode_codes.cuh - what a warp of `attention_decode.cu` does with 16 tokens whose keys and values are codes of 12, 8 or 4 bits.

   A row is x = scale * (u - middle) + zero with codes u of int8 (middle 128) or int4 (8), x = scale * e4m3(u) or, of bf12,
   x = scale * 2^112 * bf16(u); the formats are those of `engines/memory/kv_layer.py`. Codes are multiplied as they are
   (`decode_bytes.cuh`, `decode_bf12.cuh`), and what belongs to a token or to all codes enters beside the products:

     score = scale_t * (q . u_t) + (zero_t - middle * scale_t) * sum(q)
     result = sum_t (p_t * scale_t) * u_t - middle * sum_t (p_t * scale_t) + sum_t p_t * zero_t

   Queries are brought below 2^(kTop + 1) by a power of two, p_t * scale_t is taken relative to `unit`.

   Sums fade only where a token exceeds the known maximum by far: probabilities may reach 2^kSlack and scales kScaleSlack units,
   so a warp agrees by one vote that nothing is to be done.
*/
#pragma once
#if KV_FORMAT == 4
#include "device/decode_bf12.cuh"
#else
#include "device/decode_bytes.cuh"
#endif

constexpr int kScales = 2 * kRows * kPitch;    // where they stand in a stage: keys', then values'
constexpr int kStageBytes = kScales + 2 * kRows * kScaleBytes;
constexpr float kSlack = 8.f, kScaleSlack = 32.f;  // 2^8 * 32 stays far below what a Product holds

// WHOLE: all 16 rows, for which a lane's addresses are two and constants behind them.
template <bool WHOLE>
DEVICE void fetch_rows(unsigned char* stage, const unsigned char* keys, const unsigned char* values, int num_rows) {
    constexpr int kPieces = kRowBytes / 16;
    const int lane = threadIdx.x % 32;
    if constexpr (WHOLE && 32 % kPieces == 0 && kRows * kPieces % 32 == 0) {
        unsigned char* to = stage + lane / kPieces * kPitch + lane % kPieces * 16;
        const unsigned char *key = keys + lane * 16, *value = values + lane * 16;
#pragma unroll
        for (int i = 0; i < kRows * kPieces / 32; i++) {
            copy16_async(to + i * (32 / kPieces) * kPitch, key + i * 512, true);
            copy16_async(to + (kRows + i * (32 / kPieces)) * kPitch, value + i * 512, true);
        }
    } else {
#pragma unroll
        for (int i = lane; i < kRows * kPieces; i += 32) {
            const int r = i / kPieces, column = i % kPieces;
            unsigned char* to = stage + r * kPitch + column * 16;
            copy16_async(to, keys + i * 16, WHOLE || r < num_rows);
            copy16_async(to + kRows * kPitch, values + i * 16, WHOLE || r < num_rows);
        }
    }
}

DEVICE void fetch(unsigned char* stage, long long row, int num_rows, const Pool& pool) {
    const int lane = threadIdx.x % 32;
    const unsigned char *keys = pool.keys + row * kRowBytes, *values = pool.values + row * kRowBytes;
    if (num_rows >= kRows) fetch_rows<true>(stage, keys, values, num_rows);
    else fetch_rows<false>(stage, keys, values, num_rows);
    if (lane < 2 * kScaleBytes) {  // the parameters of 16 tokens are kScaleBytes pieces
        const unsigned char* from = lane < kScaleBytes ? pool.key_scales : pool.value_scales;
        copy16_async(stage + kScales + lane * 16, from + row * kScaleBytes + lane % kScaleBytes * 16, true);
    }
}

struct Rows : Products {
    float query_sum[kColumns][2], bias[kColumns][2];  // of this lane's queries; bias: its tokens only
    float key_unit[kColumns];
    float middle[kColumns][4];  // kMiddle * the sum of what the values were multiplied by
    float unit, per_unit;       // of the scales of values, and kChance / unit

    DEVICE float result_of(int n, int i, int half, int j) const {
        return (sum[n][i][j + 2 * half] * share_of(half) - (kZeros ? middle[n][j] : 0.f)) * (unit * (kUnit / kChance));
    }

    DEVICE float bias_of(int n, int j) const { return sum_of_tokens(bias[n][j]); }

    DEVICE void open(float scale_log2) {
        reset();
        unit = kLeastUnit;
        per_unit = kChance / kLeastUnit;
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
        const unsigned exponent = max(__float_as_uint(top) >> 23, kTop + 1u);
        const float scale = __uint_as_float((254u + kTop - exponent) << 23);  // brings `top` to [2^kTop, 2^(kTop + 1))
        key_unit[n] = __uint_as_float((exponent - kTop) << 23) * kUnit * scale_log2;
#pragma unroll
        for (int j = 0; j < 2; j++)  // from the lanes of query g to those that hold query 2c + j of a score
            query_sum[n][j] = __shfl_sync(0xffffffffu, total, (lane % 4 * 2 + j) * 4) * scale_log2;
        order_queries(n, scale);
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
                s[n][j] = seen[j / 2] ? (!kZeros ? product : product + query_sum[n][j % 2] * key_zero[j / 2]) : kNone;
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
                if (kZeros) {
                    bias[n][0] += a * value_zero[half];
                    bias[n][1] += b * value_zero[half];
                }
                const float share = value_scale[half] * per_unit;
                chance[n][half] = transpose8(pack2<Product>(a * share, b * share));
            }
        multiply_values(stage + kRows * kPitch, chance, middle);
    }

    // Raise the maxima and the unit to what these tokens ask for; what was summed so far fades.
    DEVICE void fade(const float (&s)[kColumns][4], float largest) {
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2) largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
        largest = max(largest, unit);
        per_unit = kTwelve ? kChance / largest : kChance * reciprocal_fast(largest);  // of a bf16 scale it may be subnormal
        const float shrunk = unit * per_unit * (1.f / kChance);
        unit = largest;
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
        const unsigned word = kZeros ? load4(at) : *reinterpret_cast<const unsigned short*>(at);
        if constexpr (kTwelve) scale = real ? low_half<bf16>(word) : 0.f;
        else scale = real ? low_half<fp16>(word) : 0.f;
        zero = real && kZeros ? high_half<fp16>(word) : 0.f;
    }
};
