/* summed_rows.cuh - rows of x beside their sums, so that no zero point is taken off a 4-bit code before it is multiplied.

   sum over i of x[i] * (code[i] - zero) = sum over i of x[i] * code[i] + zero * s,   s = -(sum over i of x[i])

   A code masked out of its word is already a number of bf16, a tiny one: in bits 0-3 the code times 2^-133, in bits 4-7 times 2^-129 (the
   first binade goes on where the subnormal numbers end), and so is a zero point. Rows are stored 2^64 as large, which is exact, so that
   products are far from where fp32 ends; numbers from 2^63 on overflow.

   memory   a row has 576 numbers for 512 inputs: 64 of sums, 16 for each slab of 128 inputs, then the inputs. Of the 16, four are of 32 inputs:
            s in three parts of bf16, 24 bits, and 0.
*/
#pragma once
#include "device/vector.cuh"

constexpr unsigned kRaise = 0x5f805f80;           // a pair of 2^64
constexpr float kRaisedUnit[2] = {0x1p69f, 0x1p65f};  // by which products with codes in bits 0-3, in bits 4-7, are too small

DEVICE long long summed_width(int inputs) { return inputs / 8 * 9; }

// Four numbers of a row, the first one input `at`: eight neighbouring lanes have 32 inputs. Nothing is written where `!writes`.
DEVICE void store_summed(bf16* row, int at, uint2 x, bool writes) {
    x = make_uint2(scale2(x.x, kRaise), scale2(x.y, kRaise));
    float rest = (low_half<bf16>(x.x) + high_half<bf16>(x.x)) + (low_half<bf16>(x.y) + high_half<bf16>(x.y));
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2) rest += __shfl_xor_sync(0xffffffffu, rest, distance);
    if (!writes) return;
    bf16* block = row + at / 512 * 576;
    *reinterpret_cast<uint2*>(block + 64 + at % 512) = x;
    if (at % 32) return;
    unsigned parts[3];
#pragma unroll
    for (int i = 0; i < 3; i++) {
        parts[i] = pack2<bf16>(-rest, 0.f);
        rest += low_half<bf16>(parts[i]);
    }
    *reinterpret_cast<uint2*>(block + at % 512 / 32 * 4) = make_uint2(parts[0] | parts[1] << 16, parts[2]);
}
