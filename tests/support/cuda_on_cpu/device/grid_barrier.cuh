/* grid_barrier.cuh - the functions of `kernels/device/grid_barrier.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/ptx.cuh"

constexpr int kGridWords = 32;

struct GridBarriers {
    unsigned* words;
    unsigned before;
};

inline GridBarriers grid_open(unsigned* words) { return {words, words[0] >> 31}; }

inline void publish_global() {}

inline void grid_arrive(const GridBarriers& barriers, int index) {
    barriers.words[index * kGridWords] += blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u;
}

inline void grid_wait(const GridBarriers& barriers, int index) {
    on_cpu::wait_until([=] { return barriers.words[index * kGridWords] >> 31 != barriers.before; });
}
