/* linear_hopper.cu - a linear layer of few hundred rows on sm_90a: weights of 16 or 8 bits are read once, at the speed of memory.

   y[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o]
   out     = y, or with GATED cast(silu(cast(y[m, o]))) * cast(y[m, num_outputs + o])

   in       weight_map: the matrix [num_outputs, inputs], boxes of OUTPUTS rows x 128 bytes
            x_map: x [num_rows, inputs], SCALAR, or WEIGHT where that has 8 bits; boxes of min(ROWS, num_rows) x 128 bytes
            output_scales fp32 [num_outputs], row_scales fp32 [num_rows], those of x: 8 bits; else null
            bias [num_outputs] SCALAR, or null   num_outputs: a multiple of 8   num_slabs: inputs / kSlab
            GATED: weight, scales and bias have 2 * num_outputs rows, gates before the others
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; WEIGHT = SCALAR | e4m3 | int8; ROWS = 8 | 16 | 32 | 64 | 128 | 256 of x in a block; GROUPS of OUTPUTS in
            a block, a multiple of 8 up to 64, so that blocks are as many as SMs; K_GROUPS, warpgroups that take turns at the stages
            of a group; CLUSTER, blocks that share the inputs of an output; LINES of 128 bytes that a stage holds of a row; STAGES,
            multiple of K_GROUPS; GATED = 0 | 1, GROUPS even: the first half of a block's groups are gates;
            SUM_SLABS (e4m3), whose sums stay in the tensor cores before they are added in fp32; 0: all
   launch   grid ceil(num_outputs / outputs of a block) * ceil(num_rows / ROWS) * CLUSTER, block 128 * GROUPS * K_GROUPS + 32,
            shared sizeof(Layout) + 1024
   moves    the weights and their scales once, from L2 for further ROWS; x comes from L2, once for each block's outputs
   numbers  products summed in fp32 (e4m3: see SUM_SLABS; int8: exact), one rounding at the end

   One warp keeps the copy engine busy: a ring of stages, each a slab of the block's outputs and the same slab of x. The first
   stages of the weights are asked for before the kernel ahead has ended, since it cannot have written them. Outputs are the
   rows of the matrix product and rows of x its columns, so that few of those cost little. Blocks of a cluster take an equal
   share of the inputs each and add up through their shared memory, in an order that does not depend on time.
*/
#include "device/narrow_products.cuh"
#include "device/silu.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(WEIGHT) || !defined(ROWS) || !defined(GROUPS) || !defined(K_GROUPS) || !defined(CLUSTER) || \
    !defined(LINES) || !defined(STAGES) || !defined(SUM_SLABS) || !defined(OUTPUTS) || !defined(GATED)
#error \
    "linear_hopper.cu needs -DSCALAR -DWEIGHT -DROWS -DGROUPS -DK_GROUPS -DCLUSTER -DLINES -DSTAGES -DSUM_SLABS -DOUTPUTS -DGATED"
#endif

enum Kind { kWide, kFloat8, kInt8 };
template <class T>
constexpr Kind kKindOf = kWide;
template <>
constexpr Kind kKindOf<e4m3> = kFloat8;
template <>
constexpr Kind kKindOf<int8> = kInt8;

template <Kind KIND>
struct SumOf {
    using type = float;
};
template <>
struct SumOf<kInt8> {
    using type = unsigned;  // of two's complement
};

constexpr Kind kKind = kKindOf<WEIGHT>;
using Sum = SumOf<kKind>::type;
constexpr int kOutputs = OUTPUTS * GROUPS;          // of the weight in a block
constexpr int kHalves = GATED ? 2 : 1;
constexpr int kWidth = kOutputs / kHalves;          // of the result in a block
constexpr int kConsumers = 128 * GROUPS * K_GROUPS;  // threads that multiply; one more warp copies
constexpr int kThreads = kConsumers + 32;
constexpr int kXBytes = LINES * ROWS * 128;
constexpr int kWeightBytes = kOutputs * LINES * 128;
constexpr int kBoxBytes = OUTPUTS * 128;
constexpr int kBeyondBytes = (64 - OUTPUTS) * 128;   // that products read past a group's last output, for rows nobody keeps
constexpr int kPitch = kOutputs + 4;                // floats from one row of sums to the next; neighbours lie in other banks
constexpr int kOwn = kWidth / CLUSTER;              // outputs that this block writes in the end
static_assert(!GATED || GROUPS % 2 == 0, "see the header");
static_assert(OUTPUTS % 8 == 0 && OUTPUTS <= 64, "see the header");
static_assert(ROWS % 8 == 0 && kOwn % 4 == 0 && STAGES >= 2 && STAGES % K_GROUPS == 0, "see the header");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            unsigned char weight[kWeightBytes], x[kXBytes];
        } stages[STAGES];
        float sums[K_GROUPS][ROWS][kPitch];
    };
    Barrier full[STAGES], empty[STAGES];
    unsigned char beyond[kBeyondBytes > kXBytes ? kBeyondBytes - kXBytes : 1];
};

struct Tile {  // of the result; all rows of some outputs come one after another, so that their weights are read once
    int first_output, first_row;

    DEVICE explicit Tile(int num_rows) {
        const int along_rows = (num_rows + ROWS - 1) / ROWS, index = blockIdx.x / CLUSTER;
        first_output = index / along_rows * kWidth;
        first_row = index % along_rows * ROWS;
    }
};

struct Share {  // of the inputs: slabs [first, end)
    int first, end;

    DEVICE explicit Share(int num_slabs) {
        const int rank = blockIdx.x % CLUSTER;
        first = rank * num_slabs / CLUSTER;
        end = (rank + 1) * num_slabs / CLUSTER;
    }
};

// The row of the weight behind a block's output number `at`.
DEVICE int weight_row(int first_output, int at, int num_outputs) {
    return first_output + at + (at < kWidth ? 0 : num_outputs - kWidth);
}

DEVICE void copy_weight(Layout& shared, const TensorMap& map, int stage, int slab, int first_output, int num_outputs, int x_bytes) {
    unsigned char* to = shared.stages[stage].weight;
    barrier_expect(shared.full[stage], x_bytes + kWeightBytes);
#pragma unroll
    for (int box = 0; box < GROUPS * LINES; box++) {
        const int row = weight_row(first_output, box / LINES * OUTPUTS, num_outputs);
        copy_box(to + box * kBoxBytes, map, (slab * LINES + box % LINES) * 64, row, shared.full[stage], read_once());
    }
}

DEVICE void copy_x(Layout& shared, const TensorMap& map, int stage, int slab, int first_row) {
#pragma unroll
    for (int line = 0; line < LINES; line++)
        copy_box(shared.stages[stage].x + line * ROWS * 128, map, (slab * LINES + line) * 64, first_row, shared.full[stage]);
}

// Ask for the weights of the first stages, which the kernel ahead cannot have written.
DEVICE void open_ring(Layout& shared, const TensorMap& weight_map, Share share, Tile tile, int num_outputs, int x_bytes) {
    const int ahead = min(share.end - share.first, STAGES);
    for (int i = 0; i < ahead; i++) copy_weight(shared, weight_map, i, share.first + i, tile.first_output, num_outputs, x_bytes);
}

// The warp that copies; one lane does.
DEVICE void produce(Layout& shared, const TensorMap& weight_map, const TensorMap& x_map, Share share, Tile tile, int num_outputs, int x_bytes) {
    const int num = share.end - share.first, ahead = min(num, STAGES);
    wait_for_predecessor();
    for (int i = 0; i < ahead; i++) copy_x(shared, x_map, i, share.first + i, tile.first_row);
    for (int i = ahead; i < num; i++) {
        const int stage = i % STAGES;
        barrier_wait(shared.empty[stage], (i / STAGES - 1) % 2);
        copy_weight(shared, weight_map, stage, share.first + i, tile.first_output, num_outputs, x_bytes);
        copy_x(shared, x_map, stage, share.first + i, tile.first_row);
    }
}

// The stages of one warpgroup: every K_GROUPS-th. A stage is always the same warpgroups', or a wait for its second filling could
// be over before its first.
struct Turn {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    int index = K_GROUPS == 1 ? 0 : __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 / GROUPS, 0), stage = index, parity = 0;

    DEVICE void next() {
        index += K_GROUPS;
        stage += K_GROUPS;
        if (stage < STAGES) return;
        stage -= STAGES;
        parity ^= 1;
    }
};

DEVICE void release(Layout& shared, int stage) {
    if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[stage]);
}

// Start the products of a stage and release the one before, whose are over then.
template <class D>
DEVICE void multiply_stage(Layout& shared, D (&d)[ROWS / 2], const Turn& turn, int& before, bool add) {
    const auto& stage = shared.stages[turn.stage];
    barrier_wait(shared.full[turn.stage], turn.parity);
    const Operand a = rows_operand(stage.weight + threadIdx.x / 128 % GROUPS * LINES * kBoxBytes), b = rows_operand(stage.x);
    products_open();
#pragma unroll
    for (int k = 0; k < 4 * LINES; k++)
        multiply_narrow<WEIGHT, ROWS>(d, a + k / 4 * (kBoxBytes >> 4) + k % 4 * 2, b + k / 4 * ROWS * 8 + k % 4 * 2, add || k > 0);
    products_commit();
    products_wait<1>();
    if (before >= 0) release(shared, before);
    before = turn.stage;
}

// Weights of 16 and 8 bits: both operands as they lie. D is float or, for int8, unsigned.
template <class D>
DEVICE void consume(Layout& shared, D (&sum)[ROWS / 2], int num) {
    int before = -1;
    for (Turn turn; turn.index < num; turn.next()) multiply_stage(shared, sum, turn, before, before >= 0);
    products_wait<0>();
    settle(sum);
}

// The tensor cores keep fewer bits of a sum of e4m3 than fp32 has: sums move there every SUM_SLABS stages.
template <class D>
DEVICE void consume_apart(Layout& shared, D (&sum)[ROWS / 2], int num) {
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
    int before = -1;
    for (Turn turn; turn.index < num;) {
        D part[ROWS / 2];
        multiply_stage(shared, part, turn, before, false);
        turn.next();
        for (int i = 1; i < SUM_SLABS && turn.index < num; i++) {
            multiply_stage(shared, part, turn, before, true);
            turn.next();
        }
        products_wait<0>();
        settle(part);
#pragma unroll
        for (int j = 0; j < ROWS / 2; j++) sum[j] += part[j];
    }
}

// Of 8-bit codes: the scales of the two outputs whose sums a thread holds, from memory while others multiply.
struct Scales {
    float upper = 1.f, lower = 1.f;

    DEVICE Scales(const float* scales, int first_output, int num_outputs) {
        if constexpr (kKind != kFloat8 && kKind != kInt8) return;
        const int own = threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4, at = threadIdx.x / 128 % GROUPS * OUTPUTS + own;
        const int row = weight_row(first_output, at, num_outputs), end = kHalves * num_outputs;
        if (row < end) upper = scales[row];
        if (row + 8 < end) lower = scales[row + 8];
    }
};

// Leave the sums of this block where the cluster finds them.
template <class D>
DEVICE void leave(Layout& shared, const D (&sum)[ROWS / 2], Scales scales) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane / 4, output = threadIdx.x / 128 % GROUPS * OUTPUTS + row;
    auto& sums = shared.sums[threadIdx.x / 128 / GROUPS];
    meet_named(1, kConsumers);  // nobody multiplies from the ring any more
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) {
        const int lower = j / 2 % 2 * 8;
        if (OUTPUTS < 64 && row + lower >= OUTPUTS) continue;
        sums[j / 4 * 8 + lane % 4 * 2 + j % 2][output + lower] =
            (kKind == kInt8 ? float(int(sum[j])) : float(sum[j])) * (lower ? scales.lower : scales.upper);
    }
}

// Four outputs of a row, as `finish` deals them out to threads.
struct Quad {
    int row, o, output;  // in the tile; in the block; of all
    bool valid;

    DEVICE Quad(int item, Tile tile, int own_rows, int num_outputs) {
        row = item / (kOwn / 4);
        o = blockIdx.x % CLUSTER * kOwn + item % (kOwn / 4) * 4;
        output = tile.first_output + o;
        valid = row < own_rows && output < num_outputs;
    }
};

// Four numbers of y from the sums of all shares.
DEVICE void total4(float (&y)[4], const float (&parts)[CLUSTER * K_GROUPS][4], float row_scale, const SCALAR* bias, int output) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
        y[j] = 0.f;
#pragma unroll
        for (int share = 0; share < CLUSTER * K_GROUPS; share++) y[j] += parts[share][j];
        if constexpr (kKind == kFloat8 || kKind == kInt8) y[j] *= row_scale;
        if (bias) y[j] += to_float(bias[output + j]);
    }
}

DEVICE uint2 packed4(const float (&y)[4]) { return make_uint2(pack2<SCALAR>(y[0], y[1]), pack2<SCALAR>(y[2], y[3])); }

DEVICE void round4(float (&y)[4]) {
    const uint2 bits = packed4(y);
    y[0] = low_half<SCALAR>(bits.x), y[1] = high_half<SCALAR>(bits.x);
    y[2] = low_half<SCALAR>(bits.y), y[3] = high_half<SCALAR>(bits.y);
}

// y = silu(y) * up, rounded where ops apart would round.
DEVICE void gate4(float (&y)[4], float (&up)[4]) {
    round4(y);
    round4(up);
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] = silu(y[j]);
    round4(y);
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] *= up[j];
}

// Add up the cluster's sums of this block's own outputs and write them. Loads from other blocks take long: a thread has several
// under way.
DEVICE void finish(Layout& shared, const float* row_scales, const SCALAR* bias, SCALAR* out,
                   Tile tile, int num_rows, int num_outputs) {
    constexpr int kShares = CLUSTER * K_GROUPS, kLoads = kShares * kHalves, kItems = kLoads > 4 ? 1 : kLoads > 2 ? 2 : 4;
    const int own_rows = min(ROWS, num_rows - tile.first_row);
    for (int first = threadIdx.x; first < own_rows * (kOwn / 4); first += kItems * kThreads) {
        float parts[kItems][kHalves][kShares][4], row_scale[kItems];
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const Quad quad(first + i * kThreads, tile, own_rows, num_outputs);
            if constexpr (kKind == kFloat8 || kKind == kInt8) row_scale[i] = row_scales[tile.first_row + min(quad.row, own_rows - 1)];
#pragma unroll
            for (int load = 0; load < kLoads; load++) {
                const int half = load / kShares, share = load % kShares;
                const float* from = &shared.sums[share % K_GROUPS][min(quad.row, ROWS - 1)][half * kWidth + quad.o];
                if constexpr (CLUSTER == 1) {
                    unpack16<fp32>(load16(from), parts[i][half][share]);
                } else {
                    load_peer4(parts[i][half][share], from, share / K_GROUPS);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const Quad quad(first + i * kThreads, tile, own_rows, num_outputs);
            if (!quad.valid) continue;
            float y[4], up[4];
            total4(y, parts[i][0], row_scale[i], bias, quad.output);
            if constexpr (GATED) {
                total4(up, parts[i][kHalves - 1], row_scale[i], bias, num_outputs + quad.output);
                gate4(y, up);
            }
            *reinterpret_cast<uint2*>(out + (long long)(tile.first_row + quad.row) * num_outputs + quad.output) = packed4(y);
        }
    }
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_hopper(
    const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, const float* output_scales,
    const float* row_scales, const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Tile tile(num_rows);
    const Share share(num_slabs);
    const int x_bytes = LINES * min(ROWS, num_rows) * 128;  // of a stage; the copy engine is slow to fill rows that are not there
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(weight_map);
        prefetch_map(x_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], 4 * GROUPS);
        }
        barriers_are_set();
        open_ring(shared, weight_map, share, tile, num_outputs, x_bytes);
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        if (threadIdx.x == kConsumers) produce(shared, weight_map, x_map, share, tile, num_outputs, x_bytes);
        __syncwarp();
    } else {
        const Scales own(output_scales, tile.first_output, num_outputs);
        Sum sum[ROWS / 2];
        if constexpr (kKind == kFloat8 && SUM_SLABS > 0) {
            consume_apart(shared, sum, share.end - share.first);
        } else {
            consume(shared, sum, share.end - share.first);
        }
        leave(shared, sum, own);
    }
    wait_for_predecessor();  // it may still read what this kernel writes, or write the scales of x
    if constexpr (CLUSTER > 1) cluster_meet();
    else __syncthreads();
    asm volatile("" : "+r"(num_rows));  // the tile is found once more: no register holds it through the products
    finish(shared, row_scales, bias, out, Tile(num_rows), num_rows, num_outputs);
    if constexpr (CLUSTER > 1) cluster_meet();  // none ends while another reads its sums
}
