/* linear_chain_int4_hopper.cu - the linear layers of 4-bit codes between two attentions, for 5 to 64 rows, in one kernel: memory hardly rests.

   h1  = residual + o(attended)                        each product, sum and gate rounded to bf16
   h   = h1 + down(silu(gate) * up),  (gate, up) = gate_up(h1 * ffn_norm) * scale(h1)
   qkv = qkv(h * norm) * scale(h)                      scale(x) = rsqrt(mean(x^2) + eps)
   layer(x)[m, o] = sum over i of x[m, i] * (code[o, i] - zero[g, o]) * scale[g, o] + bias[o], g = i / 128

   in       code maps: the tiles of engines/quant/int4_tiles.py as [X, 4 Y, 128 bytes]; boxes of 4 x 32 x 128 bytes, of gate_up 8 x 8 x 128
            x maps as [inputs / 64, rows, 128 bytes]: attended of num_rows, in boxes of 8 lines where that is ROWS, else of one; x1, gated and x2
            of 64 rows, of up to 32 beside their sums (`summed_rows.cuh`), in boxes of ROWS and 3, 9, 9 lines (without sums 2, 8, 8)
            scales fp16, zeros uint8 [inputs / 128, outputs]; residual [num_rows, HIDDEN], norms [HIDDEN], biases or null: bf16
   out      h [num_rows, HIDDEN], qkv [num_rows, QKV] bf16
   scratch  x1, x2, gated, whose rows past the last are numbers of no meaning; `Scratch`, whose counts are zero at first and left so
   -D       HIDDEN, ATTENDED, FFN, QKV; ROWS = 8 | 16 | 32 | 64, num_rows at most; STAGES of codes, X_PLACES a power of two; RESIDENT
   launch   grid RESIDENT in clusters of two, all resident, one block an SM; block 640, shared sizeof(Layout) + 1024
   moves    codes, scales and zero points once; x comes from L2, once a block and layer
   numbers  products summed in fp32; a row's scale of the norm multiplies the product (`folded_norm.cuh`)

   A warp streams the codes of all four layers through one ring and waits for no other block: while blocks meet, the ring fills. Another
   brings rows of x as soon as all blocks have written them, as few large boxes: each takes 0.2 us. Four warpgroups multiply as in
   `linear_int4_hopper.cu`; pairs of blocks share the inputs of o and down. What blocks wait for each other for: `grid_words.cuh`.
*/
#if !defined(HIDDEN) || !defined(ATTENDED) || !defined(FFN) || !defined(QKV) || !defined(ROWS) || !defined(STAGES) || !defined(X_PLACES) || \
    !defined(RESIDENT)
#error "linear_chain_int4_hopper.cu needs -DHIDDEN -DATTENDED -DFFN -DQKV -DROWS -DSTAGES -DX_PLACES -DRESIDENT"
#endif

#include "device/chain_rounds.cuh"

constexpr int kTogether = ROWS < 64 ? 4 : 1;  // slabs of gate_up a turn of the loop: less counting, where there are registers

// What one warpgroup multiplies: a quarter of each round, half a slab at a time, so that codes are unpacked for one half while the other
// is multiplied. SUMMED: x lies beside its sums.
struct Multiplier {
    Layout& shared;
    const int turn, output;  // output, hidden or it would be computed anew each round: of four warpgroups' 64, the lane's first
    int piece = 0;           // the lane's first 16 bytes of codes in a stage
    unsigned stages = 0;     // of codes, that were read
    unsigned rounds = 0;     // of x, that were read
    unsigned words[8], a[2][4][4], zeros[4], scales = 0;  // zero points (twice: an operand) and scales of two outputs

    DEVICE Multiplier(Layout& shared, int turn)
        : shared(shared), turn(turn), output(hidden(turn * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4)) {}

    // Lines of 128 bytes, whose pieces the swizzle exchanges: a box of gate_up has a tile's eight of a slab, others those of four slabs.
    DEVICE void begin(int layer) {
        const int lane = threadIdx.x % 32, tile = threadIdx.x / 32 % 4, line = lane / 8;
        const int box = layer == kGateUp ? turn * kQuarter + tile * 1024 : tile * kQuarter + turn * 1024;
        piece = hidden(box + line * 128 + (lane % 8 ^ line) * 16);
    }

    // Wait for the codes of a slab.
    template <bool SUMMED>
    DEVICE void load() {
        const unsigned stage = stages % STAGES;
        const Stage& from = shared.ring[stage];
        barrier_wait(shared.codes_full[stage], stages / STAGES & 1);
        const uint4 first = load16(from.codes + piece), second = load16(from.codes + 512 + (piece ^ 64));  // line 4 + line
        words[0] = first.x, words[1] = first.y, words[2] = first.z, words[3] = first.w;
        words[4] = second.x, words[5] = second.y, words[6] = second.z, words[7] = second.w;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const unsigned zero = from.zeros[0][output + 8 * r];
            zeros[r] = SUMMED ? zero * (r == 0 ? 0x10001u : 0x100010u) : zero_offset<bf16>(zero);
            zeros[2 + r] = zeros[r];
        }
        scales = from.scales[0][output] | unsigned(from.scales[0][output + 8]) << 16;
        settle(words);  // not before what was started ahead
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.codes_empty[stage]);
        stages++;
    }

    template <bool SUMMED>
    DEVICE void unpack(int half) {
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int r = 0; r < 4; r += 2) {
                const unsigned word = words[half * 4 + k] >> 4 * r;
                a[half][k][r] = SUMMED ? word & 0x000f000fu : low_codes<bf16>(word, zeros[0]);
                a[half][k][r + 1] = SUMMED ? word & 0x00f000f0u : high_codes<bf16>(word, zeros[1]);
            }
    }

    template <bool SUMMED>
    DEVICE void start(float (&part)[ROWS / 2], Operand place, int slab, int half) {
        products_open();
        const bool sums = SUMMED && half == 0;
        if (sums) multiply_from_registers<bf16, ROWS>(part, zeros, place + slab * 2, false);
#pragma unroll
        for (int k = 0; k < 4; k++)
            multiply_from_registers<bf16, ROWS>(part, a[half][k], place + (kFirstLine + slab * 2 + half) * (kLine / 16) + k * 2, sums || half + k > 0);
        products_commit();
    }

    // Multiply a slab whose first half is unpacked; unpack the first half of the next meanwhile, where there is one.
    template <bool SUMMED>
    DEVICE void multiply(float (&sum)[ROWS / 2], Operand place, int slab, bool has_next) {
        const unsigned own_scales = scales;
        float part[ROWS / 2];
        start<SUMMED>(part, place, slab, 0);
        settle(words);  // not before the products have started
        unpack<SUMMED>(1);
        start<SUMMED>(part, place, slab, 1);
        products_wait<1>();
        if (has_next) {
            load<SUMMED>();
            unpack<SUMMED>(0);
        }
        const float high = low_half<fp16>(own_scales), low = high_half<fp16>(own_scales);
        products_wait<0>();
        settle(part);
#pragma unroll
        for (int j = 0; j < ROWS / 2; j++) sum[j] += part[j] * (j / 2 % 2 ? low : high);
    }

    DEVICE void release(Barrier& empty) {
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(empty);
    }

    template <bool SUMMED>
    DEVICE void multiply_round(float (&sum)[ROWS / 2], bool has_next) {
        const unsigned at = rounds % X_PLACES;
        barrier_wait(shared.round_full[at], rounds / X_PLACES & 1);
        multiply<SUMMED>(sum, rows_operand(shared.x[at]), turn, has_next);
        release(shared.round_empty[at]);
        rounds++;
    }

    template <bool SUMMED>
    DEVICE void multiply_rounds(float (&sum)[ROWS / 2], int layer, int num) {
        start_layer<SUMMED>(sum, layer);
#pragma unroll 1
        for (int left = num; left > 0; left -= kTogether > 1 ? 2 : 1) {
            multiply_round<SUMMED>(sum, left > 1);
            if (kTogether > 1 && left > 1) multiply_round<SUMMED>(sum, left > 2);
        }
        end_layer<SUMMED>(sum);
    }

    DEVICE void multiply_slabs(float (&sum)[ROWS / 2], int num) {
        start_layer<kSums>(sum, kGateUp);
#pragma unroll 1
        for (unsigned place = 0; place < num / 4; place++) {
            const unsigned at = place % X_PLACES;
#pragma unroll kTogether
            for (int slab = 0; slab < 4; slab++) {
                if (slab < kPlaceLines / kLinesTogether) barrier_wait(shared.slabs_full[at][slab], place / X_PLACES & 1);
                multiply<kSums>(sum, rows_operand(shared.x[at]), slab, slab < 3 || place + 1 < num / 4);
            }
            release(shared.slabs_empty[at]);
        }
        end_layer<kSums>(sum);
    }

    template <bool SUMMED>
    DEVICE void start_layer(float (&sum)[ROWS / 2], int layer) {
        begin(layer);
#pragma unroll
        for (int j = 0; j < ROWS / 2; j++) sum[j] = 0.f;
        load<SUMMED>();
        unpack<SUMMED>(0);
    }

    template <bool SUMMED>
    DEVICE void end_layer(float (&sum)[ROWS / 2]) {
#pragma unroll
        for (int j = 0; j < ROWS / 2; j++) sum[j] *= SUMMED ? kRaisedUnit[j / 2 % 2] : 1 / kCodeUnit<bf16>;
    }

    DEVICE void multiply_layer(float (&sum)[ROWS / 2], int layer, int num) {
        if (layer == kO) multiply_rounds<false>(sum, layer, num);
        else if (layer == kGateUp) multiply_slabs(sum, num);
        else multiply_rounds<kSums>(sum, layer, num);
    }
};

// Leave the sums of this block where all of it finds them.
DEVICE void leave(Layout& shared, const float (&sum)[ROWS / 2]) {
    const int lane = threadIdx.x % 32, output = threadIdx.x / 32 % 4 * 16 + lane / 4;
    auto& sums = shared.sums[threadIdx.x / 128];
    meet_named(1, kConsumers);  // nobody multiplies any more
#pragma unroll
    for (int j = 0; j < ROWS / 2; j++) sums[j / 4 * 8 + lane % 4 * 2 + j % 2][output + j / 2 % 2 * 8] = sum[j];
    meet_named(1, kConsumers);
}

DEVICE void add_four(float (&total)[4], const float* from) {
    float part[4];
    unpack16<fp32>(load16(from), part);
#pragma unroll
    for (int j = 0; j < 4; j++) total[j] += part[j];
}

// Of all four turns.
DEVICE void add_turns(float (&total)[4], const Layout& shared, int row, int o) {
#pragma unroll
    for (int turn = 0; turn < 4; turn++) add_four(total, &shared.sums[turn][row][o]);
}

DEVICE uint2 scaled_biased(const float (&total)[4], float scale, const bf16* bias) {
    float y[4];
#pragma unroll
    for (int j = 0; j < 4; j++) y[j] = total[j] * scale + (bias ? to_float(bias[j]) : 0.f);
    return make_uint2(pack2<bf16>(y[0], y[1]), pack2<bf16>(y[2], y[3]));
}

// Four numbers of a row for the next layer, the first one input `at`; eight neighbouring lanes have 32.
DEVICE void hand_on(bf16* x, int inputs, int row, int at, uint2 numbers, bool writes) {
    if constexpr (kSums) store_summed(x + row * summed_width(inputs), at, numbers, writes);
    else if (writes) *reinterpret_cast<uint2*>(x + (long long)row * inputs + at) = numbers;
}

struct Finisher {
    Layout& shared;
    const int num_rows;

    // h = residual + y; x = h * weight; a thread has four outputs of a row, of the 32 that this block of the pair writes.
    DEVICE void finish_added(int layer, int item, const bf16* bias, const bf16* residual, bf16* h, bf16* x, float (&squares)[ROWS][kParts]) {
        const int row = threadIdx.x / 8, c = threadIdx.x % 8 * 4, rank = blockIdx.x % 2, output = item * 64 + rank * kOwn + c;
        const bool counts = row < ROWS;
        const long long at = (long long)min(row, num_rows - 1) * HIDDEN + output;
        float other[4] = {}, total[4] = {};
        const uint2 before = load8(residual + at);
        if (counts) {
            add_turns(other, shared, row, (1 - rank) * kOwn + c);
            send_to_peer(&shared.received[row][c], other, 1 - rank, shared.received_full);
            add_turns(total, shared, row, rank * kOwn + c);
        }
        if (threadIdx.x == 0) barrier_expect(shared.received_full, sizeof(shared.received));
        if (layer == kO) barrier_wait(shared.weighed, 0);
        barrier_wait(shared.received_full, layer == kO ? 0 : 1);
        if (counts) add_four(total, &shared.received[row][c]);
        const uint2 sum = add_pairs(scaled_biased(total, 1.f, bias ? bias + output : nullptr), before);
        const float part = sum_neighbours<8>(squares_of(sum));
        float weight[4];
#pragma unroll
        for (int j = 0; j < 4; j++) weight[j] = to_float(shared.weights[layer == kO ? 0 : 1][c + j]);
        hand_on(x, HIDDEN, row, output, weighted(sum, weight), row < num_rows);
        if (row >= num_rows) return;
        *reinterpret_cast<uint2*>(h + at) = sum;
        if (c == 0) squares[row][output / kOwn] = part;
    }

    DEVICE void finish_gated(int item, const bf16* bias, bf16* gated) {
        const int c = threadIdx.x % 32 * 4, output = item * 128 + c;
        barrier_wait(shared.scaled, 0);
#pragma unroll 1
        for (int row = threadIdx.x / 32; row < num_rows; row += kConsumers / 32) {
            float gate[4] = {}, up[4] = {};
            add_four(gate, &shared.sums[c / 64][row][c % 64]);
            add_four(up, &shared.sums[2 + c / 64][row][c % 64]);
            const float scale = shared.row_scales[row];
            const uint2 closed = scaled_biased(gate, scale, bias ? bias + output : nullptr);
            const uint2 wide = scaled_biased(up, scale, bias ? bias + FFN + output : nullptr);
            const uint2 x = make_uint2(gated2<bf16>(closed.x, wide.x), gated2<bf16>(closed.y, wide.y));
            hand_on(gated, FFN, row, output, x, true);
        }
    }

    DEVICE void finish_qkv(int item, const bf16* bias, bf16* qkv) {
        const int c = threadIdx.x % 16 * 4, output = item * 64 + c;
        barrier_wait(shared.scaled, 1);
#pragma unroll 1
        for (int row = threadIdx.x / 16; row < num_rows; row += kConsumers / 16) {
            float total[4] = {};
            add_turns(total, shared, row, c);
            *reinterpret_cast<uint2*>(qkv + (long long)row * QKV + output) =
                scaled_biased(total, shared.row_scales[row], bias ? bias + output : nullptr);
        }
    }
};

// Two warps: what rows are multiplied by in the norm behind `layer`, four at a time; rows past the last get what was left there.
DEVICE void scale_rows(Layout& shared, const Scratch& scratch, int layer, int num_rows, float eps) {
    const auto& squares = scratch.squares[layer == kO ? 0 : 1];
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int first = threadIdx.x / 32 % 2 * 4; first < num_rows; first += 8) {
        uint4 parts[4];
#pragma unroll
        for (int i = 0; i < 4; i++) parts[i] = lane * 4 < kParts ? look16(&squares[first + i][lane * 4]) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float four[4];
            unpack16<fp32>(parts[i], four);
            const float sum = warp_sum((four[0] + four[1]) + (four[2] + four[3]));
            if (lane == 0) shared.row_scales[first + i] = rsqrtf(sum / HIDDEN + eps);
        }
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.scaled);
}

DEVICE void fetch_weights(Layout& shared, const bf16* ffn_norm, const bf16* norm) {
    const int lane = threadIdx.x % 32, first = int(blockIdx.x) * kOwn;
    if (lane < 8 && first < HIDDEN) store16(&shared.weights[lane / 4][lane % 4 * 8], load16((lane < 4 ? ffn_norm : norm) + first + lane % 4 * 8));
    __syncwarp();
    if (lane == 0) barrier_arrive(shared.weighed);
}

extern "C" __global__ CLUSTER_OF(2) __launch_bounds__(kThreads, 1) void linear_chain_int4_hopper(
    const __grid_constant__ TensorMap o_codes, const __grid_constant__ TensorMap gate_up_codes, const __grid_constant__ TensorMap down_codes,
    const __grid_constant__ TensorMap qkv_codes, const __grid_constant__ TensorMap attended_map, const __grid_constant__ TensorMap x1_map,
    const __grid_constant__ TensorMap gated_map, const __grid_constant__ TensorMap x2_map, const unsigned short* o_scales,
    const unsigned char* o_zeros, const bf16* o_bias, const unsigned short* gate_up_scales, const unsigned char* gate_up_zeros,
    const bf16* gate_up_bias, const unsigned short* down_scales, const unsigned char* down_zeros, const bf16* down_bias,
    const unsigned short* qkv_scales, const unsigned char* qkv_zeros, const bf16* qkv_bias, const bf16* residual, const bf16* ffn_norm,
    const bf16* norm, bf16* x1, bf16* gated, bf16* x2, bf16* h, bf16* qkv, Scratch* scratch, int num_rows, float eps) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    dependents_may_start();
    if (threadIdx.x == kConsumers + 32) {
        prefetch_map(o_codes), prefetch_map(attended_map), prefetch_map(gate_up_codes), prefetch_map(x1_map);
        prefetch_map(down_codes), prefetch_map(gated_map), prefetch_map(qkv_codes), prefetch_map(x2_map);
    }
    if (threadIdx.x == kConsumers) {
        for (int i = 0; i < STAGES; i++) barrier_init(shared.codes_full[i], 33), barrier_init(shared.codes_empty[i], 16);
        for (int i = 0; i < X_PLACES; i++) {
            barrier_init(shared.slabs_empty[i], 16), barrier_init(shared.round_full[i], 1), barrier_init(shared.round_empty[i], 16);
            for (Barrier& full : shared.slabs_full[i]) barrier_init(full, 1);
        }
        barrier_init(shared.received_full, 1), barrier_init(shared.weighed, 1), barrier_init(shared.met, 1),
            barrier_init(shared.scaled, 2);
        barriers_are_set();
    }
    __syncthreads();
    cluster_arrive();
    if (threadIdx.x < kConsumers) {
        take_registers<kRegisters>();
        // The shuffle tells the compiler that a warp agrees: descriptors are made in uniform registers then.
        Multiplier multiplier(shared, __shfl_sync(0xffffffffu, int(threadIdx.x) / 128, 0));
        Finisher finisher{shared, num_rows};
        cluster_wait();  // none sends before the other's barriers are set
#pragma unroll 1
        for (int layer = 0; layer < kLayers; layer++) {
            const Share share(layer);
            if (share.rounds == 0) continue;
            {
                float sum[ROWS / 2];
                multiplier.multiply_layer(sum, layer, share.rounds);
                leave(shared, sum);
            }
            wait_for_predecessor();  // it may still read what this kernel writes
            if (layer == kO) finisher.finish_added(layer, share.item, o_bias, residual, h, x1, scratch->squares[0]);
            else if (layer == kGateUp) finisher.finish_gated(share.item, gate_up_bias, gated);
            else if (layer == kDown) finisher.finish_added(layer, share.item, down_bias, h, h, x2, scratch->squares[1]);
            else finisher.finish_qkv(share.item, qkv_bias, qkv);
            if (layer == kQkv) break;
            order_for_copies();
            meet_named(1, kConsumers);
            if (threadIdx.x == 0) announce(scratch->counts[layer]);
        }
    } else {
        keep_registers<kCopyRegisters>();
        const int warp = threadIdx.x / 32;
        if (warp == 16) {
            CodeCopier copier{shared};
            copier.stream(kO, {&o_codes, o_scales, o_zeros});
            copier.stream(kGateUp, {&gate_up_codes, gate_up_scales, gate_up_zeros});
            copier.stream(kDown, {&down_codes, down_scales, down_zeros});
            copier.stream(kQkv, {&qkv_codes, qkv_scales, qkv_zeros});
        } else if (threadIdx.x == kConsumers + 32) {
            XCopier copier{shared, num_rows};
            wait_for_predecessor();
            copier.stream_attended(attended_map, num_rows == ROWS ? 8 : 1);  // a box that leaves a tensor is slow
            await_count(scratch->counts[kO], items_of(kO) * 2);
            order_for_copies();
            barrier_arrive(shared.met);
            copier.stream_slabs(x1_map);
            await_count(scratch->counts[kGateUp], items_of(kGateUp));
            order_for_copies();
            copier.stream_rounds(kDown, gated_map);
            await_count(scratch->counts[kDown], items_of(kDown) * 2);
            order_for_copies();
            barrier_arrive(shared.met);
            copier.stream_rounds(kQkv, x2_map);
        } else if (warp >= 18) {
            if (warp == 18) fetch_weights(shared, ffn_norm, norm);
#pragma unroll 1
            for (int layer = kO; layer <= kDown; layer += kDown) {
                barrier_wait(shared.met, layer == kO ? 0 : 1);
                scale_rows(shared, *scratch, layer, num_rows, eps);
            }
        }
        __syncwarp();
        cluster_wait();
    }
    __syncthreads();
    if (threadIdx.x == 0) leave_zeros(scratch->counts[0], sizeof(scratch->counts) / 4, &scratch->exits);
}
