/* grid_barrier.cuh - barriers of all blocks of a grid that are resident at once, several in a launch.

   Each barrier of a launch has a word of its own. A launch flips the top bit of each word once and leaves the other bits zero, so
   nothing is reset between launches and a graph may replay them. Words start as zeros, or with equal top bits.

   Every block has to be resident, or those that wait keep out the one they wait for: at most one wave of blocks, of which none is
   kept out by a kernel that waits for this one. The kernel ahead waits for nobody; the kernel behind starts, by programmatic
   launch, when all blocks of this one have started. Two grids with such barriers may not run at the same time.

   Its twin stands in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/ptx.cuh"

constexpr int kGridWords = 32;  // from one barrier's word to the next: a line of L2 each

struct GridBarriers {
    unsigned* words;
    unsigned before;  // the top bit of words whose barrier is not over
};

// Call it after `wait_for_predecessor` and before the block arrives anywhere.
DEVICE GridBarriers grid_open(unsigned* words) {
    unsigned word;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(words) : "memory");
    return {words, word >> 31};
}

// What this thread wrote to global memory is there for tensor copies of whoever waits. Then a barrier of the threads that wrote.
DEVICE void publish_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// One thread arrives for its block, after that barrier: whoever waits sees what they wrote.
DEVICE void grid_arrive(const GridBarriers& barriers, int index) {
    const unsigned amount = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u;
    asm volatile("fence.proxy.async.global;" ::: "memory");
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(barriers.words + index * kGridWords), "r"(amount) : "memory");
}

constexpr unsigned kMostLooks = 1u << 26;  // half a minute and more: a fault that is reported, where a wait without end is not

// Wait until all blocks have arrived at this barrier.
DEVICE void grid_wait(const GridBarriers& barriers, int index) {
    unsigned word, looks = 0;
    do {
        if (++looks == kMostLooks) asm volatile("trap;");
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(barriers.words + index * kGridWords) : "memory");
    } while (word >> 31 == barriers.before);
    asm volatile("fence.proxy.async.global;" ::: "memory");
}
