/* flash_hopper.cuh - attention on Hopper: blocks that stay, one warpgroup that copies, CONSUMERS that multiply 64 rows each.

   Which rows and keys there are is the caller's `Task`: `attention_prefill_hopper.cu` and `attention_full_hopper.cu`.

   A block takes items one after another; an item is up to 64 * CONSUMERS query rows against tiles of KEYS keys. Warp 0 keeps
   STAGES tiles of keys and of values under way, warps 1 to 3 fetch the queries of the next item while this one is computed.
   In a consumer the scores of a tile are multiplied while the values of the tile before are, and the softmax of one consumer
   runs while the products of another do: they take turns at handing work to the tensor cores.

   shared   QUERIES x rows x DIM + 2 x STAGES x KEYS x DIM elements, DIM rounded up to 64: operands as in device/hopper.cuh
   barriers a tile is `full` when its bytes are there, `empty` when the 4 * CONSUMERS consumer warps have read it

   -D  SCALAR = bf16 | fp16; DIM, multiple of 8; KEYS, multiple of 16; CONSUMERS = 1 | 2 | 3; STAGES; QUERIES = 1 | 2;
       OVERLAP (0: values wait for their own softmax); TURNS (0: consumers run as they come); TENSOR_COPIES (0: the copying
       warpgroup computes addresses); SLACK, at most 8; SOFT_EXPS of 8 exponentials are computed without the special function unit
*/
#pragma once
#include "device/hopper.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(DIM) || !defined(KEYS) || !defined(CONSUMERS) || !defined(STAGES) || !defined(QUERIES) || \
    !defined(OVERLAP) || !defined(TURNS) || !defined(TENSOR_COPIES) || !defined(SLACK) || \
    !defined(SOFT_EXPS)
#error "flash_hopper.cuh needs -DSCALAR -DDIM -DKEYS -DCONSUMERS -DSTAGES -DQUERIES -DOVERLAP -DTURNS -DTENSOR_COPIES -DSLACK -DSOFT_EXPS"
#endif

constexpr int kRows = 64 * CONSUMERS;
constexpr int kThreads = 128 * (CONSUMERS + 1);
constexpr int kBlocks = (DIM + 63) / 64;        // column blocks of 64 elements
constexpr int kSteps = (DIM + 15) / 16;         // of the summed index of a score
constexpr int kColumns = kSteps < 4 ? 64 : kSteps * 16;  // of the values that are multiplied
constexpr int kPieces = DIM / 8;                // of 16 bytes, in a row
constexpr float kNone = -1e30f;                 // below every score; finite, so that differences of two of it are 0
constexpr int kProducerRegisters = CONSUMERS == 3 ? 56 : 40;  // together 512 a lane for 16 warps, 504 for 12
constexpr int kConsumerRegisters = CONSUMERS == 3 ? 152 : 232;
constexpr int kProducerName = 1, kConsumerName = 2, kTurnName = 5;  // named barriers
static_assert(DIM % 8 == 0 && KEYS % 16 == 0 && CONSUMERS <= 3, "see the header");

struct Tile {
    unsigned char block[kBlocks][KEYS * 128];
};

struct Layout {  // of the dynamic shared memory, from its first multiple of 1,024 on
    unsigned char query[QUERIES][kBlocks][kRows * 128];
    Tile keys[STAGES], values[STAGES];
    Barrier query_full[QUERIES], query_empty[QUERIES];
    Barrier keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
    Item items[QUERIES];
    int next[2];
};

struct Ring {  // a place among STAGES tiles, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

DEVICE int swizzled(int row, int piece) { return row * 128 + (piece % 8 ^ row % 8) * 16; }

/* ---- the warpgroup that copies ---- */

// Copy rows into column blocks `block_bytes` apart, zeros where source(row) is null and up to a multiple of 16 columns.
template <int COUNT, int THREADS, class Source>
DEVICE void copy_rows(unsigned char* to, int block_bytes, int thread, Source source) {
    constexpr int pieces = 2 * kSteps;
#pragma unroll 2
    for (int i = hidden(thread); i < COUNT * pieces; i += THREADS) {
        const int row = i / pieces, piece = i % pieces;
        const SCALAR* from = source(row);
        const bool valid = from != nullptr && piece < kPieces;
        copy16_async(to + piece / 8 * block_bytes + swizzled(row, piece), valid ? from + piece * 8 : nullptr, valid);
    }
}

template <class Task>
DEVICE int take_item(const Task& task, Layout& shared, int turn) {
    if (task.counter == nullptr) return blockIdx.x + turn * gridDim.x;
    if (threadIdx.x == 0) shared.next[turn % 2] = atomicAdd(task.counter, 1);
    meet_named(kProducerName, 128);
    return shared.next[turn % 2];
}

template <class Task>
DEVICE void load_tile(const Task& task, const Item& item, bool values, int tile, Tile& to, Barrier& full, Barrier& empty,
                      int parity) {
    const int lane = threadIdx.x;
    const auto box = task.box(item, tile, lane);
    barrier_wait(empty, parity);
    if (lane == 0) barrier_expect(full, task.num_boxes(item, tile) * Task::kBoxKeys * 128 * kBlocks);
    __syncwarp();
    if (lane < task.num_boxes(item, tile)) {
#pragma unroll
        for (int b = 0; b < kBlocks; b++) task.copy(to.block[b] + lane * Task::kBoxKeys * 128, values, item, b, box, full);
    }
}

// Warp 0: all tiles of an item through the copy engine; keys run one tile ahead of values, as they are used.
template <class Task>
DEVICE void load_tiles(const Task& task, const Item& item, Layout& shared, Ring& keys, Ring& values) {
    const auto load_keys = [&](int tile) {
        load_tile(task, item, false, tile, shared.keys[keys.stage], shared.keys_full[keys.stage],
                  shared.keys_empty[keys.stage], keys.parity ^ 1);
        keys.advance();
    };
    load_keys(item.first);
#pragma unroll 1
    for (int tile = item.first; tile < item.end; tile++) {
        if (tile + 1 < item.end) load_keys(tile + 1);
        load_tile(task, item, true, tile, shared.values[values.stage], shared.values_full[values.stage],
                  shared.values_empty[values.stage], values.parity ^ 1);
        values.advance();
    }
}

// The same by the addresses of rows, all four warps; what was asked for before is handed over while the next is under way.
template <class Task>
DEVICE void copy_tiles(const Task& task, const Item& item, Layout& shared, Ring& keys, Ring& values) {
    Barrier* pending = nullptr;
    const auto hand_over = [&](Barrier* next) {
        copies_commit();
        if (pending) {
            copies_wait<1>();
            publish_shared();
            barrier_arrive(*pending);
        }
        pending = next;
    };
    const auto copy_keys = [&](int tile) {
        barrier_wait(shared.keys_empty[keys.stage], keys.parity ^ 1);
        copy_rows<KEYS, 128>(shared.keys[keys.stage].block[0], KEYS * 128, threadIdx.x,
                             [&](int row) { return task.key(item, tile * KEYS + row); });
        hand_over(&shared.keys_full[keys.stage]);
        keys.advance();
    };
    copy_keys(item.first);
#pragma unroll 1
    for (int tile = item.first; tile < item.end; tile++) {
        if (tile + 1 < item.end) copy_keys(tile + 1);
        barrier_wait(shared.values_empty[values.stage], values.parity ^ 1);
        copy_rows<KEYS, 128>(shared.values[values.stage].block[0], KEYS * 128, threadIdx.x,
                             [&](int row) { return task.value(item, tile * KEYS + row); });
        hand_over(&shared.values_full[values.stage]);
        values.advance();
    }
    copies_wait<0>();
    publish_shared();
    barrier_arrive(*pending);
}

template <class Task>
DEVICE void produce(const Task& task, Layout& shared) {
    constexpr int threads = TENSOR_COPIES ? 96 : 128;  // that fetch queries
    Ring keys, values;
#pragma unroll 1
    for (int turn = 0;; turn++) {
        const Item item = task.find(take_item(task, shared, turn));
        const int slot = turn % QUERIES, thread = int(threadIdx.x) - 128 + threads;
        if (thread >= 0) {
            barrier_wait(shared.query_empty[slot], turn / QUERIES % 2 ^ 1);
            if (item.end > 0)
                copy_rows<kRows, threads>(shared.query[slot][0], kRows * 128, thread,
                                          [&](int row) { return task.query(item, row); });
            if (thread == 0) shared.items[slot] = item;
            copies_commit();
            copies_wait<0>();
            publish_shared();
            barrier_arrive(shared.query_full[slot]);
        }
        if (item.end <= 0) return;
        if (!TENSOR_COPIES) copy_tiles(task, item, shared, keys, values);
        else if (threadIdx.x < 32) load_tiles(task, item, shared, keys, values);
    }
}

/* ---- the warpgroups that multiply ---- */

// 2^x for x < 128 without the special function unit, which heads of 64 keep as busy as the tensor cores: round to the nearest
// integer, a polynomial for the rest (relative error 7.5e-5, minimax on [-0.5, 0.5]), the integer into the exponent.
DEVICE float exp2_soft(float x) {
    constexpr float shift = 12582912.f;  // 1.5 * 2^23: the integer lands in the last bits
    const float clamped = max(x, -126.f), shifted = clamped + shift, rest = clamped - (shifted - shift);
    const float power = ((0.05517167f * rest + 0.24261113f) * rest + 0.69326097f) * rest + 0.99992806f;
    return __uint_as_float(__float_as_uint(power) + (__float_as_uint(shifted) << 23));
}

// The running softmax of 64 rows. Lane 4g + c of warp w holds rows 16 w + g and + 8.
struct Rows {
    float peak[2], weight[2];  // weight: this lane's keys only, until `write`
    float sum[kColumns / 2];
    float score[KEYS / 2];
    unsigned chance[KEYS / 16][4];  // probabilities as A operands

    DEVICE void open() {
        peak[0] = peak[1] = kNone;
        weight[0] = weight[1] = 0.f;
#pragma unroll
        for (int i = 0; i < kColumns / 2; i++) sum[i] = 0.f;
    }

    DEVICE void multiply_keys(Operand query, Operand keys) {
#pragma unroll
        for (int i = 0; i < kSteps; i++)
            multiply_rows<SCALAR, KEYS>(score, query + i / 4 * (kRows * 128 / 16) + i % 4 * 2,
                                        keys + i / 4 * (KEYS * 128 / 16) + i % 4 * 2, i > 0);
        products_commit();
    }

    DEVICE void multiply_values(Operand values) {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++) multiply_columns<SCALAR, kColumns>(sum, chance[i], values + i * 128);
        products_commit();
    }

    // Hide what rows don't see: `half` sees keys from[half] .. to[half] - 1, counted from the tile's first.
    DEVICE void hide(const int (&from)[2], const int (&to)[2]) {
        const int c = threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            const int key = i / 4 * 8 + c + i % 2, half = i / 2 % 2;
            if (key < from[half] || key >= to[half]) score[i] = kNone;
        }
    }

    // Scores become probabilities relative to the peaks; what was summed so far has to be multiplied by `fade`. A peak that the
    // scores exceed by less than a factor of 2^SLACK stays: numerator and denominator grow alike, and sums are left alone.
    DEVICE void soften(float scale_log2, float (&fade)[2]) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = kNone;
#pragma unroll
            for (int i = 0; i < KEYS / 4; i++) top = max(top, score[i / 2 * 4 + 2 * half + i % 2]);
            top = max(top, __shfl_xor_sync(0xffffffffu, top, 1));
            top = max(top, __shfl_xor_sync(0xffffffffu, top, 2));
            const bool higher = top * scale_log2 > peak[half] + SLACK;
            top = higher ? top * scale_log2 : peak[half];
            fade[half] = higher ? exp2_fast(peak[half] - top) : 1.f;
            peak[half] = top;
            float total = 0.f;
#pragma unroll
            for (int i = 0; i < KEYS / 4; i++) {
                float& x = score[i / 2 * 4 + 2 * half + i % 2];
                x = i % 8 < SOFT_EXPS ? exp2_soft(x * scale_log2 - top) : exp2_fast(x * scale_log2 - top);
                total += x;
            }
            weight[half] = weight[half] * fade[half] + total;
        }
    }

    DEVICE void pack() {
#pragma unroll
        for (int i = 0; i < KEYS / 16; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) chance[i][j] = pack2<SCALAR>(score[8 * i + 2 * j], score[8 * i + 2 * j + 1]);
    }

    DEVICE void fade_sums(const float (&fade)[2]) {
        if (SLACK > 0 && !__ballot_sync(0xffffffffu, fade[0] != 1.f || fade[1] != 1.f)) return;
#pragma unroll
        for (int i = 0; i < kColumns / 2; i++) sum[i] *= fade[i / 2 % 2];
    }

    // Normalise and write the rows for which target(row) is not null; the queries' place turns them around.
    template <class Target>
    DEVICE void write(unsigned char* query, int first_row, Target target) {
        const int thread = hidden(threadIdx.x % 128), lane = thread % 32, g = lane / 4, c = lane % 4;
        const int warp_row = first_row + thread / 32 * 16;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = weight[half];
            total += __shfl_xor_sync(0xffffffffu, total, 1);
            total += __shfl_xor_sync(0xffffffffu, total, 2);
            const float inverse = total > 0.f ? 1.f / total : 0.f;
#pragma unroll
            for (int n = 0; n < kPieces; n++)
                *reinterpret_cast<unsigned*>(query + n / 8 * (kRows * 128) + swizzled(warp_row + 8 * half + g, n) + c * 4) =
                    pack2<SCALAR>(sum[4 * n + 2 * half] * inverse, sum[4 * n + 2 * half + 1] * inverse);
        }
        __syncwarp();
        for (int i = lane; i < 16 * kPieces; i += 32) {
            const int row = warp_row + i / kPieces, piece = i % kPieces;
            SCALAR* to = target(row);
            if (to) store16(to + piece * 8, load16(query + piece / 8 * (kRows * 128) + swizzled(row, piece)));
        }
        __syncwarp();
    }
};

// One consumer's view of the block.
struct Consumer {
    Layout& shared;
    int group;  // 0 .. CONSUMERS - 1
    Ring keys, values;

    DEVICE void await_turn() {
        if (TURNS && CONSUMERS > 1) meet_named(kTurnName + group, 256);
    }
    DEVICE void pass_turn() {
        if (TURNS && CONSUMERS > 1) pass_named(kTurnName + (group + 1) % CONSUMERS, 256);
    }
    DEVICE void await_keys() {
        barrier_wait(shared.keys_full[keys.stage], keys.parity);
        __syncwarp();
    }
    DEVICE void await_values() {
        barrier_wait(shared.values_full[values.stage], values.parity);
        __syncwarp();
    }
    DEVICE void release_keys() {
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.keys_empty[keys.stage]);
        keys.advance();
    }
    DEVICE void release_values() {
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.values_empty[values.stage]);
        values.advance();
    }

    // Values past the last key are nobody's: they may be NaN, which a probability of 0 doesn't remove.
    DEVICE void clear_values(int first_row) {
        if (first_row >= KEYS) return;
        for (int i = threadIdx.x % 128; i < (KEYS - first_row) * 8 * kBlocks; i += 128) {
            const int piece = i % (8 * kBlocks), row = first_row + i / (8 * kBlocks);
            store16(shared.values[values.stage].block[piece / 8] + row * 128 + piece % 8 * 16, make_uint4(0, 0, 0, 0));
        }
        publish_shared();
        meet_named(kConsumerName + group, 128);
    }

    // This consumer has no rows in the item: pass everything on.
    DEVICE void skip(int num_tiles) {
#pragma unroll 1
        for (int i = 0; i < num_tiles; i++) {
            await_keys();
            await_turn();
            pass_turn();
            release_keys();
            await_values();
            release_values();
        }
    }
};

template <class Task>
DEVICE void attend(const Task& task, const Item& item, Consumer& me, unsigned char* query) {
    const int first_row = me.group * 64, row = first_row + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    const int from[2] = {task.from(item, row), task.from(item, row + 8)}, to[2] = {task.to(item, row), task.to(item, row + 8)};
    const int all_from = task.from(item, first_row + 63), all_to = task.to(item, first_row);  // seen by every row of the group
    const Operand query_at = rows_operand(query + first_row * 128);
    Rows rows;
    rows.open();

    const auto start_scores = [&] {
        rows.multiply_keys(query_at, rows_operand(me.shared.keys[me.keys.stage].block[0]));
    };
    const auto start_values = [&] {
        rows.multiply_values(columns_operand(me.shared.values[me.values.stage].block[0], KEYS * 128));
    };
    float fade[2];
    const auto soften = [&](int tile) {
        const int token = tile * KEYS;
        if (token < all_from || token + KEYS > all_to) {
            const int near[2] = {from[0] - token, from[1] - token}, far[2] = {to[0] - token, to[1] - token};
            rows.hide(near, far);
        }
        rows.soften(task.scale_log2, fade);
    };

    const auto first_scores = [&](int tile) {
        me.await_keys();
        me.await_turn();
        products_open();
        start_scores();
        me.pass_turn();
        products_wait<0>();
        settle(rows.score);
        me.release_keys();
        soften(tile);
    };
    const auto last_values = [&](int tile) {
        me.await_values();
        if (!Task::kZeroFilled) me.clear_values(item.num_keys - tile * KEYS);
        products_open();
        start_values();
        products_wait<0>();
        settle(rows.sum);
        me.release_values();
    };

    const int end = __shfl_sync(0xffffffffu, item.end, 0);  // the same in all lanes, which the compiler has to see
    int tile = __shfl_sync(0xffffffffu, item.first, 0);
    if (OVERLAP) {
        first_scores(tile);
        rows.pack();
#pragma unroll 1
        for (tile++; tile < end; tile++) {  // scores of this tile, values of the one before
            me.await_keys();
            me.await_turn();
            products_open();
            start_scores();
            me.await_values();
            start_values();
            me.pass_turn();
            products_wait<1>();
            settle(rows.score);
            me.release_keys();
            soften(tile);
            after(rows.weight[0] + rows.weight[1]);  // the compiler would rather wait first
            products_wait<0>();
            settle(rows.sum);
            me.release_values();
            rows.fade_sums(fade);
            rows.pack();
        }
        last_values(tile - 1);
    } else {
#pragma unroll 1
        for (; tile < end; tile++) {
            first_scores(tile);
            rows.fade_sums(fade);
            rows.pack();
            last_values(tile);
        }
    }
    meet_named(kConsumerName + me.group, 128);  // all warps have multiplied the queries for the last time
    rows.write(query, first_row, [&](int row) { return task.target(item, row); });
}

template <class Task>
DEVICE void consume(const Task& task, Layout& shared) {
    Consumer me{shared, __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - 1, 0), {}, {}};
    if (me.group == CONSUMERS - 1) {
        if (TURNS && CONSUMERS > 1) pass_named(kTurnName, 256);  // the first turn is the first consumer's
    }
    for (int turn = 0;; turn++) {
        const int slot = turn % QUERIES;
        barrier_wait(shared.query_full[slot], turn / QUERIES % 2);
        const Item item = shared.items[slot];
        if (item.end <= 0) return;
        if (me.group * 64 < item.num_rows) attend(task, item, me, shared.query[slot][0]);
        else me.skip(item.end - item.first);
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.query_empty[slot]);
    }
}

template <class Task>
DEVICE void run_task(const Task& task, unsigned char* memory) {
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    if (threadIdx.x == 0) {
        for (int i = 0; i < QUERIES; i++) {
            barrier_init(shared.query_full[i], TENSOR_COPIES ? 96 : 128);
            barrier_init(shared.query_empty[i], 4 * CONSUMERS);
        }
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.keys_full[i], TENSOR_COPIES ? 1 : 128);
            barrier_init(shared.values_full[i], TENSOR_COPIES ? 1 : 128);
            barrier_init(shared.keys_empty[i], 4 * CONSUMERS);
            barrier_init(shared.values_empty[i], 4 * CONSUMERS);
        }
        barriers_are_set();
    }
    __syncthreads();
    dependents_may_start();
    wait_for_predecessor();
    if (threadIdx.x < 128) {
        if (CONSUMERS > 1) keep_registers<kProducerRegisters>();
        produce(task, shared);
    } else {
        if (CONSUMERS > 1) take_registers<kConsumerRegisters>();
        consume(task, shared);
    }
}
