/* grid_words.cuh - the functions of `kernels/device/grid_words.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/ptx.cuh"

inline void hand_over(void* to, unsigned a, unsigned b) {
    const unsigned words[2] = {~a, ~b};
    memcpy(to, words, 8);
}
inline void hand_over(float* to, float x) {
    const unsigned word = ~__float_as_uint(x);
    memcpy(to, &word, 4);
}
inline void take_back(void* to) { memset(to, 0, 8); }
inline uint4 look16(const void* from) {
    uint4 words;
    memcpy(&words, from, 16);
    return words;
}
inline unsigned look4(const void* from) {
    unsigned word;
    memcpy(&word, from, 4);
    return word;
}
inline bool all_there(uint4 words) { return words.x && words.y && words.z && words.w; }
// A lane that looks counts as one that waits, so that copies are delivered meanwhile.
template <class Look>
void look_until(Look look) {
    const int self = on_cpu::current;
    const Index3 thread = threadIdx, block = blockIdx;
    on_cpu::wait_until([&] {
        const int other = std::exchange(on_cpu::current, self);
        const Index3 other_thread = std::exchange(threadIdx, thread), other_block = std::exchange(blockIdx, block);
        const bool there = look();
        on_cpu::current = other, threadIdx = other_thread, blockIdx = other_block;
        return there;
    });
    __syncwarp();
}

inline int turn_of(const unsigned* word) { return *word >> 31; }
inline void end_turn(unsigned* word) { *word += blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u; }

inline void order_for_copies() {}
inline void announce(unsigned* count) { ++*count; }
inline void await_count(const unsigned* count, unsigned wanted) {
    on_cpu::wait_until([=] { return *count == wanted; });
}
inline void leave_zeros(unsigned* counts, int num, unsigned* exits) {
    if (++*exits < gridDim.x) return;
    memset(counts, 0, num * sizeof(unsigned));
    *exits = 0;
}
