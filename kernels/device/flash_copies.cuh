/* flash_copies.cuh - the warpgroup of `flash_hopper.cuh` that copies: tiles of keys and values, and the queries of the next item. */
#pragma once
#include "device/flash_layout.cuh"

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
    meet_named(kProducerName, 128 * PRODUCERS);
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
    if (item.first < item.end) load_keys(item.first);
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
    if (item.first == item.end) return;
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

// One thread: the queries of an item through the copy engine, 1 us sooner than by the addresses of rows.
template <class Task>
DEVICE void load_queries(const Task& task, const Item& item, Layout& shared, int slot) {
    if (item.end <= 0) {
        barrier_arrive(shared.query_full[slot]);
        return;
    }
    barrier_expect(shared.query_full[slot], kBlocks * kRows * 128);
#pragma unroll
    for (int b = 0; b < kBlocks; b++) task.copy_queries(shared.query[slot][b], item, b, shared.query_full[slot]);
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
            if (thread == 0) shared.items[slot] = item;
            if constexpr (Task::kQueriesByEngine) {
                if (thread == 0) load_queries(task, item, shared, slot);
            } else {
                if (item.end > 0)
                    copy_rows<kRows, threads>(shared.query[slot][0], kRows * 128, thread,
                                              [&](int row) { return task.query(item, row); });
                copies_commit();
                copies_wait<0>();
                publish_shared();
                barrier_arrive(shared.query_full[slot]);
            }
            if constexpr (LONE)
                if (item.end > 0) task.attend_alone(item, thread / 32);
        }
        if (item.end <= 0) return;
        if (!TENSOR_COPIES) copy_tiles(task, item, shared, keys, values);
        else if (threadIdx.x < 32) load_tiles(task, item, shared, keys, values);
    }
}
