/* decode_shares.cuh - what the warps of a block of `attention_decode.cu` have of a segment, laid out and summed. */
#pragma once
#include "device/cluster.cuh"
#if KV_FORMAT == 0
#include "device/decode_rows.cuh"
#else
#include "device/decode_codes.cuh"
#endif
#include "device/decode_newest.cuh"
#if CLUSTER == 2
#include "device/tile_copies.cuh"
#endif

constexpr int kThreads = 32 * WARPS;
constexpr int kTogether = BLOCKS_PER_SM == 1 ? CLUSTER : 1;  // blocks that take tiles of the line as one
constexpr int kTile = kRows * WARPS * kTogether;             // tokens of a tile of the line
constexpr int kOutPitch = DIM + 4;             // floats
constexpr int kPartial = GROUP * DIM + (2 * GROUP + 3) / 4 * 4;  // floats of a worker's share of a segment: sums, (maximum, weight)
constexpr int kItems = GROUP * DIM / 4;         // four elements each, of which a block of several sums some
static_assert(DIM % 16 == 0 && PAGE_TOKENS % 16 == 0 && STAGES >= 2, "see the header");

using Sums = float[GROUP][kOutPitch];           // of all queries, the mark behind each

struct __align__(16) Layout {  // of the dynamic shared memory; two Sums follow where blocks form clusters
    unsigned char ring[WARPS][STAGES][kStageBytes];
    Sums sums[WARPS];
    float2 marks[WARPS][kColumns * 8];  // maximum and weight of a query
#if CLUSTER == 2
    Barrier sent;  // counts what the peer sends of a whole segment
#endif
    int starts[MAX_SEQS + 1];  // first tile of a sequence's first segment, divided by KV_HEADS
    int scan[WARPS];
    int is_last;
};

DEVICE int window_start(int len) { return WINDOW > 0 && len > WINDOW ? len - WINDOW : 0; }
DEVICE int first_tile(int len, int tile = kTile) { return window_start(len) / tile; }
DEVICE int tiles_of(int len, int tile = kTile) { return (len + tile - 1) / tile - first_tile(len, tile); }

// Lay a warp's result out for the block.
DEVICE void close(Layout& shared, const Rows& rows) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
#pragma unroll
    for (int n = 0; n < kColumns; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int query = 8 * n + 2 * c + j;
            const float weight = sum_of_tokens(rows.weight[n][j]), bias = rows.bias_of(n, j);
            if (g == 0) shared.marks[warp][query] = make_float2(rows.peak[n][j], weight);
            if (query >= GROUP) continue;
#pragma unroll
            for (int i = 0; i < kSteps; i++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    shared.sums[warp][query][Rows::dim_of(i, half)] = rows.result_of(n, i, half, j) + bias;
        }
}

struct Share {  // of a segment, for one query and four elements of the head
    float sum[4];
    float2 mark;

    DEVICE static Share of(uint4 sums, float2 mark) {
        return {{__uint_as_float(sums.x), __uint_as_float(sums.y), __uint_as_float(sums.z), __uint_as_float(sums.w)}, mark};
    }
};

// Sum `count` shares. They are asked for together, AT_ONCE of them: what comes from memory takes one round trip then.
template <int AT_ONCE, class At>
DEVICE Share combine(int count, At at) {
    Share all{{0.f, 0.f, 0.f, 0.f}, {kNone, 0.f}};
#pragma unroll 1
    for (int first = 0; first < count; first += AT_ONCE) {
        Share some[AT_ONCE];
        float top = all.mark.x;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            some[i] = first + i < count ? at(first + i) : Share{{0.f, 0.f, 0.f, 0.f}, {kNone, 0.f}};
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) top = max(top, some[i].mark.x);
        const float before = exp2_fast(all.mark.x - top);
        all.mark.x = top;
        all.mark.y *= before;
#pragma unroll
        for (int j = 0; j < 4; j++) all.sum[j] *= before;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const float fade = exp2_fast(some[i].mark.x - top);
            all.mark.y += fade * some[i].mark.y;
#pragma unroll
            for (int j = 0; j < 4; j++) all.sum[j] += fade * some[i].sum[j];
        }
    }
    return all;
}

DEVICE void write4(SCALAR* out, const Share& all) {
    const float inverse = all.mark.y > 0.f ? 1.f / all.mark.y : 0.f;
    *reinterpret_cast<uint2*>(out) = make_uint2(pack2<SCALAR>(all.sum[0] * inverse, all.sum[1] * inverse),
                                                pack2<SCALAR>(all.sum[2] * inverse, all.sum[3] * inverse));
}

constexpr int kAtOnce = WARPS * BLOCKS_PER_SM < 16 ? 8 : 2;  // sixteen warps an SM have no registers for more

// What the warps of this block have of an item.
DEVICE Share of_warps(const Layout& shared, int query, int d) {
    return combine<kAtOnce>(WARPS, [&](int w) { return Share::of(load16(&shared.sums[w][query][d]), shared.marks[w][query]); });
}

// Sequences without keys get zeros.
DEVICE void clear_segment(SCALAR* out) {
#pragma unroll 1
    for (int i = threadIdx.x; i < GROUP * DIM / 8; i += kThreads) store16(out + i * 8, make_uint4(0, 0, 0, 0));
}
