/* linear_rows.cu - a linear layer of hundreds of rows and more on sm_90a, and what a vision tower does with the product.

   y[m, o] = cast(sum over i of x[m, i] * weight[o, i] + bias[o])
   out     = y                                             AFTER = kNothing
             y * Phi(y), the exact GELU                    kGelu
             y * sigmoid(2 sqrt(2 / pi) (y + 0.044715 y^3))    kGeluTanh
             y * sigmoid(1.702 y)                          kQuickGelu
             residual[m, o] + y[m, o] * scale[o]           kAdd

   in       x_map: x [num_rows, inputs] SCALAR, boxes of 128 rows x 128 bytes
            weight_map: weight [num_outputs, inputs] SCALAR, boxes of COLUMNS / CLUSTER rows x 128 bytes
            bias [num_outputs] SCALAR, or null   residual [num_rows, num_outputs] SCALAR, of kAdd   scale [num_outputs], or null: 1
            num_outputs: a multiple of 8   num_slabs: inputs / 64, rounded up
   out      out [num_rows, num_outputs] SCALAR, may alias residual
   -D       SCALAR = bf16 | fp16; COLUMNS of a tile, multiple of 16; TOGETHER: 1, both warpgroups multiply 64 rows of one tile, or 0,
            each multiplies tiles of its own; CLUSTER = 1 | 2 blocks that fetch the same weights once; STAGES; AFTER
   launch   grid: blocks that stay, a multiple of CLUSTER; block 384, shared sizeof(Layout) + 1024
   moves    x, weight from L2, each once for each tile; out, residual once; does 2 * num_rows * num_outputs * inputs operations
   numbers  products summed in fp32; roundings are those of the ops apart, of Phi 1.5e-7 (Abramowitz and Stegun 7.1.26)

   A tile is 128 rows x COLUMNS outputs. One thread keeps the copy engine busy with a ring of slabs of 64 inputs that runs on from
   tile to tile. Apart (TOGETHER = 0), one warpgroup finishes its tile while the other multiplies: they take turns at the ring.
   Weights for the first stages are asked for before the kernel ahead has ended, since it cannot have written them.
*/
#include "device/multicast.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(COLUMNS) || !defined(TOGETHER) || !defined(CLUSTER) || !defined(STAGES) || !defined(AFTER)
#error "linear_rows.cu needs -DSCALAR -DCOLUMNS -DTOGETHER -DCLUSTER -DSTAGES -DAFTER"
#endif

enum After { kNothing, kGelu, kGeluTanh, kQuickGelu, kAdd };

constexpr After kAfter = AFTER;
constexpr int kRows = 128;                    // of a tile
constexpr int kParts = TOGETHER ? 1 : 2;      // of 64 rows, that a warpgroup multiplies
constexpr int kReaders = TOGETHER ? 8 : 4;    // warps that read a stage
constexpr int kShare = COLUMNS / CLUSTER;     // rows of weights that this block fetches
constexpr int kBand = 16 / CLUSTER;           // cluster tiles of rows that follow each other: their operands stay in L2
constexpr int kTurnName = 1;                  // named barriers 1 and 2
static_assert(COLUMNS % 16 == 0 && kShare % 8 == 0 && (CLUSTER == 1 || CLUSTER == 2), "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char x[kRows * 128], weight[COLUMNS * 128];
    } stages[STAGES];
    Barrier full[STAGES], empty[STAGES];
};

struct Problem {
    const TensorMap *x_map, *weight_map;
    const SCALAR *bias, *scale, *residual;
    SCALAR* out;
    int num_rows, num_outputs, num_slabs;

    DEVICE int row_tiles() const { return (num_rows + kRows * CLUSTER - 1) / (kRows * CLUSTER); }  // of a cluster
    DEVICE int num_tiles() const { return row_tiles() * ((num_outputs + COLUMNS - 1) / COLUMNS); }
};

// The tiles of this block, one after another.
struct Tile {
    int index, row, column;  // of the first row and output

    DEVICE static int first() { return blockIdx.x / CLUSTER; }
    DEVICE static int step() { return gridDim.x / CLUSTER; }

    DEVICE Tile(const Problem& problem, int tile) : index(tile) {
        const int per_band = kBand * ((problem.num_outputs + COLUMNS - 1) / COLUMNS), band = tile / per_band * kBand;
        const int height = min(kBand, problem.row_tiles() - band), place = tile % per_band;
        row = ((band + place % height) * CLUSTER + int(blockIdx.x % CLUSTER)) * kRows;
        column = place / height * COLUMNS;
    }
};

struct Ring {  // a place among the stages, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance(int count = 1) {
        for (stage += count; stage >= STAGES; stage -= STAGES) parity ^= 1;
    }
};

/* ---- the thread that copies ---- */

DEVICE void copy_weight(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    barrier_expect(shared.full[stage], int(sizeof shared.stages[0]));
    if (CLUSTER == 1) {
        copy_box(shared.stages[stage].weight, *problem.weight_map, slab * 64, tile.column, shared.full[stage]);
    } else {
        const int first = int(blockIdx.x % CLUSTER) * kShare;
        copy_box_to((1 << CLUSTER) - 1, shared.stages[stage].weight + first * 128, *problem.weight_map, slab * 64,
                    tile.column + first, shared.full[stage]);
    }
}

DEVICE void copy_x(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    copy_box(shared.stages[stage].x, *problem.x_map, slab * 64, tile.row, shared.full[stage]);
}

DEVICE void produce(const Problem& problem, Layout& shared) {
    const int num_tiles = problem.num_tiles();
    if (Tile::first() >= num_tiles) return;
    const int ahead = min(STAGES, problem.num_slabs);
    const Tile opening(problem, Tile::first());
    for (int i = 0; i < ahead; i++) copy_weight(problem, shared, i, i, opening);
    wait_for_predecessor();
    for (int i = 0; i < ahead; i++) copy_x(problem, shared, i, i, opening);
    Ring ring;
    ring.advance(ahead);
    for (int index = Tile::first(), slab = ahead; index < num_tiles; index += Tile::step(), slab = 0) {
        const Tile tile(problem, index);
        for (; slab < problem.num_slabs; slab++) {
            barrier_wait(shared.empty[ring.stage], ring.parity ^ 1);
            copy_weight(problem, shared, ring.stage, slab, tile);
            copy_x(problem, shared, ring.stage, slab, tile);
            ring.advance();
        }
    }
}

/* ---- the warpgroups that multiply ---- */

DEVICE void release(Layout& shared, int stage) {
    const int lane = threadIdx.x % 32;
    if (CLUSTER == 1) {
        if (lane == 0) barrier_arrive(shared.empty[stage]);
    } else if (lane < CLUSTER) {
        barrier_arrive_at(shared.empty[stage], lane);
    }
}

DEVICE void multiply_tile(const Problem& problem, Layout& shared, float (&sum)[kParts][COLUMNS / 2], Ring& ring, int first_row) {
    int before = 0;
#pragma unroll 1
    for (int slab = 0; slab < problem.num_slabs; slab++) {
        const auto& stage = shared.stages[ring.stage];
        barrier_wait(shared.full[ring.stage], ring.parity);
        __syncwarp();
        const Operand x = rows_operand(stage.x + first_row * 128), weight = rows_operand(stage.weight);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int part = 0; part < kParts; part++)
                multiply_rows<SCALAR, COLUMNS>(sum[part], x + part * (64 * 128 >> 4) + k * 2, weight + k * 2, slab > 0 || k > 0);
        products_commit();
        if (slab > 0) {
            products_wait<1>();
            release(shared, before);
        }
        before = ring.stage;
        ring.advance();
    }
}

// Lane c of four gives word j to lane j and gets that lane's word c as its word j.
DEVICE void transpose4(unsigned (&word)[4]) {
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int distance = 1; distance <= 2; distance *= 2)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int low = distance == 1 ? 2 * i : i, high = low + distance;
            const unsigned got = __shfl_xor_sync(0xffffffffu, c & distance ? word[low] : word[high], distance);
            if (c & distance) word[low] = got;
            else word[high] = got;
        }
}

// x * Phi(x), with Phi(-|x|) = erfc(|x| / sqrt 2) / 2 as a polynomial in t times exp(-x^2 / 2).
DEVICE float gelu(float x) {
    const float t = __fdividef(1.f, 1.f + 0.3275911f * 0.70710678f * fabsf(x));
    const float poly = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    const float tail = 0.5f * poly * exp2_fast(-0.72134752f * x * x);
    return x * (x < 0.f ? tail : 1.f - tail);
}

DEVICE float activated(float y) {
    if constexpr (kAfter == kGelu) return gelu(y);
    // An exponential that is infinite gives 0.
    const float exponent = kAfter == kQuickGelu ? 1.702f * y : 1.5957691216f * (y + 0.044715f * y * y * y);
    return __fdividef(y, 1.f + __expf(-exponent));
}

// Eight outputs of a row on their way to memory.
DEVICE void write8(const Problem& problem, uint4 product, int row, int column, uint4 scale) {
    const long long at = (long long)row * problem.num_outputs + column;
    if constexpr (kAfter != kNothing) {
        float y[8];
        unpack16<SCALAR>(product, y);
        if constexpr (kAfter == kAdd) {
            float factor[8], addend[8];
            unpack16<SCALAR>(scale, factor);
            unpack16<SCALAR>(load16(problem.residual + at), addend);
#pragma unroll
            for (int j = 0; j < 8; j++) y[j] = problem.scale ? addend[j] + y[j] * factor[j] : addend[j] + y[j];
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) y[j] = activated(y[j]);
        }
        product = pack16<SCALAR>(y);
    }
    store16(problem.out + at, product);
}

// The sums of 64 rows: lane 4 g + c holds two neighbouring outputs of each 8; four lanes exchange theirs of each 32.
DEVICE void write_part(const Problem& problem, const float (&sum)[COLUMNS / 2], int first_row, int first_column) {
    const int lane = threadIdx.x % 32, c = lane % 4, row = first_row + threadIdx.x % 128 / 32 * 16 + lane / 4;
#pragma unroll
    for (int base = 0; base < COLUMNS; base += 32) {
        const int column = first_column + base + 8 * c;
        const bool inside = base + 8 * c < COLUMNS && column < problem.num_outputs;
        const uint4 scale = kAfter == kAdd && problem.scale && inside ? load16(problem.scale + column) : make_uint4(0, 0, 0, 0);
        unsigned words[2][4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int at = (base / 8 + j) * 4, output = first_column + base + 8 * j + 2 * c;
            const bool there = base + 8 * j < COLUMNS;
            const unsigned bias = there && problem.bias && output < problem.num_outputs ? load4(problem.bias + output) : 0;
#pragma unroll
            for (int half = 0; half < 2; half++)
                words[half][j] = there ? pack2<SCALAR>(sum[there ? at + 2 * half : 0] + low_half<SCALAR>(bias),
                                                       sum[there ? at + 2 * half + 1 : 0] + high_half<SCALAR>(bias))
                                       : 0;
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            transpose4(words[half]);
            const uint4 product = make_uint4(words[half][0], words[half][1], words[half][2], words[half][3]);
            if (inside && row + 8 * half < problem.num_rows) write8(problem, product, row + 8 * half, column, scale);
        }
    }
}

DEVICE void consume(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int group = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0);
    const int num_tiles = problem.num_tiles(), first_row = TOGETHER ? 64 * group : 0;
    Ring ring;
    int turn = 0;
#pragma unroll 1
    for (int index = Tile::first(); index < num_tiles; index += Tile::step(), turn++) {
        if (!TOGETHER && turn % 2 != group) {
            ring.advance(problem.num_slabs);
            continue;
        }
        float sum[kParts][COLUMNS / 2];
        if (!TOGETHER && turn > 0) meet_named(kTurnName + group, 256);
        multiply_tile(problem, shared, sum, ring, first_row);
        if (!TOGETHER && index + Tile::step() < num_tiles) pass_named(kTurnName + (group ^ 1), 256);
        products_wait<0>();
#pragma unroll
        for (int part = 0; part < kParts; part++) settle(sum[part]);
        release(shared, (ring.stage + STAGES - 1) % STAGES);
        const Tile tile(problem, index);
#pragma unroll
        for (int part = 0; part < kParts; part++)
            write_part(problem, sum[part], tile.row + first_row + 64 * part, tile.column);
    }
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(384, 1) void linear_rows(
    const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap weight_map, const SCALAR* bias, const SCALAR* scale,
    const SCALAR* residual, SCALAR* out, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Problem problem{&x_map, &weight_map, bias, scale, residual, out, num_rows, num_outputs, num_slabs};
    dependents_may_start();
    if (threadIdx.x == 0) {
        prefetch_map(x_map);
        prefetch_map(weight_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kReaders * CLUSTER);
        }
        barriers_are_set();
    }
    if (CLUSTER > 1) cluster_meet();
    else __syncthreads();
    if (threadIdx.x < 128) {
        keep_registers<40>();
        if (threadIdx.x == 0) produce(problem, shared);
    } else {
        take_registers<232>();
        wait_for_predecessor();  // it may read what this kernel writes, and write the residual
        consume(problem, shared);
    }
    __syncwarp();
    if (CLUSTER > 1) cluster_meet();  // none ends while another may arrive at its barriers
}
