/* cluster.cuh - the functions of `kernels/device/cluster.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/ptx.cuh"

#define CLUSTER_OF(blocks)

inline void cluster_meet() { on_cpu::meet(on_cpu::cluster_barrier); }
inline void load_peer4(float (&x)[4], const float* at, int rank) {
    memcpy(x, on_cpu::shared_at(shared_address(at), rank), 16);
}
