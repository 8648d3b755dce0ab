/* linear_columns.cu - a linear layer of about a thousand rows on sm_90a in one tile a block, and what a vision tower does with it.

   y[m, o] = cast(sum over i of x[m, i] * weight[o, i] + bias[o])
   out     = y, a GELU of it, or residual[m, o] + y[m, o] * scale[o]: AFTER, as in `linear_rows.cu`

   in       weight_map: weight [num_outputs, inputs] SCALAR, boxes of 64 * GROUPS rows x 128 bytes
            x_map: x [num_rows, inputs] SCALAR, boxes of ROWS rows x 128 bytes
            bias [num_outputs] SCALAR, or null   scale [num_outputs] SCALAR, of kAdd, or null: 1
            residual_map: residual [num_rows, num_outputs] SCALAR, of kAdd, boxes of ROWS rows x 128 bytes
            num_outputs: a multiple of 8   num_slabs: inputs / 64, rounded up
   out      out_map: out [num_rows, num_outputs] SCALAR, boxes of ROWS / 2 rows x 128 bytes; not the residual's memory
   -D       SCALAR = bf16 | fp16; ROWS = 64 | 80 .. 208 | 256 of x in a tile; GROUPS = 1 | 2 | 3 of 64 outputs in a tile; CLUSTER = 1 | 2
            blocks that take an equal share of a tile's inputs each, two of two GROUPS; STAGES >= GROUPS; AFTER
   launch   grid CLUSTER * ceil(num_rows / ROWS) * ceil(num_outputs / (64 * GROUPS)), block 128 + 128 * GROUPS,
            shared sizeof(Layout) + 1024
   moves    weights from L2 once for each ROWS rows, x once for each 64 * GROUPS outputs; residual, out once
   numbers  products summed in fp32; roundings are those of the ops apart, Phi(-|y|) to 6e-6 of itself

   Outputs are the rows of the matrix product and rows of x its columns, so that a tile may have any multiple of 16 of these: 1,025 rows
   are six tiles of 176 and not nine of 128. One thread keeps the copy engine busy with a ring of slabs; each warpgroup multiplies 64
   outputs. Where it ends, it turns its sums round in a place of the ring that is no longer needed, and the residual has come to. Of blocks
   that split the inputs each ends one group, to which the other has sent its sums.
*/
#include "device/after_product.cuh"
#include "device/tile_copies.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(ROWS) || !defined(GROUPS) || !defined(CLUSTER) || !defined(STAGES) || !defined(AFTER)
#error "linear_columns.cu needs -DSCALAR -DROWS -DGROUPS -DCLUSTER -DSTAGES -DAFTER"
#endif

constexpr After kAfter = AFTER;
constexpr int kOutputs = 64 * GROUPS;     // of a tile
constexpr bool kSplit = CLUSTER == 2;
constexpr int kThreads = 128 + 128 * GROUPS;
constexpr int kPairs = ROWS / 16;         // of blocks of 8 rows of out, that a warp turns round at once
constexpr int kHalf = ROWS / 2;           // rows of out that are written at once
static_assert(ROWS % 16 == 0 && ROWS <= 256 && GROUPS <= 3 && STAGES >= GROUPS && STAGES >= 2, "see the header");
static_assert(CLUSTER == 1 || (CLUSTER == 2 && GROUPS == 2), "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char x[ROWS * 128], weight[kOutputs * 128];
    } stages[STAGES];
    alignas(16) float sums[kSplit ? ROWS / 8 : 1][128][4];  // that the other block sends: four of each thread together
    Barrier full[STAGES], empty[STAGES], sums_there;
};

struct Problem {
    const TensorMap *weight_map, *x_map, *residual_map, *out_map;
    const SCALAR *bias, *scale;
    int num_rows, num_outputs, first_slab, num_slabs;  // the last two: of this block
};

// Tiles that would end outside start earlier: numbers are computed twice then, and written twice. A copy whose box leaves its tensor
// takes longer than a whole one.
struct Tile {
    int row, output;  // the block's first

    DEVICE explicit Tile(const Problem& problem) {
        const int row_tiles = (problem.num_rows + ROWS - 1) / ROWS, index = blockIdx.x / CLUSTER;
        row = max(0, min(index % row_tiles * ROWS, problem.num_rows - ROWS));
        output = max(0, min(index / row_tiles * kOutputs, problem.num_outputs - kOutputs));
    }
};

/* ---- the thread that copies ---- */

// The first of a slab's two copies; from here on its stage is full when both have come.
DEVICE void copy_weight(const Problem& problem, Layout& shared, int slab, const Tile& tile) {
    const int stage = slab % STAGES;
    barrier_expect(shared.full[stage], int(sizeof shared.stages[0]));
    copy_box(shared.stages[stage].weight, *problem.weight_map, (problem.first_slab + slab) * 64, tile.output, shared.full[stage]);
}

DEVICE void copy_x(const Problem& problem, Layout& shared, int slab, const Tile& tile) {
    const int stage = slab % STAGES;
    copy_box(shared.stages[stage].x, *problem.x_map, (problem.first_slab + slab) * 64, tile.row, shared.full[stage]);
}

// The place in the ring where a group's sums are turned round: as if it were the slab of this number.
DEVICE int last_place(int num_slabs, int group) { return num_slabs + group; }

// Of blocks that split the inputs each ends the group of its number.
DEVICE bool ends(int group) { return !kSplit || group == int(blockIdx.x) % 2; }

DEVICE void wait_until_left(Layout& shared, int place) { barrier_wait(shared.empty[place % STAGES], place / STAGES % 2 ^ 1); }

DEVICE int slabs_ahead(const Problem& problem) { return min(STAGES, problem.num_slabs); }

// Weights of the first stages: the kernel ahead cannot have written them.
DEVICE void copy_first_weights(const Problem& problem, Layout& shared) {
    const Tile tile(problem);
    for (int i = 0; i < slabs_ahead(problem); i++) copy_weight(problem, shared, i, tile);
}

DEVICE void produce(const Problem& problem, Layout& shared) {
    const int num_slabs = problem.num_slabs, ahead = slabs_ahead(problem);
    const Tile tile(problem);
    wait_for_predecessor();
    for (int i = 0; i < ahead; i++) copy_x(problem, shared, i, tile);
    for (int i = ahead; i < num_slabs; i++) {
        wait_until_left(shared, i);
        copy_weight(problem, shared, i, tile);
        copy_x(problem, shared, i, tile);
    }
    for (int group = 0; group < GROUPS && kAfter == kAdd; group++) {
        if (!ends(group)) continue;
        const int place = last_place(num_slabs, group), stage = place % STAGES;
        wait_until_left(shared, place);
        barrier_expect(shared.full[stage], ROWS * 128);
        copy_box(&shared.stages[stage], *problem.residual_map, tile.output + group * 64, tile.row, shared.full[stage]);
    }
}

/* ---- the warpgroups that multiply ---- */

DEVICE void release(Layout& shared, int slab) {
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[slab % STAGES]);
}

// Sum up 64 outputs of all rows of the tile.
DEVICE void multiply(Layout& shared, float (&sum)[ROWS / 2], int group, int num_slabs) {
    int stage = 0, parity = 0;
#pragma unroll 1
    for (int slab = 0; slab < num_slabs; slab++) {
        const auto& place = shared.stages[stage];
        barrier_wait(shared.full[stage], parity);
        __syncwarp();
        const Operand weight = rows_operand(place.weight + group * 64 * 128), x = rows_operand(place.x);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_rows<SCALAR, ROWS>(sum, weight + k * 2, x + k * 2, slab > 0 || k > 0);
        products_commit();
        if (slab > 0) {
            products_wait<1>();
            release(shared, slab - 1);
        }
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    products_wait<0>();
    settle(sum);
    if (!kSplit || num_slabs > 0) {
        release(shared, num_slabs - 1);
    } else {  // of a single slab one block of two has none. NOTE: zeros before the loop would have products wait for each other
#pragma unroll
        for (int i = 0; i < ROWS / 2; i++) sum[i] = 0.f;
    }
}

// The same thread of the other block ends this group.
DEVICE void send(Layout& shared, const float (&sum)[ROWS / 2]) {
#pragma unroll
    for (int i = 0; i < ROWS / 8; i++) {
        const float part[4] = {sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]};
        send_to_peer(shared.sums[i][threadIdx.x % 128], part, 1 - int(blockIdx.x) % 2, shared.sums_there);
    }
}

DEVICE void add_sent(Layout& shared, float (&sum)[ROWS / 2]) {
    barrier_wait(shared.sums_there, 0);
#pragma unroll
    for (int i = 0; i < ROWS / 8; i++) {
        float part[4];
        unpack16<fp32>(load16(shared.sums[i][threadIdx.x % 128]), part);
#pragma unroll
        for (int j = 0; j < 4; j++) sum[4 * i + j] += part[j];
    }
}

// Of the two outputs whose sums a thread holds, asked for before the products.
struct Factors {
    float bias[2];
    unsigned scale[2];

    DEVICE Factors(const Problem& problem, int first_output) {
        const int own = first_output + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int output = own + i * 8;
            const bool inside = output < problem.num_outputs;
            bias[i] = problem.bias && inside ? to_float(problem.bias[output]) : 0.f;
            const float factor = kAfter == kAdd && problem.scale && inside ? to_float(problem.scale[output]) : 1.f;
            scale[i] = pack2<SCALAR>(factor, factor);
        }
    }
};

// Sums of a warp's 16 outputs become rows of out, 16 at a time, with the swizzle of the copy engine; the residual's words are there before.
DEVICE void turn_round(unsigned char* box, const float (&sum)[ROWS / 2], const Factors& factors, int pair) {
    const int lane = threadIdx.x % 32, row = pair * 16 + lane / 16 * 8 + lane % 8, piece = threadIdx.x / 32 % 4 * 2 + lane / 8 % 2;
    unsigned char* place = box + row * 128 + (piece ^ row % 8) * 16;
    unsigned words[4];  // outputs 0-7 and 8-15 of 8 rows, then of the next 8
    if constexpr (kAfter == kAdd) load_matrix4_transposed(words, place);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = 8 * pair + 2 * i, half = i % 2;
        const unsigned y = pack2<SCALAR>(sum[at] + factors.bias[half], sum[at + 1] + factors.bias[half]);
        if constexpr (kAfter == kAdd) {
            words[i] = added2<SCALAR>(words[i], y, factors.scale[half]);
        } else {
            words[i] = activated2<SCALAR, kAfter>(y);
        }
    }
    store_transposed4(place, words);
}

DEVICE void consume(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int group = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0);
    const Tile tile(problem);
    const int output = tile.output + group * 64;
    const Factors factors(problem, output);
    float sum[ROWS / 2];
    multiply(shared, sum, group, problem.num_slabs);
    if (!ends(group)) {
        send(shared, sum);
        return;
    }
    if constexpr (kSplit) add_sent(shared, sum);
    const int place = last_place(problem.num_slabs, group), stage = place % STAGES;
    if constexpr (kAfter == kAdd) {
        barrier_wait(shared.full[stage], place / STAGES % 2);
    } else {
        wait_until_left(shared, place);
    }
    __syncwarp();
    auto* box = reinterpret_cast<unsigned char*>(&shared.stages[stage]);
    wait_for_predecessor();  // it may read what this kernel writes
#pragma unroll
    for (int half = 0; half < 2; half++) {
        constexpr int kFirst = (kPairs + 1) / 2;
#pragma unroll
        for (int pair = half * kFirst; pair < (half ? kPairs : kFirst); pair++) turn_round(box, sum, factors, pair);
        publish_shared();
        meet_named(1 + group, 128);
        if (threadIdx.x % 128 == 0) {
            if (output < problem.num_outputs) store_box(box + half * kHalf * 128, *problem.out_map, output, tile.row + half * kHalf);
            stores_commit();
        }
    }
    if (threadIdx.x % 128 == 0) stores_wait();
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_columns(
    const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap residual_map,
    const __grid_constant__ TensorMap out_map, const SCALAR* bias, const SCALAR* scale, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const int rank = blockIdx.x % CLUSTER, first_slab = rank * num_slabs / CLUSTER, own_slabs = (rank + 1) * num_slabs / CLUSTER - first_slab;
    const Problem problem{&weight_map, &x_map, &residual_map, &out_map, bias, scale, num_rows, num_outputs, first_slab, own_slabs};
    dependents_may_start();
    if (threadIdx.x == 0) {
        prefetch_map(weight_map);
        prefetch_map(x_map);
        prefetch_map(out_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], 4 * GROUPS);
        }
        barrier_init(shared.sums_there, 1);
        barriers_are_set();
        if (kSplit) barrier_expect(shared.sums_there, int(sizeof shared.sums));
    }
    if constexpr (kSplit) {
        __syncwarp();
        cluster_arrive();
    }
    if (threadIdx.x == 0) copy_first_weights(problem, shared);  // by who has set the barriers: under way while the block meets
    __syncthreads();
    if constexpr (kSplit) cluster_wait();  // none sends before the other's barrier is set
    if (threadIdx.x >= 128) {
        // Of the 512 registers that four lanes of different warpgroups start with, 504 of three.
        if constexpr (GROUPS == 2) take_registers<232>();
        if constexpr (GROUPS == 3) take_registers<160>();
        consume(problem, shared);
    } else {
        if constexpr (GROUPS == 2) keep_registers<40>();
        if constexpr (GROUPS == 3) keep_registers<32>();
        if (threadIdx.x == 0) produce(problem, shared);
        __syncwarp();
    }
    // Of blocks that split the inputs each waits for all that the other sends it, so none ends before that is there.
}
