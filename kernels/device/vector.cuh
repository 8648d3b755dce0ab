/* vector.cuh - 16 bytes of global memory as floats, sums over warps and blocks, words turned over among four lanes. */
#pragma once
#include "device/ptx.cuh"

template <class T>
constexpr int kLanes = 16 / int(sizeof(T));  // elements of a 16-byte access

DEVICE unsigned load4(const void* from) { return *reinterpret_cast<const unsigned*>(from); }
DEVICE uint2 load8(const void* from) { return *reinterpret_cast<const uint2*>(from); }
DEVICE uint4 load16(const void* from) { return *reinterpret_cast<const uint4*>(from); }
DEVICE uint4 as_words(float a, float b, float c, float d) {
    return make_uint4(__float_as_uint(a), __float_as_uint(b), __float_as_uint(c), __float_as_uint(d));
}
DEVICE void store16(void* to, uint4 bytes) { *reinterpret_cast<uint4*>(to) = bytes; }

template <class T>
DEVICE float low_half(unsigned pair) {
    return to_float(T{(unsigned short)(pair & 0xffff)});
}
template <class T>
DEVICE float high_half(unsigned pair) {
    return to_float(T{(unsigned short)(pair >> 16)});
}

template <class T>
DEVICE void unpack16(uint4 bytes, float (&x)[kLanes<T>]) {
    const unsigned words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (sizeof(T) == 4) {
            x[i] = __uint_as_float(words[i]);
        } else {
            x[2 * i] = low_half<T>(words[i]);
            x[2 * i + 1] = high_half<T>(words[i]);
        }
    }
}

template <class T>
DEVICE uint4 pack16(const float (&x)[kLanes<T>]) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if constexpr (sizeof(T) == 4) {
            words[i] = __float_as_uint(x[i]);
        } else {
            words[i] = pack2<T>(x[2 * i], x[2 * i + 1]);
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

DEVICE void load_floats8(const float* from, float (&x)[8]) {
#pragma unroll
    for (int i = 0; i < 8; i += 4) {
        const uint4 four = load16(from + i);
        x[i] = __uint_as_float(four.x), x[i + 1] = __uint_as_float(four.y);
        x[i + 2] = __uint_as_float(four.z), x[i + 3] = __uint_as_float(four.w);
    }
}

// Round to T and back: what a separate op would have written to memory.
template <class T>
DEVICE void round_to(float (&x)[kLanes<T>]) {
    unpack16<T>(pack16<T>(x), x);
}

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}

// Sum over the block, in every thread. The block is a multiple of a warp. `partial` holds 32 floats of shared memory and
// may be reused for a further call only after another barrier.
DEVICE float block_sum(float x, float* partial) {
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    const int num_warps = blockDim.x / 32;
    return warp_sum(threadIdx.x % 32 < num_warps ? partial[threadIdx.x % 32] : 0.f);
}

// The largest over the block, in every thread; as `block_sum`.
DEVICE float block_max(float x, float* partial) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, distance));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
    __syncthreads();
    const int num_warps = blockDim.x / 32;
    x = partial[threadIdx.x % 32 < num_warps ? threadIdx.x % 32 : 0];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

// Word i of lane c becomes word c of lane i, of the four lanes 4g + c.
DEVICE void turn_over(unsigned (&w)[4]) {
    const bool odd = threadIdx.x % 2, high = threadIdx.x / 2 % 2;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        const unsigned got = __shfl_xor_sync(0xffffffffu, odd ? w[i] : w[i + 1], 1);
        (odd ? w[i] : w[i + 1]) = got;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const unsigned got = __shfl_xor_sync(0xffffffffu, high ? w[i] : w[i + 2], 2);
        (high ? w[i] : w[i + 2]) = got;
    }
}
