/* lone_query.cuh - the query behind the whole items of an image and head, by warps that have nothing else to do.

   1,025 tokens are 8 items of 128 and one token; an item more would multiply 63 or 127 rows of nothing. Each of the three warps
   that fetch an item's queries takes a stretch of the keys instead, from memory, while consumers work on the item, and
   leaves peak, weight and sums; the last to come joins them. A key is kKeyLanes lanes of 8 columns each, 32 / kKeyLanes at a time.
*/
#pragma once
#include "device/flash_layout.cuh"

constexpr int kKeyLanes = DIM <= 64 ? 8 : DIM <= 128 ? 16 : 32;
constexpr int kStretch = DIM + 8;  // floats that a warp leaves: peak, weight, six unused, sums

// The softmax over some keys: `sum` are this lane's 8 columns.
struct Stretch {
    float peak = kLow, weight = 0.f, sum[8] = {};

    DEVICE void join(float their_peak, float their_weight, const float (&their_sum)[8]) {
        const float top = max(peak, their_peak), fade = exp2_fast(peak - top), by = exp2_fast(their_peak - top);
        peak = top;
        weight = weight * fade + their_weight * by;
#pragma unroll
        for (int i = 0; i < 8; i++) sum[i] = sum[i] * fade + their_sum[i] * by;
    }

    // Of the warp's lanes that hold the same columns.
    DEVICE void join_lanes() {
#pragma unroll
        for (int lanes = kKeyLanes; lanes < 32; lanes *= 2) {
            float theirs[8];
            const float their_peak = __shfl_xor_sync(0xffffffffu, peak, lanes);
            const float their_weight = __shfl_xor_sync(0xffffffffu, weight, lanes);
#pragma unroll
            for (int i = 0; i < 8; i++) theirs[i] = __shfl_xor_sync(0xffffffffu, sum[i], lanes);
            join(their_peak, their_weight, theirs);
        }
    }
};

// Keys `first` .. `end` - 1 of rows `stride` elements apart; a warp.
DEVICE Stretch attend_stretch(const SCALAR* query, const SCALAR* keys, const SCALAR* values, long long k_stride, long long v_stride,
                              int first, int end, float scale_log2) {
    const int piece = threadIdx.x % kKeyLanes;
    const bool mine = piece < kPieces;
    const auto load = [&](const SCALAR* row, bool valid) {
        return valid && mine ? load16(row + piece * 8) : make_uint4(0, 0, 0, 0);
    };
    Stretch all;
    float q[8];
    unpack16<SCALAR>(load(query, true), q);
#pragma unroll 1
    for (; first < end; first += 64 / kKeyLanes) {
        const int key = first + threadIdx.x % 32 / kKeyLanes;
        uint4 words[2], numbers[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {  // both ask before either multiplies
            const long long token = key + j * (32 / kKeyLanes);
            words[j] = load(keys + token * k_stride, token < end);
            numbers[j] = load(values + token * v_stride, token < end);
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float x[8], score = 0.f;
            unpack16<SCALAR>(words[j], x);
#pragma unroll
            for (int i = 0; i < 8; i++) score += q[i] * x[i];
#pragma unroll
            for (int lanes = kKeyLanes / 2; lanes > 0; lanes /= 2) score += __shfl_xor_sync(0xffffffffu, score, lanes);
            unpack16<SCALAR>(numbers[j], x);
            const bool valid = key + j * (32 / kKeyLanes) < end;
            all.join(valid ? score * scale_log2 : kNone, valid ? 1.f : 0.f, x);
        }
    }
    all.join_lanes();
    return all;
}

// Leave a stretch at `shares`, where `count` of them will be; whoever comes last joins them and writes `out`.
DEVICE void leave_stretch(const Stretch& mine, float* shares, int index, int count, int& arrivals, SCALAR* out) {
    const int lane = threadIdx.x % 32, piece = lane % kKeyLanes, group = lane / kKeyLanes;
    float* to = shares + (long long)index * kStretch;
    if (lane == 0) store16(to, as_words(mine.peak, mine.weight, 0.f, 0.f));
    if (group == 0 && piece < kPieces) {
        store16(to + 8 + piece * 8, as_words(mine.sum[0], mine.sum[1], mine.sum[2], mine.sum[3]));
        store16(to + 12 + piece * 8, as_words(mine.sum[4], mine.sum[5], mine.sum[6], mine.sum[7]));
    }
    __threadfence();
    __syncwarp();
    int before = 0;
    if (lane == 0) {
        before = atomicAdd(&arrivals, 1);
        if (before == count - 1) arrivals = 0;
    }
    before = __shfl_sync(0xffffffffu, before, 0);
    if (before != count - 1) return;
    __threadfence();
    Stretch all;
#pragma unroll 1
    for (int i = group; i < count; i += 32 / kKeyLanes) {
        const float* from = shares + (long long)i * kStretch;
        const float peak = __ldcg(from), weight = __ldcg(from + 1);
        float sum[8];
#pragma unroll
        for (int j = 0; j < 8; j++) sum[j] = piece < kPieces ? __ldcg(from + 8 + piece * 8 + j) : 0.f;
        all.join(peak, weight, sum);
    }
    __syncwarp();
    all.join_lanes();
#pragma unroll
    for (int j = 0; j < 8; j++) all.sum[j] /= all.weight;
    if (group == 0 && piece < kPieces) store16(out + piece * 8, pack16<SCALAR>(all.sum));
}
