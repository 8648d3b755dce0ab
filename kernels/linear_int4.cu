/* linear_int4.cu - a linear layer of 4-bit codes for 9 to 64 rows on sm_90a: codes become numbers in shared memory once.

   out[m, o] = sum over i of x[m, i] * (code[o, i] - zero[g, o]) * scale[g, o] + bias[o], g = i / GROUP_INPUTS

   in       weight_map: the tiles of engines/quant/int4_tiles.py as [X, 4 Y, 128 bytes], boxes of kOutputs / 16 x 8 x 128 bytes
            x_map: x [num_rows, inputs] SCALAR, boxes of ROWS x 128 bytes
            scales fp16, zeros uint8 [inputs / GROUP_INPUTS, num_outputs]; bias [num_outputs] SCALAR, or null
            num_outputs: a multiple of 16   num_slabs: inputs / 128
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; ROWS = 16 | 32 | 64, >= num_rows; WIDTH = 64 | 128 outputs of a warpgroup; GROUPS of warpgroups
            side by side; K_GROUPS, that take turns at the stages of an output; CLUSTER, blocks that share the inputs of an output;
            STAGES, multiple of K_GROUPS; GROUP_INPUTS, of a scale, divides or is a multiple of 128; SHARE_GROUPS, that a block
            meets at most
   launch   grid ceil(num_outputs / kOutputs) * CLUSTER, block 128 * GROUPS * K_GROUPS + 32, shared sizeof(Layout) + 1024
   moves    the codes with their scales once; x comes from L2, once for each kOutputs outputs
   numbers  products summed in fp32, one rounding at the end

   Rows of x are the rows of the matrix product, 64 whether or not there are so many, and outputs its columns: a product of codes
   from registers would take 32 cycles more for each 64 outputs x 16 inputs. A warpgroup writes the numbers of 64 inputs while it
   multiplies those before. What is past num_rows is never looked at, so ROWS of x are copied and whatever follows is multiplied.
*/
#include "device/narrow_products.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(ROWS) || !defined(WIDTH) || !defined(GROUPS) || !defined(K_GROUPS) || !defined(CLUSTER) || \
    !defined(STAGES) || !defined(GROUP_INPUTS) || !defined(SHARE_GROUPS)
#error "linear_int4.cu needs -DSCALAR -DROWS -DWIDTH -DGROUPS -DK_GROUPS -DCLUSTER -DSTAGES -DGROUP_INPUTS -DSHARE_GROUPS"
#endif

constexpr int kOutputs = WIDTH * GROUPS;             // of a block
constexpr int kConsumers = 128 * GROUPS * K_GROUPS;  // threads that multiply; one more warp copies
constexpr int kThreads = kConsumers + 32;
constexpr int kLineBytes = ROWS * 128;               // of x: 64 inputs
constexpr int kPiece = GROUP_INPUTS < 128 ? GROUP_INPUTS : 128;  // inputs under one scale in a stage
constexpr int kPitch = kOutputs + 8;                 // floats from one row of sums to the next; neighbours lie in other banks
constexpr int kOwn = kOutputs / CLUSTER;             // outputs that this block writes in the end
static_assert(ROWS <= 64 && STAGES >= 2 * K_GROUPS && STAGES % K_GROUPS == 0, "a stage is held until the next is there");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            struct {
                unsigned char x[2 * kLineBytes], codes[kOutputs * 64];
            } stages[STAGES];
            unsigned char numbers[GROUPS * K_GROUPS][2][WIDTH * 128];  // of 64 inputs each
        };
        float sums[K_GROUPS][ROWS][kPitch];
    };
    struct {  // of the groups of inputs in the block's share
        unsigned short scales[kOutputs];  // fp16
        unsigned char zeros[kOutputs];
    } groups[SHARE_GROUPS];
    Barrier full[STAGES], empty[STAGES];
};

struct Share {  // of the inputs: slabs [first, end)
    int first, end, first_group;

    DEVICE explicit Share(int num_slabs) {
        const int rank = blockIdx.x % CLUSTER;
        first = rank * num_slabs / CLUSTER;
        end = (rank + 1) * num_slabs / CLUSTER;
        first_group = first * 128 / GROUP_INPUTS;
    }

    // Where the group of input `input` of the share's slab `index` stands in shared memory.
    DEVICE int group(int index, int input) const { return ((first + index) * 128 + input) / GROUP_INPUTS - first_group; }
};

DEVICE void copy_codes(Layout& shared, const TensorMap& map, int stage, int slab, int first_output) {
    barrier_expect(shared.full[stage], 2 * kLineBytes + kOutputs * 64);
    copy_box(shared.stages[stage].codes, map, 0, slab * 8, first_output / 16, 0, shared.full[stage]);
}

DEVICE void copy_x(Layout& shared, const TensorMap& map, int stage, int slab) {
#pragma unroll
    for (int line = 0; line < 2; line++)
        copy_box(shared.stages[stage].x + line * kLineBytes, map, (slab * 2 + line) * 64, 0, shared.full[stage]);
}

// The warp that copies; one lane does. Codes are asked for before the kernel ahead has ended, since it cannot have written them.
DEVICE void produce(Layout& shared, const TensorMap& weight_map, const TensorMap& x_map, Share share, int first_output) {
    const int num = share.end - share.first, ahead = min(num, STAGES);
    for (int i = 0; i < ahead; i++) copy_codes(shared, weight_map, i, share.first + i, first_output);
    wait_for_predecessor();
    for (int i = 0; i < ahead; i++) copy_x(shared, x_map, i, share.first + i);
    for (int i = ahead; i < num; i++) {
        const int stage = i % STAGES;
        barrier_wait(shared.empty[stage], (i / STAGES - 1) % 2);
        copy_codes(shared, weight_map, stage, share.first + i, first_output);
        copy_x(shared, x_map, stage, share.first + i);
    }
}

// Fetch scales and zero points of the share's groups. All consumers call it and meet.
DEVICE void fetch_groups(Layout& shared, const unsigned short* scales, const unsigned char* zeros, Share share, int first_output,
                         int num_outputs) {
    const int num = (share.end * 128 - 1) / GROUP_INPUTS + 1 - share.first_group;
    for (int piece = threadIdx.x; piece < num * (kOutputs / 16); piece += kConsumers) {
        const int row = piece / (kOutputs / 16), o = piece % (kOutputs / 16) * 16;
        const bool valid = first_output + o < num_outputs;
        const long long at = valid ? (long long)(share.first_group + row) * num_outputs + first_output + o : 0;
        copy16_async(shared.groups[row].scales + o, scales + at, valid);
        copy16_async(shared.groups[row].scales + o + 8, scales + at + 8, valid);
        copy16_async(shared.groups[row].zeros + o, zeros + at, valid);
    }
    copies_commit();
    copies_wait<0>();
    meet_named(1, kConsumers);
}

// Write the numbers of 64 inputs, half a stage, for the outputs of this warp: WIDTH / 64 tiles of 16.
DEVICE void unpack(unsigned char* numbers, const Layout& shared, int stage, int line, int first, Share share, int index) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
#pragma unroll
    for (int t = 0; t < WIDTH / 64; t++) {
        const int tile = warp * (WIDTH / 64) + t, output = first + tile * 16 + lane / 4;
        const int code_line = line * 4 + lane / 8;  // of eight, swizzled
        const uint4 loaded = load16(shared.stages[stage].codes + (first / 16 + tile) * 1024 + code_line * 128 + (lane % 8 ^ code_line) * 16);
        const unsigned words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
        const int row = tile * 16 + lane / 8 % 2 * 8 + lane % 8;  // that this lane stores, of matrix lane / 8
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const auto& group = shared.groups[share.group(index, line * 64 + k * 16)];
            const unsigned upper = kCodeBase<SCALAR> + group.zeros[output] * 0x10001u;
            const unsigned lower = kCodeBase<SCALAR> + group.zeros[output + 8] * 0x10001u;
            unsigned pairs[4];
#pragma unroll
            for (int r = 0; r < 4; r++) pairs[r] = subtract2<SCALAR>(code_pair<SCALAR>(words[k] >> 4 * r), r % 2 ? lower : upper);
            store_matrix4(numbers + row * 128 + ((2 * k + lane / 16) ^ lane % 8) * 16, pairs);
        }
    }
}

// Sums of one piece under its scales: columns of the product are outputs.
DEVICE void add(float (&sum)[WIDTH / 2], const float (&part)[WIDTH / 2], const unsigned short* scales) {
#pragma unroll
    for (int n = 0; n < WIDTH / 8; n++) {
        const unsigned pair = load4(scales + 8 * n + threadIdx.x % 4 * 2);
        const float low = low_half<fp16>(pair), high = high_half<fp16>(pair);
#pragma unroll
        for (int j = 0; j < 4; j++) sum[4 * n + j] += part[4 * n + j] * (j % 2 ? high : low);
    }
}

// While 64 inputs are multiplied, the numbers of the next 64 are written.
DEVICE void consume(Layout& shared, float (&sum)[WIDTH / 2], Share share) {
    const int group = __shfl_sync(0xffffffffu, int(threadIdx.x) / 128, 0), first = group % GROUPS * WIDTH, num = share.end - share.first;
    auto& numbers = shared.numbers[group];
    float part[WIDTH / 2];
    int stage = group / GROUPS, parity = 0, index = group / GROUPS;
    const auto collect = [&](int input) {
        settle(part);
        add(sum, part, shared.groups[share.group(index, input)].scales + first);
    };
    const auto multiply = [&](int line) {
        const Operand a = rows_operand(shared.stages[stage].x + line * kLineBytes), b = rows_operand(numbers[line]);
        products_open();
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int input = line * 64 + k * 16;
            multiply_narrow<SCALAR, WIDTH>(part, a + k * 2, b + k * 2, input % kPiece > 0);
            if (k < 3 && (input + 16) % kPiece == 0) {
                products_commit();
                products_wait<0>();
                collect(input);
                products_open();
            }
        }
        products_commit();
    };
    // Whoever passes finds the numbers written and knows that nobody reads those of the other line any more.
    const auto turn_over = [&] {
        publish_shared();
        products_wait<0>();
        meet_named(2 + group, 128);
    };
#pragma unroll
    for (int j = 0; j < WIDTH / 2; j++) sum[j] = 0.f;
    if (index < num) {
        barrier_wait(shared.full[stage], parity);
        unpack(numbers[0], shared, stage, 0, first, share, index);
        turn_over();
    }
    while (index < num) {
        multiply(0);
        unpack(numbers[1], shared, stage, 1, first, share, index);
        turn_over();
        if (64 % kPiece == 0) collect(63);
        multiply(1);
        const int next = stage + K_GROUPS < STAGES ? stage + K_GROUPS : stage + K_GROUPS - STAGES;
        parity ^= next < stage;
        if (index + K_GROUPS < num) {
            barrier_wait(shared.full[next], parity);
            unpack(numbers[0], shared, next, 0, first, share, index + K_GROUPS);
        }
        turn_over();
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.empty[stage]);
        collect(127);
        stage = next;
        index += K_GROUPS;
    }
}

// Leave the sums of this block where the cluster finds them.
DEVICE void leave(Layout& shared, const float (&sum)[WIDTH / 2]) {
    const int lane = threadIdx.x % 32, group = threadIdx.x / 128, row = threadIdx.x / 32 % 4 * 16 + lane / 4;
    meet_named(1, kConsumers);  // nobody multiplies from the ring any more
#pragma unroll
    for (int j = 0; j < WIDTH / 2; j += 2) {
        const int at = row + j / 2 % 2 * 8;
        if (at < ROWS)
            *reinterpret_cast<float2*>(&shared.sums[group / GROUPS][at][group % GROUPS * WIDTH + j / 4 * 8 + lane % 4 * 2]) =
                make_float2(sum[j], sum[j + 1]);
    }
}

// Add up the cluster's sums of this block's own outputs and write them.
DEVICE void finish(Layout& shared, const SCALAR* bias, SCALAR* out, int first_output, int num_rows, int num_outputs) {
#pragma unroll 4
    for (int item = threadIdx.x; item < num_rows * (kOwn / 4); item += kThreads) {
        const int row = item / (kOwn / 4), o = blockIdx.x % CLUSTER * kOwn + item % (kOwn / 4) * 4, output = first_output + o;
        if (output >= num_outputs) continue;
        float total[4] = {};
#pragma unroll
        for (int share = 0; share < CLUSTER * K_GROUPS; share++) {
            float part[4];
            load_peer4(part, &shared.sums[share % K_GROUPS][row][o], share / K_GROUPS);
#pragma unroll
            for (int j = 0; j < 4; j++) total[j] += part[j];
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (bias) total[j] += to_float(bias[output + j]);
        const uint2 packed = make_uint2(pack2<SCALAR>(total[0], total[1]), pack2<SCALAR>(total[2], total[3]));
        *reinterpret_cast<uint2*>(out + (long long)row * num_outputs + output) = packed;
    }
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_int4(
    const __grid_constant__ TensorMap weight_map, const __grid_constant__ TensorMap x_map, const unsigned short* scales,
    const unsigned char* zeros, const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs, int num_slabs) {
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
            barrier_init(shared.empty[i], 4 * GROUPS);
        }
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        if (threadIdx.x == kConsumers) produce(shared, weight_map, x_map, share, first_output);
        __syncwarp();
    } else {
        float sum[WIDTH / 2];
        fetch_groups(shared, scales, zeros, share, first_output, num_outputs);
        consume(shared, sum, share);
        leave(shared, sum);
    }
    wait_for_predecessor();  // it may still read what this kernel writes
    cluster_meet();
    finish(shared, bias, out, first_output, num_rows, num_outputs);
    cluster_meet();  // none ends while another reads its sums
}
