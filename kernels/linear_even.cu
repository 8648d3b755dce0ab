/* linear_even.cu - a linear layer of a few hundred rows on sm_90a of which every SM does the same share; the gate of an FFN.

   y[m, o] = cast((sum over i of x[m, i] * weight[o, i]) * row_scale[m] * scale[o] + bias[o])
   out     = y                                                  GATED = 0
             cast(silu(y[m, f])) * y[m, num_outputs + f]        GATED = 1: the upper half of the weight's rows gates the lower

   in       weight_map: the weight as [Y, Z, 8, inputs] WEIGHT, boxes of 16 / Z x Z x 8 x 128 bytes. GATED = 0: Z = 1; GATED = 1: Z = 2,
            8 rows that gate, then the 8 they gate
            x_map: x [num_rows, inputs] WEIGHT, boxes of num_rows x 128 bytes; num_rows: at most ROWS
            row_scale fp32 [num_rows], scale fp32 [weight's rows]: of 8-bit codes; else null
            bias [weight's rows] SCALAR, or null   num_outputs: columns of out, a multiple of 8   num_slabs: 128 bytes of inputs, rounded up
            partials fp32 [blocks, kConsumers * ROWS / 2]   flags [blocks], zeros before and after
   out      out_map: out [num_rows, num_outputs] SCALAR, boxes of kPassRows rows x 128 bytes
   -D       SCALAR = bf16 | fp16; WEIGHT = SCALAR | e4m3 | int8; ROWS = 192 | 256; STAGES; GATED
   launch   grid: as many blocks as SMs, at most one a slab of a tile; block kConsumers + 32, shared sizeof(Layout) + 1024
   moves    the weights once, x from L2 once a tile, out once; sums of tiles that blocks share: twice 512 * ROWS bytes, at most once a block
   numbers  products summed in fp32, of e4m3 in the fewer bits that tensor cores keep, of int8 exactly; roundings as of ops apart

   A tile is 128 rows of the weight with all rows of x. Slabs of all tiles, one tile behind the other, are dealt out evenly. A block
   goes through its tiles from the last to the first: sums of the last, which the next block ends, go to memory; the first it ends
   itself, and adds what blocks before it have left. It waits for lower blocks alone, which have started before it.
*/
#include "device/silu.cuh"
#include "device/tile_copies.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(WEIGHT) || !defined(ROWS) || !defined(STAGES) || !defined(GATED)
#error "linear_even.cu needs -DSCALAR -DWEIGHT -DROWS -DSTAGES -DGATED"
#endif

template <class T>
struct SumOf {
    using Type = float;
};
template <>
struct SumOf<int8> {
    using Type = unsigned;  // of two's complement
};

using Sum = SumOf<WEIGHT>::Type;
DEVICE float number(float sum) { return sum; }
DEVICE float number(unsigned sum) { return float(int(sum)); }
DEVICE unsigned bits_of(float sum) { return __float_as_uint(sum); }
DEVICE unsigned bits_of(unsigned sum) { return sum; }
DEVICE void add_bits(float& sum, unsigned bits) { sum += __uint_as_float(bits); }
DEVICE void add_bits(unsigned& sum, unsigned bits) { sum += bits; }
constexpr bool kScaled = sizeof(WEIGHT) == 1;
constexpr int kConsumers = 256;                // threads that multiply, 64 rows of the weight a warpgroup; one more warp copies
constexpr int kThreads = kConsumers + 32;
constexpr int kTile = 128;                     // rows of the weight
constexpr int kWritten = GATED ? 64 : 128;     // columns of out in a tile
constexpr int kPassRows = GATED ? ROWS : ROWS / 2;  // of out that wait for the copy engine together
constexpr int kAll = 1;                        // the named barrier of those that multiply
static_assert((ROWS == 192 || ROWS == 256) && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    struct {
        unsigned char weight[kTile * 128], x[ROWS * 128];
    } stages[STAGES];
    unsigned char out[kWritten / 64][kPassRows * 128];  // 64 columns each, with the swizzle of the copy engine
    float row_scale[ROWS];
    Barrier full[STAGES], empty[STAGES];
};

struct Problem {
    const TensorMap *weight_map, *x_map, *out_map;
    const float *row_scale, *scale;
    const SCALAR* bias;
    Sum* partials;
    unsigned* flags;
    int num_rows, num_outputs, num_slabs;

    // The first unit, a slab of a tile, of a block.
    DEVICE int first_unit(int block) const {
        const long long units = (long long)((num_outputs + kWritten - 1) / kWritten) * num_slabs;
        return int(units * block / gridDim.x);
    }
};

// What a block does of one tile: slabs [first, end).
struct Segment {
    int tile, first, end;

    // The last one of the units [first_unit, end_unit).
    DEVICE Segment(const Problem& problem, int first_unit, int end_unit) {
        tile = (end_unit - 1) / problem.num_slabs;
        first = max(first_unit - tile * problem.num_slabs, 0);
        end = end_unit - tile * problem.num_slabs;
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

DEVICE void copy_weight(const Problem& problem, Layout& shared, int stage, int tile, int slab) {
    barrier_expect(shared.full[stage], (kTile + problem.num_rows) * 128);
    copy_box(shared.stages[stage].weight, *problem.weight_map, slab * 64, 0, 0, tile * (kWritten / 8), shared.full[stage], read_once());
}

DEVICE void copy_x(const Problem& problem, Layout& shared, int stage, int slab) {
    copy_box(shared.stages[stage].x, *problem.x_map, slab * 64, 0, shared.full[stage]);
}

// Weights for the first stages are asked for before the kernel ahead has ended, since it cannot have written them.
DEVICE void produce(const Problem& problem, Layout& shared) {
    const int first = problem.first_unit(blockIdx.x), last = problem.first_unit(blockIdx.x + 1);
    const Segment opening(problem, first, last);
    const int ahead = min(STAGES, opening.end - opening.first);
    for (int i = 0; i < ahead; i++) copy_weight(problem, shared, i, opening.tile, opening.first + i);
    wait_for_predecessor();
    Ring ring;
    for (int i = 0; i < ahead; i++, ring.advance()) copy_x(problem, shared, i, opening.first + i);
    int done = ahead;
    for (int end = last; end > first;) {
        const Segment segment(problem, first, end);
        for (int slab = segment.first + done; slab < segment.end; slab++, ring.advance()) {
            barrier_wait(shared.empty[ring.stage], ring.parity ^ 1);
            copy_weight(problem, shared, ring.stage, segment.tile, slab);
            copy_x(problem, shared, ring.stage, slab);
        }
        done = 0;
        end = segment.tile * problem.num_slabs;
    }
}

/* ---- the warpgroups that multiply ---- */

DEVICE void release(Layout& shared, int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[stage]);
}

DEVICE void multiply(Layout& shared, Sum (&sum)[ROWS / 2], Ring& ring, int half, int num_slabs) {
    int before = 0;
#pragma unroll 1
    for (int slab = 0; slab < num_slabs; slab++, ring.advance()) {
        const auto& stage = shared.stages[ring.stage];
        barrier_wait(shared.full[ring.stage], ring.parity);
        __syncwarp();
        const Operand weight = rows_operand(stage.weight + half * 64 * 128), x = rows_operand(stage.x);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_narrow<WEIGHT, ROWS>(sum, weight + k * 2, x + k * 2, true);
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

// The place of four sums that a block leaves or finds; a warp's lie side by side.
DEVICE Sum* partial_of(const Problem& problem, int block, int i) {
    return problem.partials + ((long long)block * (ROWS / 8) + i) * (4 * kConsumers) + threadIdx.x * 4;
}

DEVICE void leave(const Problem& problem, const Sum (&sum)[ROWS / 2]) {
#pragma unroll
    for (int i = 0; i < ROWS / 8; i++)
        store16(partial_of(problem, blockIdx.x, i),
                make_uint4(bits_of(sum[4 * i]), bits_of(sum[4 * i + 1]), bits_of(sum[4 * i + 2]), bits_of(sum[4 * i + 3])));
    __threadfence();
    meet_named(kAll, kConsumers);
    if (threadIdx.x == 0) store_release(&problem.flags[blockIdx.x], 1);
}

// Add what other blocks have left of the tile whose units start with `start`, the nearest block first.
DEVICE void collect(const Problem& problem, Sum (&sum)[ROWS / 2], int start) {
#pragma unroll 1
    for (int block = int(blockIdx.x) - 1; block >= 0 && problem.first_unit(block + 1) > start; block--) {
        if (threadIdx.x == 0) {
            while (!load_acquire(&problem.flags[block])) {}
            problem.flags[block] = 0;
        }
        meet_named(kAll, kConsumers);
#pragma unroll
        for (int i = 0; i < ROWS / 8; i++) {
            const uint4 bits = __ldcg(reinterpret_cast<const uint4*>(partial_of(problem, block, i)));
            add_bits(sum[4 * i], bits.x), add_bits(sum[4 * i + 1], bits.y);
            add_bits(sum[4 * i + 2], bits.z), add_bits(sum[4 * i + 3], bits.w);
        }
    }
}

// Of a lane's two rows of the weight.
struct Outputs {
    float scale[2] = {1.f, 1.f}, bias[2] = {};

    DEVICE Outputs(const Problem& problem, int tile) {
        const int own = threadIdx.x / 32 * (kWritten / 8) + threadIdx.x % 32 / 4;  // column of out in the tile
#pragma unroll
        for (int low = 0; low < 2; low++) {
            const int column = tile * kWritten + own + (GATED ? 0 : low * 8);
            const int row = column + (GATED ? low * problem.num_outputs : 0);
            if (column >= problem.num_outputs) continue;
            if (kScaled) scale[low] = problem.scale[row];
            if (problem.bias) bias[low] = to_float(problem.bias[row]);
        }
    }

    // y of two neighbouring rows of x.
    DEVICE unsigned finished(Sum first, Sum second, float2 row_scale, int low) const {
        float y[2] = {number(first), number(second)};
        if constexpr (kScaled) y[0] *= row_scale.x * scale[low], y[1] *= row_scale.y * scale[low];
        return pack2<SCALAR>(y[0] + bias[low], y[1] + bias[low]);
    }
};

// Write a tile, its sums turned over on their way through shared memory, so many rows at a time.
DEVICE void write(const Problem& problem, Layout& shared, int tile, const Sum (&sum)[ROWS / 2]) {
    const Outputs outputs(problem, tile);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int first_row = 0; first_row < ROWS; first_row += kPassRows) {
        if (threadIdx.x == 0) stores_have_read<0>();
        meet_named(kAll, kConsumers);
#pragma unroll
        for (int at = 0; at < kPassRows; at += GATED ? 32 : 16) {
            unsigned words[4];  // blocks of 8 x 8: GATED: of 8 rows of x each; else upper and lower columns of 8 rows, then of the next
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = at + (GATED ? i : i / 2) * 8, j = (first_row + row) / 2;
                const float2 row_scale = kScaled ? *reinterpret_cast<const float2*>(&shared.row_scale[first_row + row + lane % 4 * 2]) : float2{};
                if constexpr (GATED) {
                    words[i] = gated2<SCALAR>(outputs.finished(sum[j], sum[j + 1], row_scale, 0),
                                              outputs.finished(sum[j + 2], sum[j + 3], row_scale, 1));
                } else {
                    words[i] = outputs.finished(sum[j + i % 2 * 2], sum[j + i % 2 * 2 + 1], row_scale, i % 2);
                }
            }
            const int row = at + (GATED ? lane : lane / 16 * 8 + lane % 8), piece = GATED ? warp : warp % 4 * 2 + lane / 8 % 2;
            store_transposed4(shared.out[GATED ? 0 : warp / 4] + row * 128 + (piece ^ row % 8) * 16, words);
        }
        publish_shared();
        meet_named(kAll, kConsumers);
        if (threadIdx.x != 0 || first_row >= problem.num_rows) continue;
#pragma unroll
        for (int box = 0; box < kWritten / 64; box++) {
            const int column = tile * kWritten + box * 64;
            if (column < problem.num_outputs) store_box(shared.out[box], *problem.out_map, column, first_row);
        }
        stores_commit();
    }
}

DEVICE void consume(const Problem& problem, Layout& shared) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int half = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128, 0);
    const int first = problem.first_unit(blockIdx.x);
    wait_for_predecessor();  // it may read what this kernel writes, and write the scales of x
    if constexpr (kScaled) {
        for (int row = threadIdx.x; row < ROWS; row += kConsumers) shared.row_scale[row] = row < problem.num_rows ? problem.row_scale[row] : 0.f;
    }
    Ring ring;
#pragma unroll 1
    for (int end = problem.first_unit(blockIdx.x + 1); end > first;) {
        const Segment segment(problem, first, end);
        Sum sum[ROWS / 2] = {};  // else the compiler lets products wait for each other
        multiply(shared, sum, ring, half, segment.end - segment.first);
        end = segment.tile * problem.num_slabs;
        if (segment.end < problem.num_slabs) {
            leave(problem, sum);
        } else {
            if (segment.first > 0) collect(problem, sum, end);
            write(problem, shared, segment.tile, sum);
        }
    }
    if (threadIdx.x == 0) stores_wait();
}

extern "C" __global__ __launch_bounds__(kThreads, 1) void linear_even(
    const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, const __grid_constant__ TensorMap out_map,
    const float* row_scale, const float* scale, const SCALAR* bias, Sum* partials, unsigned* flags, int num_rows, int num_outputs,
    int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Problem problem{&weight_map, &x_map, &out_map, row_scale, scale, bias, partials, flags, num_rows, num_outputs, num_slabs};
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(weight_map);
        prefetch_map(x_map);
        prefetch_map(out_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kConsumers / 32);
        }
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x < kConsumers) {
        consume(problem, shared);
    } else if (threadIdx.x == kConsumers) {
        produce(problem, shared);
    }
}
