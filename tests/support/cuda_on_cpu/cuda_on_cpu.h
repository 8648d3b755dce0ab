/* cuda_on_cpu.h - enough of CUDA C++ to run a kernel of `kernels/` on one CPU core, for tests.

   A thread is a fiber; blocks run one after another. A fiber gives way only at a barrier or a warp operation, so data that is
   exchanged without one is seen as missing, and a barrier that not all threads reach is reported. Shared memory starts as
   NaN patterns, and an access that is not aligned ends the program. What it can't show: races between threads that do meet at the right barriers, and memory order.
*/
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#define __CUDA_ARCH__ 800
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(n) alignas(n)

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct float2 {
    float x, y;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

struct Index3 {
    int x, y, z;
};
inline Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

constexpr size_t kStackBytes = 256 * 1024;

struct Barrier {
    int size = 0, arrived = 0;
    long generation = 0;
};

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
    const Barrier* waits_for = nullptr;
    long waits_past = 0;
    std::function<bool()> goes_on;  // where it waits for something else than a barrier of threads
    std::vector<std::vector<std::function<void()>>> copies{1}, products{1};  // committed groups, then the open one
    struct Accumulator {
        int users = 0;
        std::vector<float> values;
    };
    std::map<float*, Accumulator> accumulators;  // of products under way
};

inline std::vector<Fiber> fibers;
inline int current;
inline ucontext_t scheduler;
inline Barrier block_barrier;
inline std::vector<Barrier> warp_barriers, named_barriers;
inline std::vector<std::function<void()>> deliveries;  // of the copy engine, still to come
inline std::vector<uint64_t> mailbox;  // 4 words a thread
inline std::vector<unsigned char> shared;
inline std::function<void()> body;

// Count this thread in; true where it was the last.
inline bool arrive(Barrier& barrier) {
    if (++barrier.arrived < barrier.size) return false;
    barrier.arrived = 0;
    barrier.generation++;
    return true;
}

inline void meet(Barrier& barrier) {
    Fiber& self = fibers[current];
    const long generation = barrier.generation;
    if (arrive(barrier)) return;
    self.waits_for = &barrier;
    self.waits_past = generation;
    swapcontext(&self.context, &scheduler);
}

inline void wait_until(std::function<bool()> condition) {
    if (condition()) return;
    fibers[current].goes_on = std::move(condition);
    swapcontext(&fibers[current].context, &scheduler);
}

// Shared memory has addresses from 1,024 on, which is where `DYNAMIC_SHARED` starts.
inline unsigned char* shared_at(unsigned address) {
    return shared.data() + (1024 - uintptr_t(shared.data()) % 1024) % 1024 + (address - 1024);
}

inline void meet_warp() { meet(warp_barriers[current / 32]); }

// Post this lane's words, then read another's: read(lane) between two meetings.
template <class Read>
auto exchange(const uint64_t* words, int count, Read read) {
    for (int i = 0; i < count; i++) mailbox[current * 4 + i] = words[i];
    meet_warp();
    auto result = read([](int lane, int word = 0) { return mailbox[(current / 32 * 32 + lane) * 4 + word]; });
    meet_warp();
    return result;
}

inline void run_fiber() {
    body();
    fibers[current].done = true;
    swapcontext(&fibers[current].context, &scheduler);
}

inline void run_block(int threads, size_t shared_bytes) {
    fibers = std::vector<Fiber>(threads);
    block_barrier = {threads, 0, 0};
    warp_barriers.assign((threads + 31) / 32, Barrier{});
    for (int t = 0; t < threads; t++) warp_barriers[t / 32].size++;
    mailbox.assign(threads * 4, 0);
    named_barriers.assign(16, Barrier{});
    deliveries.clear();
    shared.assign(shared_bytes + 1024, 0xff);
    for (auto& fiber : fibers) {
        fiber.stack = std::make_unique<char[]>(kStackBytes);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = kStackBytes;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool moved = true; moved;) {
        moved = false;
        for (int t = 0; t < threads; t++) {
            Fiber& fiber = fibers[t];
            if (fiber.done || (fiber.waits_for && fiber.waits_for->generation == fiber.waits_past)) continue;
            if (fiber.goes_on && !fiber.goes_on()) continue;
            fiber.waits_for = nullptr;
            fiber.goes_on = nullptr;
            moved = true;
            current = t;
            threadIdx = {t, 0, 0};
            swapcontext(&scheduler, &fiber.context);
        }
        if (!moved && !deliveries.empty()) {
            const auto delivery = std::move(deliveries.back());  // no order is promised
            deliveries.pop_back();
            delivery();
            moved = true;
        }
    }
    for (auto& fiber : fibers)
        if (!fiber.done) {
            fprintf(stderr, "a barrier was not reached by all of its threads (block %d, %d)\n", blockIdx.x, blockIdx.y);
            abort();
        }
}

template <class... Args, size_t... I>
void start(void (*kernel)(Args...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<Args>*>(args[I])...);
}

template <class... Args>
void launch(void (*kernel)(Args...), int grid_x, int grid_y, int threads, int shared_bytes, void** args) {
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    body = [=] { start(kernel, args, std::index_sequence_for<Args...>{}); };
    for (int y = 0; y < grid_y; y++)
        for (int x = 0; x < grid_x; x++) {
            blockIdx = {x, y, 0};
            run_block(threads, shared_bytes);
        }
}

}  // namespace on_cpu

inline void __syncthreads() { on_cpu::meet(on_cpu::block_barrier); }
inline void __syncwarp(unsigned = 0xffffffffu) { on_cpu::meet_warp(); }
inline void __threadfence() {}

inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline int __float_as_int(float x) { return int(__float_as_uint(x)); }
inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }

template <class T>
T shuffle(T x, int from) {
    uint64_t word = 0;
    memcpy(&word, &x, sizeof(T));
    const uint64_t got = on_cpu::exchange(&word, 1, [&](auto read) { return read(from); });
    memcpy(&x, &got, sizeof(T));
    return x;
}
template <class T>
T __shfl_xor_sync(unsigned, T x, int distance) {
    return shuffle(x, (on_cpu::current % 32) ^ distance);
}
template <class T>
T __shfl_sync(unsigned, T x, int lane) {
    return shuffle(x, lane % 32);
}
template <class T>
T __shfl_up_sync(unsigned, T x, int distance) {
    const int lane = on_cpu::current % 32;
    return shuffle(x, lane >= distance ? lane - distance : lane);
}
inline unsigned __ballot_sync(unsigned, bool vote) {
    const uint64_t word = vote;
    return on_cpu::exchange(&word, 1, [](auto read) {
        unsigned mask = 0;
        for (int lane = 0; lane < 32; lane++) mask |= unsigned(read(lane)) << lane;
        return mask;
    });
}

template <class T>
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at += value;
    return before;
}
template <class T>
T __ldg(const T* from) {
    return *from;
}
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
template <class T>
T min(T a, T b) {
    return a < b ? a : b;
}
template <class T>
T max(T a, T b) {
    return a > b ? a : b;
}
template <class T>
T __ldcg(const T* from) {
    return *from;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
