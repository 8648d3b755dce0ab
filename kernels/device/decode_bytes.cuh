/* decode_bytes.cuh - products of queries and chances with codes of 8 and 4 bits, for `decode_codes.cuh`.

   Products are fp16 whatever SCALAR is. The bits of an integer code are, as fp16, the subnormal number u * 2^-24: nothing is
   converted, codes only get a register half each. Codes of 4 bits that stay in bits 4-7 count 16 times; their queries are divided
   by 16, their results at the end.

   Which element of a head a register holds is free as long as both operands agree: lane 4g + c multiplies words c and c + 4 of each
   32 bytes of key g, and gets the two bytes (four 4-bit codes) g of each 16 bytes of values 2c and 2c + 1.
*/
#pragma once
#include "device/decode_queries.cuh"

using Product = fp16;
constexpr int kPitch = kRowBytes + 16;                  // bytes of a row in shared memory; 16 more keep ldmatrix free of conflicts
constexpr float kUnit = kFloats ? 1.f : 16777216.f;     // what a multiplied number is taken times, 2^24
constexpr float kMiddle = kFloats ? 0.f : kNibbles ? 8.f : 128.f;
constexpr int kTop = 14;                                // queries are brought below 2^(kTop + 1)
constexpr float kChance = 1.f;                          // what probabilities are multiplied times
constexpr float kLeastUnit = 1.f / 16777216.f;          // of the scales of values: the smallest that is not 0
static_assert(kRowBytes % 32 == 0, "four matrices of 8 rows of 16 bytes at a time");

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

struct Products : Queries {
    // Result row that sum[n][i][2 * half] is of.
    DEVICE static int dim_of(int i, int half) {
        const int g = threadIdx.x % 32 / 4;
        return kNibbles ? i / 2 * 32 + g / 2 * 8 + i % 2 * 4 + half * 2 + g % 2 : i * 16 + g * 2 + half;
    }

    DEVICE static float share_of(int half) { return kNibbles && half ? 0.0625f : 1.f; }  // that such a row counts

    // Until now the queries stood as SCALARs in the order of their words.
    DEVICE void order_queries(int n, float scale) {
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

    // Also sums what the chances multiply in the middle of all codes.
    DEVICE void multiply_values(const unsigned char* values, const unsigned (&chance)[kColumns][2], float (&middle)[kColumns][4]) {
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
        constexpr unsigned kMiddlePair = kNibbles ? 0x00080008u : 0x00800080u;
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
};
