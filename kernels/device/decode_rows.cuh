/* decode_rows.cuh - what a warp of `attention_decode.cu` does with 16 tokens whose keys and values are SCALARs.

   Keys are the rows of one product and queries its columns, values the rows of the next: 8 queries cost one instruction.
   `decode_codes.cuh` does the same for quantized keys and values.
*/
#pragma once
#include "device/decode_queries.cuh"

constexpr int kPitch = kRowBytes + 16;  // bytes of a row in shared memory; 16 more keep ldmatrix free of conflicts
constexpr int kStageBytes = 2 * kRows * kPitch;

// Start the copy of a warp's rows into a stage of its ring: `row` is the first one's in the pool, zeros from `num_rows` on.
DEVICE void fetch(unsigned char* stage, long long row, int num_rows, const Pool& pool) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kRows * kPieces / 32; i++) {
        const int piece = i * 32 + lane, r = piece / kPieces, column = piece % kPieces;
        unsigned char* to = stage + r * kPitch + column * 16;
        const bool valid = r < num_rows;
        copy16_async(to, pool.keys + row * DIM * 2 + piece * 16, valid);
        copy16_async(to + kRows * kPitch, pool.values + row * DIM * 2 + piece * 16, valid);
    }
}

// Lane 4g + c holds queries 8n + 2c and 8n + 2c + 1, and of a result the rows d = 16 i + g and + 8.
struct Rows : Queries {
    float scale_log2;

    DEVICE static int dim_of(int i, int half) { return 16 * i + threadIdx.x % 32 / 4 + 8 * half; }

    DEVICE float result_of(int n, int i, int half, int j) const { return sum[n][i][j + 2 * half]; }

    DEVICE float bias_of(int, int) const { return 0.f; }

    DEVICE void open(float scale) {
        scale_log2 = scale;
        reset();
    }

    // Take 16 tokens in: `stage` holds their keys, then their values.
    DEVICE void take(const unsigned char* stage, int token, int first, int len) {
        const int lane = threadIdx.x % 32, g = lane / 4;
        float score[kColumns][2][4] = {};  // two chains, so that one product need not wait for the last
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            unsigned a[4];
            load_matrix4(a, stage + lane % 16 * kPitch + (2 * i + lane / 16) * 16);
#pragma unroll
            for (int n = 0; n < kColumns; n++) mma16816<SCALAR>(score[n][i % 2], a, query[n][i][0], query[n][i][1]);
        }
        unsigned chance[kColumns][2];
        float fade[kColumns][2];
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            float s[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int t = token + g + j / 2 * 8;
                s[j] = t >= first && t < len ? (score[n][0][j] + score[n][1][j]) * scale_log2 : kNone;
            }
            soften(n, s, fade[n]);
            chance[n][0] = transpose8(pack2<SCALAR>(s[0], s[1]));
            chance[n][1] = transpose8(pack2<SCALAR>(s[2], s[3]));
        }
        const unsigned char* values = stage + kRows * kPitch;
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            unsigned a[4];
            load_matrix4_transposed(a, values + (lane / 16 * 8 + lane % 8) * kPitch + (2 * i + lane / 8 % 2) * 16);
#pragma unroll
            for (int n = 0; n < kColumns; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sum[n][i][j] *= fade[n][j % 2];
                mma16816<SCALAR>(sum[n][i], a, chance[n][0], chance[n][1]);
            }
        }
    }
};
