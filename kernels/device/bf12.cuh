/* bf12.cuh - bfloat16 numbers kept in 12 bits: sign, 4 bits of exponent below the row's largest, 7 of mantissa.

   A number is the bf16 number of bits S 0000 EEEE MMMMMMM times its row's factor, a power of two: exactly the weight that it was
   packed from, or one rounded where the row holds numbers 2^14 times as large (`engines/quant/bf12_tiles.py`).

   Four words of two numbers each are three: the fourth's bits lie in the gaps of the others, half by half. Of weights they are a product's
   first operand, of keys and values 8 elements and those 8, 16 and 24 behind them (`engines/memory/kv_layer.py`).
*/
#pragma once
#include "device/ptx.cuh"

constexpr unsigned kBf12Bits = 0x87ff87ffu;  // that a number may set, a pair

// The fourth word, without its factor.
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

/* ---- packing ---- */

// What the fourth word adds to word `n` of the three.
DEVICE unsigned share_bf12(unsigned fourth, int n) {
    if (n == 0) return (fourth & 0x07000700u) << 3 | (fourth & 0x80008000u) >> 1;
    return n == 1 ? (fourth & 0x00f000f0u) << 7 : (fourth & 0x000f000fu) << 11;
}

// The number of a bf16 in a row of which 2^base is the factor: base is 0 or the row's largest exponent field - 15.
DEVICE unsigned number_bf12(unsigned bits, int base) {
    unsigned size = bits & 0x7fff;
    const int taken = min(max(int(size >> 7) - 1, 0), base), shift = min(base - taken, 9);  // past 9 nothing is left
    size -= taken << 7;
    if (shift > 0) size += (1u << (shift - 1)) - 1 + (size >> shift & 1);  // to nearest, ties to even
    return size >> shift | (bits & 0x8000);
}
