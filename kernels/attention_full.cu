/* attention_full.cu - unmasked attention inside each image.

   out[i, l, n] = softmax(scale * q[i, l, n] . k[i, :, n]) @ v[i, :, n]

   in       q, k, v [I, LENGTH, HEADS, DIM] SCALAR; heads of a token contiguous, tokens `stride` elements apart, images LENGTH
            tokens: the three may be views of one qkv tensor
   out      out [I, LENGTH, HEADS, DIM] contiguous
   -D       HEADS and those of device/flash.cuh
   launch   grid (I * HEADS, ceil(LENGTH / rows of a block)), block 32 * WARPS, shared (rows + 4 * KEYS) * (2 * DIM + 16) bytes
   moves    4 * I * LENGTH * HEADS * DIM elements; does 4 * I * HEADS * LENGTH^2 * DIM operations, which bind
   numbers  scores and sums in fp32, probabilities rounded to SCALAR before they meet the values
*/
#include "device/flash.cuh"

#if !defined(HEADS)
#error "attention_full.cu needs -DHEADS"
#endif

extern "C" __global__ __launch_bounds__(32 * WARPS, BLOCKS_PER_SM) void attention_full(
    const SCALAR* q, const SCALAR* k, const SCALAR* v, SCALAR* out, int length, long long q_stride, long long k_stride,
    long long v_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    dependents_may_start();
    wait_for_predecessor();
    const long long image = blockIdx.x / HEADS;
    const int head = blockIdx.x % HEADS, first_row = blockIdx.y * kRows;
    const auto place = [&](auto* base, long long stride, int token) {
        return token < length ? base + (image * length + token) * stride + head * DIM : nullptr;
    };
    attend(
        shared, 0, (length + KEYS - 1) / KEYS, scale_log2, [&](int row) { return place(q, q_stride, first_row + row); },
        [&](int token) { return place(k, k_stride, token); }, [&](int token) { return place(v, v_stride, token); },
        [&](int token) { return token + SPAN > length; }, [&](int, int, int token) { return token < length; },
        [&](int row) { return place(out, (long long)HEADS * DIM, first_row + row); });
}
