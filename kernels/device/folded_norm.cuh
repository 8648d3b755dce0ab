/* folded_norm.cuh - an RMS norm between two products, folded into the end of each, so that it takes no kernel of its own.

   ADDED    h = residual + y, rounded;   out = h * norm, rounded;   squares[row, part] = sum of h^2 over what a block writes of the row
   NORMED   y = (x @ weight.T) * rsqrt(sum over part of squares[row, part] / inputs + eps), of x and squares that ADDED wrote

   What a row is scaled by in its norm multiplies the row's products, so rows are multiplied before it is known. Parts are summed in
   one order, whichever block was first. Without scales rows of fp16 would overflow: bf16 alone.

   -D       ADDED = 0 | 1; NORMED, the parts of a row: 0, or a multiple of 4; ROWS of a block; SCALAR = bf16 with either
*/
#pragma once
#include "device/vector.cuh"

#ifndef ADDED
#define ADDED 0
#endif
#ifndef NORMED
#define NORMED 0
#endif
static_assert(NORMED % 4 == 0, "parts are fetched by fours");

struct FoldedNorm {
    const bf16* residual;  // ADDED: [num_rows, num_outputs], and weight [num_outputs]
    const bf16* weight;
    bf16* h;               // ADDED
    float* squares;        // [num_rows, parts]
    float eps;
};

#if ADDED || NORMED
#define NORM_PARAMETERS , const bf16 *residual, const bf16 *norm_weight, bf16 *h, float *squares, float eps
#define NORM_ARGUMENTS FoldedNorm{residual, norm_weight, h, squares, eps}
#else
#define NORM_PARAMETERS
#define NORM_ARGUMENTS FoldedNorm{}
#endif

// Over each LANES neighbouring lanes, a power of two.
template <int LANES>
DEVICE float sum_neighbours(float x) {
#pragma unroll
    for (int distance = 1; distance < LANES; distance *= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

// What the rows of a block are multiplied by, made by two warps that have nothing else to do. Parts come by copies, since a thread of
// these warps has few registers.
template <int PARTS>
struct alignas(16) RowScales {
    static constexpr int kTogether = 4;  // rows of a warp
    float parts[2][kTogether][PARTS + 4], scales[ROWS];  // neighbouring rows begin in other banks

    DEVICE void make(const FoldedNorm& norm, int warp, int first_row, int num_rows, int inputs) {
        const int lane = threadIdx.x % 32, end = min(ROWS, num_rows - first_row);
        const float* squares = norm.squares + (long long)first_row * PARTS;
        wait_for_predecessor();
#pragma unroll 1
        for (int first = warp * kTogether; first < end; first += 2 * kTogether) {
#pragma unroll 1
            for (int piece = lane; piece < kTogether * PARTS / 4; piece += 32) {
                const int row = piece / (PARTS / 4), part = piece % (PARTS / 4) * 4;
                const bool valid = first + row < end;
                copy16_async(&parts[warp][row][part], squares + (valid ? (first + row) * PARTS + part : 0), valid);
            }
            copies_commit();
            copies_wait<0>();
            __syncwarp();
            const float sum = sum_eighths(parts[warp][lane / 8]);
            if (lane % 8 == 0) scales[first + lane / 8] = rsqrtf(sum / inputs + norm.eps);
            __syncwarp();  // before the next rows come
        }
    }

    // Eight neighbouring lanes share a row.
    DEVICE static float sum_eighths(const float* row) {
        float sum = 0.f;
#pragma unroll 1
        for (int part = threadIdx.x % 8 * 4; part < PARTS; part += 32) {
            float four[4];
            unpack16<fp32>(load16(row + part), four);
            sum += (four[0] + four[1]) + (four[2] + four[3]);
        }
        return sum_neighbours<8>(sum);
    }

    DEVICE float of(int row) const { return scales[row]; }
};

template <>
struct RowScales<0> {
    DEVICE float of(int) const { return 1.f; }
};

// ADDED: the norm's weight for NUM outputs from `first` on. It comes from memory, which takes long: one warp asks for it at the start.
template <int NUM>
struct alignas(16) NormWeight {
    bf16 of[NUM];

    DEVICE void fetch(const bf16* weight, int first, int num_outputs) {
        static_assert(NUM % 8 == 0, "pieces of 16 bytes");
        const int at = threadIdx.x % 32 * 8;
        if (at < NUM) store16(of + at, load16(weight + min(first + at, num_outputs - 8)));
    }
};

DEVICE unsigned add2(unsigned a, unsigned b) {
    return pack2<bf16>(low_half<bf16>(a) + low_half<bf16>(b), high_half<bf16>(a) + high_half<bf16>(b));
}
DEVICE uint2 add_pairs(uint2 a, uint2 b) { return make_uint2(add2(a.x, b.x), add2(a.y, b.y)); }

DEVICE float squares_of(uint2 h) {
    const float a = low_half<bf16>(h.x), b = high_half<bf16>(h.x), c = low_half<bf16>(h.y), d = high_half<bf16>(h.y);
    return (a * a + b * b) + (c * c + d * d);
}

DEVICE uint2 weighted(uint2 h, const float (&weight)[4]) {
    return make_uint2(pack2<bf16>(low_half<bf16>(h.x) * weight[0], high_half<bf16>(h.x) * weight[1]),
                      pack2<bf16>(low_half<bf16>(h.y) * weight[2], high_half<bf16>(h.y) * weight[3]));
}
