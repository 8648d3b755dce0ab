/* flash_softmax.cuh - 64 query rows of `flash_hopper.cuh` in the registers of a warpgroup: their scores, softmax and sums. */
#pragma once
#include "device/flash_layout.cuh"

// The running softmax of 64 rows. Lane 4g + c of warp w holds rows 16 w + g and + 8.
struct Rows {
    float peak[2], weight[2];  // weight: this lane's keys only, until `write`
    float sum[kColumns / 2];
    float score[KEYS / 2];
    unsigned chance[KEYS / 16][4];  // probabilities as A operands

    DEVICE void open() {
        peak[0] = peak[1] = kLow;
        weight[0] = weight[1] = 0.f;
#pragma unroll
        for (int i = 0; i < kColumns / 2; i++) sum[i] = 0.f;
    }

    DEVICE void multiply_keys(Operand query, Operand keys) {
#pragma unroll
        for (int i = 0; i < kSteps; i++)
            multiply_rows<SCALAR, KEYS>(score, query + i / 4 * (kRows * 128 / 16) + i % 4 * 2,
                                        keys + i / 4 * (KEYS * 128 / 16) + i % 4 * 2, i > 0);
        products_commit();
    }

    DEVICE void multiply_values(Operand values) {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++) multiply_columns<SCALAR, kColumns>(sum, chance[i], values + i * 128);
        products_commit();
    }

    // Hide what rows don't see: `half` sees keys from[half] .. to[half] - 1, counted from the tile's first.
    DEVICE void hide(const int (&from)[2], const int (&to)[2]) {
        const int c = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            const int key = i / 4 * 8 + c + i % 2, half = i / 2 % 2;
            if (key < from[half] || key >= to[half]) score[i] = kNone;
        }
    }

    // Hide keys from `end` on, counted as there, of all rows: what a lane's are compared with is a constant.
    DEVICE void hide_from(int end) {
        end -= threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++)
            if (i / 4 * 8 + i % 2 >= end) score[i] = kNone;
    }

    // Scores become probabilities relative to the peaks; what was summed so far has to be multiplied by `fade`. A peak that the
    // scores exceed by less than a factor of 2^SLACK stays: numerator and denominator grow alike, and sums are left alone.
    DEVICE void soften(float scale_log2, float (&fade)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = kNone;
#pragma unroll
            for (int i = 0; i < KEYS / 4; i++) top = max(top, score[i / 2 * 4 + 2 * half + i % 2]);
            top = max(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = max(top, __shfl_xor_sync(0xffffffffu, top, 2));
            const bool higher = top * scale_log2 > peak[half] + SLACK;
            top = higher ? top * scale_log2 : peak[half];
            fade[half] = higher ? exp2_fast(peak[half] - top) : 1.f;
            peak[half] = top;
            float total = 0.f;
#pragma unroll
            for (int i = 0; i < KEYS / 4; i++) {
                float& x = score[i / 2 * 4 + 2 * half + i % 2];
                x = exp2_fast(x * scale_log2 - top);
                total += x;
            }
            weight[half] = weight[half] * fade[half] + total;
        }
    }

    DEVICE void pack() {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) chance[i][j] = pack2<SCALAR>(score[8 * i + 2 * j], score[8 * i + 2 * j + 1]);
    }

    DEVICE void fade_sums(const float (&fade)[2]) {
        if (SLACK > 0 && !__ballot_sync(0xffffffffu, fade[0] != 1.f || fade[1] != 1.f)) return;
#pragma unroll
        for (int i = 0; i < kColumns / 2; i++) sum[i] *= fade[i / 2 % 2];
    }

    // Hand this part's sums to whoever finishes the item last: a register of 128 threads behind the other.
    DEVICE void leave(float* share) const {
        float* to = share + threadIdx.x % 128 * 4;
        store16(to, as_words(peak[0], peak[1], weight[0], weight[1]));
#pragma unroll
        for (int i = 0; i < kColumns / 8; i++)
            store16(to + (i + 1) * 512, as_words(sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]));
    }

    // Add what another part left.
    DEVICE void join(const float* share) {
        const float* from = share + threadIdx.x % 128 * 4;
        const uint4 head = __ldcg(reinterpret_cast<const uint4*>(from));
        const float theirs[2] = {__uint_as_float(head.x), __uint_as_float(head.y)};
        const float weights[2] = {__uint_as_float(head.z), __uint_as_float(head.w)};
        float mine_fades[2], theirs_fades[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float top = max(peak[half], theirs[half]);
            mine_fades[half] = exp2_fast(peak[half] - top);
            theirs_fades[half] = exp2_fast(theirs[half] - top);
            peak[half] = top;
            weight[half] = weight[half] * mine_fades[half] + weights[half] * theirs_fades[half];
        }
#pragma unroll
        for (int i = 0; i < kColumns / 8; i++) {
            const uint4 words = __ldcg(reinterpret_cast<const uint4*>(from + (i + 1) * 512));
            const unsigned parts[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum[4 * i + j] = sum[4 * i + j] * mine_fades[j / 2] + __uint_as_float(parts[j]) * theirs_fades[j / 2];
        }
    }

    DEVICE static uint4 as_words(float a, float b, float c, float d) {
        return make_uint4(__float_as_uint(a), __float_as_uint(b), __float_as_uint(c), __float_as_uint(d));
    }

    // Normalise and write the rows for which target(row) is not null; the queries' place turns them around.
    template <class Target>
    DEVICE void write(unsigned char* query, int first_row, Target target) {
        const int thread = hidden(threadIdx.x % 128), lane = thread % 32, g = lane / 4, c = lane % 4;
        const int warp_row = first_row + thread / 32 * 16;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = weight[half];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            const float inverse = total > 0.f ? 1.f / total : 0.f;
#pragma unroll
            for (int n = 0; n < kPieces; n++)
                *reinterpret_cast<unsigned*>(query + n / 8 * (kRows * 128) + swizzled(warp_row + 8 * half + g, n) + c * 4) =
                    pack2<SCALAR>(sum[4 * n + 2 * half] * inverse, sum[4 * n + 2 * half + 1] * inverse);
        }
        __syncwarp();
        for (int i = lane; i < 16 * kPieces; i += 32) {
            const int row = warp_row + i / kPieces, piece = i % kPieces;
            SCALAR* to = target(row);
            if (to) store16(to + piece * 8, load16(query + piece / 8 * (kRows * 128) + swizzled(row, piece)));
        }
        __syncwarp();
    }
};
