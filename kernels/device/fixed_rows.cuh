/* fixed_rows.cuh - up to four rows of bf16 as the second operand of products of int8, without loss that matters.

   Of each row, 128 inputs, a slab, are taken to fixed point of 16 bits, the largest 32,512. Row r's upper bytes are column 2 r of the
   operand, its lower ones, signed, column 2 r + 1: four rows fill the eight columns of mma m16n8k32. A product with codes is exact;
   256 times one column plus the other, times the row's scale, is that of the row.
   Of the order of inputs: a step is 16 of them, of which lane c of four has 2 c, 2 c + 8, 2 c + 1 and 2 c + 9.
*/
#pragma once
#include "device/codes.cuh"
#include "device/vector.cuh"

// A slab as it comes: lane 8 r + 4 i + c has of row r what is its own of steps 4 i to 4 i + 3, two words a step.
struct Slab {
    uint4 pieces[2];

    DEVICE static int row() { return threadIdx.x % 32 / 8; }
    DEVICE static int pair(int i) { return threadIdx.x / 4 % 2 * 2 + i; }  // of steps, in the slab

    // From the 128 inputs of this lane's row, if it exists; to be turned.
    DEVICE void load(const bf16* inputs, bool exists) {
#pragma unroll
        for (int i = 0; i < 2; i++) pieces[i] = exists ? load16(inputs + pair(i) * 32 + threadIdx.x % 4 * 8) : make_uint4(0, 0, 0, 0);
    }

    // Lanes of four hold 32 inputs of a row as 16-byte pieces, and want every fourth word.
    DEVICE void turn() {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            exchange(pieces[i].x, pieces[i].y, 1);
            exchange(pieces[i].z, pieces[i].w, 1);
            exchange(pieces[i].x, pieces[i].z, 2);
            exchange(pieces[i].y, pieces[i].w, 2);
        }
    }

    // The upper of a pair of lanes gives its `low` for the lower one's `high`.
    DEVICE static void exchange(unsigned& low, unsigned& high, int distance) {
        const bool upper = threadIdx.x & distance;
        const unsigned got = __shfl_xor_sync(0xffffffffu, upper ? low : high, distance);
        if (upper) low = got;
        else high = got;
    }
};

template <int PIECES>
struct FixedRows {
    unsigned words[8];  // of a step each; lane 4 g + c has column g
    float scale;        // of row c
    int sums[PIECES];   // of row c: of the inputs of a part of the slab

    DEVICE void set(const Slab& slab) {
        const uint4(&pieces)[2] = slab.pieces;
        const unsigned pairs[8] = {pieces[0].x, pieces[0].y, pieces[0].z, pieces[0].w, pieces[1].x, pieces[1].y, pieces[1].z, pieces[1].w};
        const float largest = largest_of_row(pairs);
        cut(pairs, largest > 1e-30f ? __fdividef(32512.f, largest) : 0.f);
        scale = __shfl_sync(0xffffffffu, largest * (1.f / 32512.f), threadIdx.x % 4 * 8);
        add_up();
    }

    // NaN, if there is one: its bits are the largest.
    DEVICE static float largest_of_row(const unsigned (&pairs)[8]) {
        unsigned most = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) most = larger2(most, pairs[i] & 0x7fff7fffu);
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) most = larger2(most, __shfl_xor_sync(0xffffffffu, most, distance));
        return __uint_as_float(max(most << 16, most & 0xffff0000u));
    }

    // A number plus 3 * 2^22 has its integer in its lowest bits.
    DEVICE void cut(const unsigned (&pairs)[8], float inverse) {
        constexpr float kMagic = 12582912.f;
        const bool lower = threadIdx.x & 4;  // of the two columns of a row
#pragma unroll
        for (int step = 0; step < 4; step++) {
            const unsigned low = pairs[2 * step], high = pairs[2 * step + 1];
            const float x[4] = {low_half<bf16>(low), low_half<bf16>(high), high_half<bf16>(low), high_half<bf16>(high)};
            unsigned exact[4], up[4];  // `up` plus half of what the upper byte counts: the lower one is signed
#pragma unroll
            for (int i = 0; i < 4; i++) {
                exact[i] = __float_as_uint(fmaf(x[i], inverse, kMagic));
                up[i] = __float_as_uint(fmaf(x[i], inverse, kMagic + 128.f));
            }
            const unsigned low_bytes = __byte_perm(__byte_perm(exact[0], exact[1], 0x0040), __byte_perm(exact[2], exact[3], 0x0040), 0x5410);
            const unsigned high_bytes = __byte_perm(__byte_perm(up[0], up[1], 0x0051), __byte_perm(up[2], up[3], 0x0051), 0x5410);
            const unsigned got = __shfl_xor_sync(0xffffffffu, lower ? high_bytes : low_bytes, 4);
            words[step] = lower ? got : high_bytes;
            words[4 + step] = lower ? low_bytes : got;
        }
    }

    // A row of ones times x.
    DEVICE void add_up() {
        constexpr int kSteps = 8 / PIECES;
        const unsigned ones[4] = {0x01010101u, 0x01010101u, 0x01010101u, 0x01010101u};
#pragma unroll
        for (int piece = 0; piece < PIECES; piece++) {
            int sum[4] = {};
#pragma unroll
            for (int step = piece * kSteps; step < (piece + 1) * kSteps; step += 2) mma16832(sum, ones, words[step], words[step + 1]);
            sums[piece] = sum[0] * 256 + sum[1];
        }
    }
};
