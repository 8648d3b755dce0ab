/* codes.cuh - the functions of `kernels/device/codes.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/ptx.cuh"

struct e4m3 {
    unsigned char bits;
};
struct int8 {
    signed char bits;
};

inline float to_float(e4m3 x) {
    const int exponent = x.bits >> 3 & 15, mantissa = x.bits & 7;
    const float size = exponent ? std::ldexp(8.f + mantissa, exponent - 10) : std::ldexp(float(mantissa), -9);
    return exponent == 15 && mantissa == 7 ? NAN : x.bits & 128 ? -size : size;
}
inline float to_float(int8 x) { return x.bits; }

template <class T>
constexpr float kLargest = 0.f;
template <>
constexpr float kLargest<e4m3> = 448.f;
template <>
constexpr float kLargest<int8> = 127.f;

template <class T>
unsigned char code_of(float x);
template <>
inline unsigned char code_of<int8>(float x) {
    return (unsigned char)(signed char)std::nearbyint(std::fmin(std::fmax(x, -127.f), 127.f));
}
template <>
inline unsigned char code_of<e4m3>(float x) {
    const float size = std::fmin(std::fabs(x), 448.f);
    int exponent = size > 0.f ? std::max(std::ilogb(size), -6) : -6;
    int steps = int(std::nearbyint(std::ldexp(size, 3 - exponent)));  // of an eighth of the power of two
    if (steps == 16) steps = 8, exponent++;
    const int bits = steps < 8 ? steps : (exponent + 7) << 3 | (steps - 8);
    return bits | (std::signbit(x) ? 128 : 0);
}
template <class T>
unsigned pack_codes(float a, float b, float c, float d) {
    return code_of<T>(a) | code_of<T>(b) << 8 | code_of<T>(c) << 16 | unsigned(code_of<T>(d)) << 24;
}

inline unsigned halves_of_e4m3(unsigned codes) {
    return pack2<fp16>(to_float(e4m3{(unsigned char)codes}), to_float(e4m3{(unsigned char)(codes >> 8)}));
}

template <class T>
constexpr unsigned kCodeBase = 0;
template <>
constexpr unsigned kCodeBase<bf16> = 0x43004300;
template <>
constexpr unsigned kCodeBase<fp16> = 0x64006400;
template <class T>
constexpr float kCodeValue = 0.f;
template <>
constexpr float kCodeValue<bf16> = 128.f;
template <>
constexpr float kCodeValue<fp16> = 1024.f;
template <class T>
constexpr unsigned kOnes = 0;
template <>
constexpr unsigned kOnes<bf16> = 0x3f803f80;
template <>
constexpr unsigned kOnes<fp16> = 0x3c003c00;

template <class T>
unsigned code_pair(unsigned word) {
    return (word & 0x000f000f) | kCodeBase<T>;
}

inline void mma16832(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const uint64_t words[3] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32, b0 | uint64_t(b1) << 32};
    const int g = on_cpu::current % 32 / 4, col = on_cpu::current % 4 * 2;
    on_cpu::exchange(words, 3, [&](auto read) {
        for (int r = 0; r < 2; r++)      // rows g and g + 8
            for (int n = 0; n < 2; n++)  // columns col and col + 1
                for (int k = 0; k < 32; k++) {
                    const int x = (signed char)(read(4 * g + k % 16 / 4, k / 16) >> (32 * r + 8 * (k % 4)));
                    c[2 * r + n] += x * (signed char)(read(4 * (col + n) + k % 16 / 4, 2) >> (32 * (k / 16) + 8 * (k % 4)));
                }
        return 0;
    });
}
inline unsigned larger2(unsigned a, unsigned b) { return max(a & 0xffff, b & 0xffff) | max(a >> 16, b >> 16) << 16; }

template <class T>
unsigned multiply_add2(unsigned a, unsigned b, unsigned c) {
    const auto half = [](unsigned pair, bool high) { return to_float(T{(unsigned short)(high ? pair >> 16 : pair & 0xffff)}); };
    return pack2<T>(std::fma(half(a, false), half(b, false), half(c, false)), std::fma(half(a, true), half(b, true), half(c, true)));
}
template <class T>
constexpr unsigned kRaiseLow = 0;
template <>
constexpr unsigned kRaiseLow<bf16> = 0x7f007f00;
template <>
constexpr unsigned kRaiseLow<fp16> = 0x78007800;
template <class T>
constexpr unsigned kRaiseHigh = 0;
template <>
constexpr unsigned kRaiseHigh<bf16> = 0x7d007d00;
template <>
constexpr unsigned kRaiseHigh<fp16> = 0x68006800;
template <class T>
constexpr float kCodeUnit = 0.f;
template <>
constexpr float kCodeUnit<bf16> = 0x1p-6f;
template <>
constexpr float kCodeUnit<fp16> = 0x1p-9f;
template <class T>
unsigned zero_offset(unsigned zero) {
    return multiply_add2<T>(zero * 0x10001u, kRaiseLow<T> | 0x80008000u, 0x80008000u);
}
template <class T>
unsigned low_codes(unsigned word, unsigned offset) {
    return multiply_add2<T>(word & 0x000f000fu, kRaiseLow<T>, offset);
}
template <class T>
unsigned high_codes(unsigned word, unsigned offset) {
    return multiply_add2<T>(word & 0x00f000f0u, kRaiseHigh<T>, offset);
}
