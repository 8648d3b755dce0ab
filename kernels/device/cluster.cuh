/* cluster.cuh - neighbouring blocks that see each other's shared memory, from Hopper on.

   Further part of `ptx.cuh`, with a twin beside it in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/ptx.cuh"

#if __CUDA_ARCH__ >= 900
#define CLUSTER_OF(blocks) __cluster_dims__(blocks, 1, 1)
#else
#define CLUSTER_OF(blocks)
#endif

// All threads of all blocks of the cluster meet; what they wrote to shared memory can be seen.
DEVICE void cluster_meet() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// The same in two halves, for barriers that `barriers_are_set` has made known. NOTE: the first orders nothing else, since what has a
// block's writes seen by others waits for its copies under way, too: 0.9 us where weights have been asked for.
DEVICE void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
DEVICE void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Blocks that have read of each other and write no more meet: without the fence, of 0.7 us, that shows what was written.
DEVICE void cluster_part() {
    cluster_arrive();
    cluster_wait();
}

// Four floats at this address of the shared memory of block `rank`, after `cluster_meet`; many may be under way.
DEVICE void load_peer4(float (&x)[4], const float* at, int rank) {
#if __CUDA_ARCH__ >= 900
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(at)), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
                 : "=f"(x[0]), "=f"(x[1]), "=f"(x[2]), "=f"(x[3])
                 : "r"(there));
#endif
}
