/* linear_chain_int4.cu - the linear layers of 4-bit codes between two attentions, for up to 4 rows, in one kernel: memory hardly rests.

   h1  = residual + o(attended)                        each product, sum and gate rounded to bf16
   h   = h1 + down(silu(gate) * up),  (gate, up) = gate_up(normed h1 * ffn_norm)
   qkv = qkv(normed h * norm)                          normed x = x * rsqrt(mean(x^2) + eps)
   layer(x)[m, o] = sum over i of x[m, i] * (code[o, i] - zero[g, o]) * scale[g, o] + bias[o], g = i / GROUP_INPUTS

   in       attended [num_rows, ATTENDED], residual [num_rows, HIDDEN], norms [HIDDEN], biases or null: bf16, contiguous; num_rows <= ROWS
            tiles uint8 [outputs / 16, inputs / 64, 512], as engines/quant/int4_tiles.py packs them
            scales fp16, zeros uint8 [inputs / GROUP_INPUTS, outputs]; outputs a multiple of 16, inputs of 128
   out      h [num_rows, HIDDEN], qkv [num_rows, QKV] bf16
   scratch  two sets of `Handed`, zeros at first, which launches take in turn; turn, a word that says whose it is, zero at first
   -D       HIDDEN, ATTENDED, FFN, QKV; GROUP_INPUTS = 32 | 64 | 128 | .. | 2048; STAGES of the ring; UNDER_WAY, of which
            so many are asked for at once, <= STAGES; ROWS = 1 | 2 | 4, num_rows at most; RESIDENT
   launch   grid RESIDENT, at most one block an SM, all resident; block 640, shared sizeof(Layout) + 128
   moves    codes, scales and zero points once; x comes from L2, once a block and layer (ATTENDED, HIDDEN <= 4,096)
   numbers  products exact, over rows in fixed point (`fixed_rows.cuh`), then fp32; a row's scale of the norm multiplies the product
            instead of x, which is rounded once instead of twice

   A block owns outputs of every layer. One warp streams their codes, layer behind layer, into a ring of 2,048 inputs of 16 outputs a
   stage: it runs ahead while others wait. Sixteen warps multiply, warp w the slab of 128 inputs number w of a stage; codes are the
   first operand, x the second: four rows, or what fewer rows have in four or two rounds. One warp adds up their sums, two tiles of
   16 outputs at a time, and hands on what is multiplied next, in the order in which lanes hold it: 16 bytes a lane for 32 inputs.
   Nothing meets: who needs a number looks for it. Roles are loops over the four layers, small enough to stay where instructions
   are fetched from.
*/
#if !defined(HIDDEN) || !defined(ATTENDED) || !defined(FFN) || !defined(QKV) || !defined(GROUP_INPUTS) || \
    !defined(STAGES) || !defined(UNDER_WAY) || !defined(ROWS) || !defined(RESIDENT)
#error "linear_chain_int4.cu needs -DHIDDEN -DATTENDED -DFFN -DQKV -DGROUP_INPUTS -DSTAGES -DUNDER_WAY -DROWS -DRESIDENT"
#endif

#include "device/chain_codes.cuh"
#include "device/fixed_rows.cuh"
#include "device/grid_words.cuh"
#include "device/silu.cuh"

/* ---- the warps that multiply ---- */

using Sums = float[2];  // of outputs g and g + 8, row c
using X = FixedRows<kPieces>;
using Slabs = Slab[kSets];

// This warp's slab of TILES stages: their products take turns, since each waits for the one before it on the same sums.
// Of the rows that x holds those count that are of this round, the number `at` of those that share them.
template <int TILES>
DEVICE void multiply(Sums (&sum)[2], const Stage& first, const Stage& second, const X& x, int at) {
    constexpr unsigned kNibbles = 0x0f0f0f0fu;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4;
    const float row_scale = lane % 4 / ROWS == at ? x.scale : 0.f;
    unsigned words[TILES][8];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        const uint4(&codes)[2][32] = (t ? second : first).codes[warp];
        const uint4 early = load16(&codes[0][lane]), late = load16(&codes[1][lane]);
        words[t][0] = early.x, words[t][1] = early.y, words[t][2] = early.z, words[t][3] = early.w;
        words[t][4] = late.x, words[t][5] = late.y, words[t][6] = late.z, words[t][7] = late.w;
    }
#pragma unroll
    for (int piece = 0; piece < kPieces; piece++) {
        int part[TILES][4] = {};
#pragma unroll
        for (int step = piece * kSteps; step < (piece + 1) * kSteps; step += 2)
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                const unsigned early = words[t][step], late = words[t][step + 1];
                const unsigned a[4] = {early & kNibbles, early >> 4 & kNibbles, late & kNibbles, late >> 4 & kNibbles};
                mma16832(part[t], a, x.words[step], x.words[step + 1]);
            }
        const int group = kPieces == 1 ? warp * 128 / GROUP_INPUTS : warp * kPieces + piece;
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const float scale = to_float(fp16{(t ? second : first).scales[group][g + 8 * r]});
                const int zero = (t ? second : first).zeros[group][g + 8 * r];
                sum[t][r] += scale * row_scale * float(part[t][2 * r] * 256 + part[t][2 * r + 1] - zero * x.sums[piece]);
            }
    }
}

// A look at a barrier takes its time for every lane that looks.
DEVICE void wait_together(Barrier& barrier, int parity) {
    if (threadIdx.x % 32 == 0) barrier_wait(barrier, parity);
    __syncwarp();
}

struct Multiplier {
    Layout& shared;
    const int num_rows;
    int place = 0, parity = 0, turn = 0;  // in the ring; of sums
    Slabs slabs = {};                     // of the chunk of rounds that comes next
    X x[kSets] = {};                      // of the one that is multiplied

    // Before the first layer.
    DEVICE void load(const bf16* attended) {
#pragma unroll
        for (int set = 0; set < kSets; set++) {
            const int slab = own_slab(0, set);
            slabs[set].load(attended + (long long)row() * ATTENDED + slab * 128, slab < ATTENDED / 128 && row() < num_rows);
            slabs[set].turn();
        }
    }

    // x of the first layer is on its way, others hand over that of the rest.
    DEVICE void multiply_layer(int layer, const unsigned char* handed) {
        const Share share(layer);
        if (layer != kO) {
            await(share, handed);
            look(share, handed, 0);
        }
        for (int pass = 0; pass < share.num_passes(); pass++) {
            Sums sum[2] = {};
            for (int chunk = 0; kChunk * chunk < share.num_rounds; chunk++) {
                if (pass == 0 || share.num_rounds > kChunk) {
                    if (layer != kO) take(share, handed, chunk);
#pragma unroll
                    for (int set = 0; set < kSets; set++) x[set].set(slabs[set]);
                    if (share.num_rounds > kChunk) look(share, handed, kChunk * (chunk + 1) < share.num_rounds ? chunk + 1 : 0);
                }
#pragma unroll
                for (int set = 0; set < kSets; set++)
#pragma unroll 1
                    for (int at = 0; at < kSharing; at++) {
                        const int round = kChunk * chunk + kSharing * set + at;
                        if (round < share.num_rounds) multiply_round(sum, x[set], at, round * kWarps + warp() < share.num_slabs, share.tiles_of(pass));
                    }
            }
            leave(sum, share.tiles_of(pass));
        }
    }

    DEVICE static int warp() { return threadIdx.x / 32; }
    DEVICE static int row() { return Slab::row() % ROWS; }
    // What this lane has a part of; there may be none.
    DEVICE static int own_slab(int chunk, int set) { return (kChunk * chunk + kSharing * set + Slab::row() / ROWS) * kWarps + warp(); }
    DEVICE static const unsigned char* place_of(const unsigned char* handed, int slab, int i) {
        return handed + slab * 1024 + Slab::pair(i) * 256 + (row() * 4 + threadIdx.x % 4) * 16;
    }

    // Until the first row of the first slab is there: many that look for all of it would keep the memory from it.
    DEVICE void await(const Share& share, const unsigned char* handed) {
        look_until([&] { return warp() >= share.num_slabs || Slab::row() != 0 || all_there(look16(place_of(handed, warp(), 0))); });
    }

    DEVICE void look(const Share& share, const unsigned char* handed, int chunk) {
#pragma unroll
        for (int set = 0; set < kSets; set++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int slab = own_slab(chunk, set);
                const bool exists = slab < share.num_slabs && row() < num_rows;
                slabs[set].pieces[i] = exists ? look16(place_of(handed, slab, i)) : make_uint4(~0u, ~0u, ~0u, ~0u);
            }
    }

    // Look again until all is there; what it says.
    DEVICE void take(const Share& share, const unsigned char* handed, int chunk) {
        look_until([&] {
            bool there = true;
#pragma unroll
            for (int set = 0; set < kSets; set++) there = there && all_there(slabs[set].pieces[0]) && all_there(slabs[set].pieces[1]);
            if (!there) look(share, handed, chunk);
            return there;
        });
#pragma unroll
        for (int set = 0; set < kSets; set++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint4& piece = slabs[set].pieces[i];
                piece = make_uint4(~piece.x, ~piece.y, ~piece.z, ~piece.w);
            }
    }

    // The stages of one round of a pass.
    DEVICE void multiply_round(Sums (&sum)[2], const X& x, int at, bool owns, int num_tiles) {
        int second = place, second_parity = parity;
        step_on(second, second_parity);
        wait_together(shared.full[place], parity);
        if (num_tiles == 2) {
            wait_together(shared.full[second], second_parity);
            if (owns) multiply<2>(sum, shared.ring[place], shared.ring[second], x, at);
        } else if (owns) {
            multiply<1>(sum, shared.ring[place], shared.ring[place], x, at);
        }
        __syncwarp();
        if (threadIdx.x % 32 < num_tiles) barrier_arrive(shared.empty[threadIdx.x % 32 == 0 ? place : second]);
        place = second, parity = second_parity;
        if (num_tiles == 2) step_on(place, parity);
    }

    // Where the warp that finishes finds them.
    DEVICE void leave(const Sums (&sum)[2], int num_tiles) {
        const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4, half = turn % 2;
        wait_together(shared.sums_empty[half], (turn / 2 & 1) ^ 1);
#pragma unroll
        for (int t = 0; t < 2; t++)
            if (t < num_tiles && c % ROWS < num_rows)
                *reinterpret_cast<float2*>(&shared.sums[half][t][threadIdx.x / 32][c][2 * g]) = make_float2(sum[t][0], sum[t][1]);
        __syncwarp();
        if (lane == 0) barrier_arrive(shared.sums_full[half]);
        turn++;
    }
};

/* ---- the warp that finishes: lane 4 r + c has row r % ROWS, outputs 2 c, 2 c + 1, 2 c + 8 and 2 c + 9 of a tile ---- */

struct Four {  // of them, in two words
    unsigned low, high;
};

struct Finisher {
    Layout& shared;
    const int num_rows;
    const float eps;
    const int lane = threadIdx.x % 32, part = lane / 4 % kRows, row = part % ROWS, c = lane % 4, half = lane / 16;  // lanes of a row share the work
    const bool writes = part < num_rows && half == 0;
    int turn = 0;

    // h = residual + the layer; h * norm for the next one; the sum of the squares of this block's outputs. h may be residual.
    DEVICE void finish_added(int layer, const bf16* bias, const bf16* residual, bf16* h, const bf16* norm, Handed& now, Handed& next) {
        const Share share(layer);
        float sum = 0.f;
        for (int pass = 0; pass < share.num_passes(); pass++) {
            Four out[2], before[2] = {}, weight[2] = {};
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (!writes || t >= share.tiles_of(pass)) continue;
                const int output = share.tile(pass, t) * 16 + 2 * c;
                before[t] = load_four(residual + (long long)row * HIDDEN + output);
                weight[t] = load_four(norm + output);
            }
            add_up(out, share, pass, bias, 1.f);
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (t >= share.tiles_of(pass)) continue;
                const int tile = share.tile(pass, t);
                bf16* to = h + (long long)row * HIDDEN + tile * 16 + 2 * c;
                const Four after = {add2(before[t].low, out[t].low, sum), add2(before[t].high, out[t].high, sum)};
                hand_on(layer == kO ? now.ffn_x : now.qkv_x, layer == kO ? next.ffn_x : next.qkv_x, tile,
                        {multiply2(after.low, weight[t].low), multiply2(after.high, weight[t].high)});
                if (writes) *reinterpret_cast<unsigned*>(to) = after.low, *reinterpret_cast<unsigned*>(to + 8) = after.high;
            }
        }
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const int which = layer == kO ? 0 : 1;
        if (writes && c == 0) hand_over(&now.squares[which][blockIdx.x][row], sum);
        if (lane < 2) take_back(&next.squares[which][blockIdx.x][2 * lane]);
    }

    DEVICE void finish_gated(const bf16* bias, Handed& now, Handed& next) {
        const Share share(kGateUp);
        const float scale = norm_scale(now.squares[0]);
        for (int pass = 0; pass < share.num_passes(); pass++) {
            Four out[2];
            add_up(out, share, pass, bias, scale);
            hand_on(now.gated, next.gated, share.tile(pass, 0), {gated2<bf16>(out[0].low, out[1].low), gated2<bf16>(out[0].high, out[1].high)});
        }
    }

    DEVICE void finish_qkv(const bf16* bias, bf16* qkv, Handed& now) {
        const Share share(kQkv);
        const float scale = norm_scale(now.squares[1]);
        for (int pass = 0; pass < share.num_passes(); pass++) {
            Four out[2];
            add_up(out, share, pass, bias, scale);
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (!writes || t >= share.tiles_of(pass)) continue;
                bf16* to = qkv + (long long)row * QKV + share.tile(pass, t) * 16 + 2 * c;
                *reinterpret_cast<unsigned*>(to) = out[t].low, *reinterpret_cast<unsigned*>(to + 8) = out[t].high;
            }
        }
    }

    // The sums of the next pass, times the row's scale, plus the bias, rounded.
    DEVICE void add_up(Four (&out)[2], const Share& share, int pass, const bf16* bias, float scale) {
        const int buffer = turn % 2, num_tiles = share.tiles_of(pass);
        Four addend[2] = {};
#pragma unroll
        for (int t = 0; t < 2; t++)
            if (bias && t < num_tiles) addend[t] = load_four(bias + share.tile(pass, t) * 16 + 2 * c);
        barrier_wait(shared.sums_full[buffer], turn / 2 & 1);
#pragma unroll
        for (int t = 0; t < 2; t++) {
            float total[4] = {};  // of outputs 2 c, 2 c + 8, 2 c + 1, 2 c + 9
            if (row < num_rows && t < num_tiles) {
#pragma unroll
                for (int i = 0; i < kWarps / 2; i++) {
                    float one[4];  // warp's
                    unpack16<fp32>(load16(&shared.sums[buffer][t][2 * i + half][part][4 * c]), one);
#pragma unroll
                    for (int j = 0; j < 4; j++) total[j] += one[j];
                }
            }
#pragma unroll
            for (int j = 0; j < 4; j++) total[j] = sum_of_row(total[j]);
            out[t].low = pack2<bf16>(total[0] * scale + low_half<bf16>(addend[t].low), total[2] * scale + high_half<bf16>(addend[t].low));
            out[t].high = pack2<bf16>(total[1] * scale + low_half<bf16>(addend[t].high), total[3] * scale + high_half<bf16>(addend[t].high));
        }
        __syncwarp();
        if (lane == 0) barrier_arrive(shared.sums_empty[buffer]);
        turn++;
    }

    // As the second operand of the next layer: tile t is step t % 8 of slab t / 8.
    DEVICE void hand_on(unsigned char* now, unsigned char* next, int tile, Four x) {
        const int at = tile / 8 * 1024 + tile % 8 / 2 * 256 + lane % 16 * 16 + tile % 2 * 8;
        if (writes) hand_over(now + at, x.low, x.high);
        if (half == 1) take_back(next + at);
    }

    // What a row is multiplied by in its norm.
    DEVICE float norm_scale(const float (&squares)[RESIDENT][kRows]) {
        float sum;
        look_until([&] {
            bool there = true;
            sum = 0.f;
#pragma unroll 8
            for (int block = (lane / 4 - row) / ROWS * 4 + c; block < RESIDENT; block += 32 / ROWS) {
                const unsigned word = row < num_rows ? look4(&squares[block][row]) : ~0u;
                there = there && word != 0;
                sum += __uint_as_float(~word);
            }
            return there;
        });
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        return rsqrtf(sum_of_row(sum) / HIDDEN + eps);
    }

    // Over the lanes that have the same row and outputs.
    DEVICE static float sum_of_row(float x) {
#pragma unroll
        for (int distance = 4 * ROWS; distance < 32; distance *= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
        return x;
    }

    DEVICE static Four load_four(const bf16* from) { return {load4(from), load4(from + 8)}; }
    DEVICE static unsigned multiply2(unsigned a, unsigned b) {
        return pack2<bf16>(low_half<bf16>(a) * low_half<bf16>(b), high_half<bf16>(a) * high_half<bf16>(b));
    }
    DEVICE static unsigned add2(unsigned a, unsigned b, float& squares) {
        const unsigned sum = pack2<bf16>(low_half<bf16>(a) + low_half<bf16>(b), high_half<bf16>(a) + high_half<bf16>(b));
        squares += low_half<bf16>(sum) * low_half<bf16>(sum) + high_half<bf16>(sum) * high_half<bf16>(sum);
        return sum;
    }
};

extern "C" __global__ __launch_bounds__(kThreads, 1) void linear_chain_int4(
    const unsigned char* o_tiles, const unsigned short* o_scales, const unsigned char* o_zeros, const bf16* o_bias,
    const unsigned char* gate_up_tiles, const unsigned short* gate_up_scales, const unsigned char* gate_up_zeros, const bf16* gate_up_bias,
    const unsigned char* down_tiles, const unsigned short* down_scales, const unsigned char* down_zeros, const bf16* down_bias,
    const unsigned char* qkv_tiles, const unsigned short* qkv_scales, const unsigned char* qkv_zeros, const bf16* qkv_bias,
    const bf16* attended, const bf16* residual, const bf16* ffn_norm, const bf16* norm, bf16* h, bf16* qkv, Handed* scratch,
    unsigned* turn, int num_rows, float eps) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (128 - shared_address(memory) % 128) % 128);
    const int warp = threadIdx.x / 32;
    dependents_may_start();
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) barrier_init(shared.full[i], 33), barrier_init(shared.empty[i], kWarps);
        for (int i = 0; i < 2; i++) barrier_init(shared.sums_full[i], kWarps), barrier_init(shared.sums_empty[i], 1);
        barriers_are_set();
    }
    __syncthreads();
    if (warp < kWarps) {
        Multiplier multiplier{shared, num_rows};
        wait_for_predecessor();
        multiplier.load(attended);
        const Handed& now = scratch[turn_of(turn)];
#pragma unroll 1
        for (int layer = 0; layer < kLayers; layer++) multiplier.multiply_layer(layer, pick(layer, now.ffn_x, now.ffn_x, now.gated, now.qkv_x));
        return;
    }
    if (warp == kWarps) {
        Copier copier{shared};
#pragma unroll 1
        for (int layer = 0; layer < kLayers; layer++)
            copier.stream(layer, {pick(layer, o_tiles, gate_up_tiles, down_tiles, qkv_tiles),
                                  pick(layer, o_scales, gate_up_scales, down_scales, qkv_scales), pick(layer, o_zeros, gate_up_zeros, down_zeros, qkv_zeros)});
    } else if (warp == kWarps + 1) {
        Finisher finisher{shared, num_rows, eps};
        wait_for_predecessor();
        const int which = turn_of(turn);
        Handed &now = scratch[which], &next = scratch[1 - which];
#pragma unroll 1
        for (int layer = kO; layer <= kDown; layer += kDown) {
            const bool first = layer == kO;
            finisher.finish_added(layer, first ? o_bias : down_bias, first ? residual : h, h, first ? ffn_norm : norm, now, next);
            if (first) finisher.finish_gated(gate_up_bias, now, next);
        }
        finisher.finish_qkv(qkv_bias, qkv, now);
        __syncwarp();
        if (threadIdx.x % 32 == 0) end_turn(turn);
    }
}
