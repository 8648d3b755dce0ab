/* bf12.cuh - bfloat16 numbers kept in 12 bits: sign, 4 bits of exponent below the row's largest, 7 of mantissa.

   A number is the bf16 number of bits S 0000 EEEE MMMMMMM times its row's factor, a power of two: exactly the weight that it was
   packed from, or one rounded where the row holds numbers 2^14 times as large (`engines/quant/bf12_tiles.py`).

   A product's first operand, four registers of two numbers, is three words: the fourth register's bits lie in the gaps of the others.
*/
#pragma once
#include "device/ptx.cuh"

constexpr unsigned kBf12Bits = 0x87ff87ffu;  // that a number may set, a pair

// The fourth register of a first operand, without its factor.
DEVICE unsigned fourth_bf12(unsigned w0, unsigned w1, unsigned w2) {
    return (w0 << 1 & 0x80008000u) | (w0 >> 3 & 0x07000700u) | (w1 >> 7 & 0x00f000f0u) | (w2 >> 11 & 0x000f000fu);
}

// Registers of rows g and g + 8 by turns, as mma m16n8k16 takes them, times the rows' factors, each a pair of the same.
DEVICE void unpack_bf12(unsigned (&a)[4], unsigned w0, unsigned w1, unsigned w2, unsigned factor, unsigned factor_below) {
    a[0] = scale2(w0 & kBf12Bits, factor);
    a[1] = scale2(w1 & kBf12Bits, factor_below);
    a[2] = scale2(w2 & kBf12Bits, factor);
    a[3] = scale2(fourth_bf12(w0, w1, w2), factor_below);
}
