/* cluster.cuh - the functions of `kernels/device/cluster.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/ptx.cuh"

#define CLUSTER_OF(blocks)

inline void cluster_meet() { on_cpu::meet(on_cpu::cluster_barrier); }
inline void cluster_arrive() {
    on_cpu::fibers[on_cpu::current].cluster_past = on_cpu::cluster_barrier.generation;
    on_cpu::arrive(on_cpu::cluster_barrier);
}
inline void cluster_wait() { on_cpu::wait_past(on_cpu::cluster_barrier, on_cpu::fibers[on_cpu::current].cluster_past); }
inline void cluster_part() { cluster_meet(); }
inline void load_peer4(float (&x)[4], const float* at, int rank) {
    memcpy(x, on_cpu::shared_at(shared_address(at), rank), 16);
}
