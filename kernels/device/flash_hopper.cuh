/* flash_hopper.cuh - attention on Hopper: blocks that stay, a warpgroup that copies, CONSUMERS that multiply 64 rows each.

   Which rows and keys there are is the caller's `Task`: `attention_prefill_hopper.cu` and `attention_full_hopper.cu`.

   A block takes items one after another; an item is up to 64 * CONSUMERS query rows against tiles of KEYS keys. Warp 0 keeps
   STAGES tiles of keys and of values under way, warps 1 to 3 fetch the queries of the next item while this one is computed.
   In a consumer the scores of a tile are multiplied while the values of the tile before are, and the softmax of one consumer
   runs while the products of another do: they take turns at handing work to the tensor cores.

   shared   QUERIES x rows x DIM + 2 x STAGES x KEYS x DIM elements, DIM rounded up to 64: operands as in device/hopper.cuh
   barriers a tile is `full` when its bytes are there, `empty` when the 4 * CONSUMERS consumer warps have read it

   -D  SCALAR = bf16 | fp16; DIM, multiple of 8; KEYS, multiple of 16; CONSUMERS = 1 .. 4; STAGES; QUERIES = 1 | 2;
       OVERLAP (0: values wait for their own softmax); TURNS (0: consumers run as they come); TENSOR_COPIES (0: the copying
       warpgroup computes addresses); SLACK, at most 8; CODE_STAGES (tiles of codes under way; 0: keys and values are SCALARs);
       PRODUCERS = 1 | 2 (warpgroups that decode; 1 without codes); LEAST_TILES of a part, where a task splits items;
       LONE (1: a query behind the items is the task's own, see `lone_query.cuh`)
*/
#pragma once
#include "device/flash_copies.cuh"
#if CODE_STAGES
#include "device/flash_codes.cuh"
#endif
#include "device/flash_softmax.cuh"

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

// Leave a part's sums for others, or add theirs where this consumer is the last of the item's; returns whether it is.
template <class Task, class Part>
DEVICE bool join_parts(const Task& task, const Part& item, Consumer& me, Rows& rows) {
    if (item.parts == 1) return true;
    const auto share = [&](int part) { return task.shares + ((long long)(item.index + part) * CONSUMERS + me.group) * kShare; };
    int& arrivals = task.arrivals[item.index * CONSUMERS + me.group];
    int& is_last = me.shared.is_last[me.group];
    rows.leave(share(item.part));
    __threadfence();
    meet_named(kConsumerName + me.group, 128);
    if (threadIdx.x % 128 == 0) {
        is_last = atomicAdd(&arrivals, 1) == item.parts - 1;
        if (is_last) arrivals = 0;
        __threadfence();
    }
    meet_named(kConsumerName + me.group, 128);
    if (!is_last) return false;
#pragma unroll 1
    for (int part = 0; part < item.parts; part++)
        if (part != item.part) rows.join(share(part));
    return true;
}

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
            if constexpr (Task::kSeesAll) rows.hide_from(far[0]);
            else rows.hide(near, far);
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
    if constexpr (Task::kSplits)
        if (!join_parts(task, item, me, rows)) return;
    rows.write(query, first_row, [&](int row) { return task.target(item, row); });
}

template <class Task>
DEVICE void consume(const Task& task, Layout& shared) {
    Consumer me{shared, __shfl_sync(0xffffffffu, int(threadIdx.x) / 128 - PRODUCERS, 0), {}, {}};
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
        if constexpr (Task::kQueriesByEngine) {  // which writes after what these threads wrote
            publish_shared();
            __syncwarp();
        }
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.query_empty[slot]);
    }
}

template <class Task>
DEVICE void run_task(const Task& task, unsigned char* memory) {
    Layout& shared = *reinterpret_cast<Layout*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
    if (threadIdx.x == 0) {
        for (int i = 0; i < QUERIES; i++) {
            barrier_init(shared.query_full[i], Task::kQueriesByEngine ? 1 : kByEngine ? 96 : 128 * PRODUCERS);
            barrier_init(shared.query_empty[i], 4 * CONSUMERS);
        }
        for (int i = 0; i < STAGES; i++) {
            barrier_init(shared.keys_full[i], kTileArrivals);
            barrier_init(shared.values_full[i], kTileArrivals);
            barrier_init(shared.keys_empty[i], 4 * CONSUMERS);
            barrier_init(shared.values_empty[i], 4 * CONSUMERS);
        }
#if CODE_STAGES
        for (int i = 0; i < CODE_STAGES * kDecoders; i++) barrier_init(shared.codes_full[i / kDecoders][i % kDecoders], 1);
#endif
        barriers_are_set();
    }
    __syncthreads();
    dependents_may_start();
    wait_for_predecessor();
    if (threadIdx.x < 128 * PRODUCERS) {
        if (kThreads > 256) keep_registers<kProducerRegisters>();
#if CODE_STAGES
        produce_from_codes(task, shared);
#else
        produce(task, shared);
#endif
    } else {
        if (kThreads > 256) take_registers<kConsumerRegisters>();
        consume(task, shared);
    }
}
