/* tile_stream.cuh - which tiles a block of `linear_tiles.cu` or `linear_rows.cu` takes, and the thread that keeps their slabs coming.

   Whoever includes it has its `Problem`: x_map, weight_map, sizes, row_tiles() of a cluster and num_tiles(); its `Layout`: stages of x
   and weight with barriers full, empty and free_there; kRows and kWritten of a tile; kShare, kBand and kGated.
*/
#pragma once
#include "device/tile_copies.cuh"

// Tiles that would end outside start earlier: numbers are computed twice then, and written twice. A copy whose box leaves its tensor
// takes longer than a whole one.
struct Tile {
    int row, column;  // of the block's first row and column of out

    DEVICE Tile(const Problem& problem, int index) {
        const int per_band = kBand * ((problem.num_outputs + kWritten - 1) / kWritten), band = index / per_band * kBand;
        const int height = min(kBand, problem.row_tiles() - band), place = index % per_band;
        row = max(0, min(((band + place % height) * CLUSTER + int(blockIdx.x) % CLUSTER) * kRows, problem.num_rows - kRows));
        column = max(0, min(place / height * kWritten, problem.num_outputs - kWritten));
    }
};

struct Ring {  // a place among the stages, and how often it has been round
    int stage = 0, parity = 0;

    DEVICE void advance() {
        if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* ---- the thread that copies ---- */

// The block's share of the weights, to every block of the cluster.
DEVICE void copy_weight(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    const int rank = blockIdx.x % CLUSTER;
    unsigned char* to = shared.stages[stage].weight + rank * kShare * 128;
    if constexpr (kGated && CLUSTER == 2) {
        copy_box_to_pair(to, *problem.weight_map, slab * 64, 0, 0, tile.column / 8 + rank * (kShare / 16), shared.full[stage]);
    } else if constexpr (kGated) {
        copy_box(to, *problem.weight_map, slab * 64, 0, 0, tile.column / 8, shared.full[stage]);
    } else if constexpr (CLUSTER == 2) {
        copy_box_to_pair(to, *problem.weight_map, slab * 64, tile.column + rank * kShare, shared.full[stage]);
    } else {
        copy_box(to, *problem.weight_map, slab * 64, tile.column, shared.full[stage]);
    }
}

DEVICE void copy_x(const Problem& problem, Layout& shared, int stage, int slab, const Tile& tile) {
    copy_box(shared.stages[stage].x, *problem.x_map, slab * 64, tile.row, shared.full[stage]);
}

// From here on the stage may be filled, by both blocks: its barrier counts what both send.
DEVICE void open_stage(Layout& shared, int stage) {
    barrier_expect(shared.full[stage], int(sizeof shared.stages[0]));
    if constexpr (CLUSTER == 2) barrier_arrive_at(shared.free_there[stage], 1 - int(blockIdx.x) % 2);
}

DEVICE void wait_for_other(Layout& shared, int stage, int parity) {
    if constexpr (CLUSTER == 2) barrier_wait(shared.free_there[stage], parity);
}

// Weights of the first stages: the kernel ahead cannot have written them.
DEVICE void copy_first_weights(const Problem& problem, Layout& shared) {
    const int ahead = min(STAGES, problem.num_slabs);
    const Tile opening(problem, blockIdx.x / CLUSTER);
    for (int i = 0; i < ahead; i++) open_stage(shared, i);
    for (int i = 0; i < ahead; i++) {
        wait_for_other(shared, i, 0);
        copy_weight(problem, shared, i, i, opening);
    }
}

// When thread 0 has set the barriers: all may use them, and the first copies are under way. No block waits for the other when it ends:
// each has waited for all that comes from there.
DEVICE void open_ring(const Problem& problem, Layout& shared) {
    if constexpr (CLUSTER == 2) {
        __syncwarp();
        cluster_arrive();
        cluster_wait();  // none sends before the other's barriers are set
    }
    if (threadIdx.x == 0) copy_first_weights(problem, shared);
    __syncthreads();
}

DEVICE void produce(const Problem& problem, Layout& shared) {
    const int num_tiles = problem.num_tiles(), ahead = min(STAGES, problem.num_slabs);
    const int first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
    const Tile opening(problem, first);
    wait_for_predecessor();
    Ring ring;
    for (int i = 0; i < ahead; i++, ring.advance()) copy_x(problem, shared, i, i, opening);
    for (int index = first, slab = ahead; index < num_tiles; index += step, slab = 0) {
        const Tile tile(problem, index);
        for (; slab < problem.num_slabs; slab++, ring.advance()) {
            barrier_wait(shared.empty[ring.stage], ring.parity ^ 1);
            open_stage(shared, ring.stage);
            copy_x(problem, shared, ring.stage, slab, tile);
            wait_for_other(shared, ring.stage, ring.parity);
            copy_weight(problem, shared, ring.stage, slab, tile);
        }
    }
}
