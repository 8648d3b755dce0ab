/* norm.cu - norms of rows.

   rms_norm       out[t] = cast(x[t] * rsqrt(mean(x[t]^2) + eps)) * w
   add_rms_norm   sum[t] = x[t] + residual[t], rounded to SCALAR; out[t] = rms_norm(sum[t])
   layer_norm     out[t] = (x[t] - mean) * rsqrt(var + eps) * w + b
   layer_norm_cells   the same of rows that are cells of a map: factor x factor neighbours, line by line

   in       x, residual [T, HIDDEN] SCALAR with contiguous rows   w, b [HIDDEN] SCALAR   eps float
            layer_norm_cells: x maps, `stride` elements apart, of (cells * factor)^2 rows of HIDDEN / factor^2 numbers, a multiple of 16
            bytes; cells of a map come line by line, or column by column
   out      out, sum [T, HIDDEN] SCALAR, may alias x and residual
   -D       SCALAR = bf16 | fp16 | fp32; HIDDEN, a multiple of 16 bytes, at most 8 x 16 bytes a thread
   launch   grid T; block THREADS (multiple of 32); one row a block, held in registers between the two passes
   moves    rms, layer: 2 * T * HIDDEN elements; add_rms: 4 * T * HIDDEN; w and b come from L2
   numbers  statistics in fp32; rounding points are those of the torch twin, so results differ by at most 1 ulp of SCALAR
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(HIDDEN) || !defined(THREADS)
#error "norm.cu needs -DSCALAR=bf16|fp16|fp32 -DHIDDEN=<row length> -DTHREADS=<block size>"
#endif

constexpr int kN = kLanes<SCALAR>;
constexpr int kChunks = HIDDEN / kN;                         // 16-byte pieces of a row
constexpr int kPerThread = (kChunks + THREADS - 1) / THREADS;
static_assert(HIDDEN % kN == 0, "HIDDEN must be a multiple of 16 bytes");
static_assert(THREADS % 32 == 0 && THREADS <= 1024 && kPerThread <= 8, "choose more threads");

using Row = float[kPerThread][kN];

// Call body(i, offset) for each piece of the row that belongs to this thread.
template <class Body>
DEVICE void each_piece(Body body) {
#pragma unroll
    for (int i = 0; i < kPerThread; i++) {
        const int chunk = i * THREADS + threadIdx.x;
        if (kChunks % THREADS == 0 || chunk < kChunks) body(i, chunk * kN);
    }
}

DEVICE void load_row(Row& row, const SCALAR* x) {
    each_piece([&](int i, int at) { unpack16<SCALAR>(load16(x + at), row[i]); });
}

DEVICE void write_rms_normed(Row& row, const SCALAR* w, SCALAR* out, float eps) {
    __shared__ float partial[32];
    float squares = 0.f;
    each_piece([&](int i, int) {
#pragma unroll
        for (int j = 0; j < kN; j++) squares += row[i][j] * row[i][j];
    });
    const float scale = rsqrtf(block_sum(squares, partial) / HIDDEN + eps);
    each_piece([&](int i, int at) {
        float weight[kN];
        unpack16<SCALAR>(load16(w + at), weight);
#pragma unroll
        for (int j = 0; j < kN; j++) row[i][j] *= scale;
        round_to<SCALAR>(row[i]);
#pragma unroll
        for (int j = 0; j < kN; j++) row[i][j] *= weight[j];
        store16(out + at, pack16<SCALAR>(row[i]));
    });
}

extern "C" __global__ __launch_bounds__(THREADS) void rms_norm(const SCALAR* x, const SCALAR* w, SCALAR* out, float eps) {
    dependents_may_start();
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    Row row;
    load_row(row, x + start);
    write_rms_normed(row, w, out + start, eps);
}

extern "C" __global__ __launch_bounds__(THREADS) void add_rms_norm(
    const SCALAR* x, const SCALAR* residual, const SCALAR* w, SCALAR* out, SCALAR* sum, float eps) {
    dependents_may_start();
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    Row row, addend;
    load_row(row, x + start);
    load_row(addend, residual + start);
    each_piece([&](int i, int at) {
#pragma unroll
        for (int j = 0; j < kN; j++) row[i][j] += addend[i][j];
        round_to<SCALAR>(row[i]);
        store16(sum + start + at, pack16<SCALAR>(row[i]));
    });
    write_rms_normed(row, w, out + start, eps);
}

DEVICE void write_layer_normed(Row& row, const SCALAR* w, const SCALAR* b, SCALAR* out, float eps) {
    __shared__ float partial[2][32];
    float total = 0.f;
    each_piece([&](int i, int) {
#pragma unroll
        for (int j = 0; j < kN; j++) total += row[i][j];
    });
    const float mean = block_sum(total, partial[0]) / HIDDEN;
    float squares = 0.f;
    each_piece([&](int i, int) {
#pragma unroll
        for (int j = 0; j < kN; j++) squares += (row[i][j] - mean) * (row[i][j] - mean);
    });
    const float scale = rsqrtf(block_sum(squares, partial[1]) / HIDDEN + eps);
    each_piece([&](int i, int at) {
        float weight[kN], bias[kN];
        unpack16<SCALAR>(load16(w + at), weight);
        unpack16<SCALAR>(load16(b + at), bias);
#pragma unroll
        for (int j = 0; j < kN; j++) row[i][j] = (row[i][j] - mean) * scale * weight[j] + bias[j];
        store16(out + at, pack16<SCALAR>(row[i]));
    });
}

extern "C" __global__ __launch_bounds__(THREADS) void layer_norm(
    const SCALAR* x, const SCALAR* w, const SCALAR* b, SCALAR* out, float eps) {
    dependents_may_start();
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    Row row;
    load_row(row, x + start);
    write_layer_normed(row, w, b, out + start, eps);
}

extern "C" __global__ __launch_bounds__(THREADS) void layer_norm_cells(
    const SCALAR* x, const SCALAR* w, const SCALAR* b, SCALAR* out, int factor, int cells, int by_columns, long long stride, float eps) {
    dependents_may_start();
    wait_for_predecessor();
    const int cell = blockIdx.x % (cells * cells), first = cell / cells, second = cell % cells;
    const int down = (by_columns ? second : first) * factor, across = (by_columns ? first : second) * factor;
    const int width = HIDDEN / (factor * factor);
    const SCALAR* map = x + blockIdx.x / (cells * cells) * stride;
    Row row;
    each_piece([&](int i, int at) {
        const int part = at / width, place = (down + part / factor) * cells * factor + across + part % factor;
        unpack16<SCALAR>(load16(map + (long long)place * width + at % width), row[i]);
    });
    write_layer_normed(row, w, b, out + (long long)blockIdx.x * HIDDEN, eps);
}
