/* fp7.cuh - e4m3 codes kept in 7 bits: sign, 3 bits of exponent below the row's largest, 3 of mantissa.

   A number is the e4m3 code of bits S 0 EEE MMM, and is multiplied as it is; what its row was divided by, a power of two, is in the
   row's scale (`engines/quant/fp7_tiles.py`). The free bits of seven words hold an eighth: bits 7, 5, 4, 3, 2, 1, 0 of its bytes.
*/
#pragma once
#include "device/ptx.cuh"

constexpr unsigned kFp7Bits = 0xbfbfbfbfu;  // that four numbers may set

// Seven words as eight.
DEVICE void unpack_fp7(unsigned (&whole)[8], const unsigned (&words)[7]) {
    unsigned last = words[0] << 1 & 0x80808080u;
#pragma unroll
    for (int i = 1; i < 7; i++) last |= words[i] >> i & (0x40404040u >> i);
#pragma unroll
    for (int i = 0; i < 7; i++) whole[i] = words[i] & kFp7Bits;
    whole[7] = last;
}
