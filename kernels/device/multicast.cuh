/* multicast.cuh - one copy for all blocks of a cluster, and arrivals at another block's barrier.

   Fourth part of `ptx.cuh`, after `narrow_products.cuh`. Its twin stands in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/narrow_products.cuh"

// Copy the map's box at (x, y) to this address of the shared memory of every block in `blocks`, a bit a rank; each block's own
// barrier at the address of `barrier` counts the bytes.
DEVICE void copy_box_to(int blocks, void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(
            shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "h"((unsigned short)blocks)
        : "memory");
}

// Arrive at the barrier that lies at this address of the shared memory of block `rank`.
DEVICE void barrier_arrive_at(Barrier& barrier, int rank) {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(shared_address(&barrier)),
        "r"(rank)
        : "memory");
}
