/* attention_decode.cu - attention of one new token a sequence over its pages, split over the whole GPU.

   out[b, n] = softmax(scale * q[b, n] . keys) @ values, over the last WINDOW of kv_lens[b] tokens (all, where WINDOW is 0)

   in       q [B, KV_HEADS * GROUP, DIM] SCALAR, sequences `q_stride` elements apart
            keys, values [pages, KV_HEADS, PAGE_TOKENS, DIM] SCALAR, or codes; key_scales, value_scales: parameters of each
            row of codes; formats as in engines/memory/kv_layer.py   pages [B, pages_stride] int32   kv_lens [B] int32
   out      out [B, KV_HEADS * GROUP, DIM] contiguous; zeros where kv_lens[b] is 0
   scratch  partials: 2 * gridDim.x * (GROUP * DIM + 2 * GROUP, rounded up to 4) floats; counters: gridDim.x ints, zero before and after
   new      with ROTARY > 0 queries come as they were multiplied, and the step's own keys and values are not in the pages yet:
            k, v [B, KV_HEADS, DIM] SCALAR, sequences `k_stride`, `v_stride` elements apart   cos, sin [B, ROTARY] fp32
            slots [B] int64 as in rope.cu: where they are stored, rotated and in the format of the pages
   -D       SCALAR = bf16 | fp16; DIM, multiple of 16; ROTARY; KV_HEADS; GROUP (query heads a KV head); PAGE_TOKENS, multiple of 16;
            WINDOW; KV_FORMAT = 0 SCALAR | 1 int8 | 2 int4 | 3 fp8 | 4 bf12 (SCALAR bf16); WARPS; STAGES (tiles in flight + 1); CLUSTER,
            blocks that work as one, where BLOCKS_PER_SM is above 1 on whole segments alone; BLOCKS_PER_SM; MAX_SEQS
   launch   grid any multiple of CLUSTER (one wave: BLOCKS_PER_SM * SMs), block 32 * WARPS, shared as `shared_bytes` computes
   moves    sum of min(kv_lens, WINDOW) * KV_HEADS * 2 rows of DIM elements: every key and value once
   numbers  scores and sums in fp32, probabilities rounded to SCALAR before they meet the values; within 2^-7 of the largest
            value of a head, as the twin in bf16

   The work list. A tile is 16 * WARPS * kTogether tokens of one (sequence, KV head), a segment all tiles of one. A worker is a block,
   or a cluster of them. Segments laid end to end form one line; worker i of G takes tiles [total * i / G, total * (i + 1) / G), so
   no worker has more than one tile above another, whatever the lengths. Every block derives the line from kv_lens: nothing but
   memory steers the kernel, so it lives in a graph. A segment that several workers share is summed by the last of them to arrive.

   Few segments may be left to clusters, whose blocks see each other's shared memory: a sum through the L2 costs 2 us (stores, fence,
   counter, loads), as much as the keys of a short step. Where sequences are short or of about one length, each cluster, or block where
   there are as many as segments, takes one segment, which it finds without the line (`device/decode_segment.cuh`).

   Inside a block each warp owns 16 tokens of a tile, its own ring of shared memory and its own running softmax; blocks meet
   only where a segment ends. Scores are computed transposed (tokens are the rows of the product, queries its 8 columns), so
   a group of up to 8 query heads costs one matrix instruction where queries as rows would waste half of it.
*/
#if !defined(SCALAR) || !defined(DIM) || !defined(ROTARY) || !defined(KV_HEADS) || !defined(GROUP) || !defined(PAGE_TOKENS) || \
    !defined(WINDOW) || !defined(KV_FORMAT) || !defined(WARPS) || !defined(STAGES) || !defined(CLUSTER) || !defined(BLOCKS_PER_SM) || !defined(MAX_SEQS)
#error "attention_decode.cu needs -DSCALAR -DDIM -DROTARY -DKV_HEADS -DGROUP -DPAGE_TOKENS -DWINDOW -DKV_FORMAT -DWARPS -DSTAGES -DCLUSTER -DBLOCKS_PER_SM -DMAX_SEQS"
#endif

#include "device/decode_shares.cuh"
#if CLUSTER <= 2
#include "device/decode_segment.cuh"
#endif

// Fill `starts`; returns the number of tiles of one head over all sequences.
DEVICE int build_work_list(Layout& shared, const int* kv_lens, int num_seqs) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int before = 0;
#pragma unroll 1
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
#pragma unroll 1
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
#pragma unroll 1
        while (next < num_seqs && shared.starts[next] == shared.starts[next + 1]) next++;
        if (next < num_seqs) enter(kv_lens, next);
    }

    // The first token of a warp's rows in this tile, and whether any of them is seen.
    DEVICE int token(int place) const { return (first_tile(len) + tile) * kTile + place * kRows; }
    DEVICE bool seen(int token) const { return token < len && token + kRows > window_start(len); }

    // Whether the sequence ends among the kRows tokens from this one on, which is seen.
    DEVICE bool ends(int token) const { return token + kRows >= len; }

    // Whether the tiles of this segment that begins at `at` end, before `end`, in rows of this warp.
    DEVICE bool brings_newest(int place, int at, int end) const {
        return at - tile + num_tiles <= end && (len - 1) % kTile / kRows == place;
    }
};

// Of numbers that are not negative; the short form wherever it is enough.
DEVICE int quotient(long long a, long long b) { return a >> 32 ? int(a / b) : int(unsigned(a) / unsigned(b)); }

constexpr int kLineItems = (kItems + kTogether - 1) / kTogether;  // that a block sums

// Of all items a block lays what its warps have where the other blocks of the cluster find it.
DEVICE void lay_share(Sums& share, const Layout& shared) {
#pragma unroll 1
    for (int item = threadIdx.x; item < kItems; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        const Share own = of_warps(shared, query, d);
        store16(&share[query][d], as_words(own.sum[0], own.sum[1], own.sum[2], own.sum[3]));
        store16(&share[query][DIM], as_words(own.mark.x, own.mark.y, 0.f, 0.f));
    }
}

DEVICE Share of_blocks(const Sums& share, int query, int d) {
    return combine<kTogether>(kTogether, [&](int rank) {
        Share its;
        float mark[4];
        load_peer4(its.sum, &share[query][d], rank);
        load_peer4(mark, &share[query][DIM], rank);
        its.mark = make_float2(mark[0], mark[1]);
        return its;
    });
}

// Sum the warps of this worker; write the result, or its share of it, or, as the last to come, the sum of all shares. The blocks
// of a cluster do this side by side, each for its items. The segment is tiles [begin, end), this worker's are [own_begin, own_end).
DEVICE void finish(Layout& shared, int parity, SCALAR* out, float* partials, int* counters, int begin, int end, int own_begin,
                   int own_end, long long total, int workers) {
    const bool alone = own_begin <= begin && end <= own_end;
    const int worker = blockIdx.x / kTogether, rank = blockIdx.x % kTogether;
    const int from = rank * kLineItems + threadIdx.x, to = min((rank + 1) * kLineItems, kItems);
    // A worker has two places for shares. The second is of a segment that starts behind its first tile.
    float* own = partials + (2LL * worker + (own_begin < begin)) * kPartial;
    __syncthreads();
    Sums& share = reinterpret_cast<Sums*>(&shared + 1)[parity];
    if constexpr (kTogether > 1) {
        lay_share(share, shared);
        cluster_meet();
    }
#pragma unroll 1
    for (int item = from; item < to; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        Share all;
        if constexpr (kTogether > 1) all = of_blocks(share, query, d);
        else all = of_warps(shared, query, d);
        if (alone) {
            write4(out + query * DIM + d, all);
            continue;
        }
        store16(own + query * DIM + d, as_words(all.sum[0], all.sum[1], all.sum[2], all.sum[3]));
        *reinterpret_cast<float2*>(own + GROUP * DIM + 2 * query) = all.mark;
    }
    if (alone) {
        __syncthreads();  // the warps' sums have been read
        return;
    }
    const auto owner = [&](int tile) { return quotient((tile + 1LL) * workers - 1, total); };
    const int first = own_begin <= begin ? worker : owner(begin), last = end <= own_end ? worker : owner(end - 1);
    int* counter = counters + first * kTogether + rank;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) shared.is_last = atomicAdd(counter, 1) == last - first;
    __syncthreads();
    if (!shared.is_last) return;
    __threadfence();
    if (threadIdx.x == 0) *counter = 0;
    const float* shares = partials + 2LL * first * kPartial;
    const int second = quotient(total * first, workers) < begin ? kPartial : 0;  // of the others the segment is the first
#pragma unroll 1
    for (int item = from; item < to; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        write4(out + query * DIM + d, combine<kAtOnce>(last - first + 1, [&](int i) {
            const float* share = shares + (i == 0 ? second : 2 * i * kPartial);
            const uint2 mark = __ldcg(reinterpret_cast<const uint2*>(share + GROUP * DIM + 2 * query));
            return Share::of(__ldcg(reinterpret_cast<const uint4*>(share + query * DIM + d)),
                             make_float2(__uint_as_float(mark.x), __uint_as_float(mark.y)));
        }));
    }
}

DEVICE void clear_empty(const Layout& shared, SCALAR* out, int num_seqs) {
#pragma unroll 1
    for (int segment = blockIdx.x; segment < num_seqs * KV_HEADS; segment += gridDim.x) {
        const int seq = segment / KV_HEADS;
        if (shared.starts[seq] == shared.starts[seq + 1]) clear_segment(out + (long long)segment * GROUP * DIM);
    }
}

extern "C" __global__ CLUSTER_OF(CLUSTER) __launch_bounds__(32 * WARPS, BLOCKS_PER_SM) void attention_decode(
    const SCALAR* q, const SCALAR* k, const SCALAR* v, const float* cos, const float* sin, const long long* slots,
    unsigned char* keys, unsigned char* values, unsigned char* key_scales, unsigned char* value_scales, const int* pages,
    const int* kv_lens, SCALAR* out, float* partials, int* counters, int num_seqs, int pages_stride, long long q_stride,
    long long k_stride, long long v_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    constexpr bool kNew = ROTARY > 0;  // the newest tokens are not in the pages yet
    const Pool pool{keys, values, key_scales, value_scales};
    const Newest newest{k, v, cos, sin, slots, k_stride, v_stride};
    dependents_may_start();
#if CLUSTER <= 2
    const Call call{q, pages, kv_lens, out, num_seqs, pages_stride, q_stride, scale_log2};
    const int early_page = early_page_of(call);
    if (takes_segment(kv_lens, num_seqs)) {
        attend_segment(shared, call, pool, newest, early_page);
        return;
    }
#endif
    const int warp = threadIdx.x / 32, worker = blockIdx.x / kTogether;
    const int place = blockIdx.x % kTogether * WARPS + warp;  // of the warp's rows in a tile
    const long long total = (long long)build_work_list(shared, kv_lens, num_seqs) * KV_HEADS;
    const int workers = min((long long)(gridDim.x / kTogether), total);
    if (worker >= workers) {
        wait_for_predecessor();
        clear_empty(shared, out, num_seqs);
        return;
    }
    const int begin = quotient(total * worker, workers), end = quotient(total * (worker + 1), workers);
    Cursor here;
    here.seek(shared, kv_lens, num_seqs, begin);

    // The fetching cursor runs STAGES - 1 tiles ahead of the other, across segments; the page number is read a tile ahead of it.
    Cursor ahead = here;
    const auto page_at = [&](const Cursor& at) {
        const int token = at.token(place);
        return at.seen(token) ? pages[(long long)at.seq * pages_stride + token / PAGE_TOKENS] : 0;
    };
    int fetched = begin, page = page_at(ahead);
    const auto fetch_next = [&] {
        if (fetched < end) {
            const int token = ahead.token(place), stage = (fetched - begin) % STAGES;
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
#pragma unroll 1
    for (int early = 0; early < STAGES - 1; early++) {
        if (!kNew && fetched < end && ahead.ends(ahead.token(place))) wait_for_predecessor();
        fetch_next();
    }
    wait_for_predecessor();
    clear_empty(shared, out, num_seqs);

    Rows rows;
    unsigned char* const made = reinterpret_cast<unsigned char*>(shared.sums[warp]);  // of the newest rows until the segment ends
    const auto load_queries = [&] { rows.load(q + here.seq * q_stride + (long long)here.head * GROUP * DIM); };
    const auto open = [&](int tile) {
        if (kNew && here.brings_newest(place, tile, end)) newest.make(made, here.seq, here.head, pool);
        if (kNew) {
            Angles angles;
            angles.load(cos + (long long)here.seq * ROTARY, sin + (long long)here.seq * ROTARY);
            rows.rotate_all(angles);
        }
        rows.open(scale_log2);
    };
    // While a block has many tiles `open` stands twice, which keeps the loop short. A cluster has few: what a launch runs for the
    // first time comes from the L2, so there it stands once.
    constexpr bool kInLoop = kTogether > 1;
    load_queries();
    if (!kInLoop) open(begin);
    int parity = 0;
#pragma unroll 1
    for (int tile = begin; tile < end; tile++) {
        if (kInLoop && (tile == begin || here.tile == 0)) open(tile);
        copies_wait<STAGES - 2>();
        __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
        fetch_next();
        const int token = here.token(place);
        if (here.seen(token)) {
            unsigned char* const stage = shared.ring[warp][(tile - begin) % STAGES];
            if (kNew && here.ends(token)) Newest::insert(stage, here.len - 1 - token, made);
            rows.take(stage, token, window_start(here.len), here.len);
        }
        const Cursor done = here;
        if (tile + 1 < end) here.step(shared, kv_lens, num_seqs);
        if (tile + 1 < end && here.tile > 0) continue;
        close(shared, rows);
        if (tile + 1 < end) load_queries();  // while the block sums
        finish(shared, parity, out + ((long long)done.seq * KV_HEADS + done.head) * GROUP * DIM, partials, counters,
               tile - done.tile, tile - done.tile + done.num_tiles, begin, end, total, workers);
        if (!kInLoop && tile + 1 < end) open(tile + 1);
        parity ^= 1;
    }
    if (kTogether > 1) cluster_part();  // what others read of this block has been read
}
