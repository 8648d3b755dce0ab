/* hopper.cuh - the functions of `kernels/device/hopper.cuh` in plain C++, for `cuda_on_cpu.h`.

   What is asynchronous happens as late as it may and spoils its place at once: a tensor copy fills its box with NaN patterns
   when it starts and delivers when no thread can go on; a product turns its accumulator into NaN until it is waited for, and
   ends the program where an operand in shared memory or registers changes meanwhile.
*/
#pragma once
#include "device/ptx.cuh"

#define __grid_constant__

struct alignas(64) TensorMap {  // of `EmulatedGpu.tensor_map`, 16-bit elements
    unsigned long long base;
    unsigned rank, box[4];
    unsigned size[4];
    unsigned long long stride_bytes[3];  // of dimensions 1 ..
    unsigned long long unused[5];
};
static_assert(sizeof(TensorMap) == 128, "as on the GPU");

struct Barrier {
    short expected, missing;
    int bytes : 31;
    unsigned phase : 1;
};
static_assert(sizeof(Barrier) == 8, "as on the GPU");

inline void require(bool right, const char* what) {
    if (right) return;
    fprintf(stderr, "%s (block %d, %d thread %d)\n", what, blockIdx.x, blockIdx.y, on_cpu::current);
    abort();
}

inline void barrier_init(Barrier& barrier, int arrivals) { barrier = {short(arrivals), short(arrivals), 0, 0}; }
inline void barriers_are_set() {}
inline void barrier_turn(Barrier& barrier) {
    if (barrier.missing || barrier.bytes) return;
    barrier.missing = barrier.expected;
    barrier.phase ^= 1;
}
inline void barrier_arrive(Barrier& barrier) {
    require(barrier.missing-- > 0, "a barrier got more arrivals than it waits for");
    barrier_turn(barrier);
}
inline void barrier_expect(Barrier& barrier, int bytes) {
    barrier.bytes += bytes;
    barrier_arrive(barrier);
}
inline void barrier_wait(Barrier& barrier, int parity) {
    on_cpu::wait_until([&barrier, parity] { return barrier.phase != unsigned(parity); });
}
inline void meet_named(int name, int threads) {
    on_cpu::named_barriers[name].size = threads;
    on_cpu::meet(on_cpu::named_barriers[name]);
}
inline void pass_named(int name, int threads) {
    on_cpu::named_barriers[name].size = threads;
    on_cpu::arrive(on_cpu::named_barriers[name]);
}
inline void publish_shared() {}

inline unsigned swizzled_address(unsigned address) { return address ^ (address >> 3 & 0x70); }

inline void copy_box(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier) {
    require(shared_address(to) % 128 == 0, "a box has to start at a multiple of 128 bytes");
    const int at[4] = {x, y, z, w};
    const TensorMap copied = map;
    const unsigned rows = map.box[1] * map.box[2] * map.box[3], width = map.box[0], start = shared_address(to);
    for (unsigned i = 0; i < rows * width; i++) memset(on_cpu::shared_at(start + i * 2), 0xff, 2);
    on_cpu::deliveries.push_back([=, &barrier] {
        for (unsigned r = 0; r < rows; r++) {
            const long long place[4] = {at[0], at[1] + int(r % copied.box[1]), at[2] + int(r / copied.box[1] % copied.box[2]),
                                        at[3] + int(r / (copied.box[1] * copied.box[2]))};
            for (unsigned c = 0; c < width; c++) {
                const char* from = (const char*)copied.base + (place[0] + c) * 2;
                bool inside = place[0] + c < copied.size[0];
                for (unsigned d = 1; d < copied.rank; d++) {
                    inside = inside && place[d] >= 0 && place[d] < copied.size[d];
                    from += place[d] * (long long)copied.stride_bytes[d - 1];
                }
                unsigned char* there = on_cpu::shared_at(swizzled_address(start + (r * width + c) * 2));
                if (inside) memcpy(there, from, 2);
                else memset(there, 0, 2);
            }
        }
        barrier.bytes -= int(rows * width * 2);
        barrier_turn(barrier);
    });
}
inline void copy_box(void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    copy_box(to, map, x, y, 0, 0, barrier);
}

inline void copy_bytes(void* to, const void* from, int bytes, Barrier& barrier) {
    require((uintptr_t(from) | shared_address(to) | unsigned(bytes)) % 16 == 0, "bytes are copied by multiples of 16");
    memset(to, 0xff, bytes);
    on_cpu::deliveries.push_back([=, &barrier] {
        memcpy(to, from, bytes);
        barrier.bytes -= bytes;
        barrier_turn(barrier);
    });
}

inline void copies_arrive(Barrier& barrier) {
    auto groups = std::move(on_cpu::fibers[on_cpu::current].copies);
    on_cpu::fibers[on_cpu::current].copies = {{}};
    on_cpu::deliveries.push_back([groups, &barrier] {
        for (auto& group : groups)
            for (auto& copy : group) copy();
        barrier_arrive(barrier);
    });
}

template <int COUNT>
void keep_registers() {}
template <int COUNT>
void take_registers() {}

using Operand = unsigned long long;
inline Operand operand(unsigned start, int leading_bytes) {
    return 1ull << 62 | Operand(1024 >> 4) << 32 | Operand(leading_bytes >> 4) << 16 | start >> 4;
}
inline Operand rows_operand(const void* block) { return operand(shared_address(block), 16); }
inline Operand columns_operand(const void* block, int block_bytes) { return operand(shared_address(block), block_bytes); }

// Element (row, k) of an operand by rows, or (k, column) of one by columns, as the hardware finds it from the descriptor.
template <class T>
float operand_element(Operand from, int row, int k, bool by_columns) {
    const unsigned start = unsigned(from & 0x3fff) << 4, leading = unsigned(from >> 16 & 0x3fff) << 4;
    const unsigned stride = unsigned(from >> 32 & 0x3fff) << 4;
    require(from >> 62 == 1 && (from >> 49 & 7) == 0 && (start & 0x380) == 0, "an operand has the 128-byte swizzle, base 0");
    const unsigned address = by_columns ? start + row / 64 * leading + row % 64 * 2 + k / 8 * stride + k % 8 * 128
                                        : start + row / 8 * stride + row % 8 * 128 + k * 2;
    T element;
    memcpy(&element, on_cpu::shared_at(swizzled_address(address)), 2);
    return to_float(element);
}

inline void products_open() {}
inline void products_commit() { on_cpu::fibers[on_cpu::current].products.emplace_back(); }
template <int PENDING>
void products_wait() {
    auto& groups = on_cpu::fibers[on_cpu::current].products;
    while (groups.size() > PENDING + 1) {
        for (auto& product : groups.front()) product();
        groups.erase(groups.begin());
    }
}
template <class Array>
void settle(Array&) {}

// The accumulator's values while products on it are under way.
inline std::vector<float>& take_accumulator(float* d, int count) {
    auto& flights = on_cpu::fibers[on_cpu::current].accumulators;
    auto& flight = flights[d];
    if (flight.users++ == 0) {
        flight.values.assign(d, d + count);
        for (int i = 0; i < count; i++) d[i] = NAN;
    }
    return flight.values;
}
inline void return_accumulator(float* d) {
    auto& flights = on_cpu::fibers[on_cpu::current].accumulators;
    auto& flight = flights[d];
    if (--flight.users) return;
    for (float& value : flight.values) {
        require(d[&value - flight.values.data()] != d[&value - flight.values.data()], "an accumulator was written too early");
        d[&value - flight.values.data()] = value;
    }
    flights.erase(d);
}

template <class T, int N>
std::vector<float> whole_operand(Operand from, bool by_columns, int rows = N) {
    std::vector<float> all(rows * 16);
    for (int row = 0; row < rows; row++)
        for (int k = 0; k < 16; k++) all[row * 16 + k] = operand_element<T>(from, row, k, by_columns);
    return all;
}
inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <int N, class A>
void add_products(float* d, std::vector<float>& values, bool add, A a, const std::vector<float>& b) {
    const int lane = on_cpu::current % 32, g = lane / 4, c = lane % 4;
    for (int i = 0; i < N / 2; i++) {
        const int half = i / 2 % 2, column = i / 4 * 8 + 2 * c + i % 2;
        float sum = add ? values[i] : 0.f;
        for (int k = 0; k < 16; k++) sum += a(g + 8 * half, k) * b[column * 16 + k];
        values[i] = sum;
    }
}

template <class T, int N>
void multiply_rows(float (&d)[N / 2], Operand a, Operand b, bool add) {
    auto& values = take_accumulator(d, N / 2);
    float* at = d;
    const bool watch = on_cpu::current % 128 == 0;
    const auto before = watch ? whole_operand<T, N>(b, false) : std::vector<float>{};
    on_cpu::fibers[on_cpu::current].products.back().push_back([=, &values] {
        const auto all_b = whole_operand<T, N>(b, false);
        if (watch) require(same(all_b, before), "an operand in shared memory changed under a product");
        const int first = on_cpu::current % 128 / 32 * 16;
        add_products<N>(at, values, add, [&](int row, int k) { return operand_element<T>(a, first + row, k, false); }, all_b);
        return_accumulator(at);
    });
}

template <class T, int N>
void multiply_columns(float (&d)[N / 2], const unsigned (&a)[4], Operand b) {
    auto& values = take_accumulator(d, N / 2);
    float* at = d;
    const unsigned* registers = a;
    const unsigned first = a[0], last = a[3];
    const uint64_t words[2] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32};
    std::vector<float> mine(16 * 16, 0.f);  // rows g and g + 8
    const int g = on_cpu::current % 32 / 4;
    on_cpu::exchange(words, 2, [&](auto read) {
        for (int half = 0; half < 2; half++)
            for (int k = 0; k < 16; k++) {
                const uint64_t word = read(4 * g + k % 8 / 2, k / 8);  // k / 8 of {a0 a1}, {a2 a3}; half picks the register
                mine[(g + 8 * half) * 16 + k] = to_float(T{(unsigned short)(word >> (32 * half + 16 * (k % 2)))});
            }
        return 0;
    });
    const bool watch = on_cpu::current % 128 == 0;
    const auto before = watch ? whole_operand<T, N>(b, true) : std::vector<float>{};
    on_cpu::fibers[on_cpu::current].products.back().push_back([=, &values] {
        const auto all_b = whole_operand<T, N>(b, true);
        if (watch) require(same(all_b, before), "an operand in shared memory changed under a product");
        require(registers[0] == first && registers[3] == last, "an operand in registers changed under a product");
        add_products<N>(at, values, true, [&](int row, int k) { return mine[row * 16 + k]; }, all_b);
        return_accumulator(at);
    });
}
