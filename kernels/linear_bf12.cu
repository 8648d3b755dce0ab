/* linear_bf12.cu - a linear layer of bf16 weights kept in 12 bits (`device/bf12.cuh`) for few rows, on sm_90a: at the speed of memory.

   y[m, o] = sum over i of x[m, i] * weight[o, i] + bias[o];   out = y, or GATED: silu(first half of y) * second half, each rounded before

   in       tiles: of engines/quant/bf12_tiles.py, [num_slabs, num_outputs (GATED: * 2) / 16, 3072 bytes]
            factors [num_outputs (GATED: * 2)] bf16: powers of two   num_outputs: a multiple of 16
            x_map: x [num_rows, 128 * num_slabs] bf16, boxes of min(ROWS, num_rows) x 128 bytes: a box that leaves x is slow
            bias [num_outputs (GATED: * 2)] bf16, or null
   out      out [num_rows, num_outputs] bf16
   -D       ROWS = 8 | 16 | 32 | 64 | 128 of x in a block; GROUPS of 64 outputs in a block; GATED = 0 | 1 (even GROUPS, CLUSTER of 1): half
            of them are gates, half what is gated; TURNS, warpgroups that take turns at the slabs of a group; CLUSTER = 1 | 2, blocks
            that share the inputs of an output; CODE_STAGES of a group's slab, a multiple of GROUPS * TURNS; X_STAGES, a multiple of TURNS;
            STEPS = 2 | 4 of 16 inputs that are unpacked at once
   launch   grid ceil(num_outputs / outputs of a block) * ceil(num_rows / ROWS) * CLUSTER, block 128 * (GROUPS * TURNS + 1),
            shared sizeof(Layout) + 1024
   moves    the weight's 12 bits a number once; x comes from L2, once for each block's outputs
   numbers  weights exactly as in bf16 but for those the packer rounds; products summed in fp32, one rounding at the end

   Tiles of neighbouring outputs lie in one piece, so a slab is one copy, and a ring of all the shared memory that x leaves holds what
   is asked for before the kernel ahead has ended. Numbers become bf16 in registers, which are the first operand of products; outputs are
   the rows of the product. While some are multiplied, the next are unpacked.
*/
#if !defined(ROWS) || !defined(GROUPS) || !defined(GATED) || !defined(TURNS) || !defined(CLUSTER) || !defined(CODE_STAGES) || \
    !defined(X_STAGES) || !defined(STEPS)
#error "linear_bf12.cu needs -DROWS -DGROUPS -DGATED -DTURNS -DCLUSTER -DCODE_STAGES -DX_STAGES -DSTEPS"
#endif
#define SCALAR bf16

#include "device/bf12.cuh"
#include "device/two_rings.cuh"

constexpr int kTileBytes = 3072;                      // 16 outputs x 128 inputs
#include "device/tile_stages.cuh"

constexpr int kCopyRegisters = 32, kRegisters = registers_beside(kCopyRegisters);
constexpr int kBatches = 8 / STEPS;
static_assert((STEPS == 2 || STEPS == 4) && CLUSTER <= 2, "see the header");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            unsigned char x[X_STAGES][kXBytes], codes[CODE_STAGES][kCodeBytes];
        };
        float sums[TURNS][ROWS][kPitch];
    };
    Barrier codes_full[CODE_STAGES], codes_empty[CODE_STAGES], x_full[X_STAGES], x_empty[X_STAGES];
    NormPart norm;
};

// What one warpgroup multiplies: its outputs and its slabs, STEPS of 16 inputs at a time, so that some are unpacked while others are
// multiplied.
struct Multiplier {
    Layout& shared;
    Place<CODE_STAGES, GROUPS * TURNS> codes;
    Place<X_STAGES, TURNS> x;
    unsigned factor[2], words[3 * STEPS], a[2][STEPS][4];  // factor: of the lane's two rows, a pair each

    DEVICE Multiplier(Layout& shared, int warpgroup, const bf16* factors, Tile tile, int num_outputs)
        : shared(shared), codes(warpgroup), x(warpgroup / GROUPS) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int output = tile.output(threadIdx.x / 32 % (4 * GROUPS) * 16 + threadIdx.x % 32 / 4 + 8 * r, num_outputs);
            factor[r] = (output < 0 ? 0u : factors[output].bits) * 0x10001u;
        }
    }

    DEVICE void put(int first, uint4 four) {
        words[first] = four.x, words[first + 1] = four.y, words[first + 2] = four.z, words[first + 3] = four.w;
    }

    // The lane's words of a batch of STEPS, in pieces of 16 bytes.
    DEVICE void load(int batch) {
        if (batch == 0) barrier_wait(shared.codes_full[codes.stage], codes.parity);
        const unsigned char* from = shared.codes[codes.stage] + threadIdx.x / 32 % 4 * kTileBytes + threadIdx.x % 32 * 16;
        if constexpr (STEPS == 4) {
#pragma unroll
            for (int piece = 0; piece < 3; piece++) put(4 * piece, load16(from + (batch * 3 + piece) * 512));
        } else {  // one and a half
            const unsigned char* half = from + batch / 2 * 1536 + 512 + batch % 2 * 8;
            const uint2 two = load8(half);
            put(batch % 2 * 2, load16(from + batch / 2 * 1536 + batch % 2 * 1024));
            words[batch % 2 ? 0 : 4] = two.x, words[batch % 2 ? 1 : 5] = two.y;
        }
        settle(words);  // not before what was started ahead
    }

    DEVICE void unpack(int batch) {
        load(batch);
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            unpack_bf12(a[batch % 2][k], words[3 * k], words[3 * k + 1], words[3 * k + 2], factor[0], factor[1]);
            settle(a[batch % 2][k]);  // words have arrived before their stage is given away
        }
        if (batch < kBatches - 1) return;
        release(shared.codes_empty[codes.stage]);
        codes.next();
    }

    DEVICE void start(float (&sum)[ROWS / 2], int batch) {
        products_open();
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            const int step = batch * STEPS + k;
            multiply_from_registers<bf16, ROWS>(sum, a[batch % 2][k], rows_operand(shared.x[x.stage]) + step / 4 * ROWS * 8 + step % 4 * 2, true);
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

DEVICE void multiply(Layout& shared, float (&sum)[ROWS / 2], const bf16* factors, Share share, Tile tile, int num_outputs) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int warpgroup = kWarpgroups == 1 ? 0 : __shfl_sync(0xffffffffu, int(threadIdx.x) / 128, 0);
    Multiplier multiplier(shared, warpgroup, factors, tile, num_outputs);
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
    int slab = share.first + warpgroup / GROUPS;
    if (slab < share.end) multiplier.unpack(0);
    for (; slab < share.end; slab += TURNS) multiplier.multiply(sum, slab + TURNS < share.end);
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_bf12(
    const unsigned char* tiles, const bf16* factors, const __grid_constant__ TensorMap x_map, const bf16* bias, bf16* out, int num_rows,
    int num_outputs, int num_slabs NORM_PARAMETERS) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Tile tile(num_rows);
    const Share share(num_slabs);
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(x_map);
        for (int i = 0; i < CODE_STAGES; i++) barrier_init(shared.codes_full[i], 1), barrier_init(shared.codes_empty[i], 4);
        for (int i = 0; i < X_STAGES; i++) barrier_init(shared.x_full[i], 1), barrier_init(shared.x_empty[i], 4 * GROUPS);
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        keep_registers<kCopyRegisters>();
        if (threadIdx.x == kConsumers) copy_codes(shared, tiles, share, tile, num_outputs);
        if (threadIdx.x == kConsumers + 32) copy_x(shared, x_map, share, tile.first_row, num_rows);
        prepare_norm(shared, NORM_ARGUMENTS, tile, num_rows, num_outputs, 128 * num_slabs);
        __syncwarp();
        meet();
    } else {
        if constexpr (kRegisters > kEqualRegisters) take_registers<kRegisters>();
        float sum[ROWS / 2];
        multiply(shared, sum, factors, share, tile, num_outputs);
        write(shared, sum, {bias, out, NORM_ARGUMENTS, tile, num_rows, num_outputs});
    }
    if constexpr (CLUSTER > 1) cluster_meet();  // none ends while another reads its sums
}
