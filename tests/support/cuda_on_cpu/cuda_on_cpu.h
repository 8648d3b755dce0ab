/* cuda_on_cpu.h - enough of CUDA C++ to run a kernel of `kernels/` on one CPU core, for tests.

   A thread is a fiber; blocks run one after another, those of a cluster or of a grid with barriers together. A fiber gives way only at a barrier or a warp operation, so data that is
   exchanged without one is seen as missing, and a barrier that not all threads reach is reported. Shared memory starts as
   NaN patterns, and an access that is not aligned ends the program. What it can't show: races between threads that do meet at the right barriers, and memory order.
*/
#pragma once
#include <setjmp.h>
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
extern Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

struct Barrier {
    int size = 0, arrived = 0;
    long generation = 0;
};

struct Fiber {
    ucontext_t context;  // where it begins
    jmp_buf place;       // where it gave way
    bool begun = false, done = false;
    const Barrier* waits_for = nullptr;
    long waits_past = 0, cluster_past = 0;  // the latter: of its last `cluster_arrive`
    std::function<bool()> goes_on;  // where it waits for something else than a barrier of threads
    std::vector<std::vector<std::function<void()>>> copies{1}, products{1}, stores{1};  // committed groups, then the open one
    struct Accumulator {
        int users = 0;
        std::vector<float> values;
    };
    std::map<float*, Accumulator> accumulators;  // of products under way
};

extern std::vector<Fiber> fibers;  // of the blocks of a cluster, each from a multiple of `block_fibers` on
extern int current, block_fibers;
extern Barrier cluster_barrier;
extern std::vector<Barrier> block_barriers, warp_barriers;
extern std::vector<uint64_t> mailbox;                   // 4 words a thread
extern std::vector<std::vector<unsigned char>> shared;  // of each block

inline int current_block() { return current / block_fibers; }

struct NamedBarriers {  // 16 a block
    std::vector<Barrier> all;
    Barrier& operator[](int name) { return all[current_block() * 16 + name]; }
};
extern NamedBarriers named_barriers;

struct Deliveries {  // of the copy engine, still to come
    std::vector<std::pair<int, std::function<void()>>> waiting;  // and the thread that asked
    void push_back(std::function<void()> delivery);
};
extern Deliveries deliveries;

// Count this thread in; true where it was the last.
inline bool arrive(Barrier& barrier) {
    if (++barrier.arrived < barrier.size) return false;
    barrier.arrived = 0;
    barrier.generation++;
    return true;
}

void meet(Barrier& barrier);
void wait_past(Barrier& barrier, long generation);  // stand still until this generation is over
void wait_until(std::function<bool()> condition);

// Shared memory has addresses from 1,024 on, which is where `DYNAMIC_SHARED` starts.
inline unsigned char* shared_at(unsigned address, int block = current_block()) {
    unsigned char* start = shared[block].data();
    return start + (1024 - uintptr_t(start) % 1024) % 1024 + (address - 1024);
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

// Run `body` as each thread of a grid.
void run_grid(std::function<void()> body, int grid_x, int grid_y, int cluster, int threads, size_t shared_bytes);

template <class... Args, size_t... I>
void start(void (*kernel)(Args...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<Args>*>(args[I])...);
}

template <class... Args>
void launch(void (*kernel)(Args...), int grid_x, int grid_y, int cluster, int threads, int shared_bytes, void** args) {
    const auto body = [=] { start(kernel, args, std::index_sequence_for<Args...>{}); };
    run_grid(body, grid_x, grid_y, cluster, threads, shared_bytes);
}

}  // namespace on_cpu

inline void __syncthreads() { on_cpu::meet(on_cpu::block_barriers[on_cpu::current_block()]); }
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

template <class Join>
int over_warp(int x, Join join) {
    const uint64_t word = unsigned(x);
    return on_cpu::exchange(&word, 1, [&](auto read) {
        int all = int(unsigned(read(0)));
        for (int lane = 1; lane < 32; lane++) all = join(all, int(unsigned(read(lane))));
        return all;
    });
}
inline int __reduce_max_sync(unsigned, int x) {
    return over_warp(x, [](int a, int b) { return std::max(a, b); });
}
inline int __reduce_add_sync(unsigned, int x) {
    return over_warp(x, [](int a, int b) { return a + b; });
}

inline int __float2int_rn(float x) { return int(std::nearbyint(x)); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    const uint64_t bytes = a | uint64_t(b) << 32;
    unsigned picked = 0;
    for (int i = 0; i < 4; i++) picked |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return picked;
}

template <class T>
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at += value;
    return before;
}
template <class T>
T atomicMax(T* at, T value) {
    const T before = *at;
    if (value > before) *at = value;
    return before;
}
template <class T>
T __ldg(const T* from) {
    return *from;
}
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fmul_rn(float x, float y) { return x * y; }
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
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
