/* linear_hopper.cu - a linear layer of up to 256 rows on sm_90a: weights of 16, 8 or 4 bits are read once, at the speed of memory.

   out[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o]

   in       weight_map: 16 and 8 bits: the matrix [num_outputs, inputs], boxes of 64 * GROUPS rows x 128 bytes; nibble: the tiles of
              engines/quant/int4_tiles.py as [X, 4 Y, 128 bytes], boxes of 4 * GROUPS x 8 x 128 bytes
            x_map: x [num_rows, inputs], SCALAR, or WEIGHT where that has 8 bits; boxes of ROWS x 128 bytes
            scales: nibble: fp16 [inputs / GROUP_INPUTS, num_outputs]; 8 bits: fp32 [num_outputs]; else null
            zeros: nibble: uint8, as scales; 8 bits: fp32 [num_rows], the scales of x; else null
            bias [num_outputs] SCALAR, or null   num_outputs: a multiple of 8, of 16 for nibble   num_slabs: inputs / kSlab
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; WEIGHT = SCALAR | e4m3 | int8 | nibble; ROWS = 8 | 16 | 32 | 64 | 128 | 256, >= num_rows;
            GROUPS, warpgroups that multiply, 64 outputs each; CLUSTER, blocks that share the inputs of an output; STAGES;
            GROUP_INPUTS, of a scale (nibble), divides or is a multiple of 128; SHARE_GROUPS, that a block meets at most; else 0
   launch   grid ceil(num_outputs / (64 * GROUPS)) * CLUSTER, block 128 * GROUPS + 32, shared as the launcher computes
   moves    the weights and their scales once; x comes from L2, once for each 64 * GROUPS outputs
   numbers  products summed in fp32 (e4m3: 128 at a time; int8: exact), one rounding at the end

   One warp keeps the copy engine busy: a ring of stages, each a slab of the block's outputs and the same slab of x. The first
   stages of the weights are asked for before the kernel ahead has ended, since it cannot have written them. Outputs are the
   rows of the matrix product and rows of x its columns, so that few of those cost little. Blocks of a cluster take an equal
   share of the inputs each and add up through their shared memory, in an order that does not depend on time.
*/
#include "device/narrow_products.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(WEIGHT) || !defined(ROWS) || !defined(GROUPS) || !defined(CLUSTER) || !defined(STAGES) || \
    !defined(GROUP_INPUTS) || !defined(SHARE_GROUPS)
#error "linear_hopper.cu needs -DSCALAR -DWEIGHT -DROWS -DGROUPS -DCLUSTER -DSTAGES -DGROUP_INPUTS -DSHARE_GROUPS"
#endif

struct nibble {};  // 4-bit codes with a scale and a zero point a group

enum Kind { kWide, kFloat8, kInt8, kNibble };
template <class T>
constexpr Kind kKindOf = kWide;
template <>
constexpr Kind kKindOf<e4m3> = kFloat8;
template <>
constexpr Kind kKindOf<int8> = kInt8;
template <>
constexpr Kind kKindOf<nibble> = kNibble;

constexpr Kind kKind = kKindOf<WEIGHT>;
constexpr int kOutputs = 64 * GROUPS;               // of a block
constexpr int kConsumers = 128 * GROUPS;            // threads that multiply; one more warp copies
constexpr int kThreads = kConsumers + 32;
constexpr int kXBlocks = kKind == kNibble ? 2 : 1;  // of 128 bytes a row, in a stage
constexpr int kXBytes = kXBlocks * ROWS * 128;
constexpr int kWeightBytes = kOutputs * (kKind == kNibble ? 64 : 128);
constexpr int kGroup = kKind == kNibble ? GROUP_INPUTS : 128;
constexpr int kPitch = kOutputs + 4;                // floats from one row of sums to the next; neighbours lie in other banks
constexpr int kOwn = kOutputs / CLUSTER;            // outputs that this block writes in the end
static_assert(ROWS % 8 == 0 && kOwn % 4 == 0 && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            unsigned char x[kXBytes], weight[kWeightBytes];
        } stages[STAGES];
        float sums[ROWS][kPitch];
    };
    struct {  // of the groups of inputs in the block's share; nibble only
        unsigned short scales[kOutputs];  // fp16
        unsigned char zeros[kOutputs];
    } groups[SHARE_GROUPS ? SHARE_GROUPS : 1];
    Barrier full[STAGES], empty[STAGES];
};

struct Share {  // of the inputs: slabs [first, end)
    int first, end;

    DEVICE explicit Share(int num_slabs) {
        const int rank = blockIdx.x % CLUSTER;
        first = rank * num_slabs / CLUSTER;
        end = (rank + 1) * num_slabs / CLUSTER;
    }
};

DEVICE void copy_weight(Layout& shared, const TensorMap& map, int stage, int slab, int first_output) {
    unsigned char* to = shared.stages[stage].weight;
    barrier_expect(shared.full[stage], kXBytes + kWeightBytes);
    if constexpr (kKind == kNibble) copy_box(to, map, 0, slab * 8, first_output / 16, 0, shared.full[stage]);
    else copy_box(to, map, slab * 64, first_output, shared.full[stage]);
}

DEVICE void copy_x(Layout& shared, const TensorMap& map, int stage, int slab) {
#pragma unroll
    for (int b = 0; b < kXBlocks; b++)
        copy_box(shared.stages[stage].x + b * ROWS * 128, map, (slab * kXBlocks + b) * 64, 0, shared.full[stage]);
}

// The warp that copies; one lane does.
DEVICE void produce(Layout& shared, const TensorMap& weight_map, const TensorMap& x_map, Share share, int first_output) {
    const int num = share.end - share.first, ahead = min(num, STAGES);
    for (int i = 0; i < ahead; i++) copy_weight(shared, weight_map, i, share.first + i, first_output);
    wait_for_predecessor();
    for (int i = 0; i < ahead; i++) copy_x(shared, x_map, i, share.first + i);
    for (int i = ahead; i < num; i++) {
        const int stage = i % STAGES;
        barrier_wait(shared.empty[stage], (i / STAGES - 1) % 2);
        copy_weight(shared, weight_map, stage, share.first + i, first_output);
        copy_x(shared, x_map, stage, share.first + i);
    }
}

// Weights of 16 and 8 bits: both operands as they lie. D is float or, for int8, unsigned.
template <class D>
DEVICE void consume(Layout& shared, D (&sum)[ROWS / 2], int num) {
    const int group = threadIdx.x / 128;
    for (int i = 0; i < num; i++) {
        const auto& stage = shared.stages[i % STAGES];
        barrier_wait(shared.full[i % STAGES], i / STAGES % 2);
        const Operand a = rows_operand(stage.weight + group * 64 * 128), b = rows_operand(stage.x);
        if constexpr (kKind == kFloat8) {  // the tensor cores keep fewer bits of a sum of e4m3 than fp32 has
            D part[ROWS / 2];
            products_open();
#pragma unroll
            for (int k = 0; k < 4; k++) multiply_narrow<WEIGHT, ROWS>(part, a + 2 * k, b + 2 * k, k > 0);
            products_commit();
            products_wait<0>();
            settle(part);
            if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[i % STAGES]);
#pragma unroll
            for (int j = 0; j < ROWS / 2; j++) sum[j] = i ? sum[j] + part[j] : part[j];
        } else {
            products_open();
#pragma unroll
            for (int k = 0; k < 4; k++) multiply_narrow<WEIGHT, ROWS>(sum, a + 2 * k, b + 2 * k, i > 0 || k > 0);
            products_commit();
            products_wait<1>();  // those of the stage before
            if (i > 0 && threadIdx.x % 32 == 0) barrier_arrive(shared.empty[(i - 1) % STAGES]);
        }
    }
    products_wait<0>();
    settle(sum);
}

// The group of inputs that stands first in shared memory.
DEVICE int first_group(Share share) { return share.first * 128 / kGroup; }

// Fetch scales and zero points of the share's groups. All consumers call it and meet.
DEVICE void fetch_groups(Layout& shared, const void* scales, const void* zeros, Share share, int first_output, int num_outputs) {
    const int first = first_group(share), num = (share.end * 128 - 1) / kGroup + 1 - first;
    for (int piece = threadIdx.x; piece < num * (kOutputs / 16); piece += kConsumers) {
        const int row = piece / (kOutputs / 16), o = piece % (kOutputs / 16) * 16;
        const bool valid = first_output + o < num_outputs;
        const long long at = valid ? (long long)(first + row) * num_outputs + first_output + o : 0;
        const unsigned short* from = static_cast<const unsigned short*>(scales) + at;
        copy16_async(shared.groups[row].scales + o, from, valid);
        copy16_async(shared.groups[row].scales + o + 8, from + 8, valid);
        copy16_async(shared.groups[row].zeros + o, static_cast<const unsigned char*>(zeros) + at, valid);
    }
    copies_commit();
    copies_wait<0>();
    meet_named(1, kConsumers);
}

// Four-bit weights become floats in registers, which are the first operand.
DEVICE void consume_codes(Layout& shared, float (&sum)[ROWS / 2], Share share) {
    constexpr int kPiece = kGroup < 128 ? kGroup : 128;  // inputs under one scale in a stage
    constexpr int kSteps = kPiece / 16;
    const int lane = threadIdx.x % 32, tile = threadIdx.x / 32, output = tile * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
    for (int i = 0; i < share.end - share.first; i++) {
        const auto& stage = shared.stages[i % STAGES];
        barrier_wait(shared.full[i % STAGES], i / STAGES % 2);
#pragma unroll
        for (int piece = 0; piece < 128 / kPiece; piece++) {
            const auto& group = shared.groups[((share.first + i) * 128 + piece * kPiece) / kGroup - first_group(share)];
            const unsigned upper = kCodeBase<SCALAR> + group.zeros[output] * 0x10001u;
            const unsigned lower = kCodeBase<SCALAR> + group.zeros[output + 8] * 0x10001u;
            unsigned a[kSteps][4];
#pragma unroll
            for (int k = 0; k < kSteps; k++) {
                const int step = piece * kSteps + k, line = step / 4 * 4 + lane / 8;  // 128-byte line of the tile's two
                const unsigned char* at = stage.weight + tile * 1024 + line * 128 + ((lane % 8) ^ line) * 16;
                const unsigned word = *reinterpret_cast<const unsigned*>(at + step % 4 * 4);
#pragma unroll
                for (int r = 0; r < 4; r++) a[k][r] = subtract2<SCALAR>(code_pair<SCALAR>(word >> 4 * r), r % 2 ? lower : upper);
            }
            float part[ROWS / 2];
            products_open();
#pragma unroll
            for (int k = 0; k < kSteps; k++) {
                const int step = piece * kSteps + k;
                const Operand b = rows_operand(stage.x + step / 4 * ROWS * 128) + step % 4 * 2;
                multiply_from_registers<SCALAR, ROWS>(part, a[k], b, k > 0);
            }
            products_commit();
            const float high = to_float(fp16{group.scales[output]}), low = to_float(fp16{group.scales[output + 8]});
            products_wait<0>();
            settle(part);
#pragma unroll
            for (int j = 0; j < ROWS / 2; j++) sum[j] += part[j] * (j / 2 % 2 ? low : high);
        }
        if (lane == 0) barrier_arrive(shared.empty[i % STAGES]);
    }
}

// Leave the sums of this block where the cluster finds them.
template <class D>
DEVICE void leave(Layout& shared, const D (&sum)[ROWS / 2]) {
    const int lane = threadIdx.x % 32, output = threadIdx.x / 32 * 16 + lane / 4;
    meet_named(1, kConsumers);  // nobody multiplies from the ring any more
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++)
        shared.sums[j / 4 * 8 + lane % 4 * 2 + j % 2][output + j / 2 % 2 * 8] = kKind == kInt8 ? float(int(sum[j])) : float(sum[j]);
}

// Add up the cluster's sums of this block's own outputs and write them.
DEVICE void finish(Layout& shared, const float* output_scales, const float* row_scales, const SCALAR* bias, SCALAR* out,
                   int first_output, int num_rows, int num_outputs) {
    for (int item = threadIdx.x; item < num_rows * (kOwn / 4); item += kThreads) {
        const int row = item / (kOwn / 4), o = blockIdx.x % CLUSTER * kOwn + item % (kOwn / 4) * 4, output = first_output + o;
        if (output >= num_outputs) continue;
        float total[4] = {};
#pragma unroll
        for (int rank = 0; rank < CLUSTER; rank++) {
            float part[4];
            load_peer4(part, &shared.sums[row][o], rank);
#pragma unroll
            for (int j = 0; j < 4; j++) total[j] += part[j];
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if constexpr (kKind == kFloat8 || kKind == kInt8) total[j] *= output_scales[output + j] * row_scales[row];
            if (bias) total[j] += to_float(bias[output + j]);
        }
        const uint2 packed = make_uint2(pack2<SCALAR>(total[0], total[1]), pack2<SCALAR>(total[2], total[3]));
        *reinterpret_cast<uint2*>(out + (long long)row * num_outputs + output) = packed;
    }
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_hopper(
    const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, const void* scales, const void* zeros,
    const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const int first_output = blockIdx.x / CLUSTER * kOutputs;
    const Share share(num_slabs);
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(weight_map);
        prefetch_map(x_map);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kConsumers / 32);
        }
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        if (threadIdx.x == kConsumers) produce(shared, weight_map, x_map, share, first_output);
        __syncwarp();
    } else if constexpr (kKind == kNibble) {
        float sum[ROWS / 2];
        fetch_groups(shared, scales, zeros, share, first_output, num_outputs);
        consume_codes(shared, sum, share);
        leave(shared, sum);
    } else if constexpr (kKind == kInt8) {
        unsigned sum[ROWS / 2];  // of two's complement
        consume(shared, sum, share.end - share.first);
        leave(shared, sum);
    } else {
        float sum[ROWS / 2];
        consume(shared, sum, share.end - share.first);
        leave(shared, sum);
    }
    wait_for_predecessor();  // it may still read what this kernel writes, or write the scales of x
    cluster_meet();
    finish(shared, static_cast<const float*>(scales), static_cast<const float*>(zeros), bias, out, first_output, num_rows,
           num_outputs);
    cluster_meet();  // none ends while another reads its sums
}
