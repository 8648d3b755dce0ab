/* attention_decode.cu - attention of one new token a sequence over its pages, split over the whole GPU.

   out[b, n] = softmax(scale * q[b, n] . keys) @ values, over the last WINDOW of kv_lens[b] tokens (all, where WINDOW is 0)

   in       q [B, KV_HEADS * GROUP, DIM] SCALAR, sequences `q_stride` elements apart
            keys, values [pages, KV_HEADS, PAGE_TOKENS, DIM]   pages [B, pages_stride] int32   kv_lens [B] int32
   out      out [B, KV_HEADS * GROUP, DIM] contiguous; zeros where kv_lens[b] is 0
   scratch  partials: 2 * gridDim.x * (GROUP * DIM + 2 * GROUP, rounded up to 4) floats; counters: gridDim.x ints, zero before and after
   -D       SCALAR = bf16 | fp16; DIM, multiple of 16; KV_HEADS; GROUP (query heads a KV head); PAGE_TOKENS, multiple of 16;
            WINDOW; WARPS; STAGES (tiles in flight + 1); BLOCKS_PER_SM; MAX_SEQS
   launch   grid any (one wave: BLOCKS_PER_SM * SMs), block 32 * WARPS, shared as `shared_bytes` of the launcher computes
   moves    sum of min(kv_lens, WINDOW) * KV_HEADS * DIM * 2 elements: every key and value once
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
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(DIM) || !defined(KV_HEADS) || !defined(GROUP) || !defined(PAGE_TOKENS) || \
    !defined(WINDOW) || !defined(WARPS) || !defined(STAGES) || !defined(BLOCKS_PER_SM) || !defined(MAX_SEQS)
#error "attention_decode.cu needs -DSCALAR -DDIM -DKV_HEADS -DGROUP -DPAGE_TOKENS -DWINDOW -DWARPS -DSTAGES -DBLOCKS_PER_SM -DMAX_SEQS"
#endif

constexpr int kThreads = 32 * WARPS;
constexpr int kRows = 16;                      // tokens of a warp's share of a tile
constexpr int kTile = kRows * WARPS;           // tokens of a tile
constexpr int kPitch = DIM * 2 + 16;           // bytes of a row in shared memory; 16 more keep ldmatrix free of conflicts
constexpr int kStageBytes = 2 * kRows * kPitch;
constexpr int kSteps = DIM / 16;
constexpr int kColumns = (GROUP + 7) / 8;      // eight queries each
constexpr int kOutPitch = DIM + 4;             // floats
constexpr int kPartial = GROUP * DIM + (2 * GROUP + 3) / 4 * 4;  // floats of a worker's share of a segment: sums, maxima, weights
constexpr float kNone = -1e30f;                // below every score; finite, so that differences of two of it are 0
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
};

// Start the copy of a warp's rows of one tile into a stage of its ring.
DEVICE void fetch(unsigned char* stage, const Cursor& at, int token, int page, const SCALAR* keys, const SCALAR* values) {
    const int lane = threadIdx.x % 32;
    const long long row = ((long long)page * KV_HEADS + at.head) * PAGE_TOKENS + token % PAGE_TOKENS;
    constexpr int kPieces = DIM / 8;
#pragma unroll
    for (int i = 0; i < kRows * kPieces / 32; i++) {
        const int piece = i * 32 + lane, r = piece / kPieces, column = piece % kPieces;
        unsigned char* to = stage + r * kPitch + column * 16;
        const bool valid = token + r < at.len;
        copy16_async(to, keys + row * DIM + piece * 8, valid);
        copy16_async(to + kRows * kPitch, values + row * DIM + piece * 8, valid);
    }
}

// One warp's running softmax over the tokens it has seen. Lane 4g + c holds queries 8n + 2c and 8n + 2c + 1.
struct Softmax {
    float peak[kColumns][2], weight[kColumns][2];  // weight: this lane's tokens only, until `close`
    float sum[kColumns][kSteps][4];                // rows d = 16 i + g, + 8; columns 2c, 2c + 1
    unsigned query[kColumns][kSteps][2];

    DEVICE void open(const SCALAR* q) {
        const int g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            const SCALAR* row = q + (8 * n + g) * DIM + 2 * c;
#pragma unroll
            for (int i = 0; i < kSteps; i++) {
                const bool real = 8 * n + g < GROUP;
                query[n][i][0] = real ? *reinterpret_cast<const unsigned*>(row + 16 * i) : 0u;
                query[n][i][1] = real ? *reinterpret_cast<const unsigned*>(row + 16 * i + 8) : 0u;
#pragma unroll
                for (int j = 0; j < 4; j++) sum[n][i][j] = 0.f;
            }
            peak[n][0] = peak[n][1] = kNone;
            weight[n][0] = weight[n][1] = 0.f;
        }
    }

    // Take 16 tokens in: `rows` are their keys, followed by their values.
    DEVICE void take(const unsigned char* rows, int token, int first, int len, float scale_log2) {
        const int lane = threadIdx.x % 32, g = lane / 4;
        float score[kColumns][2][4] = {};  // two chains, so that one product need not wait for the last
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            unsigned a[4];
            load_matrix4(a, rows + lane % 16 * kPitch + (2 * i + lane / 16) * 16);
#pragma unroll
            for (int n = 0; n < kColumns; n++) mma16816<SCALAR>(score[n][i % 2], a, query[n][i][0], query[n][i][1]);
        }
        unsigned probability[kColumns][2];
        float fade[kColumns][2];
#pragma unroll
        for (int n = 0; n < kColumns; n++) {
            float s[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int t = token + g + j / 2 * 8;
                s[j] = t >= first && t < len ? (score[n][0][j] + score[n][1][j]) * scale_log2 : kNone;
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float top = max(s[j], s[j + 2]);
#pragma unroll
                for (int distance = 4; distance < 32; distance *= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, distance));
                top = max(top, peak[n][j]);
                fade[n][j] = exp2_fast(peak[n][j] - top);
                peak[n][j] = top;
                s[j] = exp2_fast(s[j] - top);
                s[j + 2] = exp2_fast(s[j + 2] - top);
                weight[n][j] = weight[n][j] * fade[n][j] + s[j] + s[j + 2];
            }
            probability[n][0] = transpose8(pack2<SCALAR>(s[0], s[1]));
            probability[n][1] = transpose8(pack2<SCALAR>(s[2], s[3]));
        }
        const unsigned char* values = rows + kRows * kPitch;
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            unsigned a[4];
            load_matrix4_transposed(a, values + (lane / 16 * 8 + lane % 8) * kPitch + (2 * i + lane / 8 % 2) * 16);
#pragma unroll
            for (int n = 0; n < kColumns; n++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sum[n][i][j] *= fade[n][j % 2];
                mma16816<SCALAR>(sum[n][i], a, probability[n][0], probability[n][1]);
            }
        }
    }

    // Lay this warp's result out for the block.
    DEVICE void close(Layout& shared) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
#pragma unroll
        for (int n = 0; n < kColumns; n++)
#pragma unroll
            for (int j = 0; j < 2; j++) {
                const int query_row = 8 * n + 2 * c + j;
#pragma unroll
                for (int distance = 4; distance < 32; distance *= 2)
                    weight[n][j] += __shfl_xor_sync(0xffffffffu, weight[n][j], distance);
                if (g == 0) {
                    shared.maxima[warp][query_row] = peak[n][j];
                    shared.weights[warp][query_row] = weight[n][j];
                }
                if (query_row >= GROUP) continue;
#pragma unroll
                for (int i = 0; i < kSteps; i++) {
                    shared.sums[warp][query_row][16 * i + g] = sum[n][i][j];
                    shared.sums[warp][query_row][16 * i + g + 8] = sum[n][i][j + 2];
                }
            }
    }
};

DEVICE void write4(SCALAR* out, const float (&sum)[4], float weight) {
    const float inverse = weight > 0.f ? 1.f / weight : 0.f;
    *reinterpret_cast<uint2*>(out) = make_uint2(pack2<SCALAR>(sum[0] * inverse, sum[1] * inverse),
                                                pack2<SCALAR>(sum[2] * inverse, sum[3] * inverse));
}

// Sum `count` shares of a segment for one query and four elements of the head. Share i: o(i) sums, m(i) maximum, l(i) weight.
template <class Sums, class Peak, class Weight>
DEVICE void combine(int count, Sums o, Peak m, Weight l, float (&sum)[4], float& peak, float& weight) {
    peak = kNone;
    for (int i = 0; i < count; i++) peak = max(peak, m(i));
    weight = sum[0] = sum[1] = sum[2] = sum[3] = 0.f;
#pragma unroll 4
    for (int i = 0; i < count; i++) {
        const float fade = exp2_fast(m(i) - peak);
        const uint4 share = o(i);
        weight += fade * l(i);
        sum[0] += fade * __uint_as_float(share.x);
        sum[1] += fade * __uint_as_float(share.y);
        sum[2] += fade * __uint_as_float(share.z);
        sum[3] += fade * __uint_as_float(share.w);
    }
}

// Where worker i keeps its share of the segment that starts at tile `begin`: one that starts behind its first tile is second.
DEVICE float* share_of(float* partials, int worker, long long total, int workers, int begin) {
    const int second = total * worker / workers < begin;
    return partials + (2LL * worker + second) * kPartial;
}

// Sum the warps of this block; write the result, or this worker's share of it, or, as the last to come, the sum of all shares.
DEVICE void finish(Layout& shared, SCALAR* out, float* partials, int* counters, int begin, int end, long long total, int workers) {
    const auto owner = [&](int tile) { return int(((tile + 1LL) * workers - 1) / total); };
    const int first = owner(begin), last = owner(end - 1), worker = blockIdx.x;
    float* own = share_of(partials, worker, total, workers, begin);
    __syncthreads();
    for (int item = threadIdx.x; item < GROUP * DIM / 4; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        float sum[4], peak, weight;
        combine(WARPS, [&](int w) { return load16(&shared.sums[w][query][d]); }, [&](int w) { return shared.maxima[w][query]; },
                [&](int w) { return shared.weights[w][query]; }, sum, peak, weight);
        if (first == last) {
            write4(out + query * DIM + d, sum, weight);
            continue;
        }
        store16(own + query * DIM + d, make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                                  __float_as_uint(sum[3])));
        own[GROUP * DIM + query] = peak;
        own[GROUP * DIM + GROUP + query] = weight;
    }
    if (first == last) {
        __syncthreads();  // the warps' sums have been read
        return;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) shared.is_last = atomicAdd(&counters[first], 1) == last - first;
    __syncthreads();
    if (!shared.is_last) return;
    __threadfence();
    if (threadIdx.x == 0) counters[first] = 0;
    for (int item = threadIdx.x; item < GROUP * DIM / 4; item += kThreads) {
        const int query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        const auto share = [&](int i) { return share_of(partials, first + i, total, workers, begin); };
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
    const SCALAR* q, const SCALAR* keys, const SCALAR* values, const int* pages, const int* kv_lens, SCALAR* out, float* partials,
    int* counters, int num_seqs, int pages_stride, long long q_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    const int warp = threadIdx.x / 32, worker = blockIdx.x;
    dependents_may_start();
    const long long total = (long long)build_work_list(shared, kv_lens, num_seqs) * KV_HEADS;
    const int workers = min((long long)gridDim.x, total);
    if (worker >= workers) {
        wait_for_predecessor();
        clear_empty(shared, out, num_seqs);
        return;
    }
    const int begin = total * worker / workers, end = total * (worker + 1) / workers;

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
            if (now.seen(token)) fetch(shared.ring[warp][stage], now, token, page_now, keys, values);
        }
        copies_commit();
    };
    // Lengths, pages and all tokens but the last are older than the kernel ahead, which writes that token and the queries.
    int early = 0;
    while (early < STAGES - 1 && !(fetched < end && ahead.token(warp) + kRows >= ahead.len)) {
        fetch_next();
        early++;
    }
    wait_for_predecessor();
    for (; early < STAGES - 1; early++) fetch_next();
    clear_empty(shared, out, num_seqs);

    Softmax softmax;
    for (int tile = begin; tile < end; tile++) {
        if (tile == begin || here.tile == 0)
            softmax.open(q + here.seq * q_stride + (long long)here.head * GROUP * DIM);
        copies_wait<STAGES - 2>();
        __syncwarp();  // every lane's copies have landed, and every lane is done with the stage that is filled next
        fetch_next();
        const int token = here.token(warp);
        if (here.seen(token))
            softmax.take(shared.ring[warp][(tile - begin) % STAGES], token, window_start(here.len), here.len, scale_log2);
        if (tile + 1 == end || here.tile + 1 == here.num_tiles) {
            const int segment = tile - here.tile;
            softmax.close(shared);
            finish(shared, out + ((long long)here.seq * KV_HEADS + here.head) * GROUP * DIM, partials, counters, segment,
                   segment + here.num_tiles, total, workers);
        }
        here.step(shared, kv_lens, num_seqs);
    }
}
