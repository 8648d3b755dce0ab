/* linear_rows.cu - a linear layer of hundreds of rows and more on sm_90a, and what a vision tower does with the product.

   y[m, o] = cast(sum over i of x[m, i] * weight[o, i] + bias[o])
   out     = y                                             AFTER = kNothing
             y * Phi(y), the exact GELU                    kGelu
             y * sigmoid(2 sqrt(2 / pi) (y + 0.044715 y^3))    kGeluTanh
             y * sigmoid(1.702 y)                          kQuickGelu
             residual[m, o] + y[m, o] * scale[o]           kAdd

   in       x_map: x [num_rows, inputs] SCALAR, boxes of 128 rows x 128 bytes
            weight_map: weight [num_outputs, inputs] SCALAR, boxes of COLUMNS rows x 128 bytes
            bias [num_outputs] SCALAR, or null   residual [num_rows, num_outputs] SCALAR, of kAdd   scale [num_outputs], or null: 1
            num_outputs: a multiple of 8   num_slabs: inputs / 64, rounded up
   out      out [num_rows, num_outputs] SCALAR, may alias residual
   -D       SCALAR = bf16 | fp16; COLUMNS of a tile, multiple of 16; STAGES; AFTER
   launch   grid: blocks that stay; block 384, shared sizeof(Layout) + 1024
   moves    x, weight from L2, each once for each tile; out, residual once; does 2 * num_rows * num_outputs * inputs operations
   numbers  products summed in fp32; roundings are those of the ops apart, of Phi 1.5e-7 (Abramowitz and Stegun 7.1.26)

   A tile is 128 rows x COLUMNS outputs. One warp keeps the copy engine busy with a ring of slabs of 64 inputs that runs on from
   tile to tile. Two warpgroups multiply 64 rows each and leave y in shared memory; three warps apply a GELU and write, while they
   multiply the next tile. Bias, scale and residual of a tile wait in shared memory, the residual where the sum will stand. Wide tiles matter: the bytes of an operand that leave shared memory are what binds narrow ones.
   Weights for the first stages are asked for before the kernel ahead has ended, since it cannot have written them.
*/
#include "device/narrow_products.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(COLUMNS) || !defined(STAGES) || !defined(AFTER)
#error "linear_rows.cu needs -DSCALAR -DCOLUMNS -DSTAGES -DAFTER"
#endif

enum After { kNothing, kGelu, kGeluTanh, kQuickGelu, kAdd };

constexpr After kAfter = AFTER;
constexpr int kRows = 128;                // of a tile
constexpr int kPieces = COLUMNS / 8;      // of 16 bytes, in a row of a tile
constexpr int kPitch = COLUMNS * 2 + 16;  // bytes from row to row of y: neighbours lie in other banks
constexpr int kBand = 16;                 // tiles of rows that follow each other: their operands stay in L2
constexpr int kFollowers = 96;            // threads that do what follows
constexpr int kMeeting = 128 + kFollowers;
constexpr int kBatch = 4;                 // pieces that one of them has under way
constexpr int kThereName = 1, kReadyName = 3;  // named barriers 1 and 2, 3 and 4: of the half of a tile
constexpr int kOwnName = 5;
static_assert(COLUMNS % 16 == 0 && COLUMNS <= 256, "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char x[kRows * 128], weight[COLUMNS * 128];
    } stages[STAGES];
    struct {  // of half a tile
        unsigned char rows[64 * kPitch];     // the residual, then what will be written
        SCALAR bias[COLUMNS], scale[COLUMNS];  // 0 and 1 where there is none
    } halves[2];
    Barrier full[STAGES], empty[STAGES];
};

struct Problem {
    const TensorMap *x_map, *weight_map;
    const SCALAR *bias, *scale, *residual;
    SCALAR* out;
    int num_rows, num_outputs, num_slabs;

    DEVICE int row_tiles() const { return (num_rows + kRows - 1) / kRows; }
    DEVICE int column_tiles() const { return (num_outputs + COLUMNS - 1) / COLUMNS; }
    DEVICE int num_tiles() const { return row_tiles() * column_tiles(); }
};

struct Tile {
    int row, column;  // of the first row and output

    DEVICE Tile(const Problem& problem, int index) {
        const int per_band = kBand * problem.column_tiles(), band = index / per_band * kBand;
        const int height = min(kBand, problem.row_tiles() - band), place = index % per_band;
        row = (band + place % height) * kRows;
        column = place / height * COLUMNS;
    }
};

struct Ring {  // a place among the stages, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* ---- the thread that copies ---- */

DEVICE void copy_weight(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    barrier_expect(shared.full[stage], int(sizeof shared.stages[0]));
    copy_box(shared.stages[stage].weight, *problem.weight_map, slab * 64, tile.column, shared.full[stage]);
}

DEVICE void copy_x(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    copy_box(shared.stages[stage].x, *problem.x_map, slab * 64, tile.row, shared.full[stage]);
}

DEVICE void produce(const Problem& problem, Layout& shared) {
    const int num_tiles = problem.num_tiles(), ahead = min(STAGES, problem.num_slabs);
    const Tile opening(problem, blockIdx.x);
    for (int i = 0; i < ahead; i++) copy_weight(problem, shared, i, i, opening);
    wait_for_predecessor();
    Ring ring;
    for (int i = 0; i < ahead; i++, ring.advance()) copy_x(problem, shared, i, i, opening);
    for (int index = blockIdx.x, slab = ahead; index < num_tiles; index += gridDim.x, slab = 0) {
        const Tile tile(problem, index);
        for (; slab < problem.num_slabs; slab++, ring.advance()) {
            barrier_wait(shared.empty[ring.stage], ring.parity ^ 1);
            copy_weight(problem, shared, ring.stage, slab, tile);
            copy_x(problem, shared, ring.stage, slab, tile);
        }
    }
}

/* ---- the warpgroups that multiply ---- */

DEVICE void release(Layout& shared, int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[stage]);
}

// Sum up 64 rows of a tile from `half` on.
DEVICE void multiply_half(const Problem& problem, Layout& shared, float (&sum)[COLUMNS / 2], Ring& ring, int half) {
    int before = 0;
#pragma unroll 1
    for (int slab = 0; slab < problem.num_slabs; slab++, ring.advance()) {
        const auto& stage = shared.stages[ring.stage];
        barrier_wait(shared.full[ring.stage], ring.parity);
        __syncwarp();
        const Operand x = rows_operand(stage.x + half * 64 * 128), weight = rows_operand(stage.weight);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_rows<SCALAR, COLUMNS>(sum, x + k * 2, weight + k * 2, slab > 0 || k > 0);
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

// y of two outputs, and with a residual its sum with y * scale; rounded where ops apart would round.
DEVICE unsigned finished(float low, float high, unsigned bias, unsigned scale, unsigned residual) {
    const unsigned y = pack2<SCALAR>(low + low_half<SCALAR>(bias), high + high_half<SCALAR>(bias));
    if constexpr (kAfter != kAdd) return y;
    return pack2<SCALAR>(low_half<SCALAR>(residual) + low_half<SCALAR>(y) * low_half<SCALAR>(scale),
                         high_half<SCALAR>(residual) + high_half<SCALAR>(y) * high_half<SCALAR>(scale));
}

DEVICE void multiply(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int half = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0);
    const int num_tiles = problem.num_tiles(), lane = threadIdx.x % 32, c = lane % 4;
    auto& place = shared.halves[half];
    unsigned char* own = place.rows + (threadIdx.x % 128 / 32 * 16 + lane / 4) * kPitch + c * 4;
    Ring ring;
#pragma unroll 1
    for (int index = blockIdx.x; index < num_tiles; index += gridDim.x) {
        float sum[COLUMNS / 2];
        multiply_half(problem, shared, sum, ring, half);
        meet_named(kReadyName + half, kMeeting);
#pragma unroll
        for (int j = 0; j < kPieces; j++) {
            const unsigned bias = load4(place.bias + 8 * j + 2 * c), scale = kAfter == kAdd ? load4(place.scale + 8 * j + 2 * c) : 0;
#pragma unroll
            for (int low = 0; low < 2; low++) {
                unsigned* at = reinterpret_cast<unsigned*>(own + low * 8 * kPitch + j * 16);
                *at = finished(sum[4 * j + 2 * low], sum[4 * j + 2 * low + 1], bias, scale, kAfter == kAdd ? *at : 0);
            }
        }
        pass_named(kThereName + half, kMeeting);
    }
}

/* ---- the warps that do what follows ---- */

// max(x, 0) - |x| * Phi(-|x|), with Phi(-|x|) = erfc(|x| / sqrt 2) / 2 as a polynomial in t times exp(-x^2 / 2).
DEVICE float gelu(float x) {
    const float t = reciprocal_fast(1.f + 0.3275911f * 0.70710678f * fabsf(x));
    const float poly = ((((0.5307027145f * t - 0.7265760135f) * t + 0.7107068705f) * t - 0.142248368f) * t + 0.127414796f) * t;
    return max(x, 0.f) - fabsf(x) * (poly * exp2_fast(-0.72134752f * x * x));
}

DEVICE float activated(float y) {
    if constexpr (kAfter == kGelu) return gelu(y);
    // An exponential that is infinite gives 0.
    const float exponent = kAfter == kQuickGelu ? 1.702f * y : 1.5957691216f * (y + 0.044715f * y * y * y);
    return y * reciprocal_fast(1.f + __expf(-exponent));
}

// Ask for what the products of half a tile will meet. Nobody reads or writes the half meanwhile.
DEVICE void furnish(const Problem& problem, Layout& shared, int thread, const Tile& tile, int half) {
    auto& place = shared.halves[half];
    for (int i = thread; i < 2 * kPieces; i += kFollowers) {
        const SCALAR* from = i < kPieces ? problem.bias : problem.scale;
        SCALAR* to = (i < kPieces ? place.bias : place.scale) + i % kPieces * 8;
        const int column = tile.column + i % kPieces * 8;
        const unsigned absent = i < kPieces ? 0 : pack2<SCALAR>(1.f, 1.f);
        if (from) copy16_async(to, from + column, column < problem.num_outputs);
        else store16(to, make_uint4(absent, absent, absent, absent));
    }
    for (int i = hidden(thread); kAfter == kAdd && i < 64 * kPieces; i += kFollowers) {
        const int row = i / kPieces, column = tile.column + i % kPieces * 8, t = tile.row + 64 * half + row;
        const bool inside = t < problem.num_rows && column < problem.num_outputs;
        copy16_async(place.rows + row * kPitch + i % kPieces * 16,
                     inside ? problem.residual + (long long)t * problem.num_outputs + column : nullptr, inside);
    }
    copies_commit();
}

DEVICE uint4 activated8(uint4 piece) {
    if constexpr (kAfter == kNothing || kAfter == kAdd) return piece;
    float y[8];
    unpack16<SCALAR>(piece, y);
#pragma unroll
    for (int j = 0; j < 8; j++) y[j] = activated(y[j]);
    return pack16<SCALAR>(y);
}

// Pieces are read some at a time: behind a store the compiler would read again one after another.
DEVICE void write(const Problem& problem, const Layout& shared, int thread, const Tile& tile, int half) {
#pragma unroll 1
    for (int first = thread; first < 64 * kPieces; first += kBatch * kFollowers) {
        long long at[kBatch];
        uint4 piece[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; i++) {
            const int item = first + i * kFollowers, row = item / kPieces, column = tile.column + item % kPieces * 8;
            const int t = tile.row + 64 * half + row;
            const bool inside = row < 64 && t < problem.num_rows && column < problem.num_outputs;
            at[i] = inside ? (long long)t * problem.num_outputs + column : -1;
            if (inside) piece[i] = load16(shared.halves[half].rows + row * kPitch + item % kPieces * 16);
        }
#pragma unroll
        for (int i = 0; i < kBatch; i++)
            if (at[i] >= 0) store16(problem.out + at[i], activated8(piece[i]));
    }
}

DEVICE void follow(const Problem& problem, Layout& shared) {
    const int num_tiles = problem.num_tiles(), thread = threadIdx.x - 32;
    const auto prepare = [&](const Tile& tile, int half) { furnish(problem, shared, thread, tile, half); };
    const auto hand_over = [&] {
        copies_wait<0>();
        for (int half = 0; half < 2; half++) pass_named(kReadyName + half, kMeeting);
    };
    const Tile opening(problem, blockIdx.x);
    for (int half = 0; half < 2; half++) prepare(opening, half);
    hand_over();
#pragma unroll 1
    for (int index = blockIdx.x; index < num_tiles; index += gridDim.x) {
        const bool goes_on = index + int(gridDim.x) < num_tiles;
        const Tile tile(problem, index), next(problem, goes_on ? index + gridDim.x : index);
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            meet_named(kThereName + half, kMeeting);
            write(problem, shared, thread, tile, half);
            meet_named(kOwnName, kFollowers);  // none fills what another still reads
            if (goes_on) prepare(next, half);
        }
        if (goes_on) hand_over();
    }
}

extern "C" __global__ __launch_bounds__(384, 1) void linear_rows(
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
            barrier_init(shared.empty[i], 8);
        }
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= 128) {
        take_registers<208>();
        multiply(problem, shared);
        return;
    }
    keep_registers<88>();
    if (threadIdx.x >= 32) {
        wait_for_predecessor();  // it may read what this kernel writes, and write the residual
        follow(problem, shared);
    } else if (threadIdx.x == 0) {
        produce(problem, shared);
    }
}
