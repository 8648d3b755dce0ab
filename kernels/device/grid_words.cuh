/* grid_words.cuh - what blocks of a grid that are resident at once hand to each other word by word, without a barrier.

   A word says itself that it has been written: words lie inverted, 0 stands for not yet. So no value may have all its bits set; no
   number that `pack2` makes has. Whoever hands over writes zeros where the launch before this one wrote, so two sets of words
   take turns; whose it is says the top bit of a word of its own. No order between words is kept or needed.

   Every block has to be resident, or those that wait keep out the one they wait for: at most one wave of blocks, of which none is
   kept out by a kernel that waits for this one. The kernel ahead waits for nobody; the kernel behind starts, by programmatic
   launch, when all blocks of this one have started. Two such grids may not run at the same time.

   Its twin stands in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/ptx.cuh"

DEVICE void hand_over(void* to, unsigned a, unsigned b) {
    asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%2};" ::"l"(to), "r"(~a), "r"(~b) : "memory");
}
DEVICE void hand_over(float* to, float x) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(~__float_as_uint(x)) : "memory");
}
DEVICE void take_back(void* to) { asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1,%1};" ::"l"(to), "r"(0) : "memory"); }

// As they lie.
DEVICE uint4 look16(const void* from) {
    uint4 words;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w) : "l"(from));
    return words;
}
DEVICE unsigned look4(const void* from) {
    unsigned word;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(from));
    return word;
}

DEVICE bool all_there(uint4 words) { return words.x && words.y && words.z && words.w; }

constexpr unsigned kMostGlances = 1u << 26;  // half a minute and more: a fault that is reported, where a wait without end is not

// Of all lanes of a warp: look() until it returns true in each.
template <class Look>
DEVICE void look_until(Look look) {
    unsigned glances = 0;
    while (__ballot_sync(0xffffffffu, !look()))
        if (++glances == kMostGlances) after(-1.f);
}

// Which of two sets this launch hands over in: the words of the other one it takes back.
DEVICE int turn_of(const unsigned* word) { return look4(word) >> 31; }

// One thread of each block, when its block has read it: the last one flips the top bit, and leaves the others zero.
DEVICE void end_turn(unsigned* word) {
    const unsigned amount = blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u;
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(word), "r"(amount) : "memory");
}

/* ---- counts of blocks that have ended a part of the work, for those that copy what they wrote ---- */

// What this thread wrote, or has seen written, is there for copies that start behind it, its own and those of whoever it tells.
DEVICE void order_for_copies() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// One thread of a block, behind a barrier of its writers.
DEVICE void announce(unsigned* count) { asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(count) : "memory"); }

DEVICE void await_count(const unsigned* count, unsigned wanted) {
    unsigned glances = 0, found = 0;
    while (true) {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(found) : "l"(count) : "memory");
        if (found == wanted) return;
        if (++glances == kMostGlances) after(-1.f);
    }
}

// One thread of each block, when its block waits for no count any more: the last one leaves zeros for the next launch.
DEVICE void leave_zeros(unsigned* counts, int num, unsigned* exits) {
    unsigned before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(exits) : "memory");
    if (before + 1 < gridDim.x) return;
    for (int i = 0; i < num; i++) counts[i] = 0;
    *exits = 0;
}
