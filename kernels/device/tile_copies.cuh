/* tile_copies.cuh - tiles that two blocks share on their way in, and tiles on their way out.

   Fourth part of `ptx.cuh`, after `narrow_products.cuh`. Its twin stands in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/narrow_products.cuh"

/* ---- in: one copy for both blocks of a cluster of two, to the same place of each; each block's barrier counts its bytes ---- */

DEVICE void copy_box_to_pair(void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::
            "r"(shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "h"((unsigned short)3)
        : "memory");
}
DEVICE void copy_box_to_pair(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5, %6}], "
        "[%2], %7;" ::"r"(shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z), "r"(w), "h"((unsigned short)3)
        : "memory");
}

// Arrive at the barrier of this name in block `rank` of the cluster. NOTE: it orders nothing; with release semantics each arrival is a
// fence of 0.7 us, and products, which have been waited for, need none.
DEVICE void barrier_arrive_at(Barrier& barrier, int rank) {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\nmbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, "
        "[there];\n}" ::"r"(shared_address(&barrier)),
        "r"(rank)
        : "memory");
}

/* ---- beside: to the same place of block `rank` of the cluster, whose barrier of this name counts the 16 bytes ---- */

DEVICE void send_to_peer(void* to, const float (&x)[4], int rank, Barrier& barrier) {
    asm volatile(
        "{\n.reg .b32 there, counts;\nmapa.shared::cluster.u32 there, %0, %2;\nmapa.shared::cluster.u32 counts, %1, %2;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [there], {%3,%4,%5,%6}, [counts];\n}" ::"r"(shared_address(to)),
        "r"(shared_address(&barrier)), "r"(rank), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
        : "memory");
}

/* ---- out ---- */

// Four 8 x 8 matrices of 16-bit elements, spread over the warp as accumulators are; lanes 8i..8i+7 give the rows of matrix i.
DEVICE void store_matrix4(void* row, const unsigned (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]),
                 "r"(r[3])
                 : "memory");
}

// The same, each matrix with its rows as columns.
DEVICE void store_transposed4(void* row, const unsigned (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)), "r"(r[0]), "r"(r[1]),
                 "r"(r[2]), "r"(r[3])
                 : "memory");
}

// Write the map's box at (x, y) from shared memory, after `publish_shared` and a barrier; what leaves the tensor is dropped.
DEVICE void store_box(const void* from, const TensorMap& map, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(shared_address(from)), "r"(x),
                 "r"(y)
                 : "memory");
}
DEVICE void stores_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Wait until at most PENDING of this thread's committed groups still read shared memory.
template <int PENDING>
DEVICE void stores_have_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Wait until all that this thread stored is written.
DEVICE void stores_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
