/* packed_row.cuh - a row that a block holds in registers as SCALAR, and as codes with a scale. */
#pragma once
#include "device/codes.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(HIDDEN) || !defined(THREADS)
#error "packed_row.cuh needs -DSCALAR=bf16|fp16|fp32 -DHIDDEN=<row length> -DTHREADS=<block size>"
#endif

constexpr int kN = kLanes<SCALAR>;
constexpr int kPieces = HIDDEN / kN;  // of 16 bytes in a row
constexpr int kPerThread = (kPieces + THREADS - 1) / THREADS;
static_assert(HIDDEN % kN == 0, "HIDDEN must be a multiple of 16 bytes");
static_assert(THREADS % 32 == 0 && THREADS <= 1024 && kPerThread <= 8, "choose more threads");

using Row = uint4[kPerThread];  // as floats a long row would leave an SM too few rows to wait for

// Call body(i, offset) for each piece of the row that belongs to this thread.
template <class Body>
DEVICE void each_piece(Body body) {
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
        const int piece = i * THREADS + threadIdx.x;
        if (kPieces % THREADS == 0 || piece < kPieces) body(i, piece * kN);
    }
}

// x / step, rounded as a division is: one step of refinement from the reciprocal.
DEVICE float quotient(float x, float step, float inverse) {
    const float near = x * inverse;
    return fmaf(fmaf(-near, step, x), inverse, near);
}

// scale = max(max |x| / largest code, 1e-12), code = round(x / scale), of the row of this block; 16-bit SCALAR.
template <class Code>
DEVICE void write_codes(const Row& row, unsigned char* codes, float* scale) {
    __shared__ float partial[32];
    float largest = 0.f;
    each_piece([&](int i, int) {
        float x[kN];
        unpack16<SCALAR>(row[i], x);
#pragma unroll
        for (int j = 0; j < kN; j++) largest = max(largest, fabsf(x[j]));
    });
    const float step = max(block_max(largest, partial) / kLargest<Code>, 1e-12f), inverse = 1.f / step;
    if (threadIdx.x == 0) scale[blockIdx.x] = step;
    each_piece([&](int i, int at) {
        float x[kN];
        unpack16<SCALAR>(row[i], x);
#pragma unroll
        for (int j = 0; j < kN; j++) x[j] = quotient(x[j], step, inverse);
        *reinterpret_cast<uint2*>(codes + (long long)blockIdx.x * HIDDEN + at) =
            make_uint2(pack_codes<Code>(x[0], x[1], x[2], x[3]), pack_codes<Code>(x[4], x[5], x[6], x[7]));
    });
}

// The row normed, times weights: the rounding points are those of rms_norm in norm.cu.
DEVICE void scale_row(Row& row, const Row& weights, float factor) {
    each_piece([&](int i, int) {
        float x[kN], weight[kN];
        unpack16<SCALAR>(row[i], x);
        unpack16<SCALAR>(weights[i], weight);
#pragma unroll
        for (int j = 0; j < kN; j++) x[j] *= factor;
        round_to<SCALAR>(x);
#pragma unroll
        for (int j = 0; j < kN; j++) x[j] *= weight[j];
        row[i] = pack16<SCALAR>(x);
    });
}
