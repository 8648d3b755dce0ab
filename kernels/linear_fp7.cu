/* linear_fp7.cu - a linear layer of e4m3 weights kept in 7 bits (`device/fp7.cuh`) for few rows, on sm_90a: at the speed of memory.

   y[m, o] = row_scales[m] * scales[o] * sum over i of x[m, i] * number[o, i] + bias[o]
   out     = y, or GATED: silu(first half of y) * second half, each rounded before

   in       tiles: of engines/quant/fp7_tiles.py, [num_slabs, num_outputs (GATED: * 2) / 16, 3584 bytes]
            scales [num_outputs (GATED: * 2)] fp32   num_outputs: a multiple of 16
            x_map: x [num_rows, 256 * num_slabs] e4m3, boxes of min(ROWS, num_rows) x 128 bytes: a box that leaves x is slow
            row_scales [num_rows] fp32, those of x   bias [num_outputs (GATED: * 2)] bf16, or null
   out      out [num_rows, num_outputs] bf16
   -D       ROWS = 8 | 16 | 32 | 64 | 128 of x in a block; GROUPS of 64 outputs in a block; GATED = 0 | 1 (even GROUPS, CLUSTER of 1): half
            of them are gates, half what is gated; TURNS, warpgroups that take turns at the slabs of a group; CLUSTER = 1 | 2, blocks
            that share the inputs of an output; CODE_STAGES of a group's slab, a multiple of GROUPS * TURNS; X_STAGES, a multiple of TURNS;
            STEPS = 2 | 4 of 32 inputs that are unpacked at once; APART = 0 | 1: sums of a slab are added in fp32
   launch   grid ceil(num_outputs / outputs of a block) * ceil(num_rows / ROWS) * CLUSTER, block 128 * (GROUPS * TURNS + 1),
            shared sizeof(Layout) + 1024
   moves    the weight's 7 bits a number once; x comes from L2, once for each block's outputs
   numbers  weights exactly those of e4m3 but for those the packer rounds; of sums of e4m3 the tensor cores keep fewer bits than fp32
            has, so those of each 256 inputs are added in fp32 where APART; one rounding at the end

   As `linear_bf12.cu`, but that numbers are multiplied as they are, and that a slab is 256 inputs: the same bytes of x.
*/
#if !defined(ROWS) || !defined(GROUPS) || !defined(GATED) || !defined(TURNS) || !defined(CLUSTER) || !defined(CODE_STAGES) || \
    !defined(X_STAGES) || !defined(STEPS) || !defined(APART)
#error "linear_fp7.cu needs -DROWS -DGROUPS -DGATED -DTURNS -DCLUSTER -DCODE_STAGES -DX_STAGES -DSTEPS -DAPART"
#endif
#define SCALAR bf16

#include "device/fp7.cuh"
#include "device/two_rings.cuh"

constexpr int kTileBytes = 3584;                      // 16 outputs x 256 inputs
#include "device/tile_stages.cuh"

constexpr int kCopyRegisters = 32, kRegisters = registers_beside(kCopyRegisters);
constexpr int kBatches = 8 / STEPS, kBatchWords = STEPS * 7 / 2;
static_assert((STEPS == 2 || STEPS == 4) && CLUSTER <= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            unsigned char x[X_STAGES][kXBytes], codes[CODE_STAGES][kCodeBytes];
        };
        float sums[TURNS][ROWS][kPitch];
    };
    float row_scales[ROWS];
    Barrier codes_full[CODE_STAGES], codes_empty[CODE_STAGES], x_full[X_STAGES], x_empty[X_STAGES], scales_full;
    NormPart norm;
};

// One warp: the scales of the block's rows.
DEVICE void copy_row_scales(Layout& shared, const float* row_scales, int first_row, int num_rows) {
    wait_for_predecessor();
    for (int row = threadIdx.x % 32; row < ROWS; row += 32) shared.row_scales[row] = first_row + row < num_rows ? row_scales[first_row + row] : 0.f;
    barrier_arrive(shared.scales_full);
}

// What one warpgroup multiplies: its outputs and its slabs, STEPS of 32 inputs at a time, so that some are unpacked while others are
// multiplied.
struct Multiplier {
    Layout& shared;
    Place<CODE_STAGES, GROUPS * TURNS> codes;
    Place<X_STAGES, TURNS> x;
    unsigned words[kBatchWords], a[2][STEPS][4];

    DEVICE Multiplier(Layout& shared, int warpgroup) : shared(shared), codes(warpgroup), x(warpgroup / GROUPS) {}

    // The lane's words of a batch of STEPS, in pieces of 16 bytes, of 8 and 4 at its ends.
    DEVICE void load(int batch) {
        if (batch == 0) barrier_wait(shared.codes_full[codes.stage], codes.parity);
        const unsigned char* from = shared.codes[codes.stage] + threadIdx.x / 32 % 4 * kTileBytes + threadIdx.x % 32 * 16;
        const int first = batch * kBatchWords, end = first + kBatchWords;
#pragma unroll
        for (int word = first; word < end; word++) {
            const unsigned char* at = from + word / 4 * 512 + word % 4 * 4;
            unsigned* to = words + word - first;
            if (word / 4 * 4 >= first && word / 4 * 4 + 4 <= end) {  // of a whole piece
                if (word % 4 > 0) continue;
                const uint4 four = load16(at);
                to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
            } else if (word / 2 * 2 >= first && word / 2 * 2 + 2 <= end) {
                if (word % 2 > 0) continue;
                const uint2 two = load8(at);
                to[0] = two.x, to[1] = two.y;
            } else {
                to[0] = *reinterpret_cast<const unsigned*>(at);
            }
        }
        settle(words);  // not before what was started ahead
    }

    DEVICE void unpack(int batch) {
        load(batch);
#pragma unroll
        for (int pair = 0; pair < STEPS / 2; pair++) {
            unsigned packed[7], whole[8];
#pragma unroll
            for (int i = 0; i < 7; i++) packed[i] = words[pair * 7 + i];
            unpack_fp7(whole, packed);
#pragma unroll
            for (int i = 0; i < 8; i++) a[batch % 2][pair * 2 + i / 4][i % 4] = whole[i];
        }
#pragma unroll
        for (int k = 0; k < STEPS; k++) settle(a[batch % 2][k]);  // words have arrived before their stage is given away
        if (batch < kBatches - 1) return;
        release(shared.codes_empty[codes.stage]);
        codes.next();
    }

    DEVICE void start(float (&sum)[ROWS / 2], int batch) {
        products_open();
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            const int step = batch * STEPS + k;
            const Operand b = rows_operand(shared.x[x.stage]) + step / 4 * ROWS * 8 + step % 4 * 2;
            multiply_from_registers<e4m3, ROWS>(sum, a[batch % 2][k], b, !APART || step > 0);
        }
        products_commit();
    }

    // Multiply a slab whose first batch is unpacked; unpack the first of the next slab meanwhile.
    DEVICE void multiply(float (&sum)[ROWS / 2], bool has_next) {
        barrier_wait(shared.x_full[x.stage], x.parity);
#pragma unroll
        for (int batch = 0; batch < kBatches; batch++) {
            start(sum, batch);
            products_wait<1>();  // the registers of the batch before are free
            if (batch < kBatches - 1) unpack(batch + 1);
            else if (has_next) unpack(0);
        }
        products_wait<0>();
        settle(sum);
        release(shared.x_empty[x.stage]);
        x.next();
    }
};

DEVICE void multiply(Layout& shared, float (&sum)[ROWS / 2], Share share) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int warpgroup = kWarpgroups == 1 ? 0 : __shfl_sync(0xffffffffu, int(threadIdx.x) / 128, 0);
    Multiplier multiplier(shared, warpgroup);
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
    int slab = share.first + warpgroup / GROUPS;
    if (slab < share.end) multiplier.unpack(0);
    for (; slab < share.end; slab += TURNS) {
        if constexpr (APART) {
            float part[ROWS / 2];
            multiplier.multiply(part, slab + TURNS < share.end);
#pragma unroll
            for (int j = 0; j < ROWS / 2; j++) sum[j] += part[j];
        } else {
            multiplier.multiply(sum, slab + TURNS < share.end);
        }
    }
}

// Sums of a thread times the scales of their outputs and rows.
DEVICE void scale(Layout& shared, float (&sum)[ROWS / 2], const float* scales, Tile tile, int num_outputs) {
    float of_output[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int output = tile.output(threadIdx.x / 32 % (4 * GROUPS) * 16 + threadIdx.x % 32 / 4 + 8 * r, num_outputs);
        of_output[r] = output < 0 ? 0.f : scales[output];
    }
    barrier_wait(shared.scales_full, 0);
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] *= of_output[j / 2 % 2] * shared.row_scales[j / 4 * 8 + threadIdx.x % 4 * 2 + j % 2];
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_fp7(
    const unsigned char* tiles, const float* scales, const __grid_constant__ TensorMap x_map, const float* row_scales, const bf16* bias,
    bf16* out, int num_rows, int num_outputs, int num_slabs) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Tile tile(num_rows);
    const Share share(num_slabs);
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(x_map);
        for (int i = 0; i < CODE_STAGES; i++) barrier_init(shared.codes_full[i], 1), barrier_init(shared.codes_empty[i], 4);
        for (int i = 0; i < X_STAGES; i++) barrier_init(shared.x_full[i], 1), barrier_init(shared.x_empty[i], 4 * GROUPS);
        barrier_init(shared.scales_full, 32);
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        keep_registers<kCopyRegisters>();
        if (threadIdx.x == kConsumers) copy_codes(shared, tiles, share, tile, num_outputs);
        if (threadIdx.x == kConsumers + 32) copy_x(shared, x_map, share, tile.first_row, num_rows);
        if (threadIdx.x >= kConsumers + 64 && threadIdx.x < kConsumers + 96) copy_row_scales(shared, row_scales, tile.first_row, num_rows);
        __syncwarp();
        meet();
    } else {
        if constexpr (kRegisters > kEqualRegisters) take_registers<kRegisters>();
        float sum[ROWS / 2];
        multiply(shared, sum, share);
        scale(shared, sum, scales, tile, num_outputs);
        write(shared, sum, {bias, out, FoldedNorm{}, tile, num_rows, num_outputs});
    }
    if constexpr (CLUSTER > 1) cluster_meet();  // none ends while another reads its sums
}
