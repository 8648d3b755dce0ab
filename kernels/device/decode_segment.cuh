/* decode_segment.cuh - a whole segment of `attention_decode.cu` for one block or a pair of them, which finds it by its number.

   No line of tiles, no search, no shares in memory: pages are asked for beside the lengths, and a warp's next tiles are on their way
   while it waits for the queries. Each block of a pair sums half of the result; what it has of the other half it sends to its peer,
   whose barrier counts the bytes. So nobody waits for a fence, as a meeting of the pair would (0.7 us each), and no block has to outlive
   what its peer reads.
*/
#pragma once
#include "device/decode_shares.cuh"

constexpr int kSegmentTile = kRows * WARPS * CLUSTER;        // tokens of a tile
constexpr int kOwnItems = (kItems + CLUSTER - 1) / CLUSTER;  // that a block sums
// Tiles of a warp under way, and of them before the queries, which wait behind them: more of 8-bit codes lose (kernels/LOG.md).
constexpr int kDepth = KV_FORMAT == 1 || KV_FORMAT == 3 ? 2 : STAGES, kEarly = 1;
constexpr int kShortTiles = 3, kShortTokens = 1536;  // to sum shares of a segment through memory takes as long

// Whether each worker takes one segment and finds it by its own number: of blocks, where there are as many and none is a tile longer than
// the mean; of pairs, where sequences are short; of two blocks an SM also where none is a tile longer, of one where they are of about one
// length and either not long or as many as keep all workers busy.
DEVICE bool takes_segment(const int* kv_lens, int num_seqs) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800  // which cannot reduce over a warp in one instruction
    return false;
#else
    const int workers = gridDim.x / CLUSTER, segments = num_seqs * KV_HEADS;
    if (num_seqs > (CLUSTER == 1 ? 64 : 32) || segments > workers || (CLUSTER == 1 && segments < workers)) return false;
    const int lane = threadIdx.x % 32, tiles = lane < num_seqs ? tiles_of(kv_lens[lane], kSegmentTile) : 0;
    const int more = CLUSTER == 1 && lane + 32 < num_seqs ? tiles_of(kv_lens[lane + 32], kSegmentTile) : 0;
    const int longest = __reduce_max_sync(0xffffffffu, max(tiles, more)), sum = __reduce_add_sync(0xffffffffu, tiles + more);
    if (CLUSTER == 1) return (longest - 1) * num_seqs <= sum;
    const int num_real = __popc(__ballot_sync(0xffffffffu, tiles > 0));
    if (longest <= kShortTiles) return true;
    if (BLOCKS_PER_SM > 1) return (longest - 1) * num_real <= sum;
    const bool even = 4 * longest * num_real <= 5 * sum;
    return even && (longest <= kShortTokens / kSegmentTile || segments == workers);
#endif
}

// What a launch is given, as `attention_decode` has it.
struct Call {
    const SCALAR* q;
    const int *pages, *kv_lens;
    SCALAR* out;
    int num_seqs, pages_stride;
    long long q_stride;
    float scale_log2;
};

// Page of a warp's rows in the tile that is `lane` behind tile `from` of a sequence, counted from its first token.
DEVICE int page_of_lane(const Call& call, int seq, int from, int place) {
    const int token = (from + int(threadIdx.x) % 32) * kSegmentTile + place * kRows;
    return call.pages[(long long)seq * call.pages_stride + min(token / PAGE_TOKENS, call.pages_stride - 1)];
}

// It for the segment of this block, as long as windows ask for no length; before anything is known of the others.
DEVICE int early_page_of(const Call& call) {
    const int seq = min(int(blockIdx.x) / CLUSTER / KV_HEADS, call.num_seqs - 1), place = blockIdx.x % CLUSTER * WARPS + threadIdx.x / 32;
    return WINDOW > 0 ? 0 : page_of_lane(call, seq, 0, place);
}

// The rows of a segment that a warp takes, tile by tile.
struct WarpTiles {
    int seq, head, place, len, from, num_tiles;
    int page;                                        // of the tile of this lane, of each 32
    int odd_tile = -1, odd_token = 0, odd_page = 0;  // rows that were exchanged
    bool makes_newest;

    DEVICE WarpTiles(const Call& call, int segment, int its_place, int early_page)
        : seq(segment / KV_HEADS), head(segment % KV_HEADS), place(its_place), len(call.kv_lens[seq]), from(first_tile(len, kSegmentTile)),
          num_tiles(tiles_of(len, kSegmentTile)), page(WINDOW > 0 ? page_of_lane(call, seq, from, place) : early_page) {
        exchange_rows(call);
    }

    // The newest key and value are made by the warp that reads them. Where they stand in a last tile that is not full, that warp has as
    // many tiles as any; so the last warp, which has one less, takes these rows and gives its own of the tile before.
    DEVICE void exchange_rows(const Call& call) {
        constexpr int kLast = CLUSTER * WARPS - 1;
        const int newest = (len - 1) % kSegmentTile / kRows, last_tile = num_tiles - 1;
        const bool exchanged = newest < kLast && last_tile > 0;
        makes_newest = place == (exchanged ? kLast : newest);
        if (!exchanged || (place != newest && place != kLast)) return;
        odd_tile = place == kLast ? last_tile - 1 : last_tile;
        odd_token = place == kLast ? (from + last_tile) * kSegmentTile + newest * kRows  // of the other warp
                                   : (from + last_tile - 1) * kSegmentTile + kLast * kRows;
        odd_page = call.pages[(long long)seq * call.pages_stride + odd_token / PAGE_TOKENS];
    }

    DEVICE int token_of(int tile) const { return tile == odd_tile ? odd_token : (from + tile) * kSegmentTile + place * kRows; }
    DEVICE bool seen(int tile) const {
        return tile < num_tiles && token_of(tile) < len && token_of(tile) + kRows > window_start(len);
    }
    DEVICE bool end_sequence(int tile) const { return token_of(tile) + kRows >= len; }

    DEVICE void fetch_tile(unsigned char* stage, int tile, const Call& call, const Pool& pool) {
        if (tile % 32 == 0 && tile > 0) page = page_of_lane(call, seq, from + tile, place);
        const int token = token_of(tile), regular = __shfl_sync(0xffffffffu, page, tile % 32);
        const long long row = ((long long)(tile == odd_tile ? odd_page : regular) * KV_HEADS + head) * PAGE_TOKENS + token % PAGE_TOKENS;
        if (seen(tile)) fetch(stage, row, len - (ROTARY > 0) - token, pool);
        copies_commit();
    }
};

// The sum of a half of the warps, of which the neighbouring lane has the other: all of the block's warps.
DEVICE Share of_block(const Layout& shared, int query, int d) {
    constexpr int kHalf = (WARPS + 1) / 2;
    const int first = threadIdx.x % 2 * kHalf;
    const Share own = combine<kAtOnce>(min(kHalf, WARPS - first), [&](int w) {
        return Share::of(load16(&shared.sums[first + w][query][d]), shared.marks[first + w][query]);
    });
    Share other;
#pragma unroll
    for (int j = 0; j < 4; j++) other.sum[j] = __shfl_xor_sync(0xffffffffu, own.sum[j], 1);
    other.mark = make_float2(__shfl_xor_sync(0xffffffffu, own.mark.x, 1), __shfl_xor_sync(0xffffffffu, own.mark.y, 1));
    return combine<2>(2, [&](int i) { return i == 0 ? own : other; });
}

#if CLUSTER == 2
static_assert(kOwnItems * 32 <= sizeof(Sums), "what a peer sends stands in front of what the line's blocks show each other");

// Sum the pair's warps, each block its half of the items. Two lanes have an item.
DEVICE void sum_pair(Layout& shared, SCALAR* out) {
    const int rank = blockIdx.x % 2;
    uint4(*const sent)[2] = reinterpret_cast<uint4(*)[2]>(&shared + 1);  // by the peer: sums and mark of each own item
    const auto each = [&](int owner, int thread, auto&& take) {
        const int from = owner * kOwnItems, to = min(from + kOwnItems, kItems);
#pragma unroll 1
        for (int i = thread / 2; i < (kOwnItems + 15) / 16 * 16; i += kThreads / 2) {
            const int item = min(from + i, kItems - 1), query = item / (DIM / 4), d = item % (DIM / 4) * 4;
            const Share share = of_block(shared, query, d);
            if (from + i < to && threadIdx.x % 2 == 0) take(i, query, d, share);
        }
    };
    each(1 - rank, threadIdx.x, [&](int i, int, int, const Share& share) {
        const float mark[4] = {share.mark.x, share.mark.y, 0.f, 0.f};
        send_to_peer(&sent[i][0], share.sum, 1 - rank, shared.sent);
        send_to_peer(&sent[i][1], mark, 1 - rank, shared.sent);
    });
    // Other warps than those that have just sent.
    each(rank, (threadIdx.x + kThreads / 2) % kThreads, [&](int i, int query, int d, const Share& share) {
        barrier_wait(shared.sent, 0);
        const uint4 mark = load16(&sent[i][1]);
        const Share its = Share::of(load16(&sent[i][0]), make_float2(__uint_as_float(mark.x), __uint_as_float(mark.y)));
        write4(out + query * DIM + d, combine<2>(2, [&](int at) { return at == rank ? share : its; }));
    });
}

// Before the pair sums: the barrier that counts what the peer sends.
DEVICE void expect_peer(Layout& shared) {
    if (threadIdx.x == 0) {
        const int own = blockIdx.x % 2 == 0 ? kOwnItems : kItems - kOwnItems;
        barrier_init(shared.sent, 1);
        barriers_are_set();
        barrier_expect(shared.sent, own * 32);
    }
    __syncwarp();
    cluster_arrive();
}
#endif

// Sum the block's warps, two lanes an item.
DEVICE void sum_alone(const Layout& shared, SCALAR* out) {
#pragma unroll 1
    for (int i = threadIdx.x / 2; i < (kItems + 15) / 16 * 16; i += kThreads / 2) {
        const int item = min(i, kItems - 1), query = item / (DIM / 4), d = item % (DIM / 4) * 4;
        const Share share = of_block(shared, query, d);
        if (i < kItems && threadIdx.x % 2 == 0) write4(out + query * DIM + d, share);
    }
}

// Scores, softmax and sums of a warp's rows, laid out for the block.
DEVICE void attend_rows(Layout& shared, WarpTiles& rows_of, const Call& call, const Pool& pool, const Newest& newest) {
    constexpr bool kNew = ROTARY > 0;
    const int warp = threadIdx.x / 32, seq = rows_of.seq, len = rows_of.len;
    unsigned char* const made = reinterpret_cast<unsigned char*>(shared.sums[warp]);  // the newest rows, until sums are laid out
    Rows rows;
    rows.load(call.q + seq * call.q_stride + (long long)rows_of.head * GROUP * DIM);
    Angles angles;
    if (kNew) angles.load(newest.cos + (long long)seq * ROTARY, newest.sin + (long long)seq * ROTARY);
#pragma unroll 1
    for (int tile = kEarly; tile < kDepth; tile++) rows_of.fetch_tile(shared.ring[warp][tile], tile, call, pool);
    if (kNew && rows_of.makes_newest) newest.make(made, seq, rows_of.head, pool);
    if (kNew) rows.rotate_all(angles);
    rows.open(call.scale_log2);
    int stage = 0;
#pragma unroll 1
    for (int tile = 0; tile < rows_of.num_tiles; tile++) {
        unsigned char* const here = shared.ring[warp][stage];
        copies_wait<kDepth - 1>();
        __syncwarp();  // every lane's copies have landed
        if (rows_of.seen(tile)) {
            const int token = rows_of.token_of(tile);
            if (kNew && rows_of.end_sequence(tile)) Newest::insert(here, len - 1 - token, made);
            rows.take(here, token, window_start(len), len);
        }
        __syncwarp();  // every lane is done with the stage
        rows_of.fetch_tile(here, tile + kDepth, call, pool);
        stage = stage + 1 == kDepth ? 0 : stage + 1;
    }
    copies_wait<0>();
    close(shared, rows);
}

DEVICE void attend_segment(Layout& shared, const Call& call, const Pool& pool, const Newest& newest, int early_page) {
    const int warp = threadIdx.x / 32, segment = blockIdx.x / CLUSTER;
    if (segment >= call.num_seqs * KV_HEADS) return;
    SCALAR* const out = call.out + (long long)segment * GROUP * DIM;
    WarpTiles rows_of(call, segment, blockIdx.x % CLUSTER * WARPS + warp, early_page);
    if (rows_of.len == 0) {
        wait_for_predecessor();
        clear_segment(out);
        return;
    }
    // Lengths, pages and all tokens but the newest are older than the kernel ahead, which brings that token and the queries.
#pragma unroll 1
    for (int tile = 0; tile < kEarly; tile++) {
        if (ROTARY == 0 && rows_of.seen(tile) && rows_of.end_sequence(tile)) wait_for_predecessor();
        rows_of.fetch_tile(shared.ring[warp][tile], tile, call, pool);
    }
#if CLUSTER == 2
    expect_peer(shared);
#endif
    wait_for_predecessor();
    attend_rows(shared, rows_of, call, pool, newest);
    __syncthreads();
#if CLUSTER == 2
    cluster_wait();  // the peer counts what it is sent
    sum_pair(shared, out);
#else
    sum_alone(shared, out);
#endif
}
