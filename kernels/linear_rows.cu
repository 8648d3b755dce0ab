/* linear_rows.cu - a linear layer of hundreds of rows and more on sm_90a, and what a vision tower does with the product.

   y[m, o] = cast(sum over i of x[m, i] * weight[o, i] + bias[o])
   out     = y                                             AFTER = kNothing
             y * Phi(y), the exact GELU                    kGelu
             y * sigmoid(2 sqrt(2 / pi) (y + 0.044715 y^3))    kGeluTanh
             y * sigmoid(1.702 y)                          kQuickGelu
             residual[m, o] + y[m, o] * scale[o]           kAdd

   in       x_map: x [num_rows, inputs] SCALAR, boxes of 128 rows x 128 bytes
            weight_map: weight [num_outputs, inputs] SCALAR, boxes of COLUMNS / CLUSTER rows x 128 bytes
            bias [num_outputs] SCALAR, or null   scale [num_outputs] SCALAR, of kAdd, or null: 1
            residual_map: residual [period, num_outputs] SCALAR, of kAdd, boxes of 16 rows x 128 bytes; where it is repeated, the
            first 15 rows stand behind the last, too
            num_outputs: a multiple of 8   num_slabs: inputs / 64, rounded up   period: rows after which the residual repeats, or num_rows
   out      out_map: out [num_rows, num_outputs] SCALAR, boxes of 16 rows x 128 bytes; not the residual's memory
   -D       SCALAR = bf16 | fp16; COLUMNS = 128 | 192 | 256 of a tile; CLUSTER = 1 | 2 blocks that share weights; STAGES; AFTER
   launch   grid: blocks that stay, a multiple of CLUSTER; block 384, shared sizeof(Layout) + 1024
   moves    x from L2 once for each tile, weights once for CLUSTER tiles; residual, out once
   numbers  products summed in fp32; roundings are those of the ops apart, Phi(-|y|) to 6e-6 of itself

   A tile is 128 rows x COLUMNS outputs. One thread keeps the copy engine busy with a ring of slabs that runs on from tile to tile. Two
   warpgroups multiply 64 rows each. What follows a tile is done while the next one is multiplied, some of it beside each slab: y waits
   in registers, rounded. A warp writes its 16 rows by itself, 64 columns at a time: nobody waits for another's.
*/
#include "device/after_product.cuh"
#include "device/tile_copies.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(COLUMNS) || !defined(CLUSTER) || !defined(STAGES) || !defined(AFTER)
#error "linear_rows.cu needs -DSCALAR -DCOLUMNS -DCLUSTER -DSTAGES -DAFTER"
#endif

constexpr After kAfter = AFTER;
constexpr bool kGated = false;
constexpr int kRows = 128, kWritten = COLUMNS;   // of a tile
constexpr int kShare = COLUMNS / CLUSTER;        // of the weight's rows: what a block copies for all of the cluster
constexpr int kBand = 16 / CLUSTER;              // clusters' tiles of rows that follow each other: their operands stay in L2
constexpr int kPairs = COLUMNS / 64;             // of neighbouring columns' bias that a lane keeps
constexpr int kParts = COLUMNS / 64;             // of a row of out, that are written at once
constexpr int kBoxes = kParts > 3 ? 2 : kParts;  // of a warp
constexpr int kPieces = COLUMNS / 16;            // of what follows: columns that are done beside a slab
static_assert(COLUMNS % 64 == 0 && COLUMNS <= 256 && (CLUSTER == 1 || CLUSTER == 2) && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char x[kRows * 128], weight[COLUMNS * 128];
    } stages[STAGES];
    unsigned char out[8][kBoxes][16 * 128];  // of a warp: the residual, then what the copy engine writes
    Barrier full[STAGES], empty[STAGES], free_there[STAGES];  // the last: empty in the cluster's other block
    Barrier residual_there[8][kBoxes];
};

struct Problem {
    const TensorMap *x_map, *weight_map, *residual_map, *out_map;
    const SCALAR *bias, *scale;
    int num_rows, num_outputs, num_slabs, period;

    DEVICE int row_tiles() const { return (num_rows + kRows * CLUSTER - 1) / (kRows * CLUSTER); }  // of a cluster
    DEVICE int num_tiles() const { return row_tiles() * ((num_outputs + kWritten - 1) / kWritten); }
};

#include "device/tile_stream.cuh"

/* ---- the warpgroups that multiply ---- */

// Sum up 64 rows of a tile from `half` on; beside(i) is called for each i up to kPieces, beside a slab where there are as many.
template <class Beside>
DEVICE void multiply(Layout& shared, float (&sum)[COLUMNS / 2], Ring& ring, int half, int num_slabs, Beside beside) {
    const auto release = [&] {  // the slab before, whose products have been waited for
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[(ring.stage ? ring.stage : STAGES) - 1]);
    };
    const auto step = [&](bool add) {
        const auto& stage = shared.stages[ring.stage];
        barrier_wait(shared.full[ring.stage], ring.parity);
        __syncwarp();
        const Operand x = rows_operand(stage.x + half * 64 * 128), weight = rows_operand(stage.weight);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_narrow<SCALAR, COLUMNS>(sum, x + k * 2, weight + k * 2, add || k > 0);
        products_commit();
        if (add) {
            products_wait<1>();
            release();
        }
        ring.advance();
    };
#pragma unroll
    for (int i = 0; i < kPieces; i++) {
        if (i < num_slabs) step(i > 0);
        beside(i);
    }
    beside(kPieces);
#pragma unroll 1
    for (int slab = kPieces; slab < num_slabs; slab++) step(true);
    products_wait<0>();
    settle(sum);
    if (num_slabs > 0) release();
}

// Bias and scale of a tile's columns, two neighbours at a time: pair p lies in lane p % 32. They are there when the sums are.
struct Factors {
    unsigned bias[kPairs], scale[kPairs];

    DEVICE void read(const Problem& problem, const Tile& tile) {
#pragma unroll
        for (int i = 0; i < kPairs; i++) {
            const int column = tile.column + (i * 32 + int(threadIdx.x) % 32) * 2;
            const bool inside = column < problem.num_outputs;
            bias[i] = problem.bias && inside ? load4(problem.bias + column) : 0;
            if (kAfter == kAdd) scale[i] = problem.scale && inside ? load4(problem.scale + column) : pack2<SCALAR>(1.f, 1.f);
        }
    }
};

// What a warp has left to do of a tile: y of its 16 rows; words 2 j and 2 j + 1 are rows 0-7 and 8-15 of block j of 8 columns.
struct Left {
    int row, column = -1;              // of the tile; -1: there is none
    int parity = kParts / kBoxes % 2;  // of the first waits for its residual
    unsigned y[COLUMNS / 4], scale[kPairs];

    DEVICE void take(const Tile& tile, const Factors& factors, const float (&sum)[COLUMNS / 2], bool biased) {
        row = tile.row, column = tile.column, parity ^= kParts / kBoxes % 2;
#pragma unroll
        for (int i = 0; i < kPairs && kAfter == kAdd; i++) scale[i] = factors.scale[i];
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            const unsigned bias = biased ? __shfl_sync(0xffffffffu, factors.bias[j / 8], j % 8 * 4 + threadIdx.x % 4) : 0;
#pragma unroll
            for (int low = 0; low < 2; low++)
                y[2 * j + low] = pack2<SCALAR>(sum[4 * j + 2 * low] + low_half<SCALAR>(bias), sum[4 * j + 2 * low + 1] + high_half<SCALAR>(bias));
        }
    }

    // Rows 0-7 and 8-15 of block 2 i, then of the next; `words` are the residual's before.
    DEVICE void finish(int i, unsigned (&words)[4]) const {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int block = 2 * i + k / 2;
            const unsigned mine = y[2 * block + k % 2];
            if constexpr (kAfter == kAdd)
                words[k] = added2<SCALAR>(words[k], mine, __shfl_sync(0xffffffffu, scale[block / 8], block % 8 * 4 + threadIdx.x % 4));
            else
                words[k] = activated2<SCALAR, kAfter>(mine);
        }
    }
};

// Ask for a part of the residual where it will be added to; what was there is written.
DEVICE void ask_residual(const Problem& problem, Layout& shared, int row, int column, int part) {
    const int warp = threadIdx.x / 32 - 4;
    Barrier& there = shared.residual_there[warp][part % kBoxes];
    barrier_expect(there, 16 * 128);
    copy_box(shared.out[warp][part % kBoxes], *problem.residual_map, column + part * 64, (row + warp * 16) % problem.period, there);
}

// 16 columns of a warp's rows, through shared memory with the swizzle of the copy engine.
DEVICE void write(const Problem& problem, Layout& shared, const Left& left, int i) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 - 4, part = i / 4, pair = i % 4, row = lane % 16;
    unsigned char* box = shared.out[warp][part % kBoxes];
    unsigned char* place = box + row * 128 + (pair * 2 + lane / 16 ^ row % 8) * 16;
    unsigned words[4];
    if constexpr (kAfter == kAdd) {
        if (pair == 0) {
            barrier_wait(shared.residual_there[warp][part % kBoxes], (left.parity ^ part / kBoxes) & 1);
            __syncwarp();
        }
        load_matrix4(words, place);
    } else if (pair == 0) {
        if (lane == 0) stores_have_read<kBoxes - 1>();
        __syncwarp();
    }
    left.finish(i, words);
    store_matrix4(place, words);
    if (pair == 3) {
        publish_shared();
        __syncwarp();
        if (lane == 0) {
            const int column = left.column + part * 64;
            if (column < problem.num_outputs) store_box(box, *problem.out_map, column, left.row + warp * 16);
            stores_commit();
        }
    }
    const int next = part - 1 + kBoxes;  // the part that follows in the box that was written last
    if (kAfter == kAdd && pair == 0 && part > 0 && next < kParts && lane == 0) {
        stores_have_read<0>();
        ask_residual(problem, shared, left.row, left.column, next);
    }
}

DEVICE void consume(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int half = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0);
    const int num_tiles = problem.num_tiles(), step = gridDim.x / CLUSTER;
    const bool biased = problem.bias != nullptr;
    wait_for_predecessor();  // it may read what this kernel writes, and write the residual
    Ring ring;
    Left left;
#pragma unroll 1
    for (int index = blockIdx.x / CLUSTER;; index += step) {
        const bool goes_on = index < num_tiles;  // else the last tile's results are left
        const Tile tile(problem, goes_on ? index : 0);
        Factors factors;  // read when y of the tile before has left its registers
        float sum[COLUMNS / 2];
        multiply(shared, sum, ring, half, goes_on ? problem.num_slabs : 0, [&](int i) {
            if (i < kPieces) {
                if (left.column >= 0) write(problem, shared, left, i);
            } else if (goes_on) {
                factors.read(problem, tile);
                if (kAfter == kAdd && threadIdx.x % 32 == 0) {
                    stores_have_read<0>();
                    for (int part = 0; part < kBoxes; part++) ask_residual(problem, shared, tile.row, tile.column, part);
                }
            }
        });
        if (!goes_on) break;
        left.take(tile, factors, sum, biased);
    }
    if (threadIdx.x % 32 == 0) stores_wait();
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(384, 1) void linear_rows(
    const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap residual_map,
    const __grid_constant__ TensorMap out_map, const SCALAR* bias, const SCALAR* scale, int num_rows, int num_outputs, int num_slabs, int period) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Problem problem{&x_map, &weight_map, &residual_map, &out_map, bias, scale, num_rows, num_outputs, num_slabs, period};
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
        for (int i = 0; i < 8 * kBoxes; i++) barrier_init(shared.residual_there[i / kBoxes][i % kBoxes], 1);
        barriers_are_set();
    }
    open_ring(problem, shared);
    if (threadIdx.x >= 128) {
        take_registers<232>();  // with the 40 below 504 in all, which 384 threads start with: who asked for more would wait for ever
        consume(problem, shared);
    } else {
        keep_registers<40>();
        if (threadIdx.x == 0) produce(problem, shared);
        __syncwarp();
    }
}
