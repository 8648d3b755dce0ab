/* rope.cu - rotary position encoding of half-split pairs, and the write of keys and values into their pages.

   (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin) over the 2 * ROTARY leading elements of a head, the rest passes

   in       q [T, HEADS, DIM], k, v [T, KV_HEADS, DIM] SCALAR; rows of a token contiguous, tokens `*_stride` elements apart
            cos, sin [T, ROTARY] fp32   slots [T] int64: page * PAGE_TOKENS + offset; negative: not written
   out      q_out [T, HEADS, DIM], k_out [T, KV_HEADS, DIM] contiguous (rope)
            keys, values [pages, KV_HEADS, PAGE_TOKENS, DIM], the rows of `slots` (store_kv, rope_store_kv)
   -D       SCALAR = bf16 | fp16 | fp32; HEADS, KV_HEADS, DIM, ROTARY; PAGE_TOKENS (any, where only rope is wanted)
   launch   grid (T, ceil(heads / HEADS_PER_BLOCK)), block 256; a thread rotates the two 16-byte pieces of one pair of halves
   moves    2 * T * (HEADS + KV_HEADS) * DIM elements (rope); T * (2 * HEADS + 4 * KV_HEADS) * DIM (rope_store_kv)
   numbers  fp32 inside, one rounding: equal to the torch twin up to fused multiply-add, 1 ulp of SCALAR
*/
#include "device/rotation.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(HEADS) || !defined(KV_HEADS) || !defined(DIM) || !defined(ROTARY) || !defined(PAGE_TOKENS)
#error "rope.cu needs -DSCALAR -DHEADS -DKV_HEADS -DDIM -DROTARY -DPAGE_TOKENS"
#endif

constexpr int kThreads = 256;
constexpr int kN = kLanes<SCALAR>;
constexpr int kPairPieces = ROTARY / kN;                   // pieces of the first half of the rotated part
constexpr int kPassPieces = (DIM - 2 * ROTARY) / kN;       // pieces that pass through
constexpr int kItems = kPairPieces + kPassPieces;          // threads a head needs
constexpr int kCopyItems = DIM / kN;                       // threads a head of v needs
static_assert(ROTARY % kN == 0 && DIM % kN == 0 && 2 * ROTARY <= DIM, "halves must be multiples of 16 bytes");

// Rotate or pass what `item` stands for from one head to another place.
DEVICE void rotate_item(const SCALAR* from, SCALAR* to, const float* cos, const float* sin, int item) {
    if (item >= kPairPieces) {
        const int at = 2 * ROTARY + (item - kPairPieces) * kN;
        store16(to + at, load16(from + at));
        return;
    }
    const int at = item * kN;
    float first[kN], second[kN];
    unpack16<SCALAR>(load16(from + at), first);
    unpack16<SCALAR>(load16(from + ROTARY + at), second);
#pragma unroll
    for (int j = 0; j < kN; j++) rotate(first[j], second[j], cos[at + j], sin[at + j]);
    store16(to + at, pack16<SCALAR>(first));
    store16(to + ROTARY + at, pack16<SCALAR>(second));
}

// Where a slot's row of one head stands in keys or values.
DEVICE long long row_of(long long slot, int head) {
    const long long page = slot / PAGE_TOKENS, offset = slot % PAGE_TOKENS;
    return ((page * KV_HEADS + head) * PAGE_TOKENS + offset) * DIM;
}

extern "C" __global__ __launch_bounds__(kThreads) void rope(
    const SCALAR* q, const SCALAR* k, const float* cos, const float* sin, SCALAR* q_out, SCALAR* k_out, long long q_stride,
    long long k_stride) {
    dependents_may_start();
    wait_for_predecessor();
    const long long t = blockIdx.x;
    const int work = blockIdx.y * kThreads + threadIdx.x;
    const int head = work / kItems, item = work % kItems;
    cos += t * ROTARY;
    sin += t * ROTARY;
    if (head < HEADS)
        rotate_item(q + t * q_stride + head * DIM, q_out + (t * HEADS + head) * DIM, cos, sin, item);
    else if (head < HEADS + KV_HEADS)
        rotate_item(k + t * k_stride + (head - HEADS) * DIM, k_out + (t * KV_HEADS + head - HEADS) * DIM, cos, sin, item);
}

extern "C" __global__ __launch_bounds__(kThreads) void store_kv(
    const SCALAR* k, const SCALAR* v, SCALAR* keys, SCALAR* values, const long long* slots, long long k_stride,
    long long v_stride) {
    dependents_may_start();
    wait_for_predecessor();
    const long long t = blockIdx.x;
    const int work = blockIdx.y * kThreads + threadIdx.x;
    const int head = work / kCopyItems, at = work % kCopyItems * kN;
    if (head >= KV_HEADS || slots[t] < 0) return;
    const long long row = row_of(slots[t], head);
    store16(keys + row + at, load16(k + t * k_stride + head * DIM + at));
    store16(values + row + at, load16(v + t * v_stride + head * DIM + at));
}

extern "C" __global__ __launch_bounds__(kThreads) void rope_store_kv(
    const SCALAR* q, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin, SCALAR* q_out, SCALAR* keys,
    SCALAR* values, const long long* slots, long long q_stride, long long k_stride, long long v_stride) {
    dependents_may_start();
    wait_for_predecessor();
    const long long t = blockIdx.x;
    const int work = blockIdx.y * kThreads + threadIdx.x;
    constexpr int kRotated = (HEADS + KV_HEADS) * kItems;
    cos += t * ROTARY;
    sin += t * ROTARY;
    if (work < kRotated) {
        const int head = work / kItems, item = work % kItems;
        if (head < HEADS)
            rotate_item(q + t * q_stride + head * DIM, q_out + (t * HEADS + head) * DIM, cos, sin, item);
        else if (slots[t] >= 0)
            rotate_item(k + t * k_stride + (head - HEADS) * DIM, keys + row_of(slots[t], head - HEADS), cos, sin, item);
    } else if (work < kRotated + KV_HEADS * kCopyItems && slots[t] >= 0) {
        const int head = (work - kRotated) / kCopyItems, at = (work - kRotated) % kCopyItems * kN;
        store16(values + row_of(slots[t], head) + at, load16(v + t * v_stride + head * DIM + at));
    }
}
