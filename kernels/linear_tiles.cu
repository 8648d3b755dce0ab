/* linear_tiles.cu - a linear layer of hundreds of rows and more on sm_90a, with the scales of 8-bit codes and the gate of an FFN.

   y[m, o] = cast((sum over i of x[m, i] * weight[o, i]) * row_scale[m] * scale[o] + bias[o])
   out     = y                                                  GATED = 0
             cast(silu(y[m, f])) * y[m, num_outputs + f]        GATED = 1: the upper half of the weight's rows gates the lower

   in       x_map: x [num_rows, inputs] WEIGHT, boxes of 128 rows x 128 bytes
            weight_map: GATED = 0: [outputs, inputs] WEIGHT, boxes of COLUMNS / CLUSTER rows x 128 bytes; GATED = 1: the same rows as
            [F / 8, 2, 8, inputs], boxes of COLUMNS / CLUSTER / 16 x 2 x 8 x 128 bytes: 8 rows that gate, then the 8 they gate
            row_scale fp32 [num_rows], scale fp32 [weight's rows]: of 8-bit codes; else null
            bias [weight's rows] SCALAR, or null   num_outputs: columns of out, a multiple of 8   num_slabs: 128 bytes of inputs, rounded up
   out      out_map: out [num_rows, num_outputs] SCALAR, boxes of 16 rows x 128 bytes
   -D       SCALAR = bf16 | fp16; WEIGHT = SCALAR | e4m3 | int8; COLUMNS = 128 | 256, of the weight's rows in a tile; CLUSTER = 1 | 2 blocks
            that share them; STAGES; GATED
   launch   grid: blocks that stay, a multiple of CLUSTER; block 384, shared sizeof(Layout) + 1024
   moves    x from L2 once for each tile, weights once for CLUSTER tiles; out once
   numbers  products summed in fp32, of e4m3 in the fewer bits that tensor cores keep, of int8 exactly; roundings as of ops apart

   A tile is 128 rows x COLUMNS of the weight's. One thread keeps the copy engine busy with a ring of slabs that runs on from tile to
   tile; the blocks of a cluster copy half of the weights each, for both. Two warpgroups multiply 64 rows each. A warp writes its 16 rows
   by itself, 64 columns at a time: nobody waits for another's.
*/
#include "device/silu.cuh"
#include "device/tile_copies.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(WEIGHT) || !defined(COLUMNS) || !defined(CLUSTER) || !defined(STAGES) || !defined(GATED)
#error "linear_tiles.cu needs -DSCALAR -DWEIGHT -DCOLUMNS -DCLUSTER -DSTAGES -DGATED"
#endif

template <class T>
constexpr bool kIsInt8 = false;
template <>
constexpr bool kIsInt8<int8> = true;
template <bool INTEGER>
struct SumOf {
    using Type = float;
};
template <>
struct SumOf<true> {
    using Type = unsigned;  // of two's complement
};

using Sum = SumOf<kIsInt8<WEIGHT>>::Type;
constexpr bool kScaled = sizeof(WEIGHT) == 1, kGated = GATED;
constexpr int kRows = 128;                              // of a tile
constexpr int kWritten = GATED ? COLUMNS / 2 : COLUMNS;  // columns of out in a tile
constexpr int kShare = COLUMNS / CLUSTER;               // of the weight's rows: what a block copies for all of the cluster
constexpr int kBand = 16 / CLUSTER;                     // clusters' tiles of rows that follow each other: their operands stay in L2
constexpr int kPairs = COLUMNS / 64;                    // of neighbouring columns' scales that a lane keeps
constexpr int kBoxes = kWritten == 64 ? 1 : 2;            // of a warp
static_assert((COLUMNS == 128 || COLUMNS == 256) && (CLUSTER == 1 || CLUSTER == 2) && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char x[kRows * 128], weight[COLUMNS * 128];
    } stages[STAGES];
    unsigned char out[8][kBoxes][16 * 128];  // of a warp: what the copy engine reads, and what is written meanwhile
    Barrier full[STAGES], empty[STAGES], free_there[STAGES];  // the last: empty in the cluster's other block
};

struct Problem {
    const TensorMap *x_map, *weight_map, *out_map;
    const float *row_scale, *scale;
    const SCALAR* bias;
    int num_rows, num_outputs, num_slabs;

    DEVICE int row_tiles() const { return (num_rows + kRows * CLUSTER - 1) / (kRows * CLUSTER); }  // of a cluster
    DEVICE int num_tiles() const { return row_tiles() * ((num_outputs + kWritten - 1) / kWritten); }
};

#include "device/tile_stream.cuh"

/* ---- the warpgroups that multiply ---- */

DEVICE void release(Layout& shared, int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[stage]);
}

// Sum up 64 rows of a tile from `half` on.
DEVICE void multiply(const Problem& problem, Layout& shared, Sum (&sum)[COLUMNS / 2], Ring& ring, int half) {
    int before = 0;
#pragma unroll 1
    for (int slab = 0; slab < problem.num_slabs; slab++, ring.advance()) {
        const auto& stage = shared.stages[ring.stage];
        barrier_wait(shared.full[ring.stage], ring.parity);
        __syncwarp();
        const Operand x = rows_operand(stage.x + half * 64 * 128), weight = rows_operand(stage.weight);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_narrow<WEIGHT, COLUMNS>(sum, x + k * 2, weight + k * 2, slab > 0 || k > 0);
        products_commit();
        if (slab > 0) {
            products_wait<1>();
            release(shared, before);
        }
        before = ring.stage;
    }
    products_wait<0>();
    settle(sum);
    release(shared, before);
}

// Scales and bias of a tile's columns, two neighbours at a time: pair p lies in lane p % 32. They are there when the sums are.
struct Columns {
    float2 scale[kPairs];
    unsigned bias[kPairs];

    DEVICE Columns(const Problem& problem, const Tile& tile) {
#pragma unroll
        for (int i = 0; i < kPairs; i++) {
            const int column = (i * 32 + int(threadIdx.x) % 32) * 2;
            // blocks of 8 that gate and that are gated take turns
            const int written = tile.column + (GATED ? column / 16 * 8 + column % 8 : column);
            const int row = written + (GATED && column / 8 % 2 ? problem.num_outputs : 0);
            const bool inside = written < problem.num_outputs;
            scale[i] = kScaled && inside ? *reinterpret_cast<const float2*>(problem.scale + row) : make_float2(0.f, 0.f);
            bias[i] = problem.bias && inside ? load4(problem.bias + row) : 0;
        }
    }
};

// y of a pair of columns: 8 j + 2 c and the next one, of row `low` of the lane's two.
DEVICE unsigned finished(const Columns& columns, const Sum (&sum)[COLUMNS / 2], int j, int low, float row_scale, bool biased) {
    const int from = j % 8 * 4 + threadIdx.x % 4;
    float first, second;
    if constexpr (kIsInt8<WEIGHT>) {
        first = float(int(sum[4 * j + 2 * low])), second = float(int(sum[4 * j + 2 * low + 1]));
    } else {
        first = sum[4 * j + 2 * low], second = sum[4 * j + 2 * low + 1];
    }
    if constexpr (kScaled) {
        first *= row_scale * __shfl_sync(0xffffffffu, columns.scale[j / 8].x, from);
        second *= row_scale * __shfl_sync(0xffffffffu, columns.scale[j / 8].y, from);
    }
    if (biased) {
        const unsigned bias = __shfl_sync(0xffffffffu, columns.bias[j / 8], from);
        first += low_half<SCALAR>(bias), second += high_half<SCALAR>(bias);
    }
    return pack2<SCALAR>(first, second);
}

// cast(silu(gate)) * up of two pairs.
DEVICE unsigned gated(unsigned gate, unsigned up) {
    const unsigned open = pack2<SCALAR>(silu(low_half<SCALAR>(gate)), silu(high_half<SCALAR>(gate)));
    return pack2<SCALAR>(low_half<SCALAR>(open) * low_half<SCALAR>(up), high_half<SCALAR>(open) * high_half<SCALAR>(up));
}

// A warp's 16 rows of the tile, 64 columns of out at a time, through shared memory with the swizzle of the copy engine.
DEVICE void write(const Problem& problem, Layout& shared, const Tile& tile, const Columns& columns, const Sum (&sum)[COLUMNS / 2],
                  const float (&row_scale)[2]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4;
    const bool biased = problem.bias != nullptr;
#pragma unroll
    for (int part = 0; part < kWritten / 64; part++) {
        unsigned char* to = shared.out[warp][part % kBoxes];
        if (lane == 0) stores_have_read<kBoxes - 1>();
        __syncwarp();
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {  // of blocks of 8 columns
            unsigned words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {  // rows 0-7 and 8-15 of one block, then of the next
                const int block = part * 8 + pair * 2 + i / 2;
                if constexpr (GATED) {
                    words[i] = gated(finished(columns, sum, 2 * block, i % 2, row_scale[i % 2], biased),
                                     finished(columns, sum, 2 * block + 1, i % 2, row_scale[i % 2], biased));
                } else {
                    words[i] = finished(columns, sum, block, i % 2, row_scale[i % 2], biased);
                }
            }
            const int row = lane % 16, piece = pair * 2 + lane / 16;
            store_matrix4(to + row * 128 + (piece ^ row % 8) * 16, words);
        }
        publish_shared();
        __syncwarp();
        if (lane == 0) {
            if (tile.column + part * 64 < problem.num_outputs) store_box(to, *problem.out_map, tile.column + part * 64, tile.row + warp * 16);
            stores_commit();
        }
    }
}

DEVICE void consume(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int half = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0);
    const int num_tiles = problem.num_tiles(), first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
    wait_for_predecessor();  // it may read what this kernel writes, and write the scales of x
    Ring ring;
#pragma unroll 1
    for (int index = first; index < num_tiles; index += step) {
        const Tile tile(problem, index);
        const Columns columns(problem, tile);
        const int row = tile.row + int(threadIdx.x) / 32 * 16 - 64 + int(threadIdx.x) % 32 / 4;
        const float row_scale[2] = {kScaled && row < problem.num_rows ? problem.row_scale[row] : 0.f,
                                    kScaled && row + 8 < problem.num_rows ? problem.row_scale[row + 8] : 0.f};
        Sum sum[COLUMNS / 2];
        multiply(problem, shared, sum, ring, half);
        write(problem, shared, tile, columns, sum, row_scale);
    }
    if (threadIdx.x % 32 == 0) stores_wait();
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(384, 1) void linear_tiles(
    const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap out_map,
    const float* row_scale, const float* scale, const SCALAR* bias, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Problem problem{&x_map, &weight_map, &out_map, row_scale, scale, bias, num_rows, num_outputs, num_slabs};
    dependents_may_start();
    if (threadIdx.x == 0) {
        prefetch_map(x_map);
        prefetch_map(weight_map);
        prefetch_map(out_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], 8);
            barrier_init(shared.free_there[i], 1);
        }
        barriers_are_set();
    }
    open_ring(problem, shared);
    if (threadIdx.x >= 128) {
        take_registers<232>();
        consume(problem, shared);
    } else {
        keep_registers<40>();
        if (threadIdx.x == 0) produce(problem, shared);
        __syncwarp();
    }
}
