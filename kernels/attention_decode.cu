/* attention_decode.cu - attention of one new token a sequence over its pages, split over the whole GPU.

   out[b, n] = softmax(scale * q[b, n] . keys) @ values, over the last WINDOW of kv_lens[b] tokens (all, where WINDOW is 0)

   in       q [B, KV_HEADS * GROUP, DIM] SCALAR, sequences `q_stride` elements apart
            keys, values [pages, KV_HEADS, PAGE_TOKENS, DIM] SCALAR, or codes; key_scales, value_scales: fp16 parameters of each
            row of codes; formats as in engines/memory/kv_layer.py   pages [B, pages_stride] int32   kv_lens [B] int32
   out      out [B, KV_HEADS * GROUP, DIM] contiguous; zeros where kv_lens[b] is 0
   scratch  partials: 2 * gridDim.x * (GROUP * DIM + 2 * GROUP, rounded up to 4) floats; counters: gridDim.x ints, zero before and after
   new      with ROTARY > 0 queries come as they were multiplied, and the step's own keys and values are not in the pages yet:
            k, v [B, KV_HEADS, DIM] SCALAR, sequences `k_stride`, `v_stride` elements apart   cos, sin [B, ROTARY] fp32
            slots [B] int64 as in rope.cu: where they are stored, rotated and in the format of the pages
   -D       SCALAR = bf16 | fp16; DIM, multiple of 16; ROTARY; KV_HEADS; GROUP (query heads a KV head); PAGE_TOKENS, multiple of 16;
            WINDOW; KV_FORMAT = 0 SCALAR | 1 int8 | 2 int4 | 3 fp8; WARPS; STAGES (tiles in flight + 1); BLOCKS_PER_SM; MAX_SEQS
   launch   grid any (one wave: BLOCKS_PER_SM * SMs), block 32 * WARPS, shared as `shared_bytes` of the launcher computes
   moves    sum of min(kv_lens, WINDOW) * KV_HEADS * 2 rows of DIM elements: every key and value once
   numbers  scores and sums in fp32, probabilities rounded to SCALAR before they meet the values; within 2^-7 of the largest
            value of a head, as the twin in bf16

   The work list. A tile is 16 * WARPS tokens of one (sequence, KV head), a segment all tiles of one. Segments laid end to end
   form one line; worker i of G takes tiles [total * i / G, total * (i + 1) / G), so no worker has more than one tile above
   another, whatever the lengths. Every block derives the line from kv_lens: nothing but memory steers the kernel, so it lives
   in a graph. A segment that several workers share is summed by the last of them to arrive.

   Inside a block each warp owns 16 tokens of a tile, its own ring of shared memory and its own running softmax; blocks meet
   only where a segment ends. Scores are computed transposed (tokens are the rows of the product, queries its 8 columns), so
   a group of up to 8 query heads costs one matrix instruction where queries as rows would waste half of it.
*/
#if !defined(SCALAR) || !defined(DIM) || !defined(ROTARY) || !defined(KV_HEADS) || !defined(GROUP) || !defined(PAGE_TOKENS) || \
    !defined(WINDOW) || !defined(KV_FORMAT) || !defined(WARPS) || !defined(STAGES) || !defined(BLOCKS_PER_SM) || !defined(MAX_SEQS)
#error "attention_decode.cu needs -DSCALAR -DDIM -DROTARY -DKV_HEADS -DGROUP -DPAGE_TOKENS -DWINDOW -DKV_FORMAT -DWARPS -DSTAGES -DBLOCKS_PER_SM -DMAX_SEQS"
#endif

#if KV_FORMAT == 0
#include "device/decode_rows.cuh"
#else
#include "device/decode_codes.cuh"
#endif
#include "device/decode_newest.cuh"

constexpr int kThreads = 32 * WARPS;
constexpr int kTile = kRows * WARPS;           // tokens of a tile
constexpr int kOutPitch = DIM + 4;             // floats
constexpr int kPartial = GROUP * DIM + (2 * GROUP + 3) / 4 * 4;  // floats of a worker's share of a segment: sums, maxima, weights
static_assert(DIM % 16 == 0 && PAGE_TOKENS % 16 == 0 && STAGES >= 2, "see the header");

struct Layout {  // of the dynamic shared memory
    unsigned char ring[WARPS][STAGES][kStageBytes];
    float sums[WARPS][GROUP][kOutPitch];
    float maxima[WARPS][kColumns * 8], weights[WARPS][kColumns * 8];
    int starts[MAX_SEQS + 1];  // first tile of a sequence's first segment, divided by KV_HEADS
    int scan[WARPS];
    int is_last;
};

DEVICE int window_start(int len) { return WINDOW > 0 && len > WINDOW ? len - WINDOW : 0; }
DEVICE int first_tile(int len) { return window_start(len) / kTile; }
DEVICE int tiles_of(int len) { return (len + kTile - 1) / kTile - first_tile(len); }

// Fill `starts`; returns the number of tiles of one head over all sequences.
DEVICE int build_work_list(Layout& shared, const int* kv_lens, int num_seqs) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int before = 0;
    for (int base = 0; base < num_seqs; base += kThreads) {
        const int seq = base + threadIdx.x;
        const int len = seq < num_seqs ? kv_lens[seq] : 0;
        int sum = tiles_of(len);
        const int own = sum;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, distance);
            if (lane >= distance) sum += other;
        }
        if (lane == 31) shared.scan[warp] = sum;
        __syncthreads();
        int all = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            if (w < warp) sum += shared.scan[w];
            all += shared.scan[w];
        }
        if (seq < num_seqs) shared.starts[seq] = before + sum - own;
        before += all;
        __syncthreads();
    }
    if (threadIdx.x == 0) shared.starts[num_seqs] = before;
    __syncthreads();
    return before;
}

// A place on the line of tiles.
struct Cursor {
    int seq, head, tile, len, num_tiles;

    DEVICE void enter(const int* kv_lens, int next) {
        seq = next;
        len = kv_lens[seq];
        num_tiles = tiles_of(len);
    }

    DEVICE void seek(const Layout& shared, const int* kv_lens, int num_seqs, int at) {
        int low = 0, high = num_seqs - 1;  // the last sequence that starts at or before `at`
        while (low < high) {
            const int middle = (low + high + 1) / 2;
            if ((long long)shared.starts[middle] * KV_HEADS <= at) low = middle;
            else high = middle - 1;
        }
        enter(kv_lens, low);
        const int rest = at - shared.starts[low] * KV_HEADS;
        head = rest / num_tiles;
        tile = rest % num_tiles;
    }

    DEVICE void step(const Layout& shared, const int* kv_lens, int num_seqs) {
        if (++tile < num_tiles) return;
        tile = 0;
        if (++head < KV_HEADS) return;
        head = 0;
        int next = seq + 1;
        while (next < num_seqs && shared.starts[next] == shared.starts[next + 1]) next++;
        if (next < num_seqs) enter(kv_lens, next);
    }

    // The first token of a warp's rows in this tile, and whether any of them is seen.
    DEVICE int token(int warp) const { return (first_tile(len) + tile) * kTile + warp * kRows; }
    DEVICE bool seen(int token) const { return token < len && token + kRows > window_start(len); }

    // Whether the sequence ends among the kRows tokens from this one on, which is seen.
    DEVICE bool ends(int token) const { return token + kRows >= len; }

    // Whether the tiles of this segment that begins at `at` end, before `end`, in rows of this warp.
    DEVICE bool brings_newest(int warp, int at, int end) const {
        return at - tile + num_tiles <= end && (len - 1) % kTile / kRows == warp;
    }
};

// Lay a warp's result out for the block.
DEVICE void close(Layout& shared, const Rows& rows) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
#pragma unroll
    for (int n = 0; n < kColumns; n++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int query = 8 * n + 2 * c + j;
            const float weight = sum_of_tokens(rows.weight[n][j]), bias = rows.bias_of(n, j);
            if (g == 0) {
                shared.maxima[warp][query] = rows.peak[n][j];
                shared.weights[warp][query] = weight;
            }
            if (query >= GROUP) continue;
#pragma unroll
            for (int i = 0; i < kSteps; i++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                    shared.sums[warp][query][Rows::dim_of(i, half)] = rows.result_of(n, i, half, j) + bias;
        }
}

DEVICE void write4(SCALAR* out, const float (&sum)[4], float weight) {
    const float inverse = weight > 0.f ? 1.f / weight : 0.f;
    *reinterpret_cast<uint2*>(out) = make_uint2(pack2<SCALAR>(sum[0] * inverse, sum[1] * inverse),
                                                pack2<SCALAR>(sum[2] * inverse, sum[3] * inverse));
}

// Sum `count` shares of a segment for one query and four elements of the head. Share i: o(i) sums, m(i) maximum, l(i) weight.
// Shares are asked for together, kAtOnce of them: what comes from memory takes one round trip then.
template <class Sums, class Peak, class Weight>
DEVICE void combine(int count, Sums o, Peak m, Weight l, float (&sum)[4], float& peak, float& weight) {
    constexpr int kAtOnce = WARPS * BLOCKS_PER_SM < 16 ? 8 : 2;  // sixteen warps an SM have no registers for more
    peak = kNone;
    weight = sum[0] = sum[1] = sum[2] = sum[3] = 0.f;
    for (int first = 0; first < count; first += kAtOnce) {
        uint4 share[kAtOnce];
        float its_peak[kAtOnce], its_weight[kAtOnce], top = peak;
#pragma unroll
        for (int i = 0; i < kAtOnce; i++) {
            const bool real = first + i < count;
            share[i] = real ? o(first + i) : make_uint4(0, 0, 0, 0);
            its_peak[i] = real ? m(first + i) : kNone;
            its_weight[i] = real ? l(first + i) : 0.f;
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; i++) top = max(top, its_peak[i]);
        const float before = exp2_fast(peak - top);
        peak = top;
        weight *= before;
#pragma unroll
        for (int j = 0; j < 4; j++) sum[j] *= before;
#pragma unroll
        for (int i = 0; i < kAtOnce; i++) {
            const float fade = exp2_fast(its_peak[i] - top);
            weight += fade * its_weight[i];
            sum[0] += fade * __uint_as_float(share[i].x);
            sum[1] += fade * __uint_as_float(share[i].y);
            sum[2] += fade * __uint_as_float(share[i].z);
            sum[3] += fade * __uint_as_float(share[i].w);
        }
    }
}

// Of numbers that are not negative; the short form wherever it is enough.
DEVICE int quotient(long long a, long long b) { return a >> 32 ? int(a / b) : int(unsigned(a) / unsigned(b)); }

// Sum the warps of this block; write the result, or this worker's share of it, or, as the last to come, the sum of all shares.
// The segment is tiles [begin, end), this worker's tiles are [own_begin, own_end).
DEVICE void finish(Layout& shared, SCALAR* out, float* partials, int* counters, int begin, int end, int own_begin, int own_end,
                   long long total, int workers) {
    const bool alone = own_begin <= begin && end <= own_end;
    const int worker = blockIdx.x;
    // A worker has two places for shares. The second is of a segment that starts behind its first tile.
    float* own = partials + (2LL * worker + (own_begin < begin)) * kPartial;
    __syncthreads();
    for (int item = threadIdx.x; item < GROUP * DIM / 4; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        float sum[4], peak, weight;
        combine(WARPS, [&](int w) { return load16(&shared.sums[w][query][d]); }, [&](int w) { return shared.maxima[w][query]; },
                [&](int w) { return shared.weights[w][query]; }, sum, peak, weight);
        if (alone) {
            write4(out + query * DIM + d, sum, weight);
            continue;
        }
        store16(own + query * DIM + d, make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                                  __float_as_uint(sum[3])));
        own[GROUP * DIM + query] = peak;
        own[GROUP * DIM + GROUP + query] = weight;
    }
    if (alone) {
        __syncthreads();  // the warps' sums have been read
        return;
    }
    const auto owner = [&](int tile) { return quotient((tile + 1LL) * workers - 1, total); };
    const int first = own_begin <= begin ? worker : owner(begin), last = end <= own_end ? worker : owner(end - 1);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) shared.is_last = atomicAdd(&counters[first], 1) == last - first;
    __syncthreads();
    if (!shared.is_last) return;
    __threadfence();
    if (threadIdx.x == 0) counters[first] = 0;
    const float* shares = partials + 2LL * first * kPartial;
    const int second = quotient(total * first, workers) < begin ? kPartial : 0;  // of the others the segment is the first
    for (int item = threadIdx.x; item < GROUP * DIM / 4; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        const auto share = [&](int i) { return shares + (i == 0 ? second : 2 * i * kPartial); };
        float sum[4], peak, weight;
        combine(last - first + 1, [&](int i) { return __ldcg(reinterpret_cast<const uint4*>(share(i) + query * DIM + d)); },
                [&](int i) { return __ldcg(share(i) + GROUP * DIM + query); },
                [&](int i) { return __ldcg(share(i) + GROUP * DIM + GROUP + query); }, sum, peak, weight);
        write4(out + query * DIM + d, sum, weight);
    }
}

// Sequences without keys get zeros.
DEVICE void clear_empty(const Layout& shared, SCALAR* out, int num_seqs) {
    constexpr int kOutRow = KV_HEADS * GROUP * DIM;
    for (int seq = blockIdx.x; seq < num_seqs; seq += gridDim.x)
        if (shared.starts[seq] == shared.starts[seq + 1])
            for (int i = threadIdx.x; i < kOutRow / 8; i += kThreads) store16(out + (long long)seq * kOutRow + i * 8, make_uint4(0, 0, 0, 0));
}

extern "C" __global__ __launch_bounds__(32 * WARPS, BLOCKS_PER_SM) void attention_decode(
    const SCALAR* q, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin, const long long* slots,
    unsigned char* keys, unsigned char* values, unsigned char* key_scales, unsigned char* value_scales, const int* pages,
    const int* kv_lens, SCALAR* out, float* partials, int* counters, int num_seqs, int pages_stride, long long q_stride,
    long long k_stride, long long v_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    constexpr bool kNew = ROTARY > 0;  // the newest tokens are not in the pages yet
    const Pool pool{keys, values, key_scales, value_scales};
    const Newest newest{k, v, cos, sin, slots, k_stride, v_stride};
    const int warp = threadIdx.x / 32, worker = blockIdx.x;
    dependents_may_start();
    const long long total = (long long)build_work_list(shared, kv_lens, num_seqs) * KV_HEADS;
    const int workers = min((long long)gridDim.x, total);
    if (worker >= workers) {
        wait_for_predecessor();
        clear_empty(shared, out, num_seqs);
        return;
    }
    const int begin = quotient(total * worker, workers), end = quotient(total * (worker + 1), workers);

    // The fetching cursor runs STAGES - 1 tiles ahead of the other, across segments; the page number is read a tile ahead of it.
    Cursor ahead, here;
    here.seek(shared, kv_lens, num_seqs, begin);
    ahead = here;
    const auto page_at = [&](const Cursor& at) {
        const int token = at.token(warp);
        return at.seen(token) ? pages[(long long)at.seq * pages_stride + token / PAGE_TOKENS] : 0;
    };
    int fetched = begin, page = page_at(ahead);
    const auto fetch_next = [&] {
        if (fetched < end) {
            const int token = ahead.token(warp), stage = (fetched - begin) % STAGES;
            const Cursor now = ahead;
            const int page_now = page;
            if (++fetched < end) {
                ahead.step(shared, kv_lens, num_seqs);
                page = page_at(ahead);
            }
            const long long row = ((long long)page_now * KV_HEADS + now.head) * PAGE_TOKENS + token % PAGE_TOKENS;
            if (now.seen(token)) fetch(shared.ring[warp][stage], row, now.len - kNew - token, pool);
        }
        copies_commit();
    };
    // Lengths, pages and all tokens but the newest are older than the kernel ahead, which brings that token and the queries.
    int early = 0;
    while (early < STAGES - 1 && (kNew || !(fetched < end && ahead.ends(ahead.token(warp))))) {
        fetch_next();
        early++;
    }
    wait_for_predecessor();
    for (; early < STAGES - 1; early++) fetch_next();
    clear_empty(shared, out, num_seqs);

    Rows rows;
    unsigned char* const place = reinterpret_cast<unsigned char*>(shared.sums[warp]);  // of the newest rows until the segment ends
    const auto load_queries = [&] { rows.load(q + here.seq * q_stride + (long long)here.head * GROUP * DIM); };
    const auto open = [&](int tile) {
        if (kNew && here.brings_newest(warp, tile, end)) newest.make(place, here.seq, here.head, pool);
        if (kNew) rows.rotate_all(cos + (long long)here.seq * ROTARY, sin + (long long)here.seq * ROTARY);
        rows.open(scale_log2);
    };
    load_queries();
    open(begin);
    for (int tile = begin; tile < end; tile++) {
        copies_wait<STAGES - 2>();
        __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
        fetch_next();
        const int token = here.token(warp);
        if (here.seen(token)) {
            unsigned char* const stage = shared.ring[warp][(tile - begin) % STAGES];
            if (kNew && here.ends(token)) Newest::insert(stage, here.len - 1 - token, place);
            rows.take(stage, token, window_start(here.len), here.len);
        }
        const Cursor done = here;
        here.step(shared, kv_lens, num_seqs);
        if (tile + 1 < end && here.tile > 0) continue;
        close(shared, rows);
        if (tile + 1 < end) load_queries();  // while the block sums
        finish(shared, out + ((long long)done.seq * KV_HEADS + done.head) * GROUP * DIM, partials, counters, tile - done.tile,
               tile - done.tile + done.num_tiles, begin, end, total, workers);
        if (tile + 1 < end) open(tile + 1);
    }
}
