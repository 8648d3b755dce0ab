/* linear_int4_hopper.cu - a linear layer of 4-bit codes for 5 to 512 rows on sm_90a: codes are read once, at the speed of memory.

   y[m, o] = sum over i of x[m, i] * (code[o, i] - zero[g, o]) * scale[g, o] + bias[o], g = i / GROUP_INPUTS
   out = y, or GATED: silu(first half of y) * second half, each rounded before

   in       code_map: the tiles of engines/quant/int4_tiles.py as [X, 4 Y, 128 bytes], boxes of 4 * GROUPS (GATED: / 2) x 8 x 128 bytes
            x_map: x [num_rows, 128 * num_slabs] SCALAR, boxes of min(ROWS, num_rows) x 128 bytes: a box that leaves x is slow
            scales fp16, zeros uint8 [128 * num_slabs / GROUP_INPUTS, num_outputs (GATED: * 2)]   num_outputs: a multiple of 16
            bias [num_outputs (GATED: * 2)] SCALAR, or null
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; ROWS = 8 | 16 | 32 | 64 | 128 of x in a block; GROUPS of 64 outputs in a block; GATED = 0 | 1 (even
            GROUPS, CLUSTER of 1): half of them are gates, half what is gated; TURNS, warpgroups that take turns at the slabs of a
            group; CLUSTER = 1 | 2, blocks that share the inputs of an output; CODE_STAGES, X_STAGES, TURNS times a power of two;
            GROUP_INPUTS, divides or is a multiple of 128, at least 32; SHARE_GROUPS, that a block meets at most
   launch   grid ceil(num_outputs / outputs of a block) * ceil(num_rows / ROWS) * CLUSTER, block 128 * (GROUPS * TURNS + 1),
            shared sizeof(Layout) + 1024
   moves    the codes with their scales and zero points once; x comes from L2, once for each block's outputs
   numbers  products summed in fp32, one rounding at the end

   Codes and rows of x come through a ring each, filled by a warp each: codes come from memory and need many bytes under way, rows
   come from L2 and need few. The first codes are asked for before the kernel ahead has ended. Codes become floats in registers,
   (code - zero point) * kCodeUnit, which are the first operand; outputs are the rows of the product. While one warpgroup unpacks,
   others multiply, so a block has all the warpgroups that an SM has registers for. The warpgroup that copies leaves them its registers.
   Instructions of the loop bind 16 to 64 rows: their number is what counts (kernels/LOG.md).
*/
#if !defined(SCALAR) || !defined(ROWS) || !defined(GROUPS) || !defined(GATED) || !defined(TURNS) || !defined(CLUSTER) || \
    !defined(CODE_STAGES) || !defined(X_STAGES) || !defined(GROUP_INPUTS) || !defined(SHARE_GROUPS)
#error \
    "linear_int4_hopper.cu needs -DSCALAR -DROWS -DGROUPS -DGATED -DTURNS -DCLUSTER -DCODE_STAGES -DX_STAGES -DGROUP_INPUTS -DSHARE_GROUPS"
#endif

#include "device/two_rings.cuh"

constexpr int kCodeBytes = 64 * kOutputs;            // of a slab of 128 inputs
constexpr int kPiece = GROUP_INPUTS < 128 ? GROUP_INPUTS : 128;  // inputs under one scale in a slab
constexpr int kPieces = 128 / kPiece, kSteps = kPiece / 16;
constexpr int kCopyRegisters = 24, kRegisters = registers_beside(kCopyRegisters);
constexpr bool is_power_of_two(int x) { return (x & (x - 1)) == 0; }
static_assert(CODE_STAGES % TURNS == 0 && is_power_of_two(CODE_STAGES / TURNS) && is_power_of_two(X_STAGES / TURNS), "see the header");

struct Layout {  // of the dynamic shared memory, from a multiple of 1,024 on
    union {
        struct {
            unsigned char x[X_STAGES][kXBytes], codes[CODE_STAGES][kCodeBytes];
        };
        float sums[TURNS][ROWS][kPitch];
    };
    struct {  // of the groups of inputs in the block's share
        unsigned short scales[kOutputs];  // fp16
        unsigned char zeros[kOutputs];
    } groups[SHARE_GROUPS];
    Barrier codes_full[CODE_STAGES], codes_empty[CODE_STAGES], x_full[X_STAGES], x_empty[X_STAGES];
    NormPart norm;
};

// One lane: the codes of the block, in the order of slabs.
DEVICE void copy_codes(Layout& shared, const TensorMap& map, Share share, Tile tile, int num_outputs) {
    const CachePolicy policy = read_once();
    Place<CODE_STAGES, 1> at(0);
#pragma unroll 1
    for (int slab = share.first; slab < share.end; slab++, at.next()) {
        if (slab - share.first >= CODE_STAGES) barrier_wait(shared.codes_empty[at.stage], at.parity ^ 1);
        barrier_expect(shared.codes_full[at.stage], kCodeBytes);
#pragma unroll
        for (int half = 0; half <= GATED; half++)
            copy_box(shared.codes[at.stage] + half * (kCodeBytes / 2), map, 0, slab * 8, (tile.first_output + half * num_outputs) / 16, 0,
                     shared.codes_full[at.stage], policy);
    }
}

// Fetch scales and zero points of the share's groups. All consumers call it and meet.
DEVICE void fetch_groups(Layout& shared, const unsigned short* scales, const unsigned char* zeros, Share share, Tile tile, int num_outputs) {
    const int first = share.first * 128 / GROUP_INPUTS, num = (share.end * 128 - 1) / GROUP_INPUTS + 1 - first;
#pragma unroll 1
    for (int piece = threadIdx.x; piece < num * (kOutputs / 16); piece += kConsumers) {
        const int row = piece / (kOutputs / 16), o = piece % (kOutputs / 16) * 16, output = tile.output(o, num_outputs);
        const bool valid = output >= 0;
        const long long at = valid ? (long long)(first + row) * ((1 + GATED) * num_outputs) + output : 0;
        copy16_async(shared.groups[row].scales + o, scales + at, valid);
        copy16_async(shared.groups[row].scales + o + 8, scales + at + 8, valid);
        copy16_async(shared.groups[row].zeros + o, zeros + at, valid);
    }
    copies_commit();
    copies_wait<0>();
    meet_named(1, kConsumers);
}

// Where one of TURNS warpgroups finds what it multiplies on visit number `visit` to a ring of STAGES.
template <int STAGES>
struct Visit {
    int stage, parity;

    DEVICE Visit(int turn, int visit) : stage(turn + visit % (STAGES / TURNS) * TURNS), parity(visit / (STAGES / TURNS) & 1) {}
};

// What one warpgroup multiplies: its outputs and its slabs, half a slab at a time, so that codes are unpacked for one half while the
// other is multiplied.
struct Multiplier {
    Layout& shared;
    const Share share;
    const int turn;
    const int lane, piece, output;  // hidden, or they would be computed anew for each slab; piece: 16 bytes of the first half of a tile
    unsigned words[8], a[2][4][4], offset[2];  // of the zero points of two outputs

    DEVICE Multiplier(Layout& shared, int turn, Share share)
        : shared(shared), share(share), turn(turn), lane(hidden(threadIdx.x % 32)), piece(hidden(first_piece())),
          output(hidden(tile() * 16 + threadIdx.x % 32 / 4)) {}

    DEVICE static int tile() { return threadIdx.x / 32 % (4 * GROUPS); }
    // The lane's: of lines of 128 bytes, whose pieces the swizzle exchanges.
    DEVICE static int first_piece() {
        const int lane = threadIdx.x % 32, line = lane / 8;
        return tile() * 1024 + line * 128 + (lane % 8 ^ line) * 16;
    }

    DEVICE int slab_of(int visit) const { return share.first + turn + visit * TURNS; }

    // Every lane of the warp is done with the stage.
    DEVICE void release(Barrier& empty) const {
        __syncwarp();
        if (lane == 0) barrier_arrive(empty);
    }

    // Wait for the codes of a slab.
    DEVICE void load(int visit) {
        const Visit<CODE_STAGES> at(turn, visit);
        barrier_wait(shared.codes_full[at.stage], at.parity);
        const unsigned char* from = shared.codes[at.stage];
        const uint4 first = load16(from + piece), second = load16(from + 512 + (piece ^ 64));  // line 4 + line
        words[0] = first.x, words[1] = first.y, words[2] = first.z, words[3] = first.w;
        words[4] = second.x, words[5] = second.y, words[6] = second.z, words[7] = second.w;
        settle(words);  // not before what was started ahead
        release(shared.codes_empty[at.stage]);
    }

    DEVICE int group_of(int visit, int step) const {
        const int slab = slab_of(visit);
        return (kPieces == 1 ? slab * 128 / GROUP_INPUTS : slab * kPieces + step / kSteps) - share.first * 128 / GROUP_INPUTS;
    }

    DEVICE void unpack(int half, int visit) {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if ((half * 4 + k) % kSteps == 0) {
                const auto& group = shared.groups[group_of(visit, half * 4 + k)];
#pragma unroll
                for (int r = 0; r < 2; r++) offset[r] = zero_offset<SCALAR>(group.zeros[output + 8 * r]);
            }
#pragma unroll
            for (int r = 0; r < 4; r += 2) {
                const unsigned word = words[half * 4 + k] >> 4 * r;
                a[half][k][r] = low_codes<SCALAR>(word, offset[0]), a[half][k][r + 1] = high_codes<SCALAR>(word, offset[1]);
            }
        }
    }

    DEVICE void start(float (&part)[ROWS / 2], Operand x, int first_step, int num_steps, bool add) {
        products_open();
#pragma unroll
        for (int step = first_step; step < first_step + num_steps; step++)
            multiply_from_registers<SCALAR, ROWS>(part, a[step / 4][step % 4], x + step / 4 * ROWS * 8 + step % 4 * 2, add || step > first_step);
        products_commit();
    }

    DEVICE void add_scaled(float (&sum)[ROWS / 2], float (&part)[ROWS / 2], int group) {
        const float high = to_float(fp16{shared.groups[group].scales[output]}), low = to_float(fp16{shared.groups[group].scales[output + 8]});
        products_wait<0>();
        settle(part);
#pragma unroll
        for (int j = 0; j < ROWS / 2; j++) sum[j] += part[j] * (j / 2 % 2 ? low : high);
    }

    // Multiply a slab whose first half is unpacked; unpack the first half of the next meanwhile, where there is one.
    DEVICE void multiply(float (&sum)[ROWS / 2], int visit, bool has_next) {
        constexpr int kBatch = kSteps < 4 ? kSteps : 4;
        const Visit<X_STAGES> at(turn, visit);
        float part[ROWS / 2];
        barrier_wait(shared.x_full[at.stage], at.parity);
#pragma unroll
        for (int first = 0; first < 8; first += kBatch) {
            start(part, rows_operand(shared.x[0]) + at.stage * (kXBytes / 16), first, kBatch, first % kSteps > 0);
            const bool ends_group = (first + kBatch) % kSteps == 0;
            if (first + kBatch == 4) {
                settle(words);  // not before the products have started
                unpack(1, visit);
            }
            if (first + kBatch == 8) {
                products_wait<1>();
                if (has_next) {
                    load(visit + 1);
                    unpack(0, visit + 1);
                }
            }
            if (ends_group) add_scaled(sum, part, group_of(visit, first));
        }
        release(shared.x_empty[at.stage]);
    }
};

DEVICE void multiply(Layout& shared, float (&sum)[ROWS / 2], Share share) {
    // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
    const int turn = TURNS == 1 ? 0 : __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 / GROUPS, 0);
    const int num_visits = (share.end - share.first - turn + TURNS - 1) / TURNS;
    Multiplier multiplier(shared, turn, share);
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
    if (num_visits > 0) {
        multiplier.load(0);
        multiplier.unpack(0, 0);
    }
    for (int visit = 0; visit < num_visits; visit += 2) {  // two at a time: half of the counting
        multiplier.multiply(sum, visit, visit + 1 < num_visits);
        if (visit + 1 < num_visits) multiplier.multiply(sum, visit + 1, visit + 2 < num_visits);
    }
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sum[j] *= 1 / kCodeUnit<SCALAR>;
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 1) void linear_int4_hopper(
    const __grid_constant__ TensorMap code_map, const __grid_constant__ TensorMap x_map, const unsigned short* scales,
    const unsigned char* zeros, const SCALAR* bias, SCALAR* out, int num_rows, int num_outputs, int num_slabs NORM_PARAMETERS) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    const Tile tile(num_rows);
    const Share share(num_slabs);
    dependents_may_start();
    if (threadIdx.x == kConsumers) {
        prefetch_map(code_map);
        prefetch_map(x_map);
        for (int i = 0; i < CODE_STAGES; i++) barrier_init(shared.codes_full[i], 1), barrier_init(shared.codes_empty[i], 4 * GROUPS);
        for (int i = 0; i < X_STAGES; i++) barrier_init(shared.x_full[i], 1), barrier_init(shared.x_empty[i], 4 * GROUPS);
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x >= kConsumers) {
        keep_registers<kCopyRegisters>();
        if (threadIdx.x == kConsumers) copy_codes(shared, code_map, share, tile, num_outputs);
        if (threadIdx.x == kConsumers + 32) copy_x(shared, x_map, share, tile.first_row, num_rows);
        prepare_norm(shared, NORM_ARGUMENTS, tile, num_rows, num_outputs, 128 * num_slabs);
        __syncwarp();
        meet();
    } else {
        if constexpr (kRegisters > kEqualRegisters) take_registers<kRegisters>();
        float sum[ROWS / 2];
        fetch_groups(shared, scales, zeros, share, tile, num_outputs);
        multiply(shared, sum, share);
        write(shared, sum, {bias, out, NORM_ARGUMENTS, tile, num_rows, num_outputs});
    }
    if constexpr (CLUSTER > 1) cluster_meet();  // none ends while another reads its sums
}
