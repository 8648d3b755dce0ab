/* multicast.cuh - the functions of `kernels/device/multicast.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/narrow_products.cuh"

inline void copy_box_to(int blocks, void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    const unsigned place = shared_address(to), counter = shared_address(&barrier);
    const int self = on_cpu::current;
    for (int rank = 0; blocks >> rank; rank++) {
        if (!(blocks >> rank & 1)) continue;
        on_cpu::current = rank * on_cpu::block_fibers;  // as if a thread of that block had asked
        copy_box(on_cpu::shared_at(place), map, x, y, *reinterpret_cast<Barrier*>(on_cpu::shared_at(counter)));
        on_cpu::current = self;
    }
}

inline void barrier_arrive_at(Barrier& barrier, int rank) {
    barrier_arrive(*reinterpret_cast<Barrier*>(on_cpu::shared_at(shared_address(&barrier), rank)));
}
