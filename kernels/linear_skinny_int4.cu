/* linear_skinny_int4.cu - a linear layer of 4-bit codes for few rows: the codes are read once, at the speed of memory.

   out[m, o] = sum over i of x[m, i] * (code[o, i] - zero[g, o]) * scale[g, o] + bias[o], g = i / GROUP_INPUTS

   in       x [num_rows, 128 * num_slabs] SCALAR contiguous, num_rows <= ROWS
            tiles uint8 [num_outputs / 16, 2 * num_slabs, 512], as engines/quant/int4_tiles.py packs them
            scales fp16, zeros uint8 [128 * num_slabs / GROUP_INPUTS, num_outputs]   num_outputs: a multiple of 16
            bias [num_outputs] SCALAR, or null   block_tiles: of 16 outputs, that a block takes, <= TILES * PASSES
   out      out [num_rows, num_outputs] SCALAR
   -D       SCALAR = bf16 | fp16; ROWS = 1 | 8; TILES of 16 outputs in a pass; PASSES; WARPS; STAGES; EARLY, of which so many
            are asked for before x; CLUSTER, blocks that share the inputs of an output, above 1 on sm_90a only; SHARE_SLABS, that
            one takes, ceil(num_slabs / CLUSTER); GROUP_INPUTS, divides or is a multiple of 128, at least 32; X_IN_RING = 0 | 1
            (ROWS of 8, PASSES and EARLY of 1): x comes with the codes of a slab, where all of it would leave no room for codes;
            ADDED (PASSES of 1, whole blocks), NORMED (at most 128): of a norm that is folded in, `device/folded_norm.cuh`
   launch   grid ceil(num_outputs / (16 * block_tiles)) * CLUSTER, block 32 * WARPS, shared sizeof(Layout)
   moves    the codes with their scales and zero points once; x comes from L2, once a block
   numbers  products summed in fp32, one rounding at the end

   The warps of a block share the inputs out in slabs of 128. A warp's codes come through a ring of its own, in the order in which
   lanes multiply them: a lane reads the codes that it asked for. Codes are the rows of the matrix product and x its columns, so that
   up to 8 rows of x cost one instruction. A pair of codes takes a shift and one instruction of logic, which make kCodeValue + code of
   it; kCodeValue + zero times the sum of x over the group is taken off once a group. A row of ones beside the codes gives that sum.
*/
#include "device/codes.cuh"
#include "device/folded_norm.cuh"

#if !defined(SCALAR) || !defined(ROWS) || !defined(TILES) || !defined(PASSES) || !defined(WARPS) || !defined(STAGES) || \
    !defined(EARLY) || !defined(CLUSTER) || !defined(SHARE_SLABS) || !defined(GROUP_INPUTS) || !defined(X_IN_RING)
#error \
    "linear_skinny_int4.cu needs -DSCALAR -DROWS -DTILES -DPASSES -DWARPS -DSTAGES -DEARLY -DCLUSTER -DSHARE_SLABS -DGROUP_INPUTS -DX_IN_RING"
#endif

#if CLUSTER > 1
#include "device/narrow_products.cuh"
#else
#define CLUSTER_OF(blocks)
#endif

constexpr int kThreads = 32 * WARPS;
constexpr int kPieces = GROUP_INPUTS < 128 ? 128 / GROUP_INPUTS : 1;   // of a slab, under one scale each
constexpr int kSteps = 8 / kPieces;                                    // of 16 inputs in a piece
constexpr int kOwn = 16 * TILES / CLUSTER;                             // outputs of a pass that this block writes
constexpr int kPitch = 16 * TILES + 4;                                 // floats from one row of sums to the next
constexpr int kRowBytes = 256 * SHARE_SLABS + 16;                      // from one row of x to the next: other banks
static_assert(!X_IN_RING || (ROWS == 8 && PASSES == 1 && EARLY == 1), "see the header");
static_assert(STAGES >= 2 && EARLY < STAGES && kOwn % 4 == 0, "see the header");
static_assert(GROUP_INPUTS % 128 == 0 || GROUP_INPUTS == 32 || GROUP_INPUTS == 64, "see the header");

struct Stage {  // of the ring: a slab of TILES * 16 outputs
    uint4 codes[TILES][2][32];
#if X_IN_RING
    uint4 x[ROWS][16];  // piece p of row r lies at place p ^ r: the rows of a column lie in other banks
#endif
    unsigned short scales[TILES][kPieces][16];  // fp16
    unsigned char zeros[TILES][kPieces][16];
};

struct Layout {  // of the dynamic shared memory
    Stage ring[WARPS][STAGES];
    float sums[PASSES > 1 ? 2 : 1][WARPS][ROWS][kPitch];
#if !X_IN_RING
    unsigned char x[ROWS][kRowBytes];
#endif
    uint4 zero;  // what rows past the last hold
    float row_scales[ROWS];  // NORMED
};

// What one lane fetches of the tiles of its block: 16 bytes of the codes of each, and a piece of scales or zero points.
struct Source {
    const unsigned char *codes, *part;   // at the first slab, first tile
    long long tile_bytes, group_bytes;   // from one tile of codes to the next, from one group of inputs to the next
    int part_bytes, tiles;               // of 16 scales or zero points; of outputs

    DEVICE Source(const unsigned char* all_codes, const unsigned short* scales, const unsigned char* zeros, int num_slabs,
                  int num_outputs, int first_tile, int num_tiles)
        : tile_bytes(num_slabs * 1024LL), tiles(num_tiles) {
        const int lane = threadIdx.x % 32, t = lane / 3 / kPieces, piece = lane / 3 % kPieces, output = (first_tile + t) * 16;
        const bool is_zeros = lane % 3 == 2;
        codes = all_codes + first_tile * tile_bytes + lane * 16;
        part_bytes = is_zeros ? 16 : 32;
        group_bytes = (long long)num_outputs * (is_zeros ? 1 : 2);
        part = is_zeros ? zeros + output : reinterpret_cast<const unsigned char*>(scales + output) + lane % 3 * 16;
        part += piece * group_bytes;
    }
};
static_assert(3 * kPieces * TILES <= 32, "a lane fetches at most one piece of scales or zero points");

// The stages of one warp in order: pass by pass, slab by slab of its own.
struct Cursor {
    int pass = 0, slab, first, end;

    DEVICE void step() {
        slab += WARPS;
        if (slab < end) return;
        slab = first;
        pass++;
    }
};

DEVICE void fetch(Stage& stage, const Source& source, int pass, int slab) {
    const int lane = threadIdx.x % 32, t = lane / 3 / kPieces, piece = lane / 3 % kPieces;
    const unsigned char* codes = source.codes + pass * TILES * source.tile_bytes + slab * 1024;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            copy16_async(&stage.codes[tile][half][lane], codes + tile * source.tile_bytes + half * 512,
                         pass * TILES + tile < source.tiles);
    if (t >= TILES) return;
    unsigned char* to = lane % 3 == 2 ? stage.zeros[t][piece] : reinterpret_cast<unsigned char*>(stage.scales[t][piece]) + lane % 3 * 16;
    const int group = kPieces == 1 ? slab * 128 / GROUP_INPUTS : slab * kPieces;
    copy16_async(to, source.part + group * source.group_bytes + pass * TILES * source.part_bytes, pass * TILES + t < source.tiles);
}

#if X_IN_RING
// A slab of x, zeros past the last row.
DEVICE void fetch_x(Stage& stage, const SCALAR* x, int num_rows, int num_inputs, int slab) {
    const int piece = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < ROWS / 2; i++) {
        const int row = 2 * i + threadIdx.x % 32 / 16;
        copy16_async(&stage.x[row][piece ^ row], x + (long long)min(row, num_rows - 1) * num_inputs + slab * 128 + piece * 8, row < num_rows);
    }
}

// It as the second operand.
DEVICE void load_x(unsigned (&x)[8][2], const Stage& stage) {
    const int row = threadIdx.x % 8;
#pragma unroll
    for (int k = 0; k < 8; k += 2) {
        unsigned r[4];
        load_matrix4(r, &stage.x[row][k * 2 + threadIdx.x % 32 / 8 ^ row]);
        x[k][0] = r[0], x[k][1] = r[1], x[k + 1][0] = r[2], x[k + 1][1] = r[3];
    }
}
#else
// The warp's slabs of x to shared memory, zeros past the last row. `meanwhile` runs once the first loads are under way.
template <class Meanwhile>
DEVICE void keep_x(unsigned char* kept, const SCALAR* x, int num_rows, int num_inputs, int first_slab, int num_own,
                   Meanwhile meanwhile) {
    constexpr int kBatch = 8;
    const int num_items = num_own * ROWS * 16;
    for (int start = 0; start < num_items; start += 32 * kBatch) {
        const int first = start + threadIdx.x % 32;
        uint4 loaded[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; i++) {
            const int item = first + 32 * i, column = item % 16, row = item / 16 % ROWS, slab = first_slab + item / 16 / ROWS * WARPS;
            const bool valid = item < num_items && row < num_rows;
            const SCALAR* from = x + (long long)row * num_inputs + slab * 128 + column * 8;
            loaded[i] = valid ? load16(from) : make_uint4(0, 0, 0, 0);
        }
        if (start == 0) meanwhile();
#pragma unroll
        for (int i = 0; i < kBatch; i++) {
            const int item = first + 32 * i, column = item % 16, row = item / 16 % ROWS, own = item / 16 / ROWS;
            if (item < num_items) store16(kept + row * kRowBytes + own * WARPS * 256 + column * 16, loaded[i]);
        }
    }
    __syncwarp();
}

// A slab of x as the second operand: `row` is where the lane's row of the kept x begins.
DEVICE void load_x(unsigned (&x)[8][2], const unsigned char* row, int offset) {
#pragma unroll
    for (int k = 0; k < 8; k += 2) {
        unsigned r[4];
        load_matrix4(r, ROWS == 8 || threadIdx.x % 8 < ROWS ? row + offset + k * 32 : row);
        x[k][0] = r[0], x[k][1] = r[1], x[k + 1][0] = r[2], x[k + 1][1] = r[3];
    }
}
#endif

DEVICE void multiply(float (&sum)[TILES][4], const Stage& stage, const unsigned (&x)[8][2]) {
    constexpr unsigned kOne = kOnes<SCALAR>;
    const unsigned ones[4] = {kOne, kOne, kOne, kOne};
    const int lane = threadIdx.x % 32, g = lane / 4;
    unsigned words[TILES][8];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 loaded = load16(&stage.codes[t][half][lane]);
            words[t][4 * half] = loaded.x, words[t][4 * half + 1] = loaded.y;
            words[t][4 * half + 2] = loaded.z, words[t][4 * half + 3] = loaded.w;
        }
#pragma unroll
    for (int piece = 0; piece < kPieces; piece++) {
        // A product waits for the one before it on the same sums, so those of all tiles take turns.
        float x_sum[4] = {}, part[TILES][4] = {};
#pragma unroll
        for (int step = piece * kSteps; step < (piece + 1) * kSteps; step++) {
            mma16816<SCALAR>(x_sum, ones, x[step][0], x[step][1]);
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                unsigned a[4];
#pragma unroll
                for (int r = 0; r < 4; r++) a[r] = code_pair<SCALAR>(words[t][step] >> 4 * r);
                mma16816<SCALAR>(part[t], a, x[step][0], x[step][1]);
            }
        }
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float scale = to_float(fp16{stage.scales[t][piece][g + 8 * r]});
                const float base = -kCodeValue<SCALAR> - float(stage.zeros[t][piece][g + 8 * r]);
#pragma unroll
                for (int j = 0; j < 2; j++) sum[t][2 * r + j] += scale * (part[t][2 * r + j] + base * x_sum[j]);
            }
    }
}

// Leave the warp's sums of a pass where the cluster finds them.
DEVICE void leave(float (&sums)[ROWS][kPitch], float (&sum)[TILES][4]) {
    const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int row = 2 * c + j % 2;
            if (ROWS == 8 || row < ROWS) sums[row][16 * t + g + j / 2 * 8] = sum[t][j];
            sum[t][j] = 0.f;
        }
}

DEVICE void meet() {
#if CLUSTER > 1
    cluster_meet();
#else
    __syncthreads();
#endif
}

DEVICE void load_part(float (&part)[4], const float* at, int rank) {
#if CLUSTER > 1
    load_peer4(part, at, rank);
#else
    unpack16<fp32>(load16(at), part);
#endif
}

// The sum of all warps' sums of four outputs of a row, scaled where a norm is due, and the bias.
DEVICE uint2 add_up(const float (&sums)[WARPS][ROWS][kPitch], int row, int o, const float* row_scales, const SCALAR* bias) {
    float total[4] = {};
#pragma unroll
    for (int share = 0; share < CLUSTER * WARPS; share++) {
        float part[4];
        load_part(part, &sums[share % WARPS][row][o], share / WARPS);
#pragma unroll
        for (int j = 0; j < 4; j++) total[j] += part[j];
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if constexpr (NORMED > 0) total[j] *= row_scales[row];
        if (bias) total[j] += to_float(bias[j]);
    }
    return make_uint2(pack2<SCALAR>(total[0], total[1]), pack2<SCALAR>(total[2], total[3]));
}

// Add up all warps' sums of this block's own outputs and write them.
DEVICE void finish(const float (&sums)[WARPS][ROWS][kPitch], const float* row_scales, const SCALAR* bias, SCALAR* out, int first_output,
                   int end_output, int num_rows, int num_outputs) {
    for (int item = threadIdx.x; item < num_rows * (kOwn / 4); item += kThreads) {
        const int row = item / (kOwn / 4), o = blockIdx.x % CLUSTER * kOwn + item % (kOwn / 4) * 4, output = first_output + o;
        if (output >= end_output) continue;
        *reinterpret_cast<uint2*>(out + (long long)row * num_outputs + output) = add_up(sums, row, o, row_scales, bias ? bias + output : nullptr);
    }
}

#if ADDED
// A thread's row and outputs, one item for each; what they are added to and multiplied by is asked for before it is needed.
struct Addend {
    static constexpr int kItems = ROWS * kOwn / 4, kLanes = kOwn / 4;
    static_assert(PASSES == 1 && kItems <= kThreads && 32 % kLanes == 0, "see the header");
    int row, own;  // of the block's outputs
    uint2 weight, residual;

    DEVICE Addend() : row(threadIdx.x / kLanes), own(blockIdx.x % CLUSTER * kOwn + threadIdx.x % kLanes * 4) {}

    DEVICE void finish(const float (&sums)[WARPS][ROWS][kPitch], const bf16* bias, bf16* out, const FoldedNorm& norm, int first_output,
                       int num_rows, int num_outputs) const {
        if (threadIdx.x / 32 * 32 >= kItems) return;
        const int output = first_output + own;
        const long long at = (long long)row * num_outputs + output;
        const uint2 h = add_pairs(add_up(sums, min(row, ROWS - 1), own, nullptr, bias ? bias + output : nullptr), residual);
        const float squares = sum_neighbours<kLanes>(squares_of(h));
        if (row >= num_rows) return;
        const float by[4] = {low_half<bf16>(weight.x), high_half<bf16>(weight.x), low_half<bf16>(weight.y), high_half<bf16>(weight.y)};
        *reinterpret_cast<uint2*>(norm.h + at) = h;
        *reinterpret_cast<uint2*>(out + at) = weighted(h, by);
        if (threadIdx.x % kLanes == 0) norm.squares[row * (num_outputs / kOwn) + output / kOwn] = squares;
    }
};
#endif

// NORMED: what a row is multiplied by, from the lane's part of its squares.
DEVICE float row_scale(uint4 squares, int num_inputs, float eps) {
    float part[4];
    unpack16<fp32>(squares, part);
    return rsqrtf(warp_sum((part[0] + part[1]) + (part[2] + part[3])) / num_inputs + eps);
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(kThreads, 512 / kThreads) void linear_skinny_int4(
    const SCALAR* x, const unsigned char* tiles, const unsigned short* scales, const unsigned char* zeros, const SCALAR* bias,
    SCALAR* out, int num_rows, int num_outputs, int num_slabs, int block_tiles NORM_PARAMETERS) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, rank = blockIdx.x % CLUSTER;
    const int first_slab = rank * num_slabs / CLUSTER, end_slab = (rank + 1) * num_slabs / CLUSTER;
    const int first_tile = int(blockIdx.x) / CLUSTER * block_tiles, end_tile = min(first_tile + block_tiles, num_outputs / 16);
    const Source source(tiles, scales, zeros, num_slabs, num_outputs, first_tile, end_tile - first_tile);
    const int num_own = max(0, (end_slab - first_slab - warp + WARPS - 1) / WARPS);
    dependents_may_start();

    Cursor ahead{0, first_slab + warp, first_slab + warp, end_slab};
    int left = PASSES * num_own, filled = 0;
    const auto fetch_next = [&] {
        if (left > 0) {
            fetch(shared.ring[warp][filled], source, ahead.pass, ahead.slab);
#if X_IN_RING
            if (ahead.slab > first_slab + warp) fetch_x(shared.ring[warp][filled], x, num_rows, num_slabs * 128, ahead.slab);
#endif
            ahead.step();
            filled = filled + 1 == STAGES ? 0 : filled + 1;
            left--;
        }
        copies_commit();
    };
    for (int i = 0; i < EARLY; i++) fetch_next();  // codes do not depend on what ran before

    if (lane == 0) shared.zero = make_uint4(0, 0, 0, 0);
#if ADDED
    Addend addend;
    addend.weight = load8(norm_weight + min(first_tile * 16 + addend.own, num_outputs - 4));
#endif
    wait_for_predecessor();
#if ADDED
    addend.residual = load8(residual + (long long)min(addend.row, num_rows - 1) * num_outputs + min(first_tile * 16 + addend.own, num_outputs - 4));
#elif NORMED
    static_assert(NORMED <= 128 && ROWS <= WARPS, "a warp has a row, a lane four parts");
    const bool has_squares = warp < num_rows && lane < NORMED / 4;
    const uint4 row_squares = has_squares ? load16(squares + warp * NORMED + lane * 4) : make_uint4(0, 0, 0, 0);
#endif
#if X_IN_RING
    if (num_own > 0) fetch_x(shared.ring[warp][0], x, num_rows, num_slabs * 128, first_slab + warp);  // of the codes asked for early
    copies_commit();
    for (int i = EARLY; i < STAGES - 1; i++) fetch_next();
#else
    unsigned char* kept = shared.x[0] + warp * 256;
    keep_x(kept, x, num_rows, num_slabs * 128, first_slab + warp, num_own, [&] {
        for (int i = EARLY; i < STAGES - 1; i++) fetch_next();
    });
    const unsigned char* row = ROWS == 8 || lane % 8 < ROWS ? kept + lane % 8 * kRowBytes + lane / 8 * 16
                                                            : reinterpret_cast<const unsigned char*>(&shared.zero);
#endif

    float sum[TILES][4] = {};
    int stage = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (int own = 0; own < num_own; own++) {
            unsigned slab[8][2];
#if !X_IN_RING
            load_x(slab, row, own * WARPS * 256);
#endif
            copies_wait<STAGES - 2>();
            __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
            fetch_next();
#if X_IN_RING
            load_x(slab, shared.ring[warp][stage]);
#endif
            multiply(sum, shared.ring[warp][stage], slab);
            stage = stage + 1 == STAGES ? 0 : stage + 1;
        }
        auto& sums = shared.sums[PASSES > 1 ? pass % 2 : 0];
        leave(sums[warp], sum);
#if NORMED
        const float scale = row_scale(row_squares, num_slabs * 128, eps);
        if (lane == 0 && warp < ROWS) shared.row_scales[warp] = scale;
#endif
        meet();
#if ADDED
        addend.finish(sums, bias, out, NORM_ARGUMENTS, first_tile * 16, num_rows, num_outputs);
#else
        finish(sums, shared.row_scales, bias, out, (first_tile + pass * TILES) * 16, end_tile * 16, num_rows, num_outputs);
#endif
    }
    copies_wait<0>();
#if CLUSTER > 1
    cluster_meet();  // none ends while another reads its sums
#endif
}
