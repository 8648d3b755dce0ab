/* codes.cuh - numbers of 8 and 4 bits: their types, and floats from and to them.

   Further part of `ptx.cuh`, with a twin beside it in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/ptx.cuh"

struct e4m3 {
    unsigned char bits;
};
struct int8 {
    signed char bits;
};

template <class T>
constexpr float kLargest = 0.f;  // that a code stands for
template <>
constexpr float kLargest<e4m3> = 448.f;
template <>
constexpr float kLargest<int8> = 127.f;

// Four floats as codes, the first in the lowest byte: rounded to nearest, ties to even, beyond the largest the largest.
template <class T>
DEVICE unsigned pack_codes(float a, float b, float c, float d);

template <>
DEVICE unsigned pack_codes<int8>(float a, float b, float c, float d) {
    const float x[4] = {a, b, c, d};
    unsigned word = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int code;
        asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(code) : "f"(max(x[i], -127.f)));
        word |= unsigned(code & 0xff) << 8 * i;
    }
    return word;
}

#if __CUDA_ARCH__ >= 890
template <>
DEVICE unsigned pack_codes<e4m3>(float a, float b, float c, float d) {
    unsigned short low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
    return low | unsigned(high) << 16;
}
// Two e4m3 codes, in the lower half of a word, as two fp16.
DEVICE unsigned halves_of_e4m3(unsigned codes) {
    unsigned pair;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((unsigned short)codes));
    return pair;
}
#endif

#if __CUDA_ARCH__ >= 800
// c [16, 8] += a [16, 32] * b [32, 8] of int8, exact. Fragments are those of m16n8k16 with four elements for each two.
DEVICE void mma16832(int (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

#if __CUDA_ARCH__ >= 900
// The larger ones of two pairs of 16 bits.
DEVICE unsigned larger2(unsigned a, unsigned b) {
    unsigned larger;
    asm("max.u16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}
#endif

/* ---- 4-bit codes ---- */

// Two codes, in bits 0-3 and 16-19, are OR-ed into these: bf16 128 + code, fp16 1024 + code, exactly.
template <class T>
constexpr unsigned kCodeBase = 0;
template <>
constexpr unsigned kCodeBase<bf16> = 0x43004300;
template <>
constexpr unsigned kCodeBase<fp16> = 0x64006400;
template <class T>
constexpr float kCodeValue = 0.f;  // of such a base
template <>
constexpr float kCodeValue<bf16> = 128.f;
template <>
constexpr float kCodeValue<fp16> = 1024.f;
template <class T>
constexpr unsigned kOnes = 0;  // a pair
template <>
constexpr unsigned kOnes<bf16> = 0x3f803f80;
template <>
constexpr unsigned kOnes<fp16> = 0x3c003c00;

template <class T>
DEVICE unsigned code_pair(unsigned word) {
    unsigned pair;
    asm("lop3.b32 %0, %1, 0x000f000f, %2, 0xea;" : "=r"(pair) : "r"(word), "n"(kCodeBase<T>));
    return pair;
}

/* ---- 4-bit codes less their zero point, without a shift for every second one ---- */

// a * b + c of two pairs, rounded once; small numbers are kept.
template <class T>
DEVICE unsigned multiply_add2(unsigned a, unsigned b, unsigned c);
template <>
DEVICE unsigned multiply_add2<fp16>(unsigned a, unsigned b, unsigned c) {
    unsigned sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
#if __CUDA_ARCH__ >= 800
template <>
DEVICE unsigned multiply_add2<bf16>(unsigned a, unsigned b, unsigned c) {
    unsigned sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
#endif

// Bits 0-3 and 4-7 of a number are its code times the smallest number and times 16 of it: the first binade goes on where the
// subnormal numbers end. These bring both up to kCodeUnit, bf16 2^-6, fp16 2^-9.
template <class T>
constexpr unsigned kRaiseLow = 0;
template <>
constexpr unsigned kRaiseLow<bf16> = 0x7f007f00;  // 2^127
template <>
constexpr unsigned kRaiseLow<fp16> = 0x78007800;  // 2^15
template <class T>
constexpr unsigned kRaiseHigh = 0;  // a 16th of it
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

// -zero in that unit, a pair; zero <= 16.
template <class T>
DEVICE unsigned zero_offset(unsigned zero) {
    return multiply_add2<T>(zero * 0x10001u, kRaiseLow<T> | 0x80008000u, 0x80008000u);
}
// Codes in bits 0-3 and 16-19 of the word less their zero point, and codes in bits 4-7 and 20-23, exactly.
template <class T>
DEVICE unsigned low_codes(unsigned word, unsigned offset) {
    return multiply_add2<T>(word & 0x000f000fu, kRaiseLow<T>, offset);
}
template <class T>
DEVICE unsigned high_codes(unsigned word, unsigned offset) {
    return multiply_add2<T>(word & 0x00f000f0u, kRaiseHigh<T>, offset);
}
