/* decode_queries.cuh - the queries of a warp of `attention_decode.cu`: read, and rotated on the way where ROTARY is not 0.

   A head is cut into units of 8 * kPairs elements; lane 4g + c holds the 2 * kPairs elements c of each unit of queries 8n + g, so
   whatever meets in a rotation of whole units meets in one lane. Where a unit's words stand is what the products over plain rows
   (kPairs = 1) and over codes ask for.
*/
#pragma once
#include "device/decode_softmax.cuh"

constexpr int kPairs = kPlain || kTwelve ? 1 : kNibbles ? 4 : 2;  // of a lane's elements of a unit; of codes in a word
constexpr int kUnits = kSteps / kPairs * 2;
constexpr int kRotated = ROTARY / (8 * kPairs);        // units that are rotated with as many behind them
static_assert(ROTARY % (8 * kPairs) == 0, "whole units are rotated");

struct Angles {  // of a token, as a lane meets them
    uint2 cos[kRotated + 1][kPairs], sin[kRotated + 1][kPairs];

    // Start to read them.
    DEVICE void load(const float* cosines, const float* sines) {
#pragma unroll
        for (int u = 0; u < kRotated; u++)
#pragma unroll
            for (int p = 0; p < kPairs; p++) {
                const int at = ((4 * u + threadIdx.x % 4) * kPairs + p) * 2;
                cos[u][p] = load8(cosines + at);
                sin[u][p] = load8(sines + at);
            }
    }
};

struct Queries : Softmax {
    unsigned query[kColumns][kSteps][2];  // word p of unit 2i + half: [i * kPairs + p][half]

    // Start to read the queries.
    DEVICE void load(const SCALAR* q) {
        const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < kColumns; n++)
#pragma unroll
            for (int u = 0; u < kUnits; u++) {
                unsigned words[kPairs] = {};
                if (8 * n + g < GROUP) read_unit(q + (8 * n + g) * DIM, u, c, words);
#pragma unroll
                for (int p = 0; p < kPairs; p++) query[n][u / 2 * kPairs + p][u % 2] = words[p];
            }
    }

    DEVICE static void read_unit(const SCALAR* row, int u, int c, unsigned (&words)[kPairs]) {
        const SCALAR* from = row + (4 * u + c) * 2 * kPairs;
        if constexpr (kPairs == 1) words[0] = load4(from);
#pragma unroll
        for (int p = 0; p + 1 < kPairs; p += 2) {
            const uint2 pair = load8(from + 2 * p);
            words[p] = pair.x;
            words[p + 1] = pair.y;
        }
    }

    // Rotate them by the angles of their token.
    DEVICE void rotate_all(const Angles& by) {
#pragma unroll
        for (int u = 0; u < kRotated; u++)
#pragma unroll
            for (int p = 0; p < kPairs; p++) {
                const int other = u + kRotated;
#pragma unroll
                for (int n = 0; n < kColumns; n++)
                    rotate_words(query[n][u / 2 * kPairs + p][u % 2], query[n][other / 2 * kPairs + p][other % 2], by.cos[u][p], by.sin[u][p]);
            }
    }

    DEVICE static void rotate_words(unsigned& first, unsigned& last, uint2 cos, uint2 sin) {
        float a = low_half<SCALAR>(first), b = high_half<SCALAR>(first), c = low_half<SCALAR>(last), d = high_half<SCALAR>(last);
        rotate(a, c, __uint_as_float(cos.x), __uint_as_float(sin.x));
        rotate(b, d, __uint_as_float(cos.y), __uint_as_float(sin.y));
        first = pack2<SCALAR>(a, b);
        last = pack2<SCALAR>(c, d);
    }
};
