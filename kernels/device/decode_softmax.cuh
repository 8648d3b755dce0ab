/* decode_softmax.cuh - the running softmax of a warp over the tokens it has seen, for up to 8 * kColumns queries.

   Lane 4g + c holds queries 8n + 2c and 8n + 2c + 1 of column block n, and of 16 tokens g and g + 8.
*/
#pragma once
#include "device/new_row.cuh"

constexpr int kRows = 16;                  // tokens of a warp's share of a tile
constexpr int kSteps = DIM / 16;
constexpr int kColumns = (GROUP + 7) / 8;  // eight queries each
constexpr float kNone = -1e30f;            // below every score; finite, so that differences of two of it are 0

struct Pool {  // of one layer: rows of keys and values, and the parameters of quantized ones
    unsigned char *keys, *values, *key_scales, *value_scales;
};

struct Softmax {
    float peak[kColumns][2], weight[kColumns][2];  // weight: this lane's tokens only, until `close`
    float sum[kColumns][kSteps][4];                // two rows of the result, for two queries each

    DEVICE void reset() {
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
#pragma unroll
            for (int i = 0; i < kSteps; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[n][i][j] = 0.f;
            peak[n][0] = peak[n][1] = kNone;
            weight[n][0] = weight[n][1] = 0.f;
        }
    }

    // Scores (token g + j / 2 * 8, query 8n + 2c + j % 2) become probabilities; what was summed so far fades.
    DEVICE void soften(int n, float (&s)[4], float (&fade)[2]) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float top = max(s[j], s[j + 2]);
#pragma unroll
            for (int distance = 4; distance < 32; distance *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, distance));
            top = max(top, peak[n][j]);
            fade[j] = exp2_fast(peak[n][j] - top);
            peak[n][j] = top;
            s[j] = exp2_fast(s[j] - top);
            s[j + 2] = exp2_fast(s[j + 2] - top);
            weight[n][j] = weight[n][j] * fade[j] + s[j] + s[j + 2];
        }
    }
};

DEVICE float sum_of_tokens(float x) {  // over the lanes that hold the same query
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}
