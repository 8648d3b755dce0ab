/* decode_bf12.cuh - products of queries and chances with numbers of 12 bits, for `decode_codes.cuh`.

   A number is multiplied as the tiny bf16 that it is, at most 2^-111 and often subnormal: tensor cores take subnormals, and queries
   and chances come 2^112 times as large, so that no product or sum is tiny. Nothing is converted; of each four numbers three are
   masked and one is put together from their gaps.

   48 bytes of a row are 32 elements, `engines/memory/kv_layer.py`: lane 4g + c gets elements 8n + 2c and 8n + 2c + 1 of key g from
   words c of their three pieces, and elements 8n + g of values 2c and 2c + 1 from halves g: the operands of plain rows.
*/
#pragma once
#include "device/decode_queries.cuh"

using Product = bf16;
constexpr int kGroups = DIM / 32;
constexpr int kPitch = kRowBytes / 16 % 2 ? kRowBytes : kRowBytes + 16;  // odd in pieces: ldmatrix is free of conflicts
constexpr float kUnit = 0x1p112f;                       // what a multiplied number is taken times
constexpr float kMiddle = 0.f;
constexpr int kTop = 112;                               // queries are brought below 2^(kTop + 1)
constexpr float kChance = 0x1p112f;                     // what probabilities are multiplied times
constexpr float kLeastUnit = 0x1p-14f;                  // of the scales of values: kChance / kLeastUnit is a number

struct Products : Queries {
    // Result row that sum[n][i][2 * half] is of.
    DEVICE static int dim_of(int i, int half) { return 16 * i + threadIdx.x % 32 / 4 + 8 * half; }

    DEVICE static float share_of(int) { return 1.f; }  // that such a row counts

    DEVICE void order_queries(int n, float scale) {
#pragma unroll
        for (int i = 0; i < kSteps; i++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                query[n][i][half] = pack2<bf16>(low_half<bf16>(query[n][i][half]) * scale, high_half<bf16>(query[n][i][half]) * scale);
    }

    DEVICE void multiply_keys(const unsigned char* keys, float (&score)[kColumns][2][4]) const {
        each_step(keys, [](unsigned (&word)[4], const void* from) { load_matrix4(word, from); },
                  [&](int i, const unsigned (&low)[2], const unsigned (&high)[2]) {
                      const unsigned a[4] = {low[0], high[0], low[1], high[1]};
#pragma unroll
                      for (int n = 0; n < kColumns; n++) mma16816<bf16>(score[n][i % 2], a, query[n][i][0], query[n][i][1]);
                  });
    }

    DEVICE void multiply_values(const unsigned char* values, const unsigned (&chance)[kColumns][2], float (&)[kColumns][4]) {
        each_step(values, [](unsigned (&word)[4], const void* from) { load_matrix4_transposed(word, from); },
                  [&](int i, const unsigned (&low)[2], const unsigned (&high)[2]) {
                      const unsigned a[4] = {low[0], low[1], high[0], high[1]};
#pragma unroll
                      for (int n = 0; n < kColumns; n++) mma16816<bf16>(sum[n][i], a, chance[n][0], chance[n][1]);
                  });
    }

    // Call take(i, those of the first eight tokens, of the others) with the pairs of each 16 elements.
    template <class Load, class Take>
    DEVICE static void each_step(const unsigned char* rows, Load load, Take take) {
        const unsigned char* row = rows + threadIdx.x % 16 * kPitch + threadIdx.x % 32 / 16 * 16;
#pragma unroll
        for (int first = 0; first < kGroups; first += 2) {
            unsigned word[3][4];  // two pieces each, of eight tokens and the next
#pragma unroll
            for (int i = 0; i < 3; i++)
                if (first + 1 < kGroups || i < 2) load(word[i], row + first * 48 + i * 32);
#pragma unroll
            for (int k = 0; k < 2; k++) {
                if (first + k >= kGroups) break;
                unsigned pair[2][4];
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const auto piece = [&](int j) { return word[(3 * k + j) / 2][(3 * k + j) % 2 * 2 + half]; };
                    pair[half][3] = fourth_bf12(piece(0), piece(1), piece(2));
#pragma unroll
                    for (int j = 0; j < 3; j++) pair[half][j] = piece(j) & kBf12Bits;
                }
#pragma unroll
                for (int p = 0; p < 2; p++)
                    take(2 * (first + k) + p, {pair[0][2 * p], pair[0][2 * p + 1]}, {pair[1][2 * p], pair[1][2 * p + 1]});
            }
        }
    }
};
