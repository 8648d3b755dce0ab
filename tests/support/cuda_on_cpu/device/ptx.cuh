/* ptx.cuh - the functions of `kernels/device/ptx.cuh` in plain C++, for `cuda_on_cpu.h`.

   Copies that are called asynchronous are carried out when they are waited for, and not before: a kernel that reads too early
   reads NaN patterns.
*/
#pragma once

#define DEVICE inline
#define DYNAMIC_SHARED(name) unsigned char* name = on_cpu::shared_at(1024)

struct bf16 {
    unsigned short bits;
};
struct fp16 {
    unsigned short bits;
};
using fp32 = float;

inline float to_float(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
inline float to_float(fp16 x) {
    _Float16 half;
    memcpy(&half, &x, 2);
    return float(half);
}
inline float to_float(fp32 x) { return x; }

template <class T>
unsigned short narrow(float x);
template <>
inline unsigned short narrow<bf16>(float x) {
    const unsigned bits = __float_as_uint(x);
    return x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : 0x7fff;
}
template <>
inline unsigned short narrow<fp16>(float x) {
    const _Float16 half = _Float16(x);
    unsigned short bits;
    memcpy(&bits, &half, 2);
    return bits;
}
template <class T>
unsigned pack2(float low, float high) {
    return narrow<T>(low) | unsigned(narrow<T>(high)) << 16;
}
inline unsigned scale2(unsigned pair, unsigned powers) {
    const float low = __uint_as_float(pair << 16) * __uint_as_float(powers << 16);
    return pack2<bf16>(low, __uint_as_float(pair & 0xffff0000u) * __uint_as_float(powers & 0xffff0000u));
}
inline unsigned shared_address(const void* pointer) { return unsigned((unsigned char*)pointer - on_cpu::shared_at(1024)) + 1024; }
inline void after(float) {}
inline int hidden(int x) { return x; }
inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.f / x; }

inline void store_release(unsigned* to, unsigned word) { *to = word; }
inline unsigned load_acquire(const unsigned* from) { return *from; }
inline void store_words(void* to, unsigned long long first, unsigned long long second) {
    unsigned long long* words = (unsigned long long*)to;
    words[0] = first, words[1] = second;
}
inline void load_words(const void* from, unsigned long long& first, unsigned long long& second) {
    const unsigned long long* words = (const unsigned long long*)from;
    first = words[0], second = words[1];
}

inline void copy16_async(void* to, const void* from, bool valid) {
    on_cpu::fibers[on_cpu::current].copies.back().push_back([=] { valid ? memcpy(to, from, 16) : memset(to, 0, 16); });
}
inline void copies_commit() { on_cpu::fibers[on_cpu::current].copies.emplace_back(); }
template <int PENDING>
void copies_wait() {
    auto& groups = on_cpu::fibers[on_cpu::current].copies;
    while (groups.size() > PENDING + 1) {
        for (auto& copy : groups.front()) copy();
        groups.erase(groups.begin());
    }
}

inline void dependents_may_start() {}
inline void wait_for_predecessor() {}

inline void load_matrix4(unsigned (&r)[4], const void* row) {
    const uint64_t address = uintptr_t(row);
    const int lane = on_cpu::current % 32;
    on_cpu::exchange(&address, 1, [&](auto read) {
        for (int i = 0; i < 4; i++) memcpy(&r[i], (const char*)read(8 * i + lane / 4) + lane % 4 * 4, 4);
        return 0;
    });
}
inline void load_matrix4_transposed(unsigned (&r)[4], const void* row) {
    const uint64_t address = uintptr_t(row);
    const int lane = on_cpu::current % 32;
    on_cpu::exchange(&address, 1, [&](auto read) {
        for (int i = 0; i < 4; i++) {
            unsigned short pair[2];
            for (int j = 0; j < 2; j++) memcpy(&pair[j], (const char*)read(8 * i + lane % 4 * 2 + j) + lane / 4 * 2, 2);
            r[i] = pair[0] | unsigned(pair[1]) << 16;
        }
        return 0;
    });
}
inline unsigned transpose8(unsigned x) {
    const uint64_t word = x;
    const int lane = on_cpu::current % 32, row = lane / 4, col = lane % 4 * 2;
    return on_cpu::exchange(&word, 1, [&](auto read) {
        const auto at = [&](int i, int j) { return unsigned(read(4 * i + j / 2) >> (j % 2 * 16)) & 0xffff; };
        return at(col, row) | at(col + 1, row) << 16;
    });
}
template <class T>
void mma16816(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const uint64_t words[3] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b0 | uint64_t(b1) << 32};
    const int g = on_cpu::current % 32 / 4, col = on_cpu::current % 4 * 2;
    on_cpu::exchange(words, 3, [&](auto read) {
        const auto half = [](uint64_t word, int i) { return to_float(T{(unsigned short)(word >> (16 * i))}); };
        for (int r = 0; r < 2; r++)      // rows g and g + 8
            for (int n = 0; n < 2; n++)  // columns col and col + 1
                for (int k = 0; k < 16; k++) {
                    const int lane_a = 4 * g + k % 8 / 2, lane_b = 4 * (col + n) + k % 8 / 2;
                    const float x = half(read(lane_a, k / 8), 2 * r + k % 2);
                    c[2 * r + n] += x * half(read(lane_b, 2), k / 8 * 2 + k % 2);
                }
        return 0;
    });
}
